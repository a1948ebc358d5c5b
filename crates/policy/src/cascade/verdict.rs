//! The verdict on an answer of a cheaper leg: given to the client, thrown away for a dearer one, or
//! not yet decided; whole, or while its stream is held back.
//!
//! What breaks the contract is certain and is asked first. What remains is a probability: learned,
//! calibrated from the answer's own signals, or the segment's prior, in this order.
//!
//! **Invariant**: an answer that calls tools, or whose form can be checked, is accepted only when it
//! is whole and keeps its contract, and nothing is escalated after it was accepted (tests
//! `answers_are_judged` and `a_stream_is_committed_once_it_convinces`).

use std::time::Duration;

use super::contract::{Choice, Contract, Form, Input};
use super::schema::{Fit, Schema};
use super::signals::{AnswerSeen, Outcome, Stop};
use super::wording::{self, OPENING_BYTES};

/// 16 tokens: with fewer, one odd name decides what the mean log-probability of a text is. Whole
/// answers may be shorter, since there is nothing to wait for.
pub const PREFIX_TOKENS_MIN: u32 = 16;

/// How a signal's value translates into the probability that the answer is adequate: points in
/// rising order of the value, with straight lines between them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Curve {
    points: Vec<(f64, f64)>,
}

impl Curve {
    /// Keeps points `(value, probability)`; none if they are not in rising order, or no probability
    /// is one.
    pub fn new(points: Vec<(f64, f64)>) -> Option<Self> {
        let is_rising = points.windows(2).all(|pair| match pair {
            [(left, _), (right, _)] => left < right,
            _ => true,
        });
        let are_probabilities = points.iter().all(|(_, p)| (0.0..=1.0).contains(p));
        (is_rising && are_probabilities && !points.is_empty()).then_some(Self { points })
    }

    /// The probability at a value; beyond the ends, that of the end.
    pub fn at(&self, value: f64) -> Option<f64> {
        let after = self.points.partition_point(|(x, _)| *x <= value);
        let right = self.points.get(after);
        let left = after.checked_sub(1).and_then(|at| self.points.get(at));
        match (left, right) {
            (Some((x0, y0)), Some((x1, y1))) => Some(y0 + (y1 - y0) * (value - x0) / (x1 - x0)),
            (Some((_, y)), None) | (None, Some((_, y))) => Some(*y),
            (None, None) => None,
        }
    }
}

/// How a route judges the answers of its cheaper legs.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// The least probability of being adequate with which an answer is given to the client; see
    /// [`super::choice::accept_from`].
    pub accept_from: f64,
    /// The probability before the answer is seen: the segment's.
    pub prior: f64,
    /// From the mean log-probability, if that was calibrated for this target.
    pub sureness: Option<Curve>,
    /// From the share of other answers that agree, if those are asked for.
    pub agreement: Option<Curve>,
    /// Names of the verifiers that must have been asked.
    pub verifiers: Vec<String>,
}

impl Default for Rules {
    /// Whatever keeps its contract is accepted.
    fn default() -> Self {
        Self {
            accept_from: 0.5,
            prior: 1.0,
            sureness: None,
            agreement: None,
            verifiers: Vec::new(),
        }
    }
}

/// Why an answer does not convince.
#[derive(Clone, Debug, PartialEq)]
pub enum Doubt {
    /// It is an error, unreadable, or was cut off.
    Broken,
    /// It ended at a limit.
    Truncated,
    /// The provider's filter ended it.
    Filtered,
    /// The model declined, in these words or by its stop reason.
    Refused(String),
    /// It says nothing.
    Empty,
    /// A tool had to be called, and was not.
    ToolMissing,
    /// It calls a tool that the client has not, or was not to be called.
    ToolUnknown(String),
    /// Arguments that the tool does not take.
    Arguments {
        /// The tool.
        tool: String,
        /// What was wrong.
        fault: String,
    },
    /// The text has not the form that was asked for.
    Form(String),
    /// This verifier failed it.
    Verifier(String),
    /// This verifier could not tell, and nothing else can.
    Unjudged(String),
    /// It is adequate with this probability only.
    Unsure(f64),
    /// It could not be judged within what may be held back.
    HeldTooLong,
}

impl Doubt {
    /// Whether a check of the answer has found it, that more thought might have passed.
    pub const fn is_checked(&self) -> bool {
        match self {
            Self::Arguments { .. }
            | Self::Empty
            | Self::Form(_)
            | Self::ToolMissing
            | Self::ToolUnknown(_)
            | Self::Verifier(_) => true,
            Self::Broken
            | Self::Filtered
            | Self::HeldTooLong
            | Self::Refused(_)
            | Self::Truncated
            | Self::Unjudged(_)
            | Self::Unsure(_) => false,
        }
    }

