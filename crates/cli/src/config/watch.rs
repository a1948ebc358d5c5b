//! Hot reload: a changed file or a changed key takes effect within a second, or not at all.
//!
//! **Invariant**: a configuration that cannot be used changes nothing (test
//! `a_faulty_file_changes_nothing`).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use gateway::admit::stops::Stopped;
use gateway::{Gateway, admin};
use policy::ports::{Fault, Keys};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::build::{Config, KeysMade};
use super::fault::ConfigError;
use super::load;
use super::raw::RawLeverMode;
use crate::env::Environment;
use crate::restore::adopt;

/// Half a second: a stop must be obeyed within one, and a look costs a query and a `stat`.
const PAUSE: Duration = Duration::from_millis(500);

/// What the command line says over the file, at every reload again.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Overrides {
    /// The mode of all levers.
    pub(crate) levers: Option<RawLeverMode>,
}

impl Overrides {
    /// The configuration with these.
    pub(crate) fn apply(self, config: Config) -> Config {
        match self.levers {
            Some(mode) => config.with_levers(mode),
            None => config,
        }
    }
}

/// Tells whether a file was written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fingerprint {
    bytes: u64,
    modified: Option<SystemTime>,
}

/// Keeps a running gateway up to date with its file and its keys.
pub(crate) struct Watch {
    gateway: Arc<Gateway>,
    keys: Arc<dyn Keys>,
    environment: Environment,
    overrides: Overrides,
    /// The configuration that runs.
    config: Config,
    /// Where it listens in fact.
    listen: SocketAddr,
    keys_version: u64,
    fingerprint: Option<Fingerprint>,
}

/// SIGHUP, which from now on ends nothing.
pub(crate) fn reload_signal() -> Option<Signal> {
    signal(SignalKind::hangup())
        .inspect_err(|error| tracing::warn!(%error, "SIGHUP will not reload"))
        .ok()
}

/// The keys of a store, and the version that they had.
pub(crate) fn keys_of(keys: &dyn Keys) -> Result<(u64, Vec<policy::ports::KeyRecord>), Fault> {
    // The version first: a key that is made in between is then seen at the next look.
    Ok((keys.version()?, keys.list()?))
}

/// What operators have stopped.
pub(crate) fn stopped(keys: &dyn Keys) -> Result<Stopped, Fault> {
    Ok(keys.stops()?.into_iter().map(|(stop, _)| stop).collect())
}

/// Whether a list of keys has one.
pub(crate) const fn keys_made(count: usize) -> KeysMade {
    if count == 0 {
        KeysMade::None
    } else {
        KeysMade::Some
    }
}

impl Watch {
    /// Watches for a gateway that runs with `config` at `listen`, with the keys of `keys_version`.
    pub(crate) fn new(
        gateway: Arc<Gateway>,
        keys: Arc<dyn Keys>,
        environment: Environment,
        overrides: Overrides,
        config: Config,
        listen: SocketAddr,
        keys_version: u64,
    ) -> Self {
        let fingerprint = fingerprint(config.file.as_ref());
        Self {
            gateway,
            keys,
            environment,
            overrides,
            config,
            listen,
            keys_version,
            fingerprint,
        }
    }

    /// Looks once a second, and at once on SIGHUP, until the gateway stops.
    pub(crate) async fn run(mut self, mut hangup: Option<Signal>) {
        let gateway = Arc::clone(&self.gateway);
        loop {
            let asked = tokio::select! {
                () = gateway.tasks.stopping() => return,
                () = next(hangup.as_mut()) => true,
                () = tokio::time::sleep(PAUSE) => false,
            };
            let look = tokio::task::spawn_blocking(move || {
                // Looked at in either case, so that one change is not taken over twice.
                let changed = self.file_changed();
                if asked || changed {
                    self.tell_reload();
                }
                self.tell_keys();
                self
            });
            match look.await {
                Ok(watch) => self = watch,
                Err(error) => {
                    tracing::error!(%error, "reload has failed; restart to pick up changes");
                    return;
                }
            }
        }
    }

    /// Whether the file was written to since the last look.
    pub(crate) fn file_changed(&mut self) -> bool {
        let fingerprint = fingerprint(self.config.file.as_ref());
        std::mem::replace(&mut self.fingerprint, fingerprint) != fingerprint
    }

