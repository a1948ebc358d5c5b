//! Warnings: where a context is expensive or risky, in words for whoever sends it.
//!
//! Nothing is changed on their account.
//!
//! **Invariant**: a prompt far from every edge, whose instructions stand at its beginning or its end,
//! is warned of nothing (test `what_is_risky_is_named`).

use wire::prompt::{Kind, Part, Prompt, Role, Segment};
use wire::usage::Tokens;

use crate::prices::model::Cliff;

/// 60 %: agents of several makers begin to compact between 50 and 90 % of the window
/// (`../shared/facts/providers.md` F.2), and a warning should come before.
pub const FILLING_PERCENT: u64 = 60;

/// 70 %: what is left is less than half of what is there, so that a long agent will need it soon.
pub const FULL_PERCENT: u64 = 70;

/// 32 000 tokens: from there on, 10 of 12 models found less than half of what they found in short
/// prompts (`NoLiMa`, `../shared/facts/providers.md` F.2).
pub const LONG_TOKENS: Tokens = Tokens(32_000);

/// What stands behind the first and before the last quarter of a prompt stands in its middle.
const QUARTER: u64 = 4;

/// 1 kB: what people type as an instruction is shorter; what is pasted is longer.
const INSTRUCTION_BYTES_MAX: usize = 1_000;

/// Something that whoever sends the call should know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Warning {
    /// Most of the model's window is used.
    Window {
        /// How much of it.
        percent: u64,
        /// The input.
        input: Tokens,
        /// The window.
        window: Tokens,
    },
    /// Beyond a size, every token of the call costs more.
    Cliff(Cliff),
    /// An instruction stands in the middle of a long prompt.
    Buried {
        /// The message.
        message: u32,
        /// The block within it.
        block: u32,
        /// The share of the prompt that stands before it.
        percent: u64,
    },
}

impl Warning {
    /// The name in notes and headers.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Window { percent, .. } if *percent >= FULL_PERCENT => "window_full",
            Self::Window { .. } => "window",
            Self::Cliff(_) => "price_cliff",
            Self::Buried { .. } => "buried_instruction",
        }
    }

    /// The figures, as headers show them.
    pub fn figures(&self) -> String {
        match self {
            Self::Window {
                percent, window, ..
            } => format!("percent={percent}; window={}", window.0),
            Self::Cliff(Cliff { edge, input, .. }) => {
                format!("edge={}; input={}", edge.0, input.0)
            }
            Self::Buried {
                message, percent, ..
            } => format!("message={message}; percent={percent}"),
        }
    }
}

impl std::fmt::Display for Warning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Window {
                percent,
                input,
                window,
            } => {
                let more = if *percent >= FULL_PERCENT {
                    "there is soon no room: compact, or begin a new session"
                } else {
                    "answers get worse there: send less, or begin a new session"
                };
                let (input, window) = (input.0, window.0);
                write!(
                    f,
                    "{input} tokens fill {percent} % of the window of {window}; {more}"
                )
            }
            Self::Cliff(Cliff { edge, input, delta }) if input <= edge => write!(
                f,
                "{} tokens are close to {}, beyond which every token of the call costs more, \
                 {delta} in all if nothing is cached: send less, or begin a new session",
                input.0, edge.0
            ),
            Self::Cliff(Cliff { edge, input, delta }) => write!(
                f,
                "{} tokens are just beyond {}, where every token of the call costs more, {delta} in \
                 all if nothing is cached: leave {} tokens out",
                input.0,
                edge.0,
                input.0 - edge.0
            ),
            Self::Buried {
                message,
                block,
                percent,
            } => write!(
                f,
                "the instruction messages[{message}].content[{block}] stands {percent} % into a long \
                 prompt, where models overlook it: put it first or last"
            ),
        }
    }
}

/// What a call is warned of.
///
/// `cliff` is the edge near its input, as `Model::cliff_near` finds it.
pub fn warnings(
    prompt: &Prompt,
    sizes: &[Tokens],
    window: Option<Tokens>,
    cliff: Option<Cliff>,
) -> Vec<Warning> {
    let input: Tokens = sizes.iter().copied().sum();
    let filled = window.filter(|window| window.0 > 0).map(|window| {
        let percent = input.0.saturating_mul(100) / window.0;
        Warning::Window {
            percent,
            input,
            window,
        }
    });
    let is_filling =
        |it: &Warning| matches!(it, Warning::Window { percent, .. } if *percent >= FILLING_PERCENT);
    let buried = (input >= LONG_TOKENS).then(|| buried(prompt, sizes, input));
    filled
        .filter(is_filling)
        .into_iter()
        .chain(cliff.map(Warning::Cliff))
        .chain(buried.flatten())
        .collect()
}

