//! Reads a streamed answer while it passes through.
//!
//! Only whole frames are passed on, and the last one (`[DONE]`, `message_stop`) is kept until
//! [`Stream::finish`], so that the books can be settled before the client sees the end.
//!
//! **Invariant**: any split of the bytes gives the same bytes onward and the same end; but for
//! hidden usage the bytes onward are the bytes that came (properties
//! `any_cut_gives_the_same_stream` and `shown_streams_pass_untouched`).

use std::ops::Range;

use super::{Dialect, anthropic_messages, openai_chat};
use crate::json::{Node, Spare, Tape};
use crate::sse::{Data, FRAME_BYTES_MAX, Frame, Framer, data, joined};
use crate::usage::Usage;

/// Whether the client shall see the usage that the stream carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsageDisplay {
    /// The client asked for it.
    Shown,
    /// Only the gateway asked for it: the stream must look as if it had not.
    Hidden,
}

/// What to pass on for the bytes that were given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pass {
    /// Those very bytes.
    Whole,
    /// These instead; may be empty.
    Edited(Vec<u8>),
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With its terminal event.
    Whole,
    /// The answer was finished (a stop reason was given), but the terminal event did not come.
    NoTerminator,
    /// In the middle of the answer.
    Truncated,
    /// With an error event of the upstream's.
    Error,
}

/// What is known when a stream is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamEnd {
    /// Bytes that must still be passed on, last of all.
    pub held: Vec<u8>,
    /// How it ended.
    pub ending: Ending,
    /// What the provider said it metered. If the ending is not `Whole` or `NoTerminator` this may
    /// be the input only.
    pub usage: Option<Usage>,
    /// Bytes of text, thinking and arguments seen, for an estimate where usage is missing.
    pub seen_output_bytes: u64,
    /// The model that answered.
    pub model: Option<String>,
    /// The provider's id of the answer.
    pub id: Option<String>,
    /// Why the answer stopped.
    pub stop: Option<String>,
    /// The message of the upstream's error event.
    pub upstream_error: Option<String>,
}

/// One streamed answer.
#[derive(Clone, Debug)]
pub struct Stream {
    framer: Framer,
    sight: Sight,
    held: Vec<u8>,
    /// Whether the terminal event has come.
    is_over: bool,
}

/// What a dialect's reader wants done with a frame; ranges are within its data.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Pass it on.
    Forward,
    /// Leave it out.
    Drop,
    /// Pass it on without these bytes.
    Cut(Vec<Range<usize>>),
    /// It is the terminal event.
    Last,
    /// It is not what the dialect sends; pass it on.
    Unreadable,
}

/// What both dialects note.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) output_bytes: u64,
    pub(super) model: Option<String>,
    pub(super) id: Option<String>,
    pub(super) stop: Option<String>,
    pub(super) error: Option<String>,
}

impl Tally {
    /// Notes the first name and id that a stream gives.
    pub(super) fn name(&mut self, answer: Node<'_>) {
        if self.model.is_none() {
            self.model = super::fields::text(answer, "model");
            self.id = super::fields::text(answer, "id");
        }
    }
}

#[derive(Clone, Debug)]
enum Reader {
    Anthropic(anthropic_messages::stream::Reader),
    OpenAi(openai_chat::stream::Reader),
}

/// The part of a stream that looks into frames.
#[derive(Clone, Debug)]
struct Sight {
    reader: Reader,
    tally: Tally,
    /// The tape's memory, used again for every frame.
    spare: Spare,
    /// Whether an event has come that is the beginning of an object and not its end.
    is_torn: bool,
}

impl Stream {
    pub(super) fn new(dialect: Dialect, display: UsageDisplay) -> Self {
        let reader = match dialect {
            // Anthropic streams carry usage unasked, so that there is nothing to hide.
            Dialect::AnthropicMessages => {
                Reader::Anthropic(anthropic_messages::stream::Reader::default())
            }
            Dialect::OpenAiChat => Reader::OpenAi(openai_chat::stream::Reader::new(display)),
        };
        let sight = Sight {
            reader,
            tally: Tally::default(),
            spare: Spare::default(),
            is_torn: false,
        };
        Self {
            framer: Framer::default(),
            sight,
            held: Vec::new(),
            is_over: false,
        }
    }

    /// Takes bytes from the upstream and says what to pass on for them. Copies only what it holds
    /// back or changes.
    pub fn push(&mut self, bytes: &[u8]) -> Pass {
        let Self {
            framer,
            sight,
            held,
            is_over,
        } = self;
        let mut onward = Onward::new(bytes, framer.is_empty());
        framer.push(bytes, |frame| {
            let (frame, verdict) = match frame {
                Frame::Whole(frame) | Frame::Oversized(frame) if *is_over => (frame, Verdict::Last),
                Frame::Whole(frame) => (frame, sight.judge(frame)),
                Frame::Oversized(frame) => (frame, Verdict::Unreadable),
            };
            match verdict {
                Verdict::Forward | Verdict::Unreadable => onward.keep(frame),
                Verdict::Drop => _ = onward.edited(),
                Verdict::Cut(cuts) => write_without(frame, &cuts, onward.edited()),
                Verdict::Last => {
                    *is_over = true;
                    onward.edited();
                    // Whatever follows the terminal event is not worth more memory than a frame.
                    if held.len() + frame.len() <= FRAME_BYTES_MAX {
                        held.extend_from_slice(frame);
                    }
                }
            }
        });
        if !framer.is_empty() {
            onward.edited();
        }
        onward.pass()
    }

    /// Whether the terminal event has come: nothing after it is worth waiting for.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// Bytes of text, thinking and arguments seen so far: none as long as the answer shows nothing.
    pub fn output_bytes(&self) -> u64 {
        self.sight.tally.output_bytes
    }

