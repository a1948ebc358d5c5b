//! What an answer shows of itself: why it stopped, its text, its tool calls, its refusal and how sure
//! its tokens were; read off a whole body, or piece by piece while a stream comes in.
//!
//! **Invariant**: a stream and the whole answer that says the same show the same, whatever the cuts
//! (property `a_stream_shows_what_the_whole_answer_shows`).

use wire::dialect::Dialect;
use wire::json::{Node, Tape};
use wire::sse::{Frame, Framer, data, joined};

use super::contract::{given, kind, text};

/// Why an answer stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stop {
    /// It has not, or does not say why.
    #[default]
    None,
    /// It was finished.
    Finished,
    /// To have tools called.
    Tools,
    /// At a limit of tokens or of the context.
    Truncated,
    /// The provider's filter ended it.
    Filtered,
    /// The model declined.
    Refused,
    /// For a reason that is not known here.
    Other,
}

impl Stop {
    /// Reads `finish_reason` or `stop_reason`.
    fn read(reason: &str) -> Self {
        match reason {
            "stop" | "end_turn" | "stop_sequence" => Self::Finished,
            "tool_calls" | "function_call" | "tool_use" => Self::Tools,
            "length" | "max_tokens" | "model_context_window_exceeded" => Self::Truncated,
            "content_filter" => Self::Filtered,
            "refusal" => Self::Refused,
            _ => Self::Other,
        }
    }
}

/// A call of a tool, as the model wrote it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolCall {
    /// The tool.
    pub name: String,
    /// Its input: JSON, or free text for tools that take that.
    pub arguments: String,
}

/// How sure the model was of its tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sureness {
    /// Tokens with a log-probability.
    pub tokens: u32,
    sum: f64,
}

impl Sureness {
    /// The mean natural log-probability, if there is one.
    pub fn mean(&self) -> Option<f64> {
        (self.tokens > 0).then(|| self.sum / f64::from(self.tokens))
    }

    fn add(&mut self, tokens: Option<Node<'_>>) {
        for token in tokens.into_iter().flat_map(|tokens| tokens.items()) {
            let logprob = token.get("logprob").map(|it| it.raw().parse::<f64>());
            // Some servers write −9999 for what they do not know.
            if let Some(Ok(logprob)) = logprob
                && (-100.0..=0.0).contains(&logprob)
            {
                self.tokens += 1;
                self.sum += logprob;
            }
        }
    }
}

/// What a verifier said: a pattern, a command, a judge model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Its name, as the route has it.
    pub name: String,
    /// Its answer.
    pub outcome: Outcome,
}

/// A verifier's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The answer is good.
    Passed,
    /// It is not.
    Failed,
    /// The verifier could not tell, or failed itself.
    Unknown,
}

/// How many of several answers to the same question say the same as this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// Those that say the same.
    pub same: u32,
    /// All others that were asked.
    pub asked: u32,
}

/// What is seen of an answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AnswerSeen {
    /// Why it stopped.
    pub stop: Stop,
    /// The text that is meant for the reader, without thinking.
    pub text: String,
    /// The tools that it calls.
    pub calls: Vec<ToolCall>,
    /// What stands where providers put a refusal.
    pub refusal: Option<String>,
    /// How sure the tokens were.
    pub sureness: Sureness,
    /// Whether it is an error, or no answer that can be read.
    pub is_broken: bool,
    /// What verifiers said; empty until they are asked.
    pub checks: Vec<Check>,
    /// Whether other answers agree; none until they are asked.
    pub agreement: Option<Agreement>,
    /// The learned probability that it is adequate; none if nobody learned it.
    pub adequate: Option<f64>,
}

