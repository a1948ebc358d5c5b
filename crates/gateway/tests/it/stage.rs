//! The stage on which the gateway plays: listening on a free port, before an upstream of the test's
//! choice, with a clock and books that the test holds in its hands.
//!
//! **Invariant**: nothing is assumed to have happened; a test waits for the event itself
//! (`Books::wait_for`).

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gateway::clock::Clock;
use gateway::dispatch::headers::secret;
use gateway::receive::keyring::Keyring;
use gateway::receive::names::Names;
use gateway::setup::loops::{Action, Loops};
use gateway::setup::{
    Access, AskUsage, Budgets, Credential, LeverMode, Limits, Rule, Setup, Target, Think, Trim,
    Upstream as Configured,
};
use gateway::{Gateway, server};
use policy::dispatch::{breaker, retry};
use policy::key;
use policy::moment::Moment;
use policy::ports::read::StoredCall;
use policy::ports::{
    Acknowledge, CallId, CallOpened, CallRaised, CallSettled, KeyRecord, Ledger, LedgerHealth,
    Payers,
};
use policy::prices::PriceBook;
use policy::route::rules::When;
use testkit::client::{Response, exchange};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use wire::dialect::Dialect;
use wire::provider::{Auth, CacheKey};

/// A client's key that opens the gateway.
pub(crate) const CLIENT_KEY: &str = "tw-client";

/// Its public id.
pub(crate) const CLIENT_ID: &str = "key_client";

/// A key whose time is over.
pub(crate) const EXPIRED_KEY: &str = "tw-expired";

/// A key that somebody disabled.
pub(crate) const DISABLED_KEY: &str = "tw-disabled";

/// The credential of every configured upstream.
pub(crate) const PROVIDER_KEY: &str = "sk-provider";

/// 2026-11-24, 00:00 UTC: every model of these tests has a price then.
pub(crate) const TODAY: Moment = Moment(1_795_478_400_000);

/// A clock that a test turns.
#[derive(Clone, Debug)]
pub(crate) struct Hands(Arc<AtomicU64>);

impl Default for Hands {
    fn default() -> Self {
        Self(Arc::new(AtomicU64::new(TODAY.0)))
    }
}

impl Hands {
    pub(crate) fn reading(&self) -> Moment {
        self.now()
    }

    pub(crate) fn turn(&self, millis: u64) {
        self.0.fetch_add(millis, Ordering::SeqCst);
    }
}

impl Clock for Hands {
    fn now(&self) -> Moment {
        Moment(self.0.load(Ordering::SeqCst))
    }
}

/// How many rows were written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) opened: usize,
    pub(crate) settled: usize,
}

/// A ledger that tells what is written, refuses to settle twice, and keeps its acknowledgements
/// back if asked to.
#[derive(Default)]
pub(crate) struct Books {
    rows: Mutex<Rows>,
    written: watch::Sender<Written>,
    /// Whether its disk does not keep up.
    pub(crate) is_behind: AtomicBool,
    /// Whether its disk is full.
    pub(crate) is_full: AtomicBool,
    /// Acknowledgements kept back; `None` while they are given at once.
    held: Mutex<Option<Vec<Acknowledge>>>,
    /// Looks at every opening, right after its money was held.
    looks: Mutex<Option<Look>>,
}

type Look = Box<dyn FnMut(&CallOpened) + Send>;

/// Calls in the order in which they were opened, and where each stands.
#[derive(Default)]
struct Rows {
    calls: Vec<StoredCall>,
    places: HashMap<CallId, usize>,
}

impl Books {
    /// Keeps acknowledgements back from now on.
    pub(crate) fn hold(&self) {
        *lock(&self.held) = Some(Vec::new());
    }

    /// Gives those that were kept back.
    pub(crate) fn release(&self) {
        let held = lock(&self.held).take();
        held.into_iter()
            .flatten()
            .for_each(|acknowledge| acknowledge());
    }

    /// Lets somebody look at every opening from now on.
    pub(crate) fn look(&self, look: impl FnMut(&CallOpened) + Send + 'static) {
        *lock(&self.looks) = Some(Box::new(look));
    }

    /// Waits until the counts are as wanted.
    pub(crate) async fn wait_for(&self, holds: impl Fn(Written) -> bool) -> Written {
        let mut written = self.written.subscribe();
        let written = written.wait_for(|written| holds(*written)).await;
        *written.expect("the books outlive their readers")
    }

