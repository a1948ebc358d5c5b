//! A metered stream: forwards upstream bytes as they come, and settles before the last of them.
//!
//! **Invariant**: the receipt is settled exactly once, at the end of the stream or when the client
//! drops it; the terminal frame waits for the ledger (test `streams_settle_before_their_last_byte`).

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame};
use hyper::body::Incoming;
use policy::dispatch::fault::Fault;
use policy::ports::End;
use policy::refusal::{Reason, Refusal};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;
use wire::dialect::Dialect;
use wire::dialect::stream::{Ending, Pass, Stream, StreamEnd};
use wire::usage::Usage;

use crate::dispatch::peek::Beginning;
use crate::relay::refuse;
use crate::relay::reply::Broken;
use crate::settle::receipt::{CLIENT_GONE, Outcome, Receipt, Reported};

/// 1 s: a journal takes microseconds, a commit a millisecond; if the disk hangs, clients must not.
pub const SETTLE_WAIT: Duration = Duration::from_secs(1);

/// How the bytes are read on their way.
#[derive(Clone, Debug)]
pub enum Reading {
    /// As a stream of a dialect.
    Dialect(Dialect, Box<Stream>),
    /// For the usage alone that it may carry: a passed-through event stream.
    Watched(Box<Stream>),
    /// Not at all: a passed-through body of unknown shape, at an unknown cost.
    Opaque,
    /// Not at all: a passed-through body that costs nothing.
    Free,
}

/// A reply's body on its way through.
#[derive(Debug)]
pub struct Metered {
    /// What was read before the client was told of the answer.
    first: VecDeque<Bytes>,
    /// The rest; none if the upstream has closed.
    upstream: Option<Incoming>,
    reading: Option<Reading>,
    receipt: Option<Receipt>,
    silence: Silence,
    stopped: Pin<Box<WaitForCancellationFutureOwned>>,
    state: State,
}

/// Why a stream goes no further.
#[derive(Clone, Copy, Debug)]
enum Cut {
    /// The upstream did so.
    Upstream(Fault, &'static str),
    /// An operator stopped the call.
    Stopped,
}

#[derive(Debug)]
enum State {
    Flowing,
    Settling {
        last: Bytes,
        wait: Wait,
        breaks: bool,
    },
    Over,
}

impl Metered {
    /// Relays `upstream` and settles `receipt`.
    pub fn new(upstream: Incoming, reading: Reading, receipt: Receipt, idle: Duration) -> Self {
        let stopped = receipt.live().token().clone().cancelled_owned();
        Self {
            stopped: Box::pin(stopped),
            first: VecDeque::new(),
            upstream: Some(upstream),
            reading: Some(reading),
            receipt: Some(receipt),
            silence: Silence::new(idle),
            state: State::Flowing,
        }
    }

    /// With a beginning that was read already.
    #[must_use]
    pub fn after(mut self, beginning: Beginning) -> Self {
        self.first = beginning.pieces;
        if beginning.is_all {
            self.upstream = None;
        }
        self
    }

