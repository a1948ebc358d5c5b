//! The simulated `POST /v1/chat/completions`.
//!
//! **Invariant**: a stream's deltas put together are the message of the whole answer (property
//! `streams_say_what_whole_answers_say` in `tests.rs`).

use policy::prices::PriceBook;
use policy::prices::model::CacheFamily;
use serde_json::{Value, json};
use wire::dialect::Dialect;
use wire::usage::{Ttl, Usage};

use crate::provider::meter::Count;
use crate::provider::script::{self, Call, Prompted, Reply, Stop, Thinking, Tools};
use crate::provider::{Ask, Fault, Provider, Said, UNKNOWN_MODEL, list, object, read};

/// Completes a chat.
pub(super) fn complete(
    provider: &mut Provider,
    ask: &Ask<'_>,
    organisation: &str,
) -> Result<Said, Fault> {
    let request = object(ask.body)?;
    validate(&request)?;
    let model = request["model"].as_str().unwrap_or_default();
    let prompted = prompted(&request);
    let reply = Reply::to(&prompted, provider.count).map_err(Fault::wished)?;
    let mut usage = provider.split(&read(Dialect::OpenAiChat, ask)?, organisation, ask.at);
    usage.output.0 = reply.tokens(provider.count);
    usage.reasoning.0 = reply.thinking_tokens(provider.count);
    let messages = request["messages"].as_array().map_or(0, Vec::len);
    let seed = script::digest(&[model, &prompted.text, &messages.to_string()]);
    let completion = Completion {
        id: format!("chatcmpl-sim{seed:032x}"),
        seed,
        created: ask.at.0 / 1_000,
        model,
        tier: tier(&request),
        reply,
        usage,
    };
    if request["stream"] == true {
        Ok(Said::Stream(completion.frames(&request["stream_options"])))
    } else {
        Ok(Said::Whole(completion.whole()))
    }
}

/// An error in this dialect.
pub(super) fn error(fault: &Fault) -> Value {
    let kind = match fault.status {
        429 => "requests",
        500.. => "server_error",
        _ => "invalid_request_error",
    };
    json!({"error": {
        "message": fault.message, "type": kind, "param": fault.param, "code": fault.code,
    }})
}

/// Whether a model's cache has breakpoints, options and write fees (GPT-5.6 and later).
fn has_cache_options(model: &str) -> bool {
    let model = PriceBook::built_in().find_any(model);
    model.is_some_and(|model| model.cache.family == CacheFamily::OpenaiBreakpoints)
}

fn validate(request: &Value) -> Result<(), Fault> {
    let missing = |name: &str| {
        let message = format!("missing required parameter: `{name}`");
        Fault::bad(message)
            .at(name)
            .coded("missing_required_parameter")
    };
    let model = request["model"].as_str().ok_or_else(|| missing("model"))?;
    if model.starts_with(UNKNOWN_MODEL) {
        return Err(Fault::unknown_model(model));
    }
    if request["messages"].is_null() {
        return Err(missing("messages"));
    }
    let messages = request["messages"]
        .as_array()
        .filter(|messages| !messages.is_empty());
    if messages.is_none() {
        let message = "`messages` must be a list of at least one message";
        return Err(Fault::bad(message).at("messages").coded("invalid_type"));
    }
    if !request["stream_options"].is_null() && request["stream"] != true {
        let message = "`stream_options` is only allowed when `stream` is true";
        return Err(Fault::bad(message).at("stream_options"));
    }
    let options = has_cache_options(model);
    for (path, part) in markable(request) {
        if part.get("cache_control").is_some() {
            return Err(unknown(format!("{path}cache_control")));
        }
        for option in ["prompt_cache_options", "prompt_cache_breakpoint"] {
            if part.get(option).is_some() && !options {
                let message = format!("`{option}` is not supported by `{model}`");
                let param = format!("{path}{option}");
                return Err(Fault::bad(message).at(param).coded("unsupported_parameter"));
            }
        }
    }
    Ok(())
}

fn unknown(param: String) -> Fault {
    Fault::bad(format!("unknown parameter: `{param}`"))
        .at(param)
        .coded("unknown_parameter")
}

/// Every object that a cache marker might stand on, with its path.
fn markable(request: &Value) -> Vec<(String, &Value)> {
    let mut parts = vec![(String::new(), request)];
    for (index, message) in list(&request["messages"]).iter().enumerate() {
        parts.push((format!("messages[{index}]."), message));
        for (block, part) in list(&message["content"]).iter().enumerate() {
            parts.push((format!("messages[{index}].content[{block}]."), part));
        }
    }
    for (index, tool) in list(&request["tools"]).iter().enumerate() {
        parts.push((format!("tools[{index}]."), tool));
        parts.push((format!("tools[{index}].function."), &tool["function"]));
    }
    parts
}

fn prompted(request: &Value) -> Prompted {
    let messages = list(&request["messages"]);
    let after_a_call = messages
        .last()
        .is_some_and(|message| message["role"] == "tool");
    let offered = !list(&request["tools"]).is_empty() && request["tool_choice"] != "none";
    let effort = request["reasoning_effort"].as_str();
    let limit = [&request["max_completion_tokens"], &request["max_tokens"]];
    Prompted {
        text: script::last_user_text(messages),
        tools: if offered && !after_a_call {
            Tools::Callable
        } else {
            Tools::Closed
        },
        thinking: match effort {
            None | Some("none") => Thinking::Off,
            Some(_) => Thinking::On,
        },
        tokens_max: limit.iter().find_map(|limit| limit.as_u64()),
    }
}

