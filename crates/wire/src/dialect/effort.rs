//! The fields in which a request says how hard the model is to think: read, and set by splices.
//!
//! **Invariant**: only the field that is named is inserted or replaced; thinking blocks, signatures
//! and encrypted reasoning in messages are never touched (property
//! `reasoning_in_messages_stays_byte_identical` in `policy`).

use super::fields::{given, text};
use super::request::Request;
use crate::json::Node;
use crate::splice::{Reason, Splice};

/// Root members by which any provider's clients steer reasoning.
const STEERING: [&str; 8] = [
    "chat_template_kwargs",
    "enable_thinking",
    "extra_body",
    "google",
    "reasoning",
    "reasoning_effort",
    "thinking",
    "thinking_budget",
];

/// Members that some models refuse while they think.
const SAMPLING: [&str; 3] = ["temperature", "top_k", "top_p"];

/// What the client itself says about reasoning, and what else in the request bears on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Whether it says anything about reasoning at all.
    pub given: bool,
    /// `reasoning_effort`, `reasoning.effort` or `output_config.effort`.
    pub effort: Option<String>,
    /// `thinking.type`.
    pub thinking: Option<String>,
    /// `thinking.budget_tokens` or `thinking_budget`.
    pub budget_tokens: Option<u64>,
    /// `enable_thinking`.
    pub enabled: Option<bool>,
    /// Whether `temperature`, `top_p` or `top_k` is given.
    pub sampling: bool,
    /// Whether `tool_choice` forces a tool.
    pub forced_tool: bool,
    /// Properties that the answer's JSON schema names, nested ones included; 0 without a schema.
    pub schema_fields: usize,
}

/// A field to set: a root member, or a member of a root object, and the JSON text of its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// The root member.
    pub member: &'static str,
    /// The member within it; none if the root member is itself the value.
    pub child: Option<&'static str>,
    /// The value as JSON.
    pub value: String,
}

impl Request<'_> {
    /// What the client says about reasoning.
    pub fn reasoning(&self) -> Asked {
        let root = self.root();
        let object = |name: &str| given(root, name);
        let output = object("output_config");
        let effort = text(root, "reasoning_effort")
            .or_else(|| text(object("reasoning")?, "effort"))
            .or_else(|| text(output?, "effort"));
        let thinking = object("thinking");
        let budget = thinking.and_then(|it| it.get("budget_tokens")?.as_u64());
        let schema = object("response_format")
            .and_then(|it| given(it, "json_schema"))
            .or_else(|| given(output?, "format"));
        Asked {
            given: effort.is_some()
                || STEERING.iter().any(|name| object(name).is_some())
                || root.get("messages").is_some_and(steers_within),
            effort,
            thinking: thinking.and_then(|it| text(it, "type")),
            budget_tokens: budget.or_else(|| root.get("thinking_budget")?.as_u64()),
            enabled: object("enable_thinking").and_then(|it| it.as_bool()),
            sampling: SAMPLING.iter().any(|name| object(name).is_some()),
            forced_tool: object("tool_choice").is_some_and(forces),
            schema_fields: schema.map_or(0, properties),
        }
    }

    /// Declares reasoning fields. A member that has a value is replaced, any other is inserted.
    pub fn set_reasoning(&self, fields: &[Field], splice: &mut Splice) {
        let root = self.root();
        for Field {
            member,
            child,
            value,
        } in fields
        {
            let whole = match child {
                Some(child) => format!("{{\"{child}\":{value}}}"),
                None => value.clone(),
            };
            match (root.get(member), child) {
                (None, _) => {
                    // The root has at least `model`, so that a comma is always right.
                    let inserted = format!("\"{member}\":{whole},");
                    splice.insert(self.places.root_members, inserted, Reason::Reasoning);
                }
                (Some(object), Some(child)) if object.is_object() => {
                    set_child(object, child, value, splice);
                }
                (Some(old), _) => splice.replace(old.span(), whole, Reason::Reasoning),
            }
        }
    }
}

