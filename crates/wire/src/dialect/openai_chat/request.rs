//! Reads an OpenAI chat request, and the little that is read of an embeddings request.
//!
//! **Invariant**: the rendered order is tools, then messages as they stand; the output schema
//! changes the whole chain, since it is rendered before them (rows `settings_change_the_chain`).
//! Source: <https://developers.openai.com/api/docs/guides/prompt-caching>, read 2026-11-23.

use std::ops::Range;

use super::super::Dialect;
use super::super::chain::{Builder, Place, block_slot};
use super::super::edit::json_string;
use super::super::fields::{self, Message, Presence, ReadError};
use super::super::request::{ClientCache, ClientHints, Places, Request};
use crate::json::Node;
use crate::prompt::{Kind, Part, Prompt, Role, Slot};
use crate::splice::{Reason, Splice};

/// Content parts that take `prompt_cache_breakpoint` (`openai` 3.54.0 types, read 2026-11-23).
const MARKABLE: [&str; 4] = ["file", "image_url", "input_audio", "text"];

/// Reads a request; see [`Dialect::read`].
pub(in crate::dialect) fn read(body: &[u8]) -> Result<Request<'_>, ReadError> {
    let tape = fields::read_object(body)?;
    let root = tape.root();
    let (model, model_span) = fields::model(root)?;
    let stream = fields::flag(root, "stream")?;
    let max_tokens = fields::tokens(root, "max_tokens", 1)?;
    let max_output = fields::tokens(root, "max_completion_tokens", 1)?.or(max_tokens);
    let tools = fields::list(root, "tools")?;
    let stream_options = fields::object(root, "stream_options")?;
    let messages = fields::messages(root)?;
    let include_usage = stream_options.and_then(|options| options.get("include_usage"));

    let (prompt, markers) = read_prompt(root, tools, messages);
    let places = Places {
        root_members: root.span().start + 1,
        stream_options: Presence::of(root.get("stream_options")),
        include_usage: Presence::of(include_usage),
        cache_key: Presence::of(root.get("prompt_cache_key")),
        cache_options: Presence::of(root.get("prompt_cache_options")),
    };
    Ok(Request {
        body,
        dialect: Dialect::OpenAiChat,
        model,
        model_span,
        stream,
        usage_asked: !stream || include_usage.and_then(|flag| flag.as_bool()) == Some(true),
        max_output,
        choices: fields::given(root, "n")
            .and_then(|n| n.as_u64())
            .unwrap_or(1)
            .max(1),
        tier: fields::text(root, "service_tier"),
        client: ClientHints {
            user_id: None,
            user: fields::text(root, "user"),
            safety_identifier: fields::text(root, "safety_identifier"),
            prompt_cache_key: fields::text(root, "prompt_cache_key"),
        },
        cache: ClientCache {
            automatic: None,
            markers,
            key_given: places.cache_key.is_given(),
            options_given: places.cache_options.is_given(),
            retention_given: fields::given(root, "prompt_cache_retention").is_some(),
        },
        has_tools: prompt
            .segments
            .first()
            .is_some_and(|first| first.part == Part::Tools),
        prompt,
        places,
        tape,
    })
}

/// The prompt, and how many markers the client placed in it.
fn read_prompt(
    root: Node<'_>,
    tools: Option<Node<'_>>,
    messages: Vec<Message<'_>>,
) -> (Prompt, usize) {
    let mut builder = Builder::default();
    if let Some(format) = fields::given(root, "response_format") {
        builder.root_setting("response_format", format);
    }
    // `functions` is the older spelling of `tools`.
    let functions = fields::given(root, "functions");
    let definitions = tools.iter().chain(&functions).flat_map(Node::items);
    for (index, tool) in definitions.enumerate() {
        builder.tool(index, tool, Slot::Closed);
    }
    let mut is_head = true;
    for (index, message) in messages.into_iter().enumerate() {
        is_head &= role(message) == Role::System;
        let part = if is_head {
            Part::System
        } else {
            Part::Messages
        };
        read_message(part, index, message, &mut builder);
    }
    builder.finish()
}

fn role(message: Message<'_>) -> Role {
    match message.role.as_str().as_deref() {
        Some("system" | "developer") => Role::System,
        Some("assistant") => Role::Assistant,
        Some("tool" | "function") => Role::Tool,
        _ => Role::User,
    }
}

fn read_message(part: Part, index: usize, message: Message<'_>, builder: &mut Builder) {
    let role = role(message);
    let calls_tools = ["tool_calls", "function_call"]
        .iter()
        .any(|key| fields::given(message.node, key).is_some());
    let kind = |part: Option<Node<'_>>| match role {
        Role::Tool => Kind::ToolResult,
        Role::Assistant if calls_tools => Kind::ToolUse,
        Role::System | Role::User | Role::Assistant => part.map_or(Kind::Text, part_kind),
    };
    let place = |kind, block| Place {
        part,
        role,
        kind,
        index,
        block,
    };
    builder.message_members(message.node);
    match message.content {
        Some(content) if content.is_string() => builder.bare_text(&place(kind(None), 0), content),
        Some(content) if content.items().next().is_some() => {
            for (block, node) in content.items().enumerate() {
                builder.value(
                    &place(kind(Some(node)), block),
                    node,
                    block_slot(node, &MARKABLE),
                );
            }
        }
        _ => builder.empty_message(&place(kind(None), 0), message.node),
    }
}

fn part_kind(part: Node<'_>) -> Kind {
    match part.get("type").and_then(|kind| kind.as_str()).as_deref() {
        Some("text" | "refusal") => Kind::Text,
        Some("image_url" | "input_audio" | "file") => Kind::Media,
        _ => Kind::Other,
    }
}

/// What is read of `POST /v1/embeddings`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Embeddings {
    /// The model asked for.
    pub model: String,
    /// The bytes of the model's string, quotes included.
    pub model_span: Range<usize>,
    /// How many texts are to be embedded.
    pub inputs: usize,
    /// Bytes of all input as written, for estimates.
    pub input_bytes: usize,
}

impl Embeddings {
    /// Declares the model's name as the upstream knows it.
    pub fn rename_model(&self, name: &str, splice: &mut Splice) {
        splice.replace(
            self.model_span.clone(),
            json_string(name),
            Reason::ModelName,
        );
    }
}

/// Reads an embeddings request; `input` is a string, an array of strings, or token ids.
pub fn read_embeddings(body: &[u8]) -> Result<Embeddings, ReadError> {
    const ALLOWED: &str = "a string, or an array of strings or token ids";
    let tape = fields::read_object(body)?;
    let root = tape.root();
    let (model, model_span) = fields::model(root)?;
    let Some(input) = root.get("input") else {
        return Err(ReadError::Missing {
            param: "input".to_owned(),
            allowed: ALLOWED,
        });
    };
    let is_one_list_of_ids = input
        .items()
        .next()
        .is_some_and(|item| !item.is_string() && !item.is_array());
    let inputs = match input.is_array() {
        true if !is_one_list_of_ids => input.items().count(),
        true => 1,
        false if input.is_string() => 1,
        false => return Err(ReadError::wrong("input", input, ALLOWED)),
    };
    Ok(Embeddings {
        model,
        model_span,
        inputs,
        input_bytes: input.span().len(),
    })
}

#[cfg(test)]
mod tests;
