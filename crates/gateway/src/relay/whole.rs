//! Answers that are not streams: read whole, metered, settled, then sent on with their cost.
//!
//! **Invariant**: the client receives the upstream's bytes unchanged (transcripts `answers`).

use std::mem;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::response::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use policy::dispatch::fault::Fault;
use policy::ports::End;
use policy::refusal::{Reason, Refusal};
use wire::dialect::Dialect;
use wire::dialect::answer::Answer;
use wire::dialect::stream::UsageDisplay;

use crate::dispatch::headers;
use crate::dispatch::peek::Beginning;
use crate::relay::reply::ReplyBody;
use crate::relay::stream::{Metered, Reading, Wait};
use crate::settle::receipt::{Outcome, Receipt, Reported};
use crate::setup::{ANSWER_BYTES_MAX, Limits};

/// The call's id, for `tokenwise explain`.
pub const CALL_HEADER: HeaderName = HeaderName::from_static("x-tokenwise-call");

/// The target that answered, as `provider/model`.
pub const TARGET_HEADER: HeaderName = HeaderName::from_static("x-tokenwise-target");

/// What the call cost, in USD; `unknown` where the model has no price.
pub const COST_HEADER: HeaderName = HeaderName::from_static("x-tokenwise-cost-usd");

/// What the levers saved on it, in USD; negative where they lost.
pub const SAVED_HEADER: HeaderName = HeaderName::from_static("x-tokenwise-saved-usd");

/// A limit that this call has brought near its amount, or past it where it only observes.
pub const BUDGET_HEADER: HeaderName = HeaderName::from_static("x-tokenwise-budget");

/// How an answer is metered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meter {
    /// As an answer of this dialect, its usage shown or hidden on streams.
    Dialect(Dialect, UsageDisplay),
    /// By the usage that it may carry; nothing of it is ours to change.
    Watched(Dialect),
    /// By nothing that it says: it costs nothing by the provider's rules.
    Free,
}

impl Meter {
    /// What a whole answer says of its usage.
    fn reported(self, bytes: &[u8]) -> Reported {
        match self {
            Self::Free => Reported::Nothing,
            Self::Dialect(dialect, _) | Self::Watched(dialect) => {
                self.reported_in(dialect.read_answer(bytes))
            }
        }
    }

    /// The same of an answer that was read.
    pub fn reported_in(self, answer: Answer) -> Reported {
        match self {
            Self::Free => Reported::Nothing,
            Self::Dialect(..) | Self::Watched(_) => {
                answer.usage.map_or(Reported::Unreadable, Reported::Usage)
            }
        }
    }
}

/// Relays an upstream's answer to the client.
pub async fn relay(
    upstream: Response<Incoming>,
    meter: Meter,
    mut receipt: Receipt,
    limits: &Limits,
) -> Result<Response<ReplyBody>, Refusal> {
    let (head, body) = upstream.into_parts();
    if head.status.is_success() && (!is_whole(&head) || is_too_large(&head)) {
        let beginning = Beginning::default();
        let reading = reading(&head, meter);
        let idle = limits.idle_timeout;
        return Ok(flowing(&head, beginning, body, reading, receipt, idle));
    }
    match collect(body, limits).await {
        Ok(bytes) => {
            let reported = meter.reported(&bytes);
            Ok(whole(&head, bytes, reported, receipt).await)
        }
        Err(unread) => {
            receipt.breaks(unread.fault());
            let reported = Reported::Seen { output_bytes: 0 };
            let status = StatusCode::BAD_GATEWAY.as_u16();
            receipt.settle(Outcome {
                end: End::UpstreamBroke,
                status,
                reported,
            });
            Err(broken(receipt.provider(), unread.what()))
        }
    }
}

/// An answer that did not come whole.
pub fn broken(provider: &str, what: &str) -> Refusal {
    let message = format!("provider `{provider}` {what}; try again");
    Refusal::new(Reason::UpstreamUnreachable, message)
}

/// Whether an answer is read whole before it goes on: JSON that is no stream of events, and no lines
/// of JSON, as the results of a batch.
pub fn is_whole(head: &Parts) -> bool {
    let lines = ["jsonl", "ndjson", "event-stream"];
    is(&head.headers, "json") && !lines.iter().any(|kind| is(&head.headers, kind))
}

