//! Reading a request's body, within bounds of size and time.
//!
//! **Invariant**: memory for one request is bounded by `Limits::body_bytes_max` (transcript
//! `bad_input`, oversized body).

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::request::Parts;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use policy::refusal::{Reason, Refusal};

use crate::receive::Body;
use crate::receive::endpoint::Endpoint;
use crate::setup::Limits;

/// Reads what has to be read; lets uploads flow, and what only its provider can read.
pub async fn read(
    endpoint: &Endpoint,
    head: &Parts,
    incoming: Incoming,
    limits: &Limits,
) -> Result<Body, Refusal> {
    let json = header(head, CONTENT_TYPE).is_some_and(|value| value.contains("json"));
    let encoding = header(head, CONTENT_ENCODING).filter(|value| *value != "identity");
    if matches!(endpoint, Endpoint::Passthrough { .. }) && (!json || encoding.is_some()) {
        return Ok(Body::Flowing(incoming));
    }
    if let Some(encoding) = encoding {
        let message =
            format!("content-encoding `{encoding}` is not read here; send the body plain");
        return Err(Refusal::new(Reason::BadRequest, message));
    }
    let announced = header(head, CONTENT_LENGTH).and_then(|value| value.parse::<usize>().ok());
    if announced.is_some_and(|bytes| bytes > limits.body_bytes_max) {
        return Err(too_large(limits.body_bytes_max));
    }
    let reading = collect(incoming, announced.unwrap_or(0), limits.body_bytes_max);
    tokio::time::timeout(limits.request_timeout, reading)
        .await
        .unwrap_or_else(|_| {
            Err(Refusal::new(
                Reason::SlowClient,
                format!(
                    "the body was not complete after {:?}; send it faster",
                    limits.request_timeout
                ),
            ))
        })
        .map(Body::Whole)
}

async fn collect(mut incoming: Incoming, announced: usize, most: usize) -> Result<Bytes, Refusal> {
    let mut whole = BytesMut::new();
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(|error| {
            Refusal::new(
                Reason::BadRequest,
                format!("the body broke off: {error}; send it again"),
            )
        })?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if whole.len() + data.len() > most {
            return Err(too_large(most));
        }
        // Most bodies come in one piece, which is taken as it is.
        if whole.is_empty() && data.len() == announced {
            return Ok(data);
        }
        whole.reserve(announced.saturating_sub(whole.len()).max(data.len()));
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}

fn too_large(most: usize) -> Refusal {
    let message =
        format!("the body is larger than {most} bytes; send less or raise `limits.body_bytes_max`");
    Refusal::new(Reason::BodyTooLarge, message)
}

fn header(head: &Parts, name: http::HeaderName) -> Option<&str> {
    head.headers.get(name).and_then(|value| value.to_str().ok())
}