    /// All calls, oldest first, once `count` of them are settled; there must not be others.
    pub(crate) async fn settled(&self, count: usize) -> Vec<StoredCall> {
        let written = self.wait_for(|written| written.settled >= count).await;
        let expect = Written {
            opened: count,
            settled: count,
        };
        assert_eq!(written, expect);
        self.calls()
    }

    /// All calls so far, oldest first.
    pub(crate) fn calls(&self) -> Vec<StoredCall> {
        lock(&self.rows).calls.clone()
    }
}

impl Ledger for Books {
    fn open(&self, opened: CallOpened) {
        if let Some(look) = &mut *lock(&self.looks) {
            look(&opened);
        }
        let mut rows = lock(&self.rows);
        let place = rows.calls.len();
        let known = rows.places.insert(opened.call.clone(), place);
        assert_eq!(known, None, "opened twice: {opened:?}");
        rows.calls.push(StoredCall {
            opened,
            settled: None,
        });
        drop(rows);
        self.written.send_modify(|written| written.opened += 1);
    }

    fn raise(&self, raised: CallRaised) {
        let mut rows = lock(&self.rows);
        let place = rows.places.get(&raised.call).copied();
        let place = place.expect("a call is opened before it goes on");
        let row = &mut rows.calls[place];
        assert_eq!(row.settled, None, "raised after it was settled");
        row.opened.held = Some(raised.held);
        row.opened.target = Some(raised.target);
    }

    fn settle(&self, settled: CallSettled, acknowledge: Acknowledge) {
        let mut rows = lock(&self.rows);
        let place = rows.places.get(&settled.call).copied();
        let place = place.expect("a call is opened before it is settled");
        let row = &mut rows.calls[place].settled;
        assert_eq!(*row, None, "settled twice");
        *row = Some(settled);
        drop(rows);
        match &mut *lock(&self.held) {
            Some(held) => held.push(acknowledge),
            None => acknowledge(),
        }
        self.written.send_modify(|written| written.settled += 1);
    }