/// Whether an answer says to be larger than what is read whole.
fn is_too_large(head: &Parts) -> bool {
    let length = head.headers.get(CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    length.is_some_and(|bytes| bytes > ANSWER_BYTES_MAX)
}

/// Whether an answer is a stream of events.
pub fn is_event_stream(head: &Parts) -> bool {
    is(&head.headers, "text/event-stream")
}

/// How an answer that flows is read.
pub fn reading(head: &Parts, meter: Meter) -> Reading {
    match meter {
        Meter::Dialect(dialect, usage) if is_event_stream(head) => {
            Reading::Dialect(dialect, Box::new(dialect.stream(usage)))
        }
        Meter::Watched(dialect) if is_event_stream(head) => {
            Reading::Watched(Box::new(dialect.stream(UsageDisplay::Shown)))
        }
        Meter::Dialect(..) | Meter::Watched(_) => Reading::Opaque,
        Meter::Free => Reading::Free,
    }
}

/// The reply that passes an answer on as it comes.
pub fn flowing(
    head: &Parts,
    beginning: Beginning,
    body: Incoming,
    reading: Reading,
    receipt: Receipt,
    idle: Duration,
) -> Response<ReplyBody> {
    let mut headers = named(head, &receipt);
    tell_budgets(&mut headers, &receipt);
    let metered = Metered::new(body, reading, receipt, idle).after(beginning);
    reply(head.status, headers, ReplyBody::Stream(Box::new(metered)))
}

/// Settles an answer that is there, and replies with it.
pub async fn whole(
    head: &Parts,
    bytes: Bytes,
    reported: Reported,
    mut receipt: Receipt,
) -> Response<ReplyBody> {
    let mut headers = named(head, &receipt);
    receipt.settle(outcome(head.status, reported));
    Wait::new(receipt.settlement()).await;
    tell_budgets(&mut headers, &receipt);
    insert(&mut headers, &COST_HEADER, &receipt.cost_text());
    insert(&mut headers, &SAVED_HEADER, &receipt.saved_text());
    headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    reply(head.status, headers, ReplyBody::whole(bytes))
}

/// The upstream's headers, and ours that name the call.
fn named(head: &Parts, receipt: &Receipt) -> HeaderMap {
    let mut headers = headers::answer(&head.headers);
    insert(&mut headers, &CALL_HEADER, receipt.id());
    insert(&mut headers, &TARGET_HEADER, &receipt.target());
    headers
}

/// One header for each limit that has something to say; those of a whole answer know its cost.
fn tell_budgets(headers: &mut HeaderMap, receipt: &Receipt) {
    for notice in receipt.notices() {
        if let Ok(value) = HeaderValue::from_str(&notice) {
            headers.append(BUDGET_HEADER, value);
        }
    }
}

/// How a whole answer ends a call.
fn outcome(status: StatusCode, reported: Reported) -> Outcome {
    let code = status.as_u16();
    if !status.is_success() {
        // Providers do not bill calls that they refuse.
        return Outcome {
            end: End::UpstreamError,
            status: code,
            reported: Reported::Nothing,
        };
    }
    Outcome {
        end: End::Answered,
        status: code,
        reported,
    }
}

/// Why an answer was not read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// It fell silent.
    Silent,
    /// It broke off.
    Cut,
    /// It is larger than [`ANSWER_BYTES_MAX`].
    TooLarge,
}

impl Unread {
    /// What went wrong with the leg.
    pub const fn fault(self) -> Fault {
        match self {
            Self::Silent => Fault::Stalled,
            Self::Cut => Fault::Cut,
            Self::TooLarge => Fault::Unreadable,
        }
    }

    /// What the provider did.
    pub const fn what(self) -> &'static str {
        match self {
            Self::Silent => "fell silent in the middle of its answer",
            Self::Cut => "broke off its answer",
            Self::TooLarge => "sent an answer larger than 64 MiB",
        }
    }
}

/// Reads an answer to its end, in bounds of size and silence.
pub async fn collect(mut body: Incoming, limits: &Limits) -> Result<Bytes, Unread> {
    // Most answers come in one piece, which is not copied.
    let (mut first, mut whole) = (Bytes::new(), BytesMut::new());
    loop {
        let frame = tokio::time::timeout(limits.idle_timeout, body.frame()).await;
        match frame.map_err(|_| Unread::Silent)? {
            None if whole.is_empty() => return Ok(first),
            None => return Ok(whole.freeze()),
            Some(Err(_)) => return Err(Unread::Cut),
            Some(Ok(frame)) => {
                let Ok(data) = frame.into_data() else {
                    continue;
                };
                if first.len() + whole.len() + data.len() > ANSWER_BYTES_MAX {
                    return Err(Unread::TooLarge);
                }
                if first.is_empty() && whole.is_empty() {
                    first = data;
                } else {
                    whole.extend_from_slice(&mem::take(&mut first));
                    whole.extend_from_slice(&data);
                }
            }
        }
    }
}

fn reply(status: StatusCode, headers: HeaderMap, body: ReplyBody) -> Response<ReplyBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// Inserts a header whose value is known to be visible ASCII, or leaves it out.
fn insert(headers: &mut HeaderMap, name: &HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name.clone(), value);
    }
}

fn is(headers: &HeaderMap, kind: &str) -> bool {
    let value = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    value.is_some_and(|value| value.contains(kind))
}
