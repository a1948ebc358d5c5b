//! Receive: parses the client's dialect, authenticates the key, names tenant, session and task.
//!
//! **Invariant**: nothing is sent and nothing is owed before a call leaves this room; a refusal
//! here is written in the dialect that the path speaks (transcripts `bad_input`).

pub mod body;
pub mod endpoint;
pub mod guesses;
pub mod keyring;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, Method, Request, header};
use hyper::body::Incoming;
use policy::moment::Moment;
use policy::ports::{CallId, KeyRecord, Payers};
use policy::refusal::{Reason, Refusal};
use wire::dialect::Dialect;
use wire::provider::matches_glob;

use crate::Gateway;
use crate::admit::stops::Live;
use crate::id::call_id;
use crate::receive::endpoint::{Endpoint, Place};
use crate::receive::keyring::Denied;
use crate::setup::Access;

/// Names the session that a call belongs to.
pub const SESSION_HEADER: HeaderName = HeaderName::from_static("x-tokenwise-session");

/// Names the task that a call belongs to.
pub const TASK_HEADER: HeaderName = HeaderName::from_static("x-tokenwise-task");

/// Names the tasks that the call's task is part of, the nearest first, with commas between them: all
/// of them pay for it.
pub const PARENTS_HEADER: HeaderName = HeaderName::from_static("x-tokenwise-parent-task");

/// Names the person or service on whose behalf a call is made.
pub const USER_HEADER: HeaderName = HeaderName::from_static("x-tokenwise-user");

/// Labels a call: names with commas between them.
pub const TAGS_HEADER: HeaderName = HeaderName::from_static("x-tokenwise-tags");

/// 16: each may have limits of its own, and every one costs a look.
const TAGS_MAX: usize = 16;

/// 8: agents that start agents; each level is one more payer to look up.
const PARENTS_MAX: usize = 8;

/// Carries a key of ours where `authorization` carries the provider's own.
pub const KEY_HEADER: HeaderName = HeaderName::from_static("x-tokenwise-key");

/// The key's public id where no keys are configured.
pub const ANONYMOUS: &str = "anonymous";

/// 256 bytes: session and task names are ids, not documents; longer ones are refused.
const NAME_BYTES_MAX: usize = 256;

/// 100 ms: a client whose key is wrong hardly notices, and whoever tries keys does.
pub const GUESS_DELAY: Duration = Duration::from_millis(100);

/// 64 wrong keys wait at once: with the delay, no more than 640 are tried in a second.
pub const GUESSES_AT_ONCE: usize = 64;

/// A call that may be served.
#[derive(Debug)]
pub struct Call {
    /// Its id.
    pub id: CallId,
    /// When its head arrived.
    pub at: Moment,
    /// The public id of its key.
    pub key: String,
    /// The session that the client named.
    pub session: Option<String>,
    /// The task that the client named.
    pub task: Option<String>,
    /// Who pays, besides.
    pub payers: Payers,
    /// Globs of the models that the key may call; empty for all.
    pub models: Vec<String>,
    /// Its place among the calls under way.
    pub live: Arc<Live>,
    /// What is asked for.
    pub endpoint: Endpoint,
    /// The method, for passing on.
    pub method: Method,
    /// The path as called.
    pub path: String,
    /// The query, for passing on.
    pub query: Option<String>,
    /// The headers, for passing on.
    pub headers: HeaderMap,
    /// The body, as it came.
    pub body: Body,
}

impl Call {
    /// Refuses a model that the key may not call.
    pub fn may_call(&self, model: &str) -> Result<(), Refusal> {
        let mut globs = self.models.iter();
        if self.models.is_empty() || globs.any(|glob| matches_glob(glob, model)) {
            return Ok(());
        }
        let mut refusal = Refusal::new(
            Reason::ModelNotAllowed,
            format!(
                "key `{}` may not call `{model}`; allowed: {}",
                self.key,
                self.models.join(", ")
            ),
        );
        refusal.param = Some("model".to_owned());
        Err(refusal)
    }
}