    /// Reads the file again and, if it can be used, runs with it. Returns the settings that
    /// changed but need a restart.
    pub(crate) fn reload(&mut self) -> Result<Vec<&'static str>, ConfigError> {
        let config = load(self.config.file.as_deref(), &self.environment)?;
        let config = self.overrides.apply(config);
        let setup = config.setup(self.listen, self.keys_seen())?;
        let restart = needs_restart(&self.config, &config);
        adopt(&self.gateway, setup, &config.place);
        self.config = config;
        Ok(restart)
    }

    /// Takes changed keys over; true if there were any.
    pub(crate) fn refresh_keys(&mut self) -> Result<bool, Fault> {
        if self.keys.version()? == self.keys_version {
            return Ok(false);
        }
        let seen = admin::refresh(&self.gateway, &*self.keys)?;
        self.keys_version = seen.version;
        match self.config.setup(self.listen, keys_made(seen.keys)) {
            Ok(setup) => adopt(&self.gateway, setup, &self.config.place),
            Err(error) => tracing::error!(%error, "access is unchanged"),
        }
        Ok(true)
    }

    /// Keys are never deleted, so a store whose keys were once changed has one.
    fn keys_seen(&self) -> KeysMade {
        match self.keys.list() {
            Ok(records) => keys_made(records.len()),
            Err(error) => {
                tracing::error!(%error, "the keys cannot be read; callers need one");
                KeysMade::Some
            }
        }
    }

    fn tell_reload(&mut self) {
        let file = self.config.file.clone().unwrap_or_default();
        match self.reload() {
            Ok(restart) => {
                tracing::info!(file = %file.display(), "configuration reloaded");
                for setting in restart {
                    tracing::warn!(setting, "this change takes effect at the next start");
                }
            }
            Err(error) => tracing::error!(
                error = crate::print::failure::chain(&error),
                "configuration not reloaded; the earlier one still runs"
            ),
        }
    }

    fn tell_keys(&mut self) {
        match self.refresh_keys() {
            Ok(true) => tracing::info!("keys reloaded"),
            Ok(false) => {}
            Err(error) => tracing::error!(%error, "the keys cannot be read; the earlier ones hold"),
        }
    }
}

/// The settings that differ and are only looked at when the gateway starts.
fn needs_restart(running: &Config, next: &Config) -> Vec<&'static str> {
    let connect = |config: &Config| config.settings().limits.connect_timeout;
    let changes: [(&'static str, bool); 5] = [
        ("listen", running.listen != next.listen),
        ("store.path", running.place != next.place),
        ("store.durability", running.durability != next.durability),
        (
            "limits.connect_timeout_ms",
            connect(running) != connect(next),
        ),
        (
            "log",
            running.log_level != next.log_level || running.log_format != next.log_format,
        ),
    ];
    changes
        .into_iter()
        .filter(|(_, changed)| *changed)
        .map(|(setting, _)| setting)
        .collect()
}

fn fingerprint(file: Option<&PathBuf>) -> Option<Fingerprint> {
    let metadata = std::fs::metadata(file?).ok()?;
    Some(Fingerprint {
        bytes: metadata.len(),
        modified: metadata.modified().ok(),
    })
}