    /// Whether nothing more will come.
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// The next bytes for the client.
    pub fn poll(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        loop {
            match &mut self.state {
                State::Flowing => {
                    if let Some(frame) = ready!(self.poll_flowing(context)) {
                        return Poll::Ready(Some(Ok(frame)));
                    }
                }
                State::Settling { last, wait, breaks } => {
                    drain(&mut self.upstream, context);
                    ready!(Pin::new(wait).poll(context));
                    let (last, breaks) = (std::mem::take(last), *breaks);
                    self.state = State::Over;
                    if breaks {
                        return Poll::Ready(Some(Err(Broken)));
                    }
                    if !last.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(last))));
                    }
                }
                State::Over => return Poll::Ready(None),
            }
        }
    }

    /// Bytes to forward now; `None` when the state has moved on.
    fn poll_flowing(&mut self, context: &mut Context<'_>) -> Poll<Option<Frame<Bytes>>> {
        if let Some(bytes) = self.first.pop_front() {
            return Poll::Ready(Some(Frame::data(bytes)));
        }
        if self.has_said_all() {
            self.finish(None);
            return Poll::Ready(None);
        }
        loop {
            let Some(upstream) = &mut self.upstream else {
                self.finish(None);
                return Poll::Ready(None);
            };
            match Pin::new(upstream).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => {
                    self.silence.broken();
                    let Ok(bytes) = frame.into_data() else {
                        continue;
                    };
                    let onward = self.read(bytes);
                    if self.is_torn() {
                        self.upstream = None;
                        let what = "sent an event that breaks off";
                        self.finish(Some(Cut::Upstream(Fault::Unreadable, what)));
                        return Poll::Ready(None);
                    }
                    if self.has_said_all() {
                        // Some upstreams linger; the client need not.
                        self.finish(None);
                        return Poll::Ready(onward.map(Frame::data));
                    }
                    if let Some(bytes) = onward {
                        return Poll::Ready(Some(Frame::data(bytes)));
                    }
                }
                Poll::Ready(Some(Err(_))) => {
                    self.finish(Some(Cut::Upstream(Fault::Cut, "broke off its answer")));
                    return Poll::Ready(None);
                }
                Poll::Ready(None) => {
                    self.finish(None);
                    return Poll::Ready(None);
                }
                Poll::Pending => {
                    if self.stopped.as_mut().poll(context).is_ready() {
                        self.upstream = None;
                        self.finish(Some(Cut::Stopped));
                        return Poll::Ready(None);
                    }
                    ready!(self.silence.poll_too_long(context));
                    self.upstream = None;
                    let what = "fell silent in the middle of its answer";
                    self.finish(Some(Cut::Upstream(Fault::Stalled, what)));
                    return Poll::Ready(None);
                }
            }
        }
    }

    /// Whether the terminal event has come.
    fn has_said_all(&self) -> bool {
        matches!(&self.reading, Some(Reading::Dialect(_, stream)) if stream.is_over())
    }

    /// Whether a part of the answer was lost on its way.
    fn is_torn(&self) -> bool {
        matches!(&self.reading, Some(Reading::Dialect(_, stream)) if stream.is_torn())
    }

    /// What of these bytes goes on.
    fn read(&mut self, bytes: Bytes) -> Option<Bytes> {
        match &mut self.reading {
            Some(Reading::Dialect(_, stream)) => match stream.push(&bytes) {
                Pass::Whole => Some(bytes),
                Pass::Edited(edited) if edited.is_empty() => None,
                Pass::Edited(edited) => Some(Bytes::from(edited)),
            },
            Some(Reading::Watched(stream)) => {
                // Its edits are not applied: the reader only looks.
                drop(stream.push(&bytes));
                Some(bytes)
            }
            Some(Reading::Opaque | Reading::Free) | None => Some(bytes),
        }
    }

    /// The upstream has no more: settle, then release what was held.
    fn finish(&mut self, cut: Option<Cut>) {
        let (Some(reading), Some(mut receipt)) = (self.reading.take(), self.receipt.take()) else {
            self.state = State::Over;
            return;
        };
        let (last, breaks) = match reading {
            Reading::Dialect(dialect, stream) => {
                (last_words(*stream, dialect, cut, &mut receipt), false)
            }
            Reading::Watched(_) | Reading::Opaque | Reading::Free => {
                pass_on(reading, cut, &mut receipt);
                (Vec::new(), cut.is_some())
            }
        };
        let wait = Wait::new(receipt.settlement());
        self.state = State::Settling {
            last: Bytes::from(last),
            wait,
            breaks,
        };
    }
}

/// Frames that are read after the terminal event: its chunk's end, and little else.
const DRAINED_MAX: usize = 16;

/// Reads what follows the terminal event, if it is there: a connection whose answer was read to its
/// end can be used again.
fn drain(upstream: &mut Option<Incoming>, context: &mut Context<'_>) {
    let Some(upstream) = upstream else {
        return;
    };
    for _ in 0..DRAINED_MAX {
        let frame = Pin::new(&mut *upstream).poll_frame(context);
        if !matches!(frame, Poll::Ready(Some(Ok(_)))) {
            return;
        }
    }
}

/// Settles a passed-through body, which has no last words of ours.
fn pass_on(reading: Reading, cut: Option<Cut>, receipt: &mut Receipt) {
    let end = match cut {
        None => End::Answered,
        Some(Cut::Upstream(fault, _)) => {
            receipt.breaks(fault);
            End::UpstreamBroke
        }
        Some(Cut::Stopped) => End::Stopped,
    };
    receipt.settle(Outcome {
        end,
        status: receipt.upstream_status(),
        reported: reported(reading),
    });
}