impl AnswerSeen {
    /// Reads a whole answer that is not a stream.
    ///
    /// ```
    /// use policy::cascade::signals::{AnswerSeen, Stop};
    /// use wire::dialect::Dialect;
    ///
    /// let body = br#"{"choices":[{"finish_reason":"length","message":{"content":"It is"}}]}"#;
    /// let seen = AnswerSeen::read(Dialect::OpenAiChat, body);
    /// assert_eq!((seen.stop, seen.text.as_str()), (Stop::Truncated, "It is"));
    /// ```
    pub fn read(dialect: Dialect, body: &[u8]) -> Self {
        let mut seen = Self::default();
        match Tape::read(body) {
            Ok(tape) => match dialect {
                Dialect::AnthropicMessages => seen.read_anthropic(tape.root()),
                Dialect::OpenAiChat => seen.read_openai(tape.root(), "message"),
            },
            Err(_) => seen.is_broken = true,
        }
        seen
    }

    /// A whole answer, or a chunk whose pieces are added to what is known.
    fn read_openai(&mut self, root: Node<'_>, member: &str) {
        self.is_broken |= given(root, "error").is_some();
        let choices = root.get("choices");
        let first = |choice: &Node<'_>| {
            let index = choice.get("index").and_then(|index| index.as_u64());
            index.unwrap_or(0) == 0
        };
        for choice in choices
            .into_iter()
            .flat_map(|list| list.items())
            .filter(first)
        {
            if let Some(reason) = text(choice, "finish_reason") {
                self.stop = Stop::read(&reason);
            }
            let tokens = given(choice, "logprobs").and_then(|it| given(it, "content"));
            self.sureness.add(tokens);
            let Some(message) = given(choice, member) else {
                continue;
            };
            self.text += &text(message, "content").unwrap_or_default();
            if let Some(refusal) = text(message, "refusal") {
                *self.refusal.get_or_insert_default() += &refusal;
            }
            let calls = given(message, "tool_calls");
            for (at, call) in calls.into_iter().flat_map(|list| list.items()).enumerate() {
                let index = call.get("index").and_then(|index| index.as_u64());
                let at = index.and_then(|index| index.try_into().ok()).unwrap_or(at);
                if let Some(function) = given(call, "function").or_else(|| given(call, "custom")) {
                    self.add_call(at, function);
                }
            }
            if let Some(function) = given(message, "function_call") {
                self.add_call(0, function);
            }
        }
    }

    fn add_call(&mut self, at: usize, function: Node<'_>) {
        let arguments = text(function, "arguments").or_else(|| text(function, "input"));
        if let Some(call) = self.call_at(at) {
            call.name += &text(function, "name").unwrap_or_default();
            call.arguments += &arguments.unwrap_or_default();
        }
    }

    /// The call at that place, which at most is the next one: providers number them in order.
    fn call_at(&mut self, at: usize) -> Option<&mut ToolCall> {
        if at >= self.calls.len() {
            self.calls.push(ToolCall::default());
            return self.calls.last_mut();
        }
        self.calls.get_mut(at)
    }

    fn read_anthropic(&mut self, root: Node<'_>) {
        self.is_broken |= kind(root).as_deref() == Some("error");
        if let Some(reason) = text(root, "stop_reason") {
            self.stop = Stop::read(&reason);
        }
        for block in given(root, "content")
            .into_iter()
            .flat_map(|list| list.items())
        {
            self.begin_block(block);
        }
    }

    fn begin_block(&mut self, block: Node<'_>) {
        match kind(block).as_deref() {
            Some("text") => self.text += &text(block, "text").unwrap_or_default(),
            Some("tool_use") => self.calls.push(ToolCall {
                name: text(block, "name").unwrap_or_default(),
                arguments: block
                    .get("input")
                    .map_or_else(String::new, |input| input.raw().to_owned()),
            }),
            _ => {}
        }
    }

    fn read_anthropic_event(&mut self, event: Node<'_>) {
        match kind(event).as_deref() {
            Some("content_block_start") => {
                let Some(block) = given(event, "content_block") else {
                    return;
                };
                self.begin_block(block);
                // A streamed call begins with an empty input, and then spells it out.
                let is_call = kind(block).as_deref() == Some("tool_use");
                if let Some(call) = self.calls.last_mut().filter(|_| is_call)
                    && call.arguments == "{}"
                {
                    call.arguments.clear();
                }
            }
            Some("content_block_delta") => {
                let Some(delta) = given(event, "delta") else {
                    return;
                };
                self.text += &text(delta, "text").unwrap_or_default();
                if let (Some(call), Some(part)) =
                    (self.calls.last_mut(), text(delta, "partial_json"))
                {
                    call.arguments += &part;
                }
            }
            Some("content_block_stop") => {
                // A call without input stays `{}`.
                if let Some(call) = self.calls.last_mut().filter(|it| it.arguments.is_empty()) {
                    "{}".clone_into(&mut call.arguments);
                }
            }
            Some("message_delta") => {
                let reason = given(event, "delta").and_then(|delta| text(delta, "stop_reason"));
                self.stop = reason.map_or(self.stop, |reason| Stop::read(&reason));
            }
            Some("error") => self.is_broken = true,
            _ => {}
        }
    }
}

