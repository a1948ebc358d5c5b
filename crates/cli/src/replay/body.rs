//! Writes recorded conversations as the request bodies that a client would have sent.
//!
//! **Invariant**: a call that continues a conversation has the earlier call's messages as a byte
//! prefix of its own (test `bodies_grow`).

use serde_json::{Value, json};
use wire::dialect::Dialect;

/// Enough for any recorded answer; it does not change the prompt.
const MAX_TOKENS: u32 = 8_192;

/// A recorded message, rendered once.
#[derive(Clone, Debug, Default)]
pub(super) struct Rendered {
    role: String,
    /// Text of a system message.
    text: String,
    /// Blocks without brackets (Anthropic), or the whole message (OpenAI).
    json: String,
    /// The blocks are one bare string.
    bare: bool,
}

/// Renders messages of the OpenAI chat form for a dialect.
pub(super) fn render(dialect: Dialect, message: &Value) -> Rendered {
    let role = message["role"].as_str().unwrap_or("user").to_owned();
    let text = text_of(&message["content"]);
    match dialect {
        Dialect::OpenAiChat => Rendered {
            role,
            json: message.to_string(),
            ..Rendered::default()
        },
        Dialect::AnthropicMessages => {
            let (json, bare) = blocks(&role, &text, message);
            Rendered {
                role,
                text,
                json,
                bare,
            }
        }
    }
}

fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(items) => items
            .iter()
            .filter_map(|item| item["text"].as_str())
            .collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => String::new(),
    }
}

/// The content blocks of one message, without brackets; or one bare string.
fn blocks(role: &str, text: &str, message: &Value) -> (String, bool) {
    let calls = message["tool_calls"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    if role == "tool" {
        let id = &message["tool_call_id"];
        return (
            json!({"type": "tool_result", "tool_use_id": id, "content": text}).to_string(),
            false,
        );
    }
    if calls.is_empty() {
        return (Value::from(text).to_string(), true);
    }
    let spoken = (!text.is_empty()).then(|| json!({"type": "text", "text": text}).to_string());
    let called = calls.iter().map(|call| {
        let function = &call["function"];
        let arguments = function["arguments"].as_str().unwrap_or_default();
        let input: Value = serde_json::from_str(arguments).unwrap_or_else(|_| json!({}));
        json!({"type": "tool_use", "id": call["id"], "name": function["name"], "input": input})
            .to_string()
    });
    (
        spoken
            .into_iter()
            .chain(called)
            .collect::<Vec<_>>()
            .join(","),
        false,
    )
}

/// Tool definitions as a dialect writes them, brackets included; none if there are none.
pub(super) fn tools(dialect: Dialect, schemas: &[Value]) -> Option<String> {
    if schemas.is_empty() {
        return None;
    }
    let written = schemas.iter().map(|schema| match dialect {
        Dialect::OpenAiChat => schema.to_string(),
        Dialect::AnthropicMessages => {
            let function = &schema["function"];
            json!({
                "name": function["name"],
                "description": function["description"],
                "input_schema": function["parameters"],
            })
            .to_string()
        }
    });
    Some(format!("[{}]", written.collect::<Vec<_>>().join(",")))
}

/// The body of one call.
pub(super) fn body(
    dialect: Dialect,
    model: &str,
    tools: Option<&str>,
    messages: &[&Rendered],
) -> String {
    let tools = tools.map_or_else(String::new, |tools| format!(",\"tools\":{tools}"));
    match dialect {
        Dialect::OpenAiChat => {
            let messages: Vec<&str> = messages.iter().map(|it| it.json.as_str()).collect();
            format!(
                r#"{{"model":"{model}"{tools},"messages":[{}]}}"#,
                messages.join(",")
            )
        }
        Dialect::AnthropicMessages => {
            let leading = messages.iter().take_while(|it| it.role == "system").count();
            let (system, rest) = messages.split_at(leading);
            let system = match system {
                [] => String::new(),
                parts => {
                    let texts: Vec<&str> = parts.iter().map(|it| it.text.as_str()).collect();
                    format!(",\"system\":{}", Value::from(texts.join("\n\n")))
                }
            };
            let messages = anthropic_messages(rest);
            format!(
                r#"{{"model":"{model}","max_tokens":{MAX_TOKENS}{tools}{system},"messages":[{messages}]}}"#
            )
        }
    }
}

/// Messages, with the results of one turn's calls in one message, as the API wants them.
fn anthropic_messages(messages: &[&Rendered]) -> String {
    let mut written: Vec<String> = Vec::with_capacity(messages.len());
    let mut rest = messages;
    while let [first, after @ ..] = rest {
        let joined = if first.role == "tool" {
            after.iter().take_while(|it| it.role == "tool").count()
        } else {
            0
        };
        let (same, next) = rest.split_at(joined + 1);
        rest = next;
        let role = if first.role == "assistant" {
            "assistant"
        } else {
            "user"
        };
        let blocks: Vec<&str> = same.iter().map(|it| it.json.as_str()).collect();
        let content = if first.bare {
            blocks.join(",")
        } else {
            format!("[{}]", blocks.join(","))
        };
        written.push(format!(r#"{{"role":"{role}","content":{content}}}"#));
    }
    written.join(",")
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use wire::dialect::Dialect;

    use super::{body, render, tools};

    #[test]
    fn bodies_grow() {
        let messages = [
            json!({"role": "system", "content": "Be brief."}),
            json!({"role": "user", "content": "What is 2+2?"}),
            json!({"role": "assistant", "content": "", "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "add", "arguments": "{\"x\": 2}"}},
                {"id": "b", "type": "function", "function": {"name": "add", "arguments": "{\"x\": 3}"}}
            ]}),
            json!({"role": "tool", "tool_call_id": "a", "content": "4"}),
            json!({"role": "tool", "tool_call_id": "b", "content": "5"}),
            json!({"role": "assistant", "content": "4"}),
        ];
        let schema = json!({"type": "function", "function": {
            "name": "add", "description": "Adds.", "parameters": {"type": "object"}
        }});
        for dialect in Dialect::ALL {
            let rendered: Vec<_> = messages
                .iter()
                .map(|message| render(dialect, message))
                .collect();
            let rendered: Vec<_> = rendered.iter().collect();
            let tools = tools(dialect, std::slice::from_ref(&schema));
            let whole = body(dialect, "m", tools.as_deref(), &rendered);
            dialect.read(whole.as_bytes()).expect("it is a request");
            for length in [2, 5] {
                let shorter = body(dialect, "m", tools.as_deref(), &rendered[..length]);
                let open = shorter.strip_suffix("]}").expect("messages come last");
                assert!(whole.starts_with(open), "{dialect:?}: {open} / {whole}");
            }
        }
    }
}