    /// Whether a stop reason was given: the answer is finished, whatever follows.
    pub fn has_stopped(&self) -> bool {
        self.sight.tally.stop.is_some()
    }

    /// Whether an event has come whose object breaks off, and whatever it told with it. Other things
    /// that are not JSON are some servers' signs of life.
    pub fn is_torn(&self) -> bool {
        self.sight.is_torn
    }

    /// The message of the upstream's error event, if one has come.
    pub fn upstream_error(&self) -> Option<&str> {
        self.sight.tally.error.as_deref()
    }

    /// Ends the stream: the upstream closed, with or without a terminal event.
    pub fn finish(mut self) -> StreamEnd {
        // A last frame may lack its blank line. It is passed on if it can be read.
        let is_torn = self.framer.is_within_oversized();
        let rest = self.framer.finish();
        let verdict = if self.is_over {
            Verdict::Last
        } else {
            self.sight.judge(&rest)
        };
        let kept = match verdict {
            Verdict::Last => {
                self.is_over = true;
                rest
            }
            Verdict::Forward if data(&rest) != Data::None => rest,
            Verdict::Cut(cuts) => {
                let mut kept = Vec::new();
                write_without(&rest, &cuts, &mut kept);
                kept
            }
            Verdict::Forward | Verdict::Drop | Verdict::Unreadable => Vec::new(),
        };
        let Sight { reader, tally, .. } = self.sight;
        let ending = match (&tally.error, self.is_over, &tally.stop) {
            (Some(_), ..) => Ending::Error,
            (None, true, _) => Ending::Whole,
            (None, false, Some(_)) => Ending::NoTerminator,
            (None, false, None) => Ending::Truncated,
        };
        self.held.extend_from_slice(&kept);
        if ending == Ending::Truncated && (is_torn || !kept.is_empty()) {
            // An error event follows, which must not be read as part of this one.
            self.held.extend_from_slice(b"\n\n");
        }
        StreamEnd {
            held: self.held,
            ending,
            usage: match reader {
                Reader::Anthropic(reader) => reader.usage(),
                Reader::OpenAi(reader) => reader.usage(),
            },
            seen_output_bytes: tally.output_bytes,
            model: tally.model,
            id: tally.id,
            stop: tally.stop,
            upstream_error: tally.error,
        }
    }
}

impl Sight {
    fn judge(&mut self, frame: &[u8]) -> Verdict {
        let place = data(frame);
        if place == Data::None {
            return Verdict::Forward;
        }
        let text = joined(frame, &place);
        if let Reader::OpenAi(_) = self.reader
            && text.trim_ascii() == b"[DONE]"
        {
            return Verdict::Last;
        }
        let Ok(tape) = Tape::read_reusing(&text, std::mem::take(&mut self.spare)) else {
            let text = text.trim_ascii();
            self.is_torn |= text.starts_with(b"{") && !text.ends_with(b"}");
            return Verdict::Unreadable;
        };
        let verdict = match &mut self.reader {
            Reader::Anthropic(reader) => reader.read(tape.root(), &mut self.tally),
            Reader::OpenAi(reader) => reader.read(tape.root(), &mut self.tally),
        };
        self.spare = tape.into_spare();
        verdict
    }
}

/// Writes the frame without some bytes of its data.
fn write_without(frame: &[u8], cuts: &[Range<usize>], onward: &mut Vec<u8>) {
    let place = data(frame);
    let text = joined(frame, &place);
    let write_kept = |onward: &mut Vec<u8>| {
        let mut from = 0;
        for cut in cuts {
            onward.extend_from_slice(text.get(from..cut.start).unwrap_or_default());
            from = cut.end;
        }
        onward.extend_from_slice(text.get(from..).unwrap_or_default());
    };
    match &place {
        Data::None => onward.extend_from_slice(frame),
        Data::Line(range) => {
            onward.reserve(frame.len());
            onward.extend_from_slice(frame.get(..range.start).unwrap_or_default());
            write_kept(onward);
            onward.extend_from_slice(frame.get(range.end..).unwrap_or_default());
        }
        // Written anew: the frame's other fields, then the lines of the text that is left.
        Data::Lines(_) => {
            let mut kept = Vec::new();
            write_kept(&mut kept);
            let fields = frame.split(|byte| matches!(byte, b'\n' | b'\r'));
            let others = fields.filter(|line| !line.is_empty() && !line.starts_with(b"data:"));
            let lines = kept
                .split(|byte| *byte == b'\n')
                .map(|line| [b"data: ", line].concat());
            for line in others.map(<[u8]>::to_vec).chain(lines) {
                onward.extend_from_slice(&line);
                onward.push(b'\n');
            }
            onward.push(b'\n');
        }
    }
}

/// What is passed on for one piece: nothing is copied as long as nothing differs.
struct Onward<'a> {
    given: &'a [u8],
    /// Length of the front of `given` that is passed on as it is.
    same: usize,
    edited: Option<Vec<u8>>,
}

impl<'a> Onward<'a> {
    fn new(given: &'a [u8], starts_a_frame: bool) -> Self {
        Self {
            given,
            same: 0,
            edited: (!starts_a_frame).then(Vec::new),
        }
    }

    fn keep(&mut self, frame: &[u8]) {
        match &mut self.edited {
            Some(edited) => edited.extend_from_slice(frame),
            None => self.same += frame.len(),
        }
    }

    fn edited(&mut self) -> &mut Vec<u8> {
        let same = self.given.get(..self.same).unwrap_or_default();
        self.edited.get_or_insert_with(|| same.to_vec())
    }

    fn pass(self) -> Pass {
        self.edited.map_or(Pass::Whole, Pass::Edited)
    }
}

#[cfg(test)]
mod tests;
