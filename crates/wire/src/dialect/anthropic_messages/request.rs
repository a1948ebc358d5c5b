//! Reads an Anthropic request.
//!
//! **Invariant**: the rendered order is tools, system, messages, and a setting that invalidates the
//! provider's cache changes the chain from the part on that it invalidates (rows
//! `settings_change_the_chain_where_they_invalidate`). Source:
//! <https://platform.claude.com/docs/en/build-with-claude/prompt-caching>, read 2026-11-23.

use super::super::Dialect;
use super::super::chain::{Builder, Place, block_slot, has_marker_member, marker_ttl};
use super::super::fields::{self, Message, ReadError};
use super::super::request::{ClientCache, ClientHints, Places, Request};
use crate::json::Node;
use crate::prompt::{Kind, Part, Role, Slot};

/// Settings whose change invalidates system and messages.
const SYSTEM_SETTINGS: [&str; 1] = ["speed"];

/// Settings whose change invalidates the messages.
const MESSAGE_SETTINGS: [&str; 3] = ["tool_choice", "thinking", "output_config"];

/// Block types that take `cache_control`, as the official SDK types list them (`anthropic` 2.12.0,
/// read 2026-11-23). A type that is not listed is left alone.
const MARKABLE: [&str; 16] = [
    "bash_code_execution_tool_result",
    "code_execution_tool_result",
    "compaction",
    "container_upload",
    "document",
    "image",
    "mcp_tool_result",
    "mcp_tool_use",
    "search_result",
    "server_tool_use",
    "text",
    "text_editor_code_execution_tool_result",
    "tool_result",
    "tool_use",
    "web_fetch_tool_result",
    "web_search_tool_result",
];

/// Reads a request; see [`Dialect::read`].
pub(in crate::dialect) fn read(body: &[u8]) -> Result<Request<'_>, ReadError> {
    let tape = fields::read_object(body)?;
    let root = tape.root();
    let (model, model_span) = fields::model(root)?;
    let stream = fields::flag(root, "stream")?;
    // 0 asks for the prefill only, to warm the cache.
    let max_output = fields::tokens(root, "max_tokens", 0)?;
    let tools = fields::list(root, "tools")?;
    let messages = fields::messages(root)?;

    let mut builder = Builder::default();
    for key in SYSTEM_SETTINGS {
        if let Some(value) = fields::given(root, key) {
            builder.system_setting(key, value);
        }
    }
    for key in MESSAGE_SETTINGS {
        if let Some(value) = fields::given(root, key) {
            builder.message_setting(key, value);
        }
    }
    for (index, tool) in tools.iter().flat_map(Node::items).enumerate() {
        builder.tool(index, tool, tool_slot(tool));
    }
    read_system(root, &mut builder)?;
    for (index, message) in messages.into_iter().enumerate() {
        read_message(index, message, &mut builder);
    }
    let (prompt, markers) = builder.finish();

    let metadata = fields::given(root, "metadata");
    Ok(Request {
        body,
        dialect: Dialect::AnthropicMessages,
        model,
        model_span,
        stream,
        usage_asked: true,
        max_output,
        choices: 1,
        tier: fields::text(root, "service_tier"),
        client: ClientHints {
            user_id: metadata.and_then(|metadata| fields::text(metadata, "user_id")),
            ..ClientHints::default()
        },
        cache: ClientCache {
            automatic: root.get("cache_control").and_then(marker_ttl),
            markers,
            ..ClientCache::default()
        },
        has_tools: prompt
            .segments
            .first()
            .is_some_and(|first| first.part == Part::Tools),
        prompt,
        places: Places {
            root_members: root.span().start + 1,
            ..Places::default()
        },
        tape,
    })
}

fn read_system(root: Node<'_>, builder: &mut Builder) -> Result<(), ReadError> {
    let Some(system) = fields::given(root, "system") else {
        return Ok(());
    };
    let place = |block| Place {
        part: Part::System,
        role: Role::System,
        kind: Kind::Text,
        index: block,
        block: 0,
    };
    if system.is_string() {
        builder.bare_text(&place(0), system);
    } else if system.is_array() {
        for (index, block) in system.items().enumerate() {
            let place = Place {
                kind: block_kind(block),
                ..place(index)
            };
            builder.value(&place, block, block_slot(block, &MARKABLE));
        }
    } else {
        return Err(ReadError::wrong(
            "system",
            system,
            "a string or an array of text blocks",
        ));
    }
    Ok(())
}

fn read_message(index: usize, message: Message<'_>, builder: &mut Builder) {
    let role = match message.role.as_str().as_deref() {
        Some("assistant") => Role::Assistant,
        Some("system") => Role::System,
        _ => Role::User,
    };
    let place = |kind, block| {
        let role = if kind == Kind::ToolResult {
            Role::Tool
        } else {
            role
        };
        Place {
            part: Part::Messages,
            role,
            kind,
            index,
            block,
        }
    };
    builder.message_members(message.node);
    match message.content {
        Some(content) if content.is_string() => builder.bare_text(&place(Kind::Text, 0), content),
        Some(content) if content.items().next().is_some() => {
            for (block, node) in content.items().enumerate() {
                builder.value(
                    &place(block_kind(node), block),
                    node,
                    block_slot(node, &MARKABLE),
                );
            }
        }
        _ => builder.empty_message(&place(Kind::Other, 0), message.node),
    }
}

fn block_kind(block: Node<'_>) -> Kind {
    match block.get("type").and_then(|kind| kind.as_str()).as_deref() {
        Some("text") => Kind::Text,
        Some("document") => document_kind(block),
        Some("search_result") => Kind::Document,
        Some("image") => Kind::Media,
        Some("tool_use") => Kind::ToolUse,
        Some("tool_result") => Kind::ToolResult,
        Some("thinking" | "redacted_thinking") => Kind::Thinking,
        _ => Kind::Other,
    }
}

/// A document is text where its source is, and bytes or a reference to them otherwise.
fn document_kind(document: Node<'_>) -> Kind {
    let source = document.get("source");
    let kind = source.and_then(|source| source.get("type"));
    match kind.and_then(|kind| kind.as_str()).as_deref() {
        Some("text" | "content") => Kind::Document,
        _ => Kind::Media,
    }
}

fn tool_slot(tool: Node<'_>) -> Slot {
    // A deferred tool is not in the prompt until it is searched for; a marker on it is refused.
    let is_deferred = tool.get("defer_loading").and_then(|flag| flag.as_bool()) == Some(true);
    if tool.members().next().is_none() || is_deferred || has_marker_member(tool) {
        return Slot::Closed;
    }
    Slot::Member {
        at: tool.span().start + 1,
    }
}

#[cfg(test)]
mod tests;
