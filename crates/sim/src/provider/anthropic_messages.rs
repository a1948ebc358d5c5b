//! The simulated `POST /v1/messages` and `POST /v1/messages/count_tokens`.
//!
//! **Invariant**: a stream's deltas put together are the message of the whole answer (property
//! `streams_say_what_whole_answers_say` in `tests.rs`).

use serde_json::{Value, json};
use wire::dialect::Dialect;
use wire::dialect::request::Request;
use wire::prompt::Chain;
use wire::usage::{Tokens, Ttl, Usage};

use crate::binding;
use crate::provider::meter::{Count, segment_tokens};
use crate::provider::script::{self, Call, Prompted, Reply, Stop, Thinking, Tools};
use crate::provider::{Ask, Fault, Provider, Said, UNKNOWN_MODEL, list, object, read};

/// Cache markers that one request may carry, the automatic one included.
const MARKERS_MAX: usize = 4;

/// Answers with a message.
pub(super) fn create(
    provider: &mut Provider,
    ask: &Ask<'_>,
    organisation: &str,
) -> Result<Said, Fault> {
    let request = object(ask.body)?;
    validate(&request)?;
    let Some(tokens_max) = request["max_tokens"].as_u64() else {
        return Err(Fault::bad("max_tokens: field required"));
    };
    let budget = request["thinking"]["budget_tokens"].as_u64();
    if budget.is_some_and(|budget| budget >= tokens_max) {
        let message = "max_tokens: must be greater than thinking.budget_tokens";
        return Err(Fault::bad(message));
    }
    let model = request["model"].as_str().unwrap_or_default();
    let prompted = prompted(&request, tokens_max);
    let reply = Reply::to(&prompted, provider.count).map_err(Fault::wished)?;
    let read = read(Dialect::AnthropicMessages, ask)?;
    let binds = binding::binds("anthropic", model);
    if binds {
        let unbound = unbound(&request, &read);
        provider.unbound += u64::try_from(unbound.len()).unwrap_or(u64::MAX);
        if let Some(path) = unbound.first() {
            let message = format!("{path}: `thinking` block is bound to a different conversation");
            return Err(Fault::bad(message));
        }
    }
    let mut usage = provider.split(&read, organisation, ask.at);
    usage.output.0 = reply.tokens(provider.count);
    usage.reasoning.0 = reply.thinking_tokens(provider.count);
    let messages = list(&request["messages"]).len();
    let seed = script::digest(&[model, &prompted.text, &messages.to_string()]);
    let message = Message {
        seed,
        model,
        reply,
        usage,
        prefix: binds.then(|| binding::prefix(&read, u32::MAX)),
    };
    if request["stream"] == true {
        Ok(Said::Stream(message.frames()))
    } else {
        Ok(Said::Whole(message.whole()))
    }
}

/// Counts the input of a request without answering it.
pub(super) fn count_tokens(ask: &Ask<'_>, count: Count) -> Result<Value, Fault> {
    let request = object(ask.body)?;
    validate(&request)?;
    let input: Tokens = segment_tokens(&read(Dialect::AnthropicMessages, ask)?, count)
        .into_iter()
        .sum();
    Ok(json!({"input_tokens": input.0}))
}

/// An error in this dialect.
pub(super) fn error(fault: &Fault, request_id: &str) -> Value {
    let kind = match fault.status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        529 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    };
    json!({
        "type": "error",
        "error": {"type": kind, "message": fault.message},
        "request_id": request_id,
    })
}

fn validate(request: &Value) -> Result<(), Fault> {
    let Some(model) = request["model"].as_str() else {
        return Err(Fault::bad("model: field required"));
    };
    if model.starts_with(UNKNOWN_MODEL) {
        return Err(Fault::unknown_model(model));
    }
    if request["messages"].is_null() {
        return Err(Fault::bad("messages: field required"));
    }
    if list(&request["messages"]).is_empty() {
        return Err(Fault::bad(
            "messages: a list of at least one message is required",
        ));
    }
    validate_markers(request)?;
    for (path, block) in blocks(request) {
        validate_thinking(&path, block)?;
    }
    Ok(())
}

fn validate_markers(request: &Value) -> Result<(), Fault> {
    let mut markers = 0;
    let mut shortest = Ttl::Hour1;
    for (path, block) in blocks(request) {
        let marker = &block["cache_control"];
        if marker.is_null() {
            continue;
        }
        markers += 1;
        let ttl = validate_marker(&path, marker)?;
        if ttl > shortest {
            return Err(Fault::bad(format!(
                "{path}.cache_control.ttl: a `1h` marker must not come after a `5m` marker; \
                 tools come first, then system, then messages"
            )));
        }
        shortest = ttl;
        if ["thinking", "redacted_thinking"]
            .iter()
            .any(|kind| block["type"] == *kind)
        {
            let message = format!("{path}.cache_control: thinking blocks cannot be marked");
            return Err(Fault::bad(message));
        }
        if block["type"] == "text" && block["text"] == "" {
            let message = format!("{path}.cache_control: empty text blocks cannot be marked");
            return Err(Fault::bad(message));
        }
    }
    if !request["cache_control"].is_null() {
        validate_marker("", &request["cache_control"])?;
        markers += 1;
    }
    if markers > MARKERS_MAX {
        return Err(Fault::bad(format!(
            "at most {MARKERS_MAX} blocks with cache_control are allowed; found {markers}"
        )));
    }
    Ok(())
}

