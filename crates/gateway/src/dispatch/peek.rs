//! Looking at the beginning of a stream before the client is told that it has begun: what breaks
//! before anything can be seen is started anew, and nobody notices.
//!
//! **Invariant**: what is kept back is bounded in bytes and time, and is passed on in order
//! (tests `the_sixteen_behaviours_are_rescued_or_cleanly_refused` and
//! `thinking_is_not_kept_back_for_long`).

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use policy::dispatch::fault::Fault;
use policy::dispatch::patience::Patience;
use policy::dispatch::read::read_event;
use tokio::time::{Instant, timeout_at};
use wire::dialect::stream::{Pass, Stream};
use wire::json::Tape;

use crate::setup;

/// 64 KiB: an answer's first events take less than a kilobyte.
const KEPT_BYTES_MAX: usize = 64 * 1024;

/// The beginning of a stream.
#[derive(Debug, Default)]
pub struct Beginning {
    /// What the client gets first.
    pub pieces: VecDeque<Bytes>,
    /// The upstream has closed already.
    pub is_all: bool,
    /// When the first piece came.
    pub since: Option<Instant>,
}

/// A stream that failed before anything could be seen of it.
#[derive(Debug)]
pub struct Broken {
    /// What went wrong.
    pub fault: Fault,
    /// The data of the upstream's error event, if that is what came.
    pub said: Option<Bytes>,
}

impl From<Fault> for Broken {
    fn from(fault: Fault) -> Self {
        Self { fault, said: None }
    }
}

/// How long the beginning of a stream is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Waits {
    /// The latest moment for its first piece.
    pub first: Instant,
    /// Between two pieces.
    pub stall: Duration,
    /// From the first piece until the client must see it: a model that thinks for longer shows
    /// signs of life, which the client waits for.
    pub kept_back: Duration,
}

/// For how long a leg is waited for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pauses {
    /// Until its first token, from sending on.
    pub(super) first_token: Duration,
    /// Between two pieces.
    pub(super) stall: Duration,
    /// From its first piece until the client must see it.
    kept_back: Duration,
}

impl Pauses {
    /// What dispatch decides, within the operator's own limits.
    pub(super) fn of(limits: &setup::Limits, patience: Option<Patience>) -> Self {
        let millis = Duration::from_millis;
        patience.map_or(
            Self {
                first_token: limits.first_byte_timeout,
                stall: limits.idle_timeout,
                kept_back: Duration::ZERO,
            },
            |it| Self {
                first_token: millis(it.first_token_ms).min(limits.first_byte_timeout),
                stall: millis(it.stall_ms).min(limits.idle_timeout),
                kept_back: millis(it.kept_back_ms),
            },
        )
    }
}

impl Waits {
    /// Of a leg that is sent now.
    pub(super) fn from_now(pauses: Pauses) -> Self {
        Self {
            first: Instant::now() + pauses.first_token,
            stall: pauses.stall,
            kept_back: pauses.kept_back,
        }
    }
}

/// Reads until something can be seen, all is said, or it has taken long enough.
pub async fn peek(
    body: &mut Incoming,
    stream: &mut Stream,
    waits: &Waits,
) -> Result<Beginning, Broken> {
    let mut beginning = Beginning::default();
    let mut came: Vec<Bytes> = Vec::new();
    let mut kept_bytes = 0;
    let mut silent_at = waits.first;
    let mut shown_at: Option<Instant> = None;
    loop {
        let until = shown_at.map_or(silent_at, |at| at.min(silent_at));
        let frame = match timeout_at(until, body.frame()).await {
            Ok(frame) => frame,
            Err(_) if shown_at == Some(until) => return Ok(beginning),
            Err(_) if came.is_empty() => return Err(Fault::Silent.into()),
            Err(_) => return Err(Fault::Stalled.into()),
        };
        let bytes = match frame {
            None if stream.is_over() || stream.has_stopped() => {
                beginning.is_all = true;
                return Ok(beginning);
            }
            None | Some(Err(_)) => return Err(Fault::Cut.into()),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(bytes) => bytes,
                Err(_) => continue,
            },
        };
        let now = Instant::now();
        silent_at = now + waits.stall;
        shown_at.get_or_insert(now + waits.kept_back);
        beginning.since.get_or_insert(now);
        kept_bytes += bytes.len();
        let onward = match stream.push(&bytes) {
            Pass::Whole => bytes.clone(),
            Pass::Edited(edited) => Bytes::from(edited),
        };
        came.push(bytes);
        if stream.is_torn() {
            return Err(Fault::Unreadable.into());
        }
        if stream.upstream_error().is_some() && stream.output_bytes() == 0 {
            return Err(error_in(&came));
        }
        if !onward.is_empty() {
            beginning.pieces.push_back(onward);
        }
        if stream.output_bytes() > 0 || stream.is_over() || kept_bytes > KEPT_BYTES_MAX {
            return Ok(beginning);
        }
    }
}

/// What an error event tells, in however many pieces it came. Other events may surround it.
fn error_in(came: &[Bytes]) -> Broken {
    let text = Bytes::from(came.concat());
    let lines = text.split(|byte| matches!(byte, b'\n' | b'\r'));
    let data = lines.filter_map(|line| Some(line.strip_prefix(b"data:")?.trim_ascii()));
    let said = data.rev().find(|data| tells_error(data));
    said.map_or_else(
        || Fault::Interrupted.into(),
        |said| Broken {
            fault: read_event(said),
            said: Some(text.slice_ref(said)),
        },
    )
}

/// Whether an event's data has an error in it, as both dialects name it.
fn tells_error(data: &[u8]) -> bool {
    let error = |tape: &Tape<'_>| tape.root().get("error").is_some_and(|it| !it.is_null());
    Tape::read(data).is_ok_and(|tape| error(&tape))
}
