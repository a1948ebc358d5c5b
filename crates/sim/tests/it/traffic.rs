//! Generated traffic: prompts of tools, system text and a growing conversation.

use policy::moment::Moment;
use policy::prices::PriceBook;
use policy::shape::cache::Grain;
use sim::replay::{Call, Input, Outcome, Replay, Sizes, Sums, Switch};
use wire::prompt::{Chain, Kind, Part, Prompt, Role, Segment, Slot};
use wire::usage::Tokens;

/// One segment: what it is, what it says, and how long it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Said {
    pub(crate) kind: Kind,
    pub(crate) text: u64,
    pub(crate) tokens: u64,
}

pub(crate) fn said(kind: Kind, text: u64, tokens: u64) -> Said {
    Said { kind, text, tokens }
}

/// A tool and system text of so many tokens together: the head of an agent.
pub(crate) fn head(tokens: u64) -> Vec<Said> {
    vec![
        said(Kind::ToolDefinition, 1, tokens / 2),
        said(Kind::Text, 2, tokens - tokens / 2),
    ]
}

/// A prompt whose first segments, before the first user's word at `head`, are tools and system.
fn prompt(segments: &[Said], head: usize) -> Prompt {
    let mut chain = 0_u128;
    let mut position = 0;
    let mut last = None;
    let segments = (0..).zip(segments).map(|(index, said)| {
        let mixed = chain ^ (u128::from(said.text) << 8) ^ (said.kind as u128);
        chain = (mixed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        let joins =
            last == Some(said.kind) && matches!(said.kind, Kind::ToolUse | Kind::ToolResult);
        position += u32::from(!joins);
        last = Some(said.kind);
        let before = usize::try_from(index).unwrap_or(usize::MAX) < head;
        let part = match (before, said.kind) {
            (true, Kind::ToolDefinition) => Part::Tools,
            (true, _) => Part::System,
            (false, _) => Part::Messages,
        };
        let role = match (part, said.kind) {
            (Part::Tools | Part::System, _) => Role::System,
            (Part::Messages, Kind::ToolResult) => Role::Tool,
            (Part::Messages, Kind::ToolUse | Kind::Thinking) => Role::Assistant,
            (Part::Messages, _) => Role::User,
        };
        Segment {
            part,
            role,
            kind: said.kind,
            index,
            block: 0,
            span: 0..0,
            chain: Chain(chain),
            position,
            marker: None,
            slot: Slot::Member { at: 0 },
        }
    });
    Prompt {
        segments: segments.collect(),
    }
}

struct Given;

impl Sizes for Given {
    fn sizes(&mut self, _prompt: &Prompt, _body: &[u8]) -> Vec<Tokens> {
        Vec::new()
    }
}

/// A replay of shapes at one model.
pub(crate) struct Play(Replay<'static>);

impl Play {
    pub(crate) fn new(model: &str, switch: Switch) -> Self {
        let model = PriceBook::built_in()
            .find_any(model)
            .expect("the book has it");
        let at = Moment(1_795_000_000_000);
        Self(Replay::new(model, at, switch, Grain::Breakpoints).expect("it has a price"))
    }

    pub(crate) fn call(
        &mut self,
        task: &str,
        at_ms: u64,
        segments: &[Said],
        head: usize,
    ) -> Outcome {
        let sizes = segments.iter().map(|said| Tokens(said.tokens)).collect();
        let call = Call {
            task: Some(task),
            at: Moment(at_ms),
            input: Input::Shape {
                prompt: prompt(segments, head),
                sizes,
                rest: Tokens(0),
            },
            output: Tokens(0),
            session: None,
        };
        self.0.call(&call, &mut Given).expect("it can be replayed")
    }

    pub(crate) fn finish(self) -> Sums {
        self.0.finish().expect("it has a price")
    }
}