/// Sets a member of an object that is there.
fn set_child(object: Node<'_>, child: &str, value: &str, splice: &mut Splice) {
    if let Some(old) = object.get(child) {
        splice.replace(old.span(), value.to_owned(), Reason::Reasoning);
        return;
    }
    let is_empty = object.members().next().is_none();
    let comma = if is_empty { "" } else { "," };
    let inserted = format!("\"{child}\":{value}{comma}");
    splice.insert(object.span().start + 1, inserted, Reason::Reasoning);
}

/// Whether a message sets the effort from there on, as Anthropic's system messages may.
fn steers_within(messages: Node<'_>) -> bool {
    messages
        .items()
        .any(|message| given(message, "output_config").is_some())
}

/// Whether a `tool_choice` leaves the model no choice.
fn forces(choice: Node<'_>) -> bool {
    let kind = choice
        .as_str()
        .map(std::borrow::Cow::into_owned)
        .or_else(|| text(choice, "type"));
    !matches!(kind.as_deref(), Some("auto" | "none"))
}

/// How many properties a schema names, nested ones included.
fn properties(node: Node<'_>) -> usize {
    let own = node
        .get("properties")
        .map_or(0, |properties| properties.members().count());
    let nested: usize = node
        .members()
        .map(|(_, value)| properties(value))
        .sum::<usize>()
        + node.items().map(properties).sum::<usize>();
    own + nested
}

#[cfg(test)]
mod tests {
    use super::super::Dialect;
    use super::Field;
    use crate::splice::Splice;

    #[test]
    fn what_the_client_asks_is_read() {
        let check = |more: &str, expect: (bool, Option<&str>, bool, bool)| {
            let body = format!(r#"{{"model":"m","max_tokens":9,"messages":[]{more}}}"#);
            let request = Dialect::OpenAiChat
                .read(body.as_bytes())
                .expect("a request");
            let asked = request.reasoning();
            assert_eq!(
                (
                    asked.given,
                    asked.effort.as_deref(),
                    asked.sampling,
                    asked.forced_tool
                ),
                expect,
                "{more}"
            );
        };
        check("", (false, None, false, false));
        check(r#","reasoning_effort":null"#, (false, None, false, false));
        check(
            r#","reasoning_effort":"low","temperature":0"#,
            (true, Some("low"), true, false),
        );
        check(
            r#","reasoning":{"effort":"high"}"#,
            (true, Some("high"), false, false),
        );
        check(
            r#","output_config":{"effort":"max"}"#,
            (true, Some("max"), false, false),
        );
        check(
            r#","output_config":{"format":{}}"#,
            (false, None, false, false),
        );
        check(
            r#","thinking":{"type":"disabled"}"#,
            (true, None, false, false),
        );
        check(r#","enable_thinking":false"#, (true, None, false, false));
        check(r#","tool_choice":"required""#, (false, None, false, true));
        check(
            r#","tool_choice":{"type":"auto"}"#,
            (false, None, false, false),
        );
    }

    #[test]
    fn a_field_is_set_where_it_belongs() {
        let check = |more: &str, child: Option<&'static str>, expect: &str| {
            let body = format!(r#"{{"model":"m","messages":[]{more}}}"#);
            let request = Dialect::OpenAiChat
                .read(body.as_bytes())
                .expect("a request");
            let mut splice = Splice::default();
            let field = Field {
                member: "e",
                child,
                value: "1".to_owned(),
            };
            request.set_reasoning(&[field], &mut splice);
            let edited = splice.apply(body.as_bytes());
            assert_eq!(String::from_utf8_lossy(&edited), expect);
        };
        check("", None, r#"{"e":1,"model":"m","messages":[]}"#);
        check(r#","e":null"#, None, r#"{"model":"m","messages":[],"e":1}"#);
        check("", Some("c"), r#"{"e":{"c":1},"model":"m","messages":[]}"#);
        check(
            r#","e":{}"#,
            Some("c"),
            r#"{"model":"m","messages":[],"e":{"c":1}}"#,
        );
        check(
            r#","e":{"d": 2}"#,
            Some("c"),
            r#"{"model":"m","messages":[],"e":{"c":1,"d": 2}}"#,
        );
        check(
            r#","e":{"c":7}"#,
            Some("c"),
            r#"{"model":"m","messages":[],"e":{"c":1}}"#,
        );
    }
}