    fn health(&self) -> LedgerHealth {
        LedgerHealth {
            behind: self.is_behind.load(Ordering::SeqCst),
            failing: self
                .is_full
                .load(Ordering::SeqCst)
                .then(|| "database or disk is full".to_owned()),
            ..LedgerHealth::default()
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A gateway that listens.
pub(crate) struct Stage {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) url: String,
    pub(crate) books: Arc<Books>,
    pub(crate) clock: Hands,
    running: JoinSet<()>,
}

impl Stage {
    /// Starts a gateway with this setup.
    pub(crate) async fn with(setup: Setup) -> Self {
        Self::at(Hands::default(), setup).await
    }

    /// Starts a gateway that reads this clock.
    pub(crate) async fn at(clock: Hands, setup: Setup) -> Self {
        let books = Arc::new(Books::default());
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("loopback has a free port");
        let address = listener.local_addr().expect("the listener is bound");
        let setup = setup.validated().expect("the setup can serve");
        let ledger: Arc<dyn Ledger> = books.clone();
        let gateway = Gateway::new(setup, keyring(), Arc::new(clock.clone()), ledger);
        let mut running = JoinSet::new();
        running.spawn(server::run(Arc::clone(&gateway), listener));
        Self {
            gateway,
            url: format!("http://{address}"),
            books,
            clock,
            running,
        }
    }

    /// Sends a call, and waits for the whole answer.
    pub(crate) async fn ask(&self, spoken: &Spoken, body: impl AsRef<[u8]>) -> Response {
        exchange(
            &self.url,
            "POST",
            spoken.path,
            spoken.headers,
            body.as_ref(),
        )
        .await
    }

    /// What a scraper reads.
    pub(crate) fn counts(&self) -> String {
        self.gateway.metrics.text(&self.books.health())
    }

    /// Stops it as a signal would, and waits until it has.
    pub(crate) async fn stop(&mut self) {
        self.gateway.tasks.stop();
        self.stopped().await;
    }

    /// Waits until it has stopped.
    pub(crate) async fn stopped(&mut self) {
        while let Some(ended) = self.running.join_next().await {
            ended.expect("the server does not panic");
        }
    }
}

fn keyring() -> Keyring {
    let record = |secret: &str, id: &str| KeyRecord {
        id: id.to_owned(),
        name: id.to_owned(),
        hash: key::hash(secret),
        created_at: Moment(0),
        expires_at: None,
        disabled_at: None,
        payers: Payers::default(),
        models: Vec::new(),
        previous: None,
    };
    Keyring::new([
        record(CLIENT_KEY, CLIENT_ID),
        KeyRecord {
            expires_at: Some(TODAY),
            ..record(EXPIRED_KEY, "key_expired")
        },
        KeyRecord {
            disabled_at: Some(Moment(0)),
            ..record(DISABLED_KEY, "key_disabled")
        },
    ])
}

/// A route that takes every call and leaves it where it is.
pub(crate) fn rule(mode: LeverMode) -> Rule {
    Rule {
        name: "r".into(),
        when: When::default(),
        to: None,
        as_good: Vec::new(),
        cheaper: Vec::new(),
        quality: 0.97,
        explore: 0.0,
        first_token_ms_max: None,
        mode,
        cascade: None,
        think: Think::OFF,
        loops: Loops::OFF.into(),
        trim: Trim::OFF,
        context: Arc::default(),
    }
}

/// Two providers behind one address, told apart by their paths; every lever is off.
pub(crate) fn plain(url: &str) -> Setup {
    let target = Target {
        provider: "anthropic".into(),
        model: "claude-haiku-4-5".into(),
    };
    Setup {
        upstreams: vec![anthropic(url).into(), openai(url).into()],
        routes: BTreeMap::from([("fast".to_owned(), vec![vec![target]])]),
        rules: Vec::new(),
        router: None,
        retry: once(),
        breaker: breaker::Rules::default(),
        budgets: Budgets::default(),
        cache: LeverMode::Off,
        think: Think::OFF,
        loops: Loops::OFF.into(),
        ask_usage: AskUsage::Never,
        access: Access::Keys,
        names: Names::default(),
        admin: None,
        limits: Limits::default(),
        prices: PriceBook::built_in().clone(),
    }
}

/// One attempt: the stories of single calls are not about what follows a failure.
pub(crate) fn once() -> retry::Policy {
    retry::Policy {
        retries: 0,
        legs_max: 1,
        ..retry::Policy::default()
    }
}

/// The same with everything on that is on by default.
pub(crate) fn full(url: &str) -> Setup {
    Setup {
        cache: LeverMode::On,
        loops: Loops {
            action: Action::Observe,
            ..Loops::OFF
        }
        .into(),
        ask_usage: AskUsage::Always,
        ..plain(url)
    }
}

pub(crate) fn anthropic(url: &str) -> Configured {
    let key = secret(PROVIDER_KEY).expect("a key is a header value");
    Configured {
        id: "anthropic".into(),
        prices: "anthropic".into(),
        dialect: Dialect::AnthropicMessages,
        base: url.parse().expect("an address"),
        auth: Auth::Header("x-api-key"),
        credential: Credential::Configured(key),
        models: vec!["claude-*".into()],
        cache_key: CacheKey::None,
        asks_usage: false,
    }
}

pub(crate) fn openai(url: &str) -> Configured {
    let key = secret(&format!("Bearer {PROVIDER_KEY}")).expect("a key is a header value");
    Configured {
        id: "openai".into(),
        prices: "openai".into(),
        dialect: Dialect::OpenAiChat,
        base: format!("{url}/v1").parse().expect("an address"),
        auth: Auth::Bearer,
        credential: Credential::Configured(key),
        models: vec!["gpt-*".into(), "text-embedding-*".into()],
        cache_key: CacheKey::BodyField,
        asks_usage: true,
    }
}

/// The main endpoint of each dialect, with headers and a short body that it takes.
pub(crate) struct Spoken {
    pub(crate) dialect: Dialect,
    pub(crate) path: &'static str,
    pub(crate) headers: &'static [(&'static str, &'static str)],
}

/// How clients of the two dialects call.
pub(crate) const SPOKEN: [Spoken; 2] = [
    Spoken {
        dialect: Dialect::OpenAiChat,
        path: "/v1/chat/completions",
        headers: &[
            ("authorization", "Bearer tw-client"),
            ("content-type", "application/json"),
        ],
    },
    Spoken {
        dialect: Dialect::AnthropicMessages,
        path: "/v1/messages",
        headers: &[
            ("x-api-key", "tw-client"),
            ("anthropic-version", "2023-06-01"),
            ("content-type", "application/json"),
        ],
    },
];
