//! The admin API: keys, stops, budgets and changes over HTTP, for whoever holds its token.
//!
//! **Invariant**: without the token nothing is read or done, and wrong ones are answered late; what
//! is changed here holds in this process before it is answered (tests
//! `without_its_token_nothing_opens` and `a_change_holds_at_once` in `tests/it`).

mod desk;
mod fields;
mod route;
pub mod shown;
pub mod token;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use policy::key::holds_secret;
use policy::ports::{Fault, Keys};
use policy::refusal::{Reason, Refusal};
use serde_json::Value;
use wire::dialect::Dialect;

use crate::Gateway;
use crate::id::call_id;
use crate::percent::legible;
use crate::receive::guesses::Guesses;
use crate::receive::keyring::Keyring;
use crate::receive::{Turned, bearer};
use crate::relay::refuse::refuse;
use crate::relay::reply::ReplyBody;
use desk::Desk;
use fields::Parameters;
use route::Lost;
use token::AdminToken;

/// 500 ms: long for whoever tries tokens, short for whoever mistyped one.
const GUESS_DELAY: Duration = Duration::from_millis(500);

/// 4 guesses wait at once: with the delay, no more than 8 tokens are tried in a second.
const GUESSES_AT_ONCE: usize = 4;

/// 64 KiB: the longest request, a key with all of its tags and models, stays below it.
const BODY_BYTES_MAX: usize = 64 << 10;

/// What the admin API needs besides the gateway's own parts.
pub struct Admin {
    keys: OnceLock<Arc<dyn Keys>>,
    /// Held while the store is changed, or while what it holds is taken over.
    order: Mutex<()>,
    guesses: Guesses,
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            keys: OnceLock::new(),
            order: Mutex::default(),
            guesses: Guesses::new(GUESSES_AT_ONCE, GUESS_DELAY),
        }
    }
}

/// What a gateway has taken over from its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The version of the keys.
    pub version: u64,
    /// How many keys there are, disabled ones included.
    pub keys: usize,
}

impl Admin {
    /// Lets the admin API work with these keys, once and for all; the token is the setup's.
    pub fn open(&self, keys: Arc<dyn Keys>) {
        if self.keys.set(keys).is_err() {
            tracing::error!("the admin API has its keys already; the first ones stay");
        }
    }

    /// The keys and stops, if a store is open for them.
    pub fn keys(&self) -> Option<Arc<dyn Keys>> {
        self.keys.get().map(Arc::clone)
    }