fn validate_marker(path: &str, marker: &Value) -> Result<Ttl, Fault> {
    if marker["type"] != "ephemeral" {
        let message = format!("{path}.cache_control.type: must be `ephemeral`");
        return Err(Fault::bad(message));
    }
    match marker.get("ttl").map(Value::as_str) {
        None | Some(Some("5m")) => Ok(Ttl::Minutes5),
        Some(Some("1h")) => Ok(Ttl::Hour1),
        Some(_) => Err(Fault::bad(format!(
            "{path}.cache_control.ttl: must be `5m` or `1h`"
        ))),
    }
}

/// A thinking block comes back as it was given, or not at all.
fn validate_thinking(path: &str, block: &Value) -> Result<(), Fault> {
    if block["type"] != "thinking" {
        return Ok(());
    }
    let thinking = block["thinking"].as_str().unwrap_or_default();
    match block["signature"].as_str() {
        None => Err(Fault::bad(format!("{path}.signature: field required"))),
        // Whether it is bound to what stands before it is looked at where the model binds.
        Some(signature) if signature.split('-').next() == Some(&script::signature_of(thinking)) => {
            Ok(())
        }
        Some(_) => Err(Fault::bad(format!(
            "{path}: invalid `signature` in `thinking` block"
        ))),
    }
}

/// The thinking blocks that are not bound to what stands before them.
fn unbound(request: &Value, read: &Request<'_>) -> Vec<String> {
    let mut unbound = Vec::new();
    for (message, index) in list(&request["messages"]).iter().zip(0_u32..) {
        for (place, block) in list(&message["content"]).iter().enumerate() {
            if block["type"] != "thinking" {
                continue;
            }
            let thinking = block["thinking"].as_str().unwrap_or_default();
            let bound = script::bound_signature_of(thinking, binding::prefix(read, index));
            if block["signature"] != bound {
                unbound.push(format!("messages.{index}.content.{place}"));
            }
        }
    }
    unbound
}

/// Everything that can carry a marker, in rendered order, with its path.
fn blocks(request: &Value) -> Vec<(String, &Value)> {
    let mut blocks = Vec::new();
    for (index, tool) in list(&request["tools"]).iter().enumerate() {
        blocks.push((format!("tools.{index}"), tool));
    }
    for (index, block) in list(&request["system"]).iter().enumerate() {
        blocks.push((format!("system.{index}"), block));
    }
    for (index, message) in list(&request["messages"]).iter().enumerate() {
        for (inner, block) in list(&message["content"]).iter().enumerate() {
            let path = format!("messages.{index}.content.{inner}");
            for (part, nested) in list(&block["content"]).iter().enumerate() {
                blocks.push((format!("{path}.content.{part}"), nested));
            }
            blocks.push((path, block));
        }
    }
    blocks
}

fn prompted(request: &Value, tokens_max: u64) -> Prompted {
    let messages = list(&request["messages"]);
    let after_a_call = messages.last().is_some_and(|message| {
        list(&message["content"])
            .iter()
            .any(|block| block["type"] == "tool_result")
    });
    let offered = !list(&request["tools"]).is_empty() && request["tool_choice"]["type"] != "none";
    Prompted {
        text: script::last_user_text(messages),
        tools: if offered && !after_a_call {
            Tools::Callable
        } else {
            Tools::Closed
        },
        thinking: match request["thinking"]["type"].as_str() {
            Some("enabled" | "adaptive") => Thinking::On,
            _ => Thinking::Off,
        },
        tokens_max: Some(tokens_max),
    }
}

struct Message<'a> {
    seed: u128,
    model: &'a str,
    reply: Reply,
    usage: Usage,
    /// What its thinking is bound to.
    prefix: Option<Chain>,
}