/// The first instruction that stands in the middle.
///
/// An instruction is a system message among the messages, or the last text of the last message, if
/// that is short: a question or an order with documents or results behind it.
fn buried(prompt: &Prompt, sizes: &[Tokens], input: Tokens) -> Option<Warning> {
    let is_said = |segment: &&Segment| segment.part == Part::Messages;
    let last = prompt.segments.iter().rev().find(is_said)?.index;
    let is_asked = |segment: &&Segment| {
        is_said(segment)
            && segment.index == last
            && segment.role == Role::User
            && segment.kind == Kind::Text
    };
    let asked = prompt.segments.iter().rev().find(is_asked);
    let asked = asked.filter(|segment| segment.span.len() <= INSTRUCTION_BYTES_MAX);
    let asked = asked.map(|segment| (segment.index, segment.block));
    let mut before = Tokens(0);
    let placed = prompt.segments.iter().zip(sizes).map(|(segment, size)| {
        let start = before;
        before += *size;
        (segment, start, before)
    });
    let is_instruction = |segment: &Segment| {
        let is_system = segment.part == Part::Messages && segment.role == Role::System;
        is_system || is_said(&segment) && asked == Some((segment.index, segment.block))
    };
    let is_far = |tokens: u64| tokens.saturating_mul(QUARTER) >= input.0;
    placed
        .filter(|(segment, ..)| is_instruction(segment))
        .find(|(_, start, end)| is_far(start.0) && is_far(input.0.saturating_sub(end.0)))
        .map(|(segment, start, _)| Warning::Buried {
            message: segment.index,
            block: segment.block,
            percent: start.0.saturating_mul(100) / input.0.max(1),
        })
}

#[cfg(test)]
mod tests {
    use wire::dialect::Dialect;

    use super::{Cliff, Tokens, Warning, warnings};
    use crate::money::PicoUsd;

    /// The names of the warnings for segments of these sizes.
    fn check(messages: &str, sizes: &[u64], cliff: Option<u64>, expect: &[&str]) {
        let body = format!(r#"{{"model":"m","max_tokens":1,"messages":{messages}}}"#);
        let request = Dialect::AnthropicMessages.read(body.as_bytes());
        let request = request.expect("a request");
        let sizes: Vec<Tokens> = sizes.iter().copied().map(Tokens).collect();
        assert_eq!(request.prompt.segments.len(), sizes.len(), "{messages}");
        let input = sizes.iter().copied().sum();
        let cliff = cliff.map(|edge| Cliff {
            edge: Tokens(edge),
            input,
            delta: PicoUsd(7),
        });
        let found = warnings(&request.prompt, &sizes, Some(Tokens(200_000)), cliff);
        let names: Vec<&str> = found.iter().map(Warning::name).collect();
        assert_eq!(names, expect, "{messages} {sizes:?}");
    }

    #[test]
    fn what_is_risky_is_named() {
        let two = r#"[{"role":"user","content":"a"},{"role":"user","content":"b"}]"#;
        check(two, &[60_000, 59_000], None, &[]);
        check(two, &[60_000, 60_000], None, &["window"]);
        check(two, &[60_000, 79_999], None, &["window"]);
        check(two, &[60_000, 80_000], None, &["window_full"]);
        check(two, &[50_000, 50_000], Some(102_000), &["price_cliff"]);
        // A question with documents behind it.
        let asked = |last: &str| {
            let text = |text: &str| format!(r#"{{"type":"text","text":"{text}"}}"#);
            let long = "long ".repeat(400);
            let blocks = [&long, "what is it?", last].map(text).join(",");
            format!(r#"[{{"role":"user","content":[{blocks}]}}]"#)
        };
        let image = r#"[{"role":"user","content":[{"type":"text","text":"a"},
            {"type":"text","text":"what is it?"},{"type":"image","source":{}}]}]"#;
        check(image, &[20_000, 10, 20_000], None, &["buried_instruction"]);
        // Too near the end, or the beginning; and a prompt that is not long.
        check(image, &[31_000, 10, 9_000], None, &[]);
        check(image, &[9_000, 10, 31_000], None, &[]);
        check(image, &[10_000, 10, 10_000], None, &[]);
        // What is said last is said last.
        check(&asked("and where?"), &[20_000, 10, 20_000], None, &[]);
        let system = r#"[{"role":"user","content":"a"},{"role":"system","content":"be brief"},
            {"role":"user","content":"b"}]"#;
        check(system, &[20_000, 10, 20_000], None, &["buried_instruction"]);
        check(system, &[40_000, 10, 10], None, &[]);
    }

    #[test]
    fn warnings_say_what_to_do() {
        let cliff = |edge, input| {
            Warning::Cliff(Cliff {
                edge: Tokens(edge),
                input: Tokens(input),
                delta: PicoUsd(250_000_000_000),
            })
        };
        for (warning, expect) in [
            (cliff(200_000, 190_000), "are close to 200000"),
            (cliff(200_000, 205_000), "leave 5000 tokens out"),
            (
                Warning::Window {
                    percent: 71,
                    input: Tokens(142_000),
                    window: Tokens(200_000),
                },
                "142000 tokens fill 71 % of the window of 200000; there is soon no room",
            ),
        ] {
            assert!(warning.to_string().contains(expect), "{warning}");
        }
    }
}