/// An answer that is being streamed.
#[derive(Debug)]
pub struct Hearing {
    dialect: Dialect,
    framer: Framer,
    seen: AnswerSeen,
    bytes: usize,
}

impl Hearing {
    /// Before the first byte.
    pub fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            framer: Framer::default(),
            seen: AnswerSeen::default(),
            bytes: 0,
        }
    }

    /// Takes bytes as the upstream sent them.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len();
        let (dialect, seen) = (self.dialect, &mut self.seen);
        self.framer.push(bytes, |frame| match frame {
            Frame::Whole(frame) => hear(dialect, seen, frame),
            Frame::Oversized(_) => seen.is_broken = true,
        });
    }

    /// What has been seen so far.
    pub fn so_far(&self) -> &AnswerSeen {
        &self.seen
    }

    /// How many bytes have come, which is what has been held back.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The upstream has closed. An answer that gave no reason to stop was cut off.
    pub fn finish(mut self) -> AnswerSeen {
        let rest = self.framer.finish();
        hear(self.dialect, &mut self.seen, &rest);
        self.seen.is_broken |= self.seen.stop == Stop::None;
        self.seen
    }
}

fn hear(dialect: Dialect, seen: &mut AnswerSeen, frame: &[u8]) {
    let event = joined(frame, &data(frame));
    // `[DONE]` and signs of life are no JSON.
    let Ok(tape) = Tape::read(&event) else { return };
    match dialect {
        Dialect::AnthropicMessages => seen.read_anthropic_event(tape.root()),
        Dialect::OpenAiChat => seen.read_openai(tape.root(), "delta"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert_eq, proptest};

    use super::{AnswerSeen, Hearing, Stop};
    use wire::dialect::Dialect;

    const OPENAI: &str = r#"{"choices":[{"index":0,"finish_reason":"tool_calls",
        "logprobs":{"content":[{"token":"a","logprob":-0.5},{"token":"b","logprob":-1.5},{"token":"c","logprob":-9999.0}]},
        "message":{"content":"Let me s\u00e9e.","refusal":null,"tool_calls":[
        {"id":"1","type":"function","function":{"name":"look","arguments":"{\"at\":1}"}},
        {"id":"2","type":"function","function":{"name":"find","arguments":"{}"}}]}}]}"#;

    const OPENAI_STREAM: &str = concat!(
        r#"data: {"choices":[{"index":0,"delta":{"role":"assistant","content":"Let me "},"logprobs":{"content":[{"token":"a","logprob":-0.5}]}}]}"#,
        "\n\n",
        r#"data: {"choices":[{"index":0,"delta":{"content":"s\u00e9e."},"logprobs":{"content":[{"token":"b","logprob":-1.5}]}}]}"#,
        "\n\n",
        r#"data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"1","function":{"name":"look","arguments":"{\"at\""}}]}}]}"#,
        "\n\n",
        r#"data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":":1}"}}]}}]}"#,
        "\n\n",
        r#"data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"2","function":{"name":"find","arguments":"{}"}}]}}]}"#,
        "\n\n",
        r#"data: {"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}"#,
        "\n\ndata: [DONE]\n\n",
    );

    const ANTHROPIC: &str = r#"{"type":"message","stop_reason":"tool_use","content":[
        {"type":"thinking","thinking":"hm","signature":"x"},{"type":"text","text":"Let me see."},
        {"type":"tool_use","id":"1","name":"look","input":{"at":1}},{"type":"tool_use","id":"2","name":"find","input":{}}]}"#;

    const ANTHROPIC_STREAM: &str = concat!(
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"content\":[]}}\n\n",
        r#"data: {"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":""}}"#,
        "\n\n",
        r#"data: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hm"}}"#,
        "\n\n",
        r#"data: {"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}"#,
        "\n\n",
        r#"data: {"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"Let me see."}}"#,
        "\n\n",
        r#"data: {"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"1","name":"look","input":{}}}"#,
        "\n\n",
        r#"data: {"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{\"at\":"}}"#,
        "\n\n",
        r#"data: {"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"1}"}}"#,
        "\n\n",
        "data: {\"type\":\"content_block_stop\",\"index\":2}\n\n",
        r#"data: {"type":"content_block_start","index":3,"content_block":{"type":"tool_use","id":"2","name":"find","input":{}}}"#,
        "\n\n",
        "data: {\"type\":\"content_block_stop\",\"index\":3}\n\n",
        r#"data: {"type":"message_delta","delta":{"stop_reason":"tool_use"}}"#,
        "\n\ndata: {\"type\":\"message_stop\"}\n\n",
    );

    #[test]
    fn stops_are_read() {
        for (dialect, body, stop, is_broken) in [
            (
                Dialect::OpenAiChat,
                r#"{"choices":[{"finish_reason":"stop"}]}"#,
                Stop::Finished,
                false,
            ),
            (
                Dialect::OpenAiChat,
                r#"{"choices":[{"finish_reason":"content_filter"}]}"#,
                Stop::Filtered,
                false,
            ),
            (
                Dialect::OpenAiChat,
                r#"{"error":{"message":"no"}}"#,
                Stop::None,
                true,
            ),
            (Dialect::OpenAiChat, "<html>", Stop::None, true),
            (
                Dialect::AnthropicMessages,
                r#"{"stop_reason":"max_tokens"}"#,
                Stop::Truncated,
                false,
            ),
            (
                Dialect::AnthropicMessages,
                r#"{"stop_reason":"refusal"}"#,
                Stop::Refused,
                false,
            ),
            (
                Dialect::AnthropicMessages,
                r#"{"stop_reason":"pause_turn"}"#,
                Stop::Other,
                false,
            ),
            (
                Dialect::AnthropicMessages,
                r#"{"type":"error","error":{}}"#,
                Stop::None,
                true,
            ),
        ] {
            let seen = AnswerSeen::read(dialect, body.as_bytes());
            assert_eq!((seen.stop, seen.is_broken), (stop, is_broken), "{body}");
        }
    }

    #[test]
    fn a_stream_that_breaks_off_is_broken() {
        let mut hearing = Hearing::new(Dialect::OpenAiChat);
        hearing.push(b"data: {\"choices\":[{\"delta\":{\"content\":\"It\"}}]}\n\n");
        assert!(!hearing.so_far().is_broken);
        assert!(hearing.finish().is_broken);
    }

    proptest! {
        #[test]
        fn a_stream_shows_what_the_whole_answer_shows(cuts in proptest::collection::vec(0..1_800_usize, 0..12)) {
            for (dialect, whole, stream) in [
                (Dialect::OpenAiChat, OPENAI, OPENAI_STREAM),
                (Dialect::AnthropicMessages, ANTHROPIC, ANTHROPIC_STREAM),
            ] {
                let mut cuts: Vec<usize> = cuts.iter().map(|at| at % stream.len()).collect();
                cuts.sort_unstable();
                let mut hearing = Hearing::new(dialect);
                let mut from = 0;
                for to in cuts.into_iter().chain([stream.len()]) {
                    hearing.push(&stream.as_bytes()[from..to]);
                    from = to;
                }
                let (heard, read) = (hearing.finish(), AnswerSeen::read(dialect, whole.as_bytes()));
                prop_assert_eq!(heard.calls.len(), 2);
                prop_assert_eq!(&heard, &read);
                prop_assert_eq!(heard.sureness.mean(), (dialect == Dialect::OpenAiChat).then_some(-1.0));
            }
        }
    }
}