/// Settles a dialect's stream; gives the bytes that end it for the client.
fn last_words(
    stream: Stream,
    dialect: Dialect,
    cut: Option<Cut>,
    receipt: &mut Receipt,
) -> Vec<u8> {
    let StreamEnd {
        held,
        ending,
        usage,
        seen_output_bytes,
        ..
    } = stream.finish();
    let (end, mut last) = match (ending, cut) {
        // What was lost may be a part of the answer, and what followed it was not passed on; or the
        // stop reason was given, but nobody knows what the fault took.
        (_, Some(Cut::Upstream(Fault::Unreadable, _)))
        | (Ending::NoTerminator, Some(Cut::Upstream(..))) => (End::UpstreamBroke, Vec::new()),
        // A fault behind the terminal frame is only silence: everything was there.
        (Ending::Whole, _) | (Ending::NoTerminator, None) => (End::Answered, held),
        (Ending::Error, _) => (End::UpstreamError, held),
        (Ending::Truncated, Some(Cut::Stopped)) => (End::Stopped, held),
        (Ending::Truncated, _) => (End::UpstreamBroke, held),
        (Ending::NoTerminator, Some(Cut::Stopped)) => (End::Stopped, Vec::new()),
    };
    let told = match (end, cut) {
        (End::Stopped, _) => Some(receipt.live().refusal()),
        (End::UpstreamBroke, Some(Cut::Upstream(fault, what))) => {
            receipt.breaks(fault);
            Some(incomplete(receipt, what))
        }
        (End::UpstreamBroke, _) => {
            receipt.breaks(Fault::Cut);
            Some(incomplete(receipt, "ended its answer early"))
        }
        (End::UpstreamError, _) => {
            receipt.breaks(Fault::Interrupted);
            None
        }
        _ => None,
    };
    if let Some(refusal) = told {
        last.extend(refuse::event(&refusal, dialect, receipt.id()));
    }
    receipt.settle(Outcome {
        end,
        status: receipt.upstream_status(),
        reported: in_stream(ending, usage, seen_output_bytes),
    });
    last
}

fn incomplete(receipt: &Receipt, what: &str) -> Refusal {
    let message = format!(
        "provider `{}` {what}; what came so far is incomplete",
        receipt.provider()
    );
    Refusal::new(Reason::UpstreamUnreachable, message)
}

/// What is known of the usage of a body that goes no further.
pub fn reported(reading: Reading) -> Reported {
    match reading {
        Reading::Dialect(_, stream) => {
            let end = stream.finish();
            in_stream(end.ending, end.usage, end.seen_output_bytes)
        }
        Reading::Watched(stream) => {
            let usage = stream.finish().usage;
            usage.map_or(Reported::Unreadable, Reported::Usage)
        }
        Reading::Opaque => Reported::Unreadable,
        Reading::Free => Reported::Nothing,
    }
}

/// What a dialect's stream has said of its usage, as far as it came.
fn in_stream(ending: Ending, usage: Option<Usage>, output_bytes: u64) -> Reported {
    match (ending, usage) {
        (Ending::Whole | Ending::NoTerminator, Some(usage)) => Reported::Usage(usage),
        (Ending::Truncated | Ending::Error, Some(usage)) => Reported::SoFar {
            usage,
            output_bytes,
        },
        // An error instead of an answer is not billed.
        (Ending::Error, None) if output_bytes == 0 => Reported::Nothing,
        (_, None) => Reported::Seen { output_bytes },
    }
}

impl Drop for Metered {
    /// The client went away: what was seen until now is what is known.
    fn drop(&mut self) {
        let (Some(reading), Some(mut receipt)) = (self.reading.take(), self.receipt.take()) else {
            return;
        };
        receipt.settle(Outcome {
            end: End::ClientGone,
            status: CLIENT_GONE,
            reported: reported(reading),
        });
    }
}

/// Waits for the ledger, but not for ever.
#[derive(Debug)]
pub struct Wait {
    committed: Option<oneshot::Receiver<()>>,
    /// Begins when the ledger is not at once ready.
    most: Option<Pin<Box<Sleep>>>,
}

impl Wait {
    /// Waits for this settlement.
    pub fn new(committed: Option<oneshot::Receiver<()>>) -> Self {
        Self {
            committed,
            most: None,
        }
    }
}

impl Future for Wait {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let commit = self
            .committed
            .as_mut()
            .map(|committed| Pin::new(committed).poll(context));
        if commit.is_some_and(|commit| commit.is_pending()) {
            let begin = || Box::pin(tokio::time::sleep(SETTLE_WAIT));
            ready!(self.most.get_or_insert_with(begin).as_mut().poll(context));
            tracing::error!("the ledger was not safe in time; the answer goes out without it");
        }
        self.committed = None;
        Poll::Ready(())
    }
}

/// Notices when nothing has come for too long, with one timer and no work per chunk.
#[derive(Debug)]
struct Silence {
    most: Duration,
    heard: bool,
    timer: Pin<Box<Sleep>>,
}

impl Silence {
    fn new(most: Duration) -> Self {
        Self {
            most,
            heard: false,
            timer: Box::pin(tokio::time::sleep(most)),
        }
    }

    fn broken(&mut self) {
        self.heard = true;
    }

    /// Ready after a whole period without a sound; hence between one and two periods of silence.
    fn poll_too_long(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.timer.as_mut().poll(context));
            if !self.heard {
                return Poll::Ready(());
            }
            self.heard = false;
            let next = Instant::now() + self.most;
            self.timer.as_mut().reset(next);
        }
    }
}