    /// The name in notes, metrics and reports.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Broken => "broken",
            Self::Truncated => "truncated",
            Self::Filtered => "filtered",
            Self::Refused(_) => "refused",
            Self::Empty => "empty",
            Self::ToolMissing => "tool_missing",
            Self::ToolUnknown(_) => "tool_unknown",
            Self::Arguments { .. } => "arguments",
            Self::Form(_) => "form",
            Self::Verifier(_) => "verifier",
            Self::Unjudged(_) => "unjudged",
            Self::Unsure(_) => "unsure",
            Self::HeldTooLong => "held_too_long",
        }
    }
}

/// What an answer is accepted on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Ground {
    /// A verifier passed it.
    Verified,
    /// It is adequate with this probability.
    Likely(f64),
}

/// What a verdict waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// More of the stream, or its end.
    More,
    /// What this verifier says.
    Verifier(String),
    /// Other answers to the same question.
    Agreement,
}

/// What becomes of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// The client gets it; final.
    Accept(Ground),
    /// A dearer leg answers instead; this one's answer is booked as wasted.
    Escalate(Doubt),
    /// It cannot be said yet.
    NeedMore(Need),
}

/// How much of an answer may be held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldBack {
    /// Bytes of the stream.
    pub bytes_max: usize,
    /// From its first byte on.
    pub time_max: Duration,
}

impl Default for HoldBack {
    /// 256 KiB: answers of 8,000 tokens come in about 200 KB of events. Four seconds: what a reader
    /// waits for without asking anew, and 400 tokens of a fast small model.
    fn default() -> Self {
        Self {
            bytes_max: 256 * 1024,
            time_max: Duration::from_secs(4),
        }
    }
}

/// Judges a whole answer.
///
/// ```
/// use policy::cascade::contract::Contract;
/// use policy::cascade::signals::AnswerSeen;
/// use policy::cascade::verdict::{Doubt, Rules, Verdict, judge};
/// use wire::dialect::Dialect;
///
/// let dialect = Dialect::OpenAiChat;
/// let contract = Contract::read(dialect, br#"{"response_format":{"type":"json_object"}}"#);
/// let answer = br#"{"choices":[{"finish_reason":"stop","message":{"content":"It is so."}}]}"#;
/// let verdict = judge(&contract, &AnswerSeen::read(dialect, answer), &Rules::default());
/// assert!(matches!(verdict, Verdict::Escalate(Doubt::Form(_))));
/// ```
pub fn judge(contract: &Contract, seen: &AnswerSeen, rules: &Rules) -> Verdict {
    if let Some(doubt) = breach(contract, seen) {
        return Verdict::Escalate(doubt);
    }
    // Calls of tools are neither shown to verifiers nor compared: other answers may do the same thing
    // differently.
    let is_text = seen.calls.is_empty();
    let found = |outcome| seen.checks.iter().find(|check| check.outcome == outcome);
    if let Some(check) = found(Outcome::Failed) {
        return Verdict::Escalate(Doubt::Verifier(check.name.clone()));
    }
    let is_asked = |name: &&String| seen.checks.iter().any(|check| check.name == **name);
    let unasked = rules.verifiers.iter().find(|name| !is_asked(name));
    if let Some(name) = unasked.filter(|_| is_text) {
        return Verdict::NeedMore(Need::Verifier(name.clone()));
    }
    let open = found(Outcome::Unknown);
    let must_agree = rules.agreement.is_some() && is_text;
    if open.is_none() && found(Outcome::Passed).is_some() && !must_agree {
        return Verdict::Accept(Ground::Verified);
    }
    if must_agree && seen.agreement.is_none() {
        return Verdict::NeedMore(Need::Agreement);
    }
    let told = told(seen, rules, 1);
    // What a route's verifiers were to say is not presumed.
    if let (Some(check), None) = (open, told) {
        return Verdict::Escalate(Doubt::Unjudged(check.name.clone()));
    }
    let adequate = told.unwrap_or(rules.prior);
    if adequate >= rules.accept_from {
        Verdict::Accept(Ground::Likely(adequate))
    } else {
        Verdict::Escalate(Doubt::Unsure(adequate))
    }
}

/// Judges what has come of a stream that is held back: `bytes` of it, for `held`. Call it after each
/// piece and when the time is up; when the stream has ended, [`judge`] what was seen.
///
/// Text that nothing can check is committed at its first convincing prefix: one that does not begin
/// like a refusal and is sure enough. Everything else waits for its end. At the bound the answer is
/// given up, unless it could be committed.
pub fn judge_prefix(
    contract: &Contract,
    seen: &AnswerSeen,
    rules: &Rules,
    (bytes, held): (usize, Duration),
    hold_back: HoldBack,
) -> Verdict {
    if seen.is_broken {
        return Verdict::Escalate(Doubt::Broken);
    }
    if let Some(refusal) = seen.refusal.as_ref().filter(|words| !words.is_empty()) {
        return Verdict::Escalate(Doubt::Refused(refusal.clone()));
    }
    if let Some(doubt) = ended_badly(seen.stop) {
        return Verdict::Escalate(doubt);
    }
    let must_be_whole = contract.needs_whole()
        || !seen.calls.is_empty()
        || !rules.verifiers.is_empty()
        || rules.agreement.is_some();
    let is_opened = seen.text.trim_start().len() >= OPENING_BYTES;
    if !must_be_whole && is_opened && wording::refusal(&seen.text).is_none() {
        let is_sure_enough = rules.sureness.is_none()
            || seen.adequate.is_some()
            || seen.sureness.tokens >= PREFIX_TOKENS_MIN;
        let adequate = told(seen, rules, PREFIX_TOKENS_MIN).unwrap_or(rules.prior);
        if is_sure_enough && adequate >= rules.accept_from {
            return Verdict::Accept(Ground::Likely(adequate));
        }
    }
    if bytes >= hold_back.bytes_max || held >= hold_back.time_max {
        return Verdict::Escalate(Doubt::HeldTooLong);
    }
    Verdict::NeedMore(Need::More)
}

