//! Keys in memory for the tests of the admin API, and requests to it.
//!
//! **Invariant**: the shelf does what `policy::ports::Keys` says, until a test makes it fail.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gateway::admin::token::AdminToken;
use gateway::setup::Setup;
use policy::moment::Moment;
use policy::ports::{AuditEntry, Fault, KeyRecord, Keys, Payers, Previous, Stop};
use serde_json::Value;
use testkit::client::{Client, Response};

use crate::stage::Stage;

/// What opens the admin API.
pub(crate) const TOKEN: &str = "planted-admin-token-0123456789";

/// The header that carries it.
pub(crate) const OPEN: (&str, &str) = ("authorization", "Bearer planted-admin-token-0123456789");

/// The setup with the admin API open.
pub(crate) fn opened(setup: Setup) -> Setup {
    Setup {
        admin: Some(AdminToken::new(TOKEN).unwrap()),
        ..setup
    }
}

/// A stage with this setup, and the store of its keys.
pub(crate) async fn staged(setup: Setup) -> (Stage, Arc<Shelf>) {
    let stage = Stage::with(setup).await;
    let shelf = Arc::new(Shelf::default());
    stage.gateway.admin.open(shelf.clone());
    (stage, shelf)
}

/// Sends one request and passes over the time that a wrong secret waits.
pub(crate) async fn ask(
    stage: &Stage,
    line: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Response {
    let (method, path) = line.split_once(' ').unwrap();
    let mut client = Client::connect(&stage.url).await;
    client.ask(method, path, headers, body).await;
    let is_open = headers.contains(&OPEN);
    if !is_open {
        tokio::time::pause();
    }
    let response = client.response().await.unwrap();
    if !is_open {
        tokio::time::resume();
    }
    response
}

/// Sends one request with the token, and reads the answer.
pub(crate) async fn admin(stage: &Stage, line: &str, body: &str) -> (u16, Value) {
    let response = ask(stage, line, &[OPEN], body.as_bytes()).await;
    (response.status, json(&response))
}

/// The body of an answer, which is always JSON and for no cache.
pub(crate) fn json(response: &Response) -> Value {
    let headers = ["content-type", "cache-control"].map(|name| response.header(name));
    assert_eq!(headers, [Some("application/json"), Some("no-store")]);
    let body = response.text();
    serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"))
}

/// An upstream that is never called.
pub(crate) const NOWHERE: &str = "http://127.0.0.1:1";

/// The error of an answer, as its code and message.
pub(crate) fn error(answer: &Value) -> (&str, &str) {
    let error = &answer["error"];
    let text = |name: &str| error[name].as_str().unwrap_or_default();
    (text("code"), text("message"))
}

/// A new key, as its id and secret.
pub(crate) async fn created(stage: &Stage, body: &str) -> (String, String) {
    let (status, key) = admin(stage, "POST /admin/v1/keys", body).await;
    assert_eq!(status, 200, "{key}");
    let text = |name: &str| key[name].as_str().unwrap().to_owned();
    (text("id"), text("secret"))
}

/// Keys, stops and changes, in the order in which they came.
#[derive(Default)]
pub(crate) struct Shelf {
    state: Mutex<State>,
    breaks: AtomicBool,
}

#[derive(Default)]
struct State {
    version: u64,
    keys: Vec<KeyRecord>,
    stops: Vec<(Stop, Moment)>,
    audit: Vec<AuditEntry>,
}

impl Shelf {
    /// Fails from now on.
    pub(crate) fn break_down(&self) {
        self.breaks.store(true, Ordering::SeqCst);
    }

    fn state(&self) -> Result<MutexGuard<'_, State>, Fault> {
        if self.breaks.load(Ordering::SeqCst) {
            return Err(Fault("the disk is full".into()));
        }
        Ok(self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn change(
        &self,
        id: &str,
        change: impl FnOnce(&mut KeyRecord),
    ) -> Result<Option<KeyRecord>, Fault> {
        let mut state = self.state()?;
        state.version += 1;
        let key = state.keys.iter_mut().find(|key| key.id == id);
        Ok(key.map(|key| {
            change(key);
            key.clone()
        }))
    }
}

impl Keys for Shelf {
    fn create(&self, key: &KeyRecord) -> Result<(), Fault> {
        let mut state = self.state()?;
        state.version += 1;
        state.keys.push(key.clone());
        Ok(())
    }

    fn list(&self) -> Result<Vec<KeyRecord>, Fault> {
        Ok(self.state()?.keys.clone())
    }

    fn find(&self, hash: &[u8; 32]) -> Result<Option<KeyRecord>, Fault> {
        let keys = self.list()?;
        Ok(keys.into_iter().find(|key| key.hash == *hash))
    }

    fn disable(&self, id: &str, at: Moment) -> Result<Option<KeyRecord>, Fault> {
        self.change(id, |key| key.disabled_at = key.disabled_at.or(Some(at)))
    }

    fn enable(&self, id: &str) -> Result<Option<KeyRecord>, Fault> {
        self.change(id, |key| key.disabled_at = None)
    }

    fn expire(&self, id: &str, at: Moment) -> Result<Option<KeyRecord>, Fault> {
        self.change(id, |key| key.expires_at = Some(at))
    }

    fn rotate(&self, id: &str, hash: &[u8; 32], until: Moment) -> Result<Option<KeyRecord>, Fault> {
        self.change(id, |key| {
            let hash = std::mem::replace(&mut key.hash, *hash);
            key.previous = Some(Previous { hash, until });
        })
    }

    fn assign(
        &self,
        id: &str,
        payers: &Payers,
        models: &[String],
    ) -> Result<Option<KeyRecord>, Fault> {
        self.change(id, |key| {
            key.payers = payers.clone();
            key.models = models.to_vec();
        })
    }

    fn audit(&self, entry: &AuditEntry) -> Result<(), Fault> {
        self.state()?.audit.push(entry.clone());
        Ok(())
    }

    fn audits(&self, count: u32) -> Result<Vec<AuditEntry>, Fault> {
        let state = self.state()?;
        let latest = state.audit.iter().rev().take(count as usize);
        Ok(latest.cloned().collect())
    }

    fn active(&self, now: Moment) -> Result<Vec<KeyRecord>, Fault> {
        let mut keys = self.list()?;
        keys.retain(|key| key.is_active(now));
        Ok(keys)
    }

    fn stop(&self, what: &Stop, at: Moment) -> Result<bool, Fault> {
        let mut state = self.state()?;
        let is_new = state.stops.iter().all(|(stop, _)| stop != what);
        if is_new {
            state.version += 1;
            state.stops.push((what.clone(), at));
        }
        Ok(is_new)
    }

    fn resume(&self, what: &Stop) -> Result<bool, Fault> {
        let mut state = self.state()?;
        let before = state.stops.len();
        state.stops.retain(|(stop, _)| stop != what);
        state.version += 1;
        Ok(state.stops.len() < before)
    }

    fn stops(&self) -> Result<Vec<(Stop, Moment)>, Fault> {
        Ok(self.state()?.stops.clone())
    }

    fn version(&self) -> Result<u64, Fault> {
        Ok(self.state()?.version)
    }
}