/// The tier that the answer names: what was asked for, as OpenAI reports it back.
fn tier(request: &Value) -> &'static str {
    match request["service_tier"].as_str() {
        Some("priority" | "fast") => "priority",
        Some("flex") => "flex",
        _ => "default",
    }
}

struct Completion<'a> {
    id: String,
    seed: u128,
    created: u64,
    model: &'a str,
    tier: &'static str,
    reply: Reply,
    usage: Usage,
}

impl Completion<'_> {
    fn whole(&self) -> Value {
        let text = self.reply.text.concat();
        let mut message = json!({
            "role": "assistant",
            "content": if self.reply.calls.is_empty() { json!(text) } else { Value::Null },
            "refusal": null,
            "annotations": [],
        });
        if !self.reply.calls.is_empty() {
            let calls = self.reply.calls.iter().enumerate().map(|(index, said)| {
                let mut call = self.call(index, said);
                call["function"]["arguments"] = said.arguments.as_str().into();
                call
            });
            message["tool_calls"] = calls.collect();
        }
        json!({
            "id": self.id,
            "object": "chat.completion",
            "created": self.created,
            "model": self.model,
            "choices": [{
                "index": 0,
                "message": message,
                "logprobs": null,
                "finish_reason": self.finish_reason(),
            }],
            "usage": usage_report(&self.usage, self.model),
            "service_tier": self.tier,
            "system_fingerprint": "fp_simulation",
        })
    }

    fn frames(&self, stream_options: &Value) -> Vec<Vec<u8>> {
        let with_usage = stream_options["include_usage"] == true;
        let content = if self.reply.calls.is_empty() {
            json!("")
        } else {
            Value::Null
        };
        let opening = json!({"role": "assistant", "content": content, "refusal": null});
        let mut deltas = vec![(opening, Value::Null)];
        let words = self.reply.text.iter();
        deltas.extend(words.map(|word| (json!({"content": word}), Value::Null)));
        for (index, said) in self.reply.calls.iter().enumerate() {
            let mut call = self.call(index, said);
            call["index"] = index.into();
            deltas.push((json!({"tool_calls": [call]}), Value::Null));
            for piece in said.pieces() {
                let call = json!({"index": index, "function": {"arguments": piece}});
                deltas.push((json!({"tool_calls": [call]}), Value::Null));
            }
        }
        deltas.push((json!({}), self.finish_reason().into()));
        let chunks = deltas.into_iter().map(|(delta, finish_reason)| {
            let choice = json!({
                "index": 0, "delta": delta, "logprobs": null, "finish_reason": finish_reason,
            });
            let mut chunk = self.chunk(&json!([choice]));
            if with_usage {
                chunk["usage"] = Value::Null;
            }
            data(&chunk)
        });
        let mut frames: Vec<Vec<u8>> = chunks.collect();
        if with_usage {
            let mut chunk = self.chunk(&json!([]));
            chunk["usage"] = usage_report(&self.usage, self.model);
            frames.push(data(&chunk));
        }
        frames.push(b"data: [DONE]\n\n".to_vec());
        frames
    }

    fn chunk(&self, choices: &Value) -> Value {
        json!({
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
            "service_tier": self.tier,
            "system_fingerprint": "fp_simulation",
            "choices": choices,
        })
    }

    fn call(&self, index: usize, said: &Call) -> Value {
        let seed = self.seed >> 32;
        json!({
            "id": format!("call_sim{seed:024x}{index:02}"),
            "type": "function",
            "function": {"name": said.name, "arguments": ""},
        })
    }

    fn finish_reason(&self) -> &'static str {
        match self.reply.stop {
            Stop::Done => "stop",
            Stop::Calls => "tool_calls",
            Stop::Limit => "length",
        }
    }
}

/// Usage as this dialect reports it: the prompt includes what was read from and written to the
/// cache; writes are only named by models that charge them.
fn usage_report(usage: &Usage, model: &str) -> Value {
    let prompt = usage.input();
    let mut details = json!({"cached_tokens": usage.cache_read.0, "audio_tokens": 0});
    if has_cache_options(model) {
        details["cache_write_tokens"] = usage.cache_write.total().0.into();
        details["cache_write_tokens_details"] = json!({
            "ttl_30m_tokens": usage.cache_write.of(Ttl::Minutes30).0,
            "ttl_12h_tokens": usage.cache_write.of(Ttl::Hours12).0,
        });
    }
    json!({
        "prompt_tokens": prompt.0,
        "completion_tokens": usage.output.0,
        "total_tokens": (prompt + usage.output).0,
        "prompt_tokens_details": details,
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning.0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    })
}

fn data(value: &Value) -> Vec<u8> {
    format!("data: {value}\n\n").into_bytes()
}

/// Tokens of a text or of a list of texts, for the endpoints that take either.
pub(super) fn text_tokens(input: &Value, count: Count) -> u64 {
    match input {
        Value::String(text) => count(text),
        Value::Array(items) => items.iter().map(|item| text_tokens(item, count)).sum(),
        Value::Number(_) => 1, // a token, given as its number
        Value::Null | Value::Bool(_) | Value::Object(_) => 0,
    }
}