/// The next signal; never, if signals cannot be had.
async fn next(signal: Option<&mut Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use gateway::clock::SystemClock;
    use gateway::receive::keyring::Keyring;
    use gateway::setup::Access;
    use policy::dispatch::retry::LEGS_MAX;
    use policy::key::{SECRET_BYTES, issue};
    use policy::moment::Moment;
    use store::memory::Memory;

    use super::super::routes::shown;
    use super::*;

    const LISTEN: &str = "127.0.0.1:1";

    fn watch(file: &Path) -> Watch {
        let environment = Environment::from([("OPENAI_API_KEY", "sk-planted"), ("HOME", "/h")]);
        let config = load(Some(file), &environment).unwrap();
        let store = Arc::new(Memory::default());
        let listen = LISTEN.parse().unwrap();
        let setup = config.setup(listen, KeysMade::None).unwrap();
        let gateway = Gateway::new(
            setup,
            Keyring::default(),
            Arc::new(SystemClock),
            Arc::clone(&store) as _,
        );
        Watch::new(
            gateway,
            store,
            environment,
            Overrides::default(),
            config,
            listen,
            0,
        )
    }

    fn providers(watch: &Watch) -> String {
        watch.gateway.setup.load().configured()
    }

    #[tokio::test]
    async fn a_faulty_file_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.toml");
        std::fs::write(&file, "[[providers]]\nid = \"openai\"\n").unwrap();
        let mut watch = watch(&file);
        assert!(!watch.file_changed());
        for faulty in [
            "[[providers]\n",
            "[[providers]]\nid = \"acme\"\n",
            "listen = \"0.0.0.0\"\n",
            "[models]\nfast = \"acme/small\"\n",
            "[models]\nfast = [\"openai/small\", \"acme/small\"]\n",
            "[[budgets]]\nid = \"a\"\napplies_to = \"team\"\nusd = \"5\"\n",
        ] {
            std::fs::write(&file, faulty).unwrap();
            assert!(watch.file_changed(), "{faulty}");
            assert!(watch.reload().is_err(), "{faulty}");
            assert_eq!(providers(&watch), "openai", "{faulty}");
        }
        std::fs::write(&file, "[[providers]]\nid = \"openai\"\nmodels = []\n\n[[providers]]\nid = \"anthropic\"\napi_key = \"client\"\n").unwrap();
        assert_eq!(watch.reload().unwrap(), Vec::<&str>::new());
        assert_eq!(providers(&watch), "openai, anthropic");
        std::fs::remove_file(&file).unwrap();
        assert!(watch.reload().is_err());
        assert_eq!(providers(&watch), "openai, anthropic");
    }

    #[tokio::test]
    async fn routes_and_budgets_are_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.toml");
        std::fs::write(&file, "").unwrap();
        let mut watch = watch(&file);
        let mut check = |text: &str, routes: &[&str], limits: &[&str], attempts: u32| {
            std::fs::write(&file, text).unwrap();
            assert_eq!(watch.reload().unwrap(), Vec::<&str>::new(), "{text}");
            let setup = watch.gateway.setup.load();
            let found = setup.routes.values().map(|route| shown(route));
            assert_eq!(found.collect::<Vec<_>>(), routes);
            let found = setup.budgets.limits.iter().map(ToString::to_string);
            assert_eq!(found.collect::<Vec<_>>(), limits);
            assert_eq!(setup.retry.legs_max, attempts);
        };
        let budget = "[[budgets]]\nid = \"a\"\napplies_to = \"team\"\nper = \"day\"\n";
        check(
            &format!("[models]\na = [\"openai/b\", \"openai/c\"]\n{budget}usd = \"5\"\n"),
            &["openai/b, else openai/c"],
            &["$5.00 per day (UTC) for each team"],
            LEGS_MAX,
        );
        check(
            &format!("{budget}usd = \"6\"\n[failover]\nattempts_max = 1\n"),
            &[],
            &["$6.00 per day (UTC) for each team"],
            1,
        );
        check("", &[], &[], LEGS_MAX);
    }

    #[tokio::test]
    async fn what_needs_a_restart_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.toml");
        std::fs::write(&file, "").unwrap();
        let mut watch = watch(&file);
        std::fs::write(
            &file,
            "listen = \"127.0.0.1:2\"\n[store]\npath = \":memory:\"\n",
        )
        .unwrap();
        assert_eq!(watch.reload().unwrap(), ["listen", "store.path"]);
        assert_eq!(watch.reload().unwrap(), Vec::<&str>::new());
    }

    #[tokio::test]
    async fn secrets_in_files_are_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let (file, key) = (folder.path().join("a.toml"), folder.path().join("key"));
        std::fs::write(&key, "one").unwrap();
        std::fs::write(
            &file,
            "[[providers]]\nid = \"openai\"\napi_key = \"file:key\"\n",
        )
        .unwrap();
        let mut watch = watch(&file);
        std::fs::write(&key, "two").unwrap();
        watch.reload().unwrap();
        let setup = watch.gateway.setup.load();
        let upstream = setup.upstream("openai").unwrap();
        let gateway::setup::Credential::Configured(value) = &upstream.credential else {
            panic!("{upstream:?}");
        };
        assert_eq!(value.to_str().unwrap(), "Bearer two");
    }

    #[tokio::test]
    async fn the_first_key_closes_the_door() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.toml");
        std::fs::write(&file, "").unwrap();
        let mut watch = watch(&file);
        assert_eq!(watch.gateway.setup.load().access, Access::Open);
        assert!(!watch.refresh_keys().unwrap());
        let (secret, record) = issue("ci", [1; SECRET_BYTES], Moment(0), None);
        let id = record.id.clone();
        watch.keys.create(&record).unwrap();
        assert!(watch.refresh_keys().unwrap());
        assert_eq!(watch.gateway.setup.load().access, Access::Keys);
        let admitted = watch.gateway.keyring.load().admit(&secret, Moment(1));
        assert_eq!(admitted.unwrap().id, id);
        // A disabled key does not open the door to everyone again.
        watch.keys.disable(&id, Moment(2)).unwrap();
        assert!(watch.refresh_keys().unwrap());
        watch.reload().unwrap();
        assert_eq!(watch.gateway.setup.load().access, Access::Keys);
        assert!(
            watch
                .gateway
                .keyring
                .load()
                .admit(&secret, Moment(3))
                .is_err()
        );
    }
}
