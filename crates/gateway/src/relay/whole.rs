//! Answers that are not streams: read whole, metered, settled, then sent on with their cost.
//!
//! **Invariant**: the client receives the upstream's bytes unchanged (transcripts `answers`).

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use policy::ports::End;
use policy::refusal::{Reason, Refusal};
use wire::dialect::Dialect;
use wire::dialect::stream::UsageDisplay;

use crate::dispatch::headers;
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

/// Relays an upstream's answer to the client.
pub async fn relay(
    upstream: Response<Incoming>,
    meter: Meter,
    mut receipt: Receipt,
    limits: &Limits,
) -> Result<Response<ReplyBody>, Refusal> {
    let (head, body) = upstream.into_parts();
    let mut reply_headers = headers::answer(&head.headers);
    insert(&mut reply_headers, &CALL_HEADER, receipt.id());
    insert(&mut reply_headers, &TARGET_HEADER, &receipt.target());
    let event_stream = is(&head.headers, "text/event-stream");
    let json = is(&head.headers, "json");
    if head.status.is_success() && (event_stream || !json) {
        let reading = match meter {
            Meter::Dialect(dialect, usage) if event_stream => {
                Reading::Dialect(dialect, Box::new(dialect.stream(usage)))
            }
            Meter::Watched(dialect) if event_stream => {
                Reading::Watched(Box::new(dialect.stream(UsageDisplay::Shown)))
            }
            Meter::Dialect(..) | Meter::Watched(_) => Reading::Opaque,
            Meter::Free => Reading::Free,
        };
        let metered = Metered::new(body, reading, receipt, limits.idle_timeout);
        return Ok(reply(
            head.status,
            reply_headers,
            ReplyBody::Stream(Box::new(metered)),
        ));
    }
    let bytes = match collect(body, limits).await {
        Ok(bytes) => bytes,
        Err(what) => {
            let reported = Reported::Seen { output_bytes: 0 };
            let status = StatusCode::BAD_GATEWAY.as_u16();
            receipt.settle(Outcome {
                end: End::UpstreamBroke,
                status,
                reported,
            });
            let message = format!("provider `{}` {what}; try again", receipt.provider());
            return Err(Refusal::new(Reason::UpstreamUnreachable, message));
        }
    };
    receipt.settle(outcome(head.status, &bytes, meter));
    Wait::new(receipt.settlement()).await;
    insert(&mut reply_headers, &COST_HEADER, &receipt.cost_text());
    insert(&mut reply_headers, &SAVED_HEADER, &receipt.saved_text());
    reply_headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    Ok(reply(head.status, reply_headers, ReplyBody::whole(bytes)))
}

/// What a whole answer says of its usage and its end.
fn outcome(status: StatusCode, bytes: &[u8], meter: Meter) -> Outcome {
    let code = status.as_u16();
    if !status.is_success() {
        // Providers do not bill calls that they refuse.
        return Outcome {
            end: End::UpstreamError,
            status: code,
            reported: Reported::Nothing,
        };
    }
    let reported = match meter {
        Meter::Free => Reported::Nothing,
        Meter::Dialect(dialect, _) | Meter::Watched(dialect) => dialect
            .read_answer(bytes)
            .usage
            .map_or(Reported::Unreadable, Reported::Usage),
    };
    Outcome {
        end: End::Answered,
        status: code,
        reported,
    }
}

/// Reads an answer to its end, in bounds of size and silence.
async fn collect(mut body: Incoming, limits: &Limits) -> Result<Bytes, &'static str> {
    let mut whole = BytesMut::new();
    loop {
        let frame = tokio::time::timeout(limits.idle_timeout, body.frame()).await;
        match frame.map_err(|_| "fell silent in the middle of its answer")? {
            None => return Ok(whole.freeze()),
            Some(Err(_)) => return Err("broke off its answer"),
            Some(Ok(frame)) => {
                let Ok(data) = frame.into_data() else {
                    continue;
                };
                if whole.len() + data.len() > ANSWER_BYTES_MAX {
                    return Err("sent an answer larger than 64 MiB");
                }
                whole.extend_from_slice(&data);
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
