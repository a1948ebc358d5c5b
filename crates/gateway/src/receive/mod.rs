//! Receive: parses the client's dialect, authenticates the key, names tenant, session and task.
//!
//! **Invariant**: nothing is sent and nothing is owed before a call leaves this room; a refusal
//! here is written in the dialect that the path speaks (transcripts `bad_input`).

pub mod body;
pub mod endpoint;
pub mod guesses;
pub mod keyring;
pub mod names;
pub mod page;

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
use crate::receive::names::{Found, Named};
use crate::setup::Access;

/// Carries a key of ours where `authorization` carries the provider's own.
pub const KEY_HEADER: HeaderName = HeaderName::from_static("x-tokenwise-key");

/// Where clients put a key besides `authorization`: Anthropic's, and those of Azure OpenAI.
pub const API_KEYS: [HeaderName; 2] = [
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
];

/// The key's public id where no keys are configured.
pub const ANONYMOUS: &str = "anonymous";

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
        let (key, allowed) = (&self.key, self.models.join(", "));
        if model.is_empty() {
            let message = format!(
                "key `{key}` may call {allowed} only, and this call names no model; send it with a \
                 key that may call all"
            );
            return Err(Refusal::new(Reason::ModelNotAllowed, message));
        }
        let message = format!("key `{key}` may not call `{model}`; allowed: {allowed}");
        let mut refusal = Refusal::new(Reason::ModelNotAllowed, message);
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
    let setup = gateway.setup.load_full();
    let place = endpoint::find(&setup, &head);
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
    let caller = match authenticate(gateway, setup.access, &head, at) {
        Ok(caller) => caller,
        Err(Denied::Shut(why)) => return Err(turned(why, dialect)),
        Err(Denied::Unknown(why)) => {
            return Err(turned(gateway.guesses.answer(why).await, dialect));
        }
    };
    let named = Named::in_headers(&head.headers, &setup.names, caller.as_deref());
    let mut named = named.map_err(|why| turned(why, dialect))?;
    let key = public_id(caller.as_deref());
    let live = gateway.stops.enter(&id, key, named.tasks());
    let live = live.map_err(|why| turned(why, dialect))?;
    let body = body::read(&endpoint, &head, incoming, &setup.limits)
        .await
        .map_err(|why| turned(why, dialect))?;
    let found = named.look_into(body.bytes(), &setup.names);
    if found.map_err(|why| turned(why, dialect))? == Found::Tasks {
        let stopped = live.belongs_to(named.tasks());
        stopped.map_err(|why| turned(why, dialect))?;
    }
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
    let setup = gateway.setup.load_full();
    let endpoint = endpoint::find(&setup, &head).endpoint?;
    let mut named = Named::in_headers(&head.headers, &setup.names, key)?;
    named.look_into(&body, &setup.names)?;
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

/// The key that the request carries; none where everyone may call.
fn authenticate(
    gateway: &Gateway,
    access: Access,
    head: &Parts,
    now: Moment,
) -> Result<Option<Arc<KeyRecord>>, Denied> {
    match access {
        Access::Open => match page::elsewhere(head) {
            None => Ok(None),
            Some(page) => {
                let message = format!(
                    "an open gateway takes no call from a web page elsewhere, as this may be one \
                     (`{page}`); let a program send it to `localhost` or an address (a proxy: as \
                     `host`), or close the gateway with `tokenwise keys create NAME`"
                );
                Err(Denied::Shut(Refusal::new(Reason::Unauthenticated, message)))
            }
        },
        Access::Keys => {
            let secret = secret(&head.headers).ok_or_else(|| {
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
    let secret = text(&KEY_HEADER).or_else(|| bearer(headers));
    let secret = secret.or_else(|| API_KEYS.iter().find_map(text));
    let secret = secret.filter(|secret| !secret.is_empty());
    secret.map(str::to_owned)
}

/// The secret of `authorization: Bearer …`.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, secret) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| secret.trim())
}
