//! Receive: parses the client's dialect, authenticates the key, names tenant, session and task.
//!
//! **Invariant**: nothing is sent and nothing is owed before a call leaves this room; a refusal
//! here is written in the dialect that the path speaks (transcripts `bad_input`).

pub mod body;
pub mod endpoint;
pub mod keyring;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, Request, header};
use hyper::body::Incoming;
use policy::moment::Moment;
use policy::ports::CallId;
use policy::refusal::{Reason, Refusal};
use wire::dialect::Dialect;

use crate::Gateway;
use crate::id::call_id;
use crate::receive::endpoint::{Endpoint, Place};
use crate::setup::Access;

/// Names the session that a call belongs to.
pub const SESSION_HEADER: HeaderName = HeaderName::from_static("x-tokenwise-session");

/// Names the task that a call belongs to.
pub const TASK_HEADER: HeaderName = HeaderName::from_static("x-tokenwise-task");

/// Carries a key of ours where `authorization` carries the provider's own.
pub const KEY_HEADER: HeaderName = HeaderName::from_static("x-tokenwise-key");

/// The key's public id where no keys are configured.
pub const ANONYMOUS: &str = "anonymous";

/// 256 bytes: session and task names are ids, not documents; longer ones are refused.
const NAME_BYTES_MAX: usize = 256;

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
    let key = authenticate(gateway, &head.headers, at).map_err(|why| turned(why, dialect))?;
    let session = name(&head.headers, &SESSION_HEADER).map_err(|why| turned(why, dialect))?;
    let task = name(&head.headers, &TASK_HEADER).map_err(|why| turned(why, dialect))?;
    let limits = gateway.setup.load().limits;
    let body = body::read(&endpoint, &head, incoming, &limits)
        .await
        .map_err(|why| turned(why, dialect))?;
    Ok(Call {
        id,
        at,
        key,
        session,
        task,
        endpoint,
        method: head.method,
        path: head.uri.path().to_owned(),
        query: head.uri.query().map(str::to_owned),
        headers: head.headers,
        body,
    })
}

/// The public id of the key that the request carries.
fn authenticate(gateway: &Gateway, headers: &HeaderMap, now: Moment) -> Result<String, Refusal> {
    let secret = secret(headers);
    match gateway.setup.load().access {
        Access::Open => Ok(ANONYMOUS.to_owned()),
        Access::Keys => {
            let secret = secret.ok_or_else(|| {
                Refusal::new(
                    Reason::Unauthenticated,
                    "no key was given; send `authorization: Bearer tw-…` or `x-api-key: tw-…`",
                )
            })?;
            gateway.keyring.load().admit(&secret, now)
        }
    }
}

/// The secret in the first of the headers that carries one.
fn secret(headers: &HeaderMap) -> Option<String> {
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = |value: &str| {
        let (scheme, token) = value.split_once(' ')?;
        scheme
            .eq_ignore_ascii_case("bearer")
            .then(|| token.trim().to_owned())
    };
    let api_key = HeaderName::from_static("x-api-key");
    text(&KEY_HEADER)
        .map(str::to_owned)
        .or_else(|| text(&header::AUTHORIZATION).and_then(bearer))
        .or_else(|| text(&api_key).map(str::to_owned))
        .filter(|secret| !secret.is_empty())
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