impl Message<'_> {
    fn whole(&self) -> Value {
        let content = self.blocks().into_iter().map(|block| block.whole);
        let mut message = self.envelope();
        message["content"] = content.collect();
        message["stop_reason"] = self.stop_reason().into();
        message["usage"] = self.usage_report(self.usage.output.0);
        message
    }

    fn frames(&self) -> Vec<Vec<u8>> {
        let mut start = self.envelope();
        // Real streams open with the one token that is generated by then.
        start["usage"] = self.usage_report(self.usage.output.0.min(1));
        let mut frames = vec![event(&json!({"type": "message_start", "message": start}))];
        for (index, block) in self.blocks().into_iter().enumerate() {
            let start = json!({
                "type": "content_block_start", "index": index, "content_block": block.opening,
            });
            frames.push(event(&start));
            if index == 0 {
                frames.push(event(&json!({"type": "ping"})));
            }
            frames.extend(block.deltas.into_iter().map(|delta| {
                event(&json!({"type": "content_block_delta", "index": index, "delta": delta}))
            }));
            frames.push(event(
                &json!({"type": "content_block_stop", "index": index}),
            ));
        }
        frames.push(event(&json!({
            "type": "message_delta",
            "delta": {"stop_reason": self.stop_reason(), "stop_sequence": null},
            "usage": {
                "input_tokens": self.usage.uncached.0,
                "cache_creation_input_tokens": self.usage.cache_write.total().0,
                "cache_read_input_tokens": self.usage.cache_read.0,
                "output_tokens": self.usage.output.0,
                "output_tokens_details": {"thinking_tokens": self.usage.reasoning.0},
            },
        })));
        frames.push(event(&json!({"type": "message_stop"})));
        frames
    }

    fn envelope(&self) -> Value {
        json!({
            "id": format!("msg_sim{:032x}", self.seed),
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": [],
            "stop_reason": null,
            "stop_sequence": null,
            "usage": null,
        })
    }

    fn stop_reason(&self) -> &'static str {
        match self.reply.stop {
            Stop::Done => "end_turn",
            Stop::Calls => "tool_use",
            Stop::Limit => "max_tokens",
        }
    }

    /// Usage as this dialect reports it: `input_tokens` leaves out what the cache read or wrote.
    fn usage_report(&self, output: u64) -> Value {
        json!({
            "input_tokens": self.usage.uncached.0,
            "cache_creation_input_tokens": self.usage.cache_write.total().0,
            "cache_read_input_tokens": self.usage.cache_read.0,
            "cache_creation": {
                "ephemeral_5m_input_tokens": self.usage.cache_write.of(Ttl::Minutes5).0,
                "ephemeral_1h_input_tokens": self.usage.cache_write.of(Ttl::Hour1).0,
            },
            "output_tokens": output,
            "output_tokens_details": {"thinking_tokens": self.usage.reasoning.0.min(output)},
            "service_tier": "standard",
        })
    }

    fn blocks(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        if !self.reply.thinking.is_empty() {
            blocks.push(Block::thinking(&self.reply.thinking, self.prefix));
        }
        if !self.reply.text.is_empty() {
            blocks.push(Block::text(&self.reply.text));
        }
        let calls = self.reply.calls.iter().enumerate();
        blocks.extend(calls.map(|(index, call)| {
            let seed = self.seed >> 32;
            Block::call(&format!("toolu_sim{seed:024x}{index:02}"), call)
        }));
        blocks
    }
}

/// A content block, both whole and as it is streamed.
struct Block {
    whole: Value,
    opening: Value,
    deltas: Vec<Value>,
}

impl Block {
    fn thinking(pieces: &[String], prefix: Option<Chain>) -> Self {
        let thinking = pieces.concat();
        let signature = match prefix {
            Some(prefix) => script::bound_signature_of(&thinking, prefix),
            None => script::signature_of(&thinking),
        };
        let deltas = pieces
            .iter()
            .map(|piece| json!({"type": "thinking_delta", "thinking": piece}));
        let seal = json!({"type": "signature_delta", "signature": signature});
        Self {
            whole: json!({"type": "thinking", "thinking": thinking, "signature": signature}),
            opening: json!({"type": "thinking", "thinking": "", "signature": ""}),
            deltas: deltas.chain(std::iter::once(seal)).collect(),
        }
    }

    fn text(pieces: &[String]) -> Self {
        let deltas = pieces
            .iter()
            .map(|piece| json!({"type": "text_delta", "text": piece}));
        Self {
            whole: json!({"type": "text", "text": pieces.concat()}),
            opening: json!({"type": "text", "text": ""}),
            deltas: deltas.collect(),
        }
    }

    fn call(id: &str, call: &Call) -> Self {
        let pieces = std::iter::once("").chain(call.pieces());
        let deltas = pieces.map(|piece| json!({"type": "input_json_delta", "partial_json": piece}));
        let (name, input) = (&call.name, call.value());
        Self {
            whole: json!({"type": "tool_use", "id": id, "name": name, "input": input}),
            opening: json!({"type": "tool_use", "id": id, "name": name, "input": {}}),
            deltas: deltas.collect(),
        }
    }
}

fn event(value: &Value) -> Vec<u8> {
    let name = value["type"].as_str().unwrap_or_default();
    format!("event: {name}\ndata: {value}\n\n").into_bytes()
}