/// The body of a call.
#[derive(Debug)]
pub enum Body {
    /// Read whole: JSON that is metered and shaped.
    Whole(Bytes),
    /// Passed on as it arrives: uploads that nobody needs to read.
    Flowing(Incoming),
}

impl Body {
    /// The bytes of a whole body; empty for a flowing one.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Whole(bytes) => bytes,
            Self::Flowing(_) => &[],
        }
    }
}

/// A refusal together with what is needed to word it.
#[derive(Debug)]
pub struct Turned {
    /// Why.
    pub refusal: Refusal,
    /// In which dialect.
    pub dialect: Dialect,
    /// For which call.
    pub id: CallId,
}

/// Takes a request in, or turns it away.
pub async fn receive(gateway: &Gateway, request: Request<Incoming>) -> Result<Call, Turned> {
    let at = gateway.clock.now();
    let id = call_id(at);
    let (head, incoming) = request.into_parts();
    let place = endpoint::find(&gateway.setup.load(), &head);
    let turned = |refusal, dialect| Turned {
        refusal,
        dialect,
        id: id.clone(),
    };
    let dialect = place.dialect;
    let endpoint = match place {
        Place {
            endpoint: Ok(endpoint),
            ..
        } => endpoint,
        Place {
            endpoint: Err(refusal),
            ..
        } => return Err(turned(refusal, dialect)),
    };
    let caller = match authenticate(gateway, &head.headers, at) {
        Ok(caller) => caller,
        Err(Denied::Shut(why)) => return Err(turned(why, dialect)),
        Err(Denied::Unknown(why)) => {
            return Err(turned(gateway.guesses.answer(why).await, dialect));
        }
    };
    let named = named(&head.headers, caller.as_deref()).map_err(|why| turned(why, dialect))?;
    let key = public_id(caller.as_deref());
    let live = gateway.stops.enter(&id, key, named.tasks());
    let live = live.map_err(|why| turned(why, dialect))?;
    let limits = gateway.setup.load().limits;
    let body = body::read(&endpoint, &head, incoming, &limits)
        .await
        .map_err(|why| turned(why, dialect))?;
    let known = (endpoint, caller.as_deref(), named);
    Ok(call((id, at), head, known, live, body))
}

/// A call as it would have come in, with its key already known; what is asked for is left to `head`.
/// Nobody can stop it: it is not made.
pub fn supposed(
    gateway: &Gateway,
    head: Parts,
    key: Option<&KeyRecord>,
    body: Bytes,
) -> Result<Call, Refusal> {
    let at = gateway.clock.now();
    let id = call_id(at);
    let endpoint = endpoint::find(&gateway.setup.load(), &head).endpoint?;
    let named = named(&head.headers, key)?;
    let live = gateway.stops.enter(&id, public_id(key), Vec::new())?;
    let known = (endpoint, key, named);
    Ok(call((id, at), head, known, live, Body::Whole(body)))
}

fn public_id(key: Option<&KeyRecord>) -> &str {
    key.map_or(ANONYMOUS, |key| &key.id)
}

fn call(
    (id, at): (CallId, Moment),
    head: Parts,
    (endpoint, key, named): (Endpoint, Option<&KeyRecord>, Named),
    live: Live,
    body: Body,
) -> Call {
    Call {
        id,
        at,
        key: public_id(key).to_owned(),
        live: Arc::new(live),
        models: key.map(|key| key.models.clone()).unwrap_or_default(),
        session: named.session,
        task: named.task,
        payers: named.payers,
        endpoint,
        method: head.method,
        path: head.uri.path().to_owned(),
        query: head.uri.query().map(str::to_owned),
        headers: head.headers,
        body,
    }
}

/// What a request says about who and what it belongs to.
struct Named {
    session: Option<String>,
    task: Option<String>,
    payers: Payers,
}

impl Named {
    /// The call's task and those that it is part of.
    fn tasks(&self) -> Vec<String> {
        self.task
            .iter()
            .chain(&self.payers.parents)
            .cloned()
            .collect()
    }
}