/// The probability that the answer is adequate: learned, or from the signal that says most; none if
/// nothing says anything.
fn told(seen: &AnswerSeen, rules: &Rules, tokens_min: u32) -> Option<f64> {
    let agreement = || {
        let agreement = seen.agreement.filter(|it| it.asked > 0)?;
        let share = f64::from(agreement.same) / f64::from(agreement.asked);
        rules.agreement.as_ref()?.at(share)
    };
    let sureness = || {
        let enough = seen.sureness.tokens >= tokens_min;
        let mean = seen.sureness.mean().filter(|_| enough)?;
        rules.sureness.as_ref()?.at(mean)
    };
    seen.adequate.or_else(agreement).or_else(sureness)
}

/// What is wrong with an answer for certain.
fn breach(contract: &Contract, seen: &AnswerSeen) -> Option<Doubt> {
    if seen.is_broken {
        return Some(Doubt::Broken);
    }
    if let Some(refusal) = seen.refusal.as_ref().filter(|words| !words.is_empty()) {
        return Some(Doubt::Refused(refusal.clone()));
    }
    ended_badly(seen.stop)
        .or_else(|| wrong_calls(contract, seen))
        .or_else(|| wrong_text(contract, seen))
}

fn ended_badly(stop: Stop) -> Option<Doubt> {
    match stop {
        Stop::Truncated => Some(Doubt::Truncated),
        Stop::Filtered => Some(Doubt::Filtered),
        Stop::Refused => Some(Doubt::Refused("stop reason".to_owned())),
        Stop::None | Stop::Finished | Stop::Tools | Stop::Other => None,
    }
}

fn wrong_calls(contract: &Contract, seen: &AnswerSeen) -> Option<Doubt> {
    let is_missing = match &contract.choice {
        Choice::Some => seen.calls.is_empty(),
        Choice::Named(name) => !seen.calls.iter().any(|call| call.name == *name),
        Choice::Free | Choice::None => seen.stop == Stop::Tools && seen.calls.is_empty(),
    };
    if is_missing {
        return Some(Doubt::ToolMissing);
    }
    seen.calls.iter().find_map(|call| {
        let Some(tool) = contract.tool(&call.name) else {
            return Some(Doubt::ToolUnknown(call.name.clone()));
        };
        if contract.choice == Choice::None {
            return Some(Doubt::ToolUnknown(call.name.clone()));
        }
        if tool.input == Input::Text {
            return None;
        }
        // Some servers write no arguments as an empty string.
        let arguments = match call.arguments.trim() {
            "" => "{}",
            given => given,
        };
        let broken = misfit(tool.arguments.as_ref(), arguments)?;
        Some(Doubt::Arguments {
            tool: call.name.clone(),
            fault: broken,
        })
    })
}

fn wrong_text(contract: &Contract, seen: &AnswerSeen) -> Option<Doubt> {
    if !seen.calls.is_empty() {
        return None;
    }
    if seen.text.trim().is_empty() {
        return Some(Doubt::Empty);
    }
    let misfit = match &contract.form {
        Form::Free => {
            let phrase = wording::refusal(&seen.text)?;
            return Some(Doubt::Refused(phrase.text.to_owned()));
        }
        Form::Json => misfit(None, &seen.text),
        Form::Schema(schema) => match schema.fit(&seen.text) {
            Fit::Breaks { path, wanted } => Some(format!("{path} is not {wanted}")),
            Fit::Fits | Fit::Unknown { .. } => None,
        },
    };
    misfit.map(Doubt::Form)
}

/// Whether a text is a JSON object and does not break the schema; what the schema says and is not
/// read here does not count against it.
fn misfit(schema: Option<&Schema>, text: &str) -> Option<String> {
    match wire::json::Tape::read(text.as_bytes()) {
        Err(error) => return Some(error.to_string()),
        Ok(tape) if !tape.root().is_object() => {
            return Some(format!("{} instead of an object", tape.root().shape_name()));
        }
        Ok(_) => {}
    }
    match schema?.fit(text) {
        Fit::Breaks { path, wanted } => Some(format!("{path} is not {wanted}")),
        Fit::Fits | Fit::Unknown { .. } => None,
    }
}

#[cfg(test)]
mod tests;