    /// A panic elsewhere leaves nothing half done in memory: everything is read again.
    fn order(&self) -> MutexGuard<'_, ()> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes over the keys and stops of the store. It may block.
pub fn refresh(gateway: &Gateway, keys: &dyn Keys) -> Result<Seen, Fault> {
    let _order = gateway.admin.order();
    refresh_locked(gateway, keys)
}

/// The same for whoever holds the order.
fn refresh_locked(gateway: &Gateway, keys: &dyn Keys) -> Result<Seen, Fault> {
    // The version first: what changes in between is then seen at the next look.
    let version = keys.version()?;
    let records = keys.list()?;
    let count = records.len();
    let stopped = keys.stops()?.into_iter().map(|(stop, _)| stop).collect();
    gateway.keyring.store(Arc::new(Keyring::new(records)));
    gateway.stops.set(stopped);
    Ok(Seen {
        version,
        keys: count,
    })
}

/// Whether a path belongs to the admin API.
pub fn owns(path: &str) -> bool {
    path.strip_prefix("/admin")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Answers a request to the admin API.
pub async fn respond(gateway: &Arc<Gateway>, request: Request<Incoming>) -> Response<ReplyBody> {
    let id = call_id(gateway.clock.now());
    let (head, incoming) = request.into_parts();
    let mut response = match Box::pin(answer(gateway, &head, incoming)).await {
        Ok(value) => Response::new(ReplyBody::whole(value.to_string())),
        Err(Refused { refusal, hint }) => {
            gateway.metrics.refused(refusal.reason);
            tracing::info!(
                call = id.0,
                reason = ?refusal.reason,
                told = refusal.message,
                "admin request refused"
            );
            let dialect = Dialect::OpenAiChat;
            let mut response = refuse(&Turned {
                refusal,
                dialect,
                id,
            });
            if let Some((name, value)) = hint {
                response.headers_mut().insert(name, value);
            }
            response
        }
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // Secrets are shown once, to whoever asked, and to no cache in between.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Why a request is not answered, and a header that helps.
struct Refused {
    refusal: Refusal,
    hint: Option<(HeaderName, HeaderValue)>,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self {
            refusal,
            hint: None,
        }
    }
}

impl From<Lost> for Refused {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Nowhere(refusal) => refusal.into(),
            Lost::Method(refusal, allowed) => Self {
                refusal,
                hint: HeaderValue::from_str(&allowed).ok().map(|it| (ALLOW, it)),
            },
        }
    }
}

async fn answer(
    gateway: &Arc<Gateway>,
    head: &Parts,
    incoming: Incoming,
) -> Result<Value, Refused> {
    let token = gateway.setup.load().admin;
    let (Some(token), Some(keys)) = (token, gateway.admin.keys.get()) else {
        return Err(closed().into());
    };
    let given = authenticate(gateway, &head.headers, token).await?;
    check_secrets(head, given)?;
    let deed = route::find(&head.method, head.uri.path())?;
    let parameters = Parameters::read(head.uri.query(), deed.parameters())?;
    let body = if deed.has_body() {
        read(gateway, &head.headers, incoming).await?
    } else {
        Bytes::new()
    };
    if contains(&body, given) {
        return Err(fields::secret("the body").into());
    }
    let (served, keys) = (Arc::clone(gateway), Arc::clone(keys));
    let done = gateway.tasks.blocking(move || {
        let desk = Desk {
            gateway: &served,
            keys: &*keys,
            now: served.clock.now(),
        };
        desk.serve(&deed, &body, &parameters)
    });
    let done = done.await.unwrap_or_else(|error| {
        tracing::error!(%error, "an admin request has failed");
        let message = "the request has failed within; look what holds now before trying again";
        Err(Refusal::new(Reason::Internal, message))
    });
    Ok(done?)
}

fn closed() -> Refusal {
    let message = "the admin API is closed; open it with `[admin] token = \
                   \"env:TOKENWISE_ADMIN_TOKEN\"` in the configuration, and set that variable to a \
                   secret of your own";
    Refusal::new(Reason::UnknownRoute, message)
}

/// The token that the request carries, if it is the right one; a wrong one waits for its answer.
async fn authenticate<'a>(
    gateway: &Gateway,
    headers: &'a HeaderMap,
    token: AdminToken,
) -> Result<&'a str, Refused> {
    let given = bearer(headers);
    if let Some(given) = given.filter(|given| token.is(given)) {
        return Ok(given);
    }
    let what = given.map_or(
        "no token was given",
        |_| "this token does not open the admin API",
    );
    let message = format!("{what}; send the one of `[admin] token` as `authorization: Bearer …`");
    let refusal = Refusal::new(Reason::Unauthenticated, message);
    Err(Refused {
        refusal: gateway.admin.guesses.answer(refusal).await,
        hint: Some((WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))),
    })
}

/// Refuses secrets in the request line, which messages repeat and others write down.
fn check_secrets(head: &Parts, token: &str) -> Result<(), Refusal> {
    let query = head.uri.query().unwrap_or_default();
    for part in [head.method.as_str(), head.uri.path(), query] {
        let read = legible(part);
        if read.contains(token) || holds_secret(&read) {
            return Err(fields::secret("the method, path or query"));
        }
    }
    Ok(())
}

fn contains(body: &[u8], token: &str) -> bool {
    memchr::memmem::find(body, token.as_bytes()).is_some()
}

/// Reads a body, within bounds of size and time.
async fn read(
    gateway: &Gateway,
    headers: &HeaderMap,
    incoming: Incoming,
) -> Result<Bytes, Refusal> {
    if headers
        .get(CONTENT_ENCODING)
        .is_some_and(|value| value != "identity")
    {
        let message = "the body is encoded (`content-encoding`); send it plain";
        return Err(Refusal::new(Reason::BadRequest, message));
    }
    let patience = gateway.setup.load().limits.request_timeout;
    let reading = Limited::new(incoming, BODY_BYTES_MAX).collect();
    let Ok(body) = tokio::time::timeout(patience, reading).await else {
        let message = format!("the body was not complete after {patience:?}; send it faster");
        return Err(Refusal::new(Reason::SlowClient, message));
    };
    body.map(http_body_util::Collected::to_bytes)
        .map_err(|error| {
            if error.is::<LengthLimitError>() {
                let message = format!("the body is larger than {BODY_BYTES_MAX} bytes; send less");
                return Refusal::new(Reason::BodyTooLarge, message);
            }
            let message = format!("the body broke off: {error}; send it again");
            Refusal::new(Reason::BadRequest, message)
        })
}