fn named(headers: &HeaderMap, key: Option<&KeyRecord>) -> Result<Named, Refusal> {
    let mut payers = key.map(|key| key.payers.clone()).unwrap_or_default();
    if let Some(user) = name(headers, &USER_HEADER)? {
        payers.user = Some(user);
    }
    let tags = name(headers, &TAGS_HEADER)?.unwrap_or_default();
    let tags = tags.split(',').map(str::trim).filter(|tag| !tag.is_empty());
    payers.tags.extend(tags.map(str::to_owned));
    payers.tags.sort();
    payers.tags.dedup();
    if payers.tags.len() > TAGS_MAX {
        let given = payers.tags.len();
        return Err(Refusal::new(
            Reason::BadRequest,
            format!("{given} tags, with those of the key; at most {TAGS_MAX} are allowed"),
        ));
    }
    let task = name(headers, &TASK_HEADER)?;
    payers.parents = parents(headers, task.as_deref())?;
    Ok(Named {
        session: name(headers, &SESSION_HEADER)?,
        task,
        payers,
    })
}

/// The tasks that a task is part of, each once.
fn parents(headers: &HeaderMap, task: Option<&str>) -> Result<Vec<String>, Refusal> {
    let given = name(headers, &PARENTS_HEADER)?.unwrap_or_default();
    let mut parents: Vec<String> = Vec::new();
    for parent in given.split(',').map(str::trim) {
        let is_new = Some(parent) != task && !parents.iter().any(|known| known == parent);
        if !parent.is_empty() && is_new {
            parents.push(parent.to_owned());
        }
    }
    let refusal = |message: String| Err(Refusal::new(Reason::BadRequest, message));
    if parents.len() > PARENTS_MAX {
        let given = parents.len();
        return refusal(format!(
            "header `{PARENTS_HEADER}` names {given} tasks; at most {PARENTS_MAX} are allowed"
        ));
    }
    if task.is_none() && !parents.is_empty() {
        return refusal(format!(
            "header `{PARENTS_HEADER}` says what a task is part of; name that task in \
             `{TASK_HEADER}`"
        ));
    }
    Ok(parents)
}

/// The key that the request carries; none where everyone may call.
fn authenticate(
    gateway: &Gateway,
    headers: &HeaderMap,
    now: Moment,
) -> Result<Option<Arc<KeyRecord>>, Denied> {
    let secret = secret(headers);
    match gateway.setup.load().access {
        Access::Open => Ok(None),
        Access::Keys => {
            let secret = secret.ok_or_else(|| {
                let message =
                    "no key was given; send `authorization: Bearer tw-…` or `x-api-key: tw-…`";
                Denied::Shut(Refusal::new(Reason::Unauthenticated, message))
            })?;
            gateway.keyring.load().admit(&secret, now).map(Some)
        }
    }
}

/// The secret in the first of the headers that carries one.
fn secret(headers: &HeaderMap) -> Option<String> {
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let api_key = HeaderName::from_static("x-api-key");
    text(&KEY_HEADER)
        .map(str::to_owned)
        .or_else(|| bearer(headers).map(str::to_owned))
        .or_else(|| text(&api_key).map(str::to_owned))
        .filter(|secret| !secret.is_empty())
}

/// The secret of `authorization: Bearer …`.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, secret) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| secret.trim())
}

/// A session's or task's name, if the header is there.
fn name(headers: &HeaderMap, header: &HeaderName) -> Result<Option<String>, Refusal> {
    let Some(value) = headers.get(header) else {
        return Ok(None);
    };
    match value.to_str() {
        Ok(text) if !text.is_empty() && text.len() <= NAME_BYTES_MAX => Ok(Some(text.to_owned())),
        Ok(_) | Err(_) => Err(Refusal::new(
            Reason::BadRequest,
            format!(
                "header `{header}` must be 1 to {NAME_BYTES_MAX} visible ASCII characters; \
                 shorten it or leave it out"
            ),
        )),
    }
}
