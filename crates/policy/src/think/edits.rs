//! The edits that put an effort into a request.
//!
//! **Invariant**: only the reasoning field changes, and only to a value that the model takes
//! (properties `reasoning_in_messages_stays_byte_identical`, `no_unsupported_value_is_ever_sent`).

use wire::dialect::Dialect;
use wire::dialect::effort::Field;
use wire::dialect::request::Request;
use wire::splice::Splice;

use super::capability::{Ask, Beside, Capability, WithTools};
use super::effort::Effort;

/// Declares the effort on a request; declares nothing where the model would refuse it, or the
/// request speaks another dialect than the field.
pub fn edits(request: &Request<'_>, capability: &Capability, effort: Effort, splice: &mut Splice) {
    if can_ask(request, capability, effort) {
        request.set_reasoning(&fields(capability, effort), splice);
    }
}

/// Whether the model takes the level, and the request can carry it.
pub fn can_ask(request: &Request<'_>, capability: &Capability, effort: Effort) -> bool {
    capability.takes(effort) && fits(request, capability, effort)
}

/// Whether the request can carry the level beside what else is in it.
fn fits(request: &Request<'_>, capability: &Capability, effort: Effort) -> bool {
    let dialect = match capability.ask {
        Ask::Adaptive | Ask::BudgetTokens | Ask::Effort | Ask::EffortOrOff => {
            Dialect::AnthropicMessages
        }
        Ask::EnableThinking | Ask::ReasoningEffort | Ask::ThinkingType => Dialect::OpenAiChat,
    };
    if request.dialect != dialect {
        return false;
    }
    let tools = match capability.tools {
        WithTools::Any => true,
        WithTools::OnlyAtNone => !request.has_tools || effort == Effort::None,
        WithTools::Never => !request.has_tools,
    };
    let more = capability.default.is_none_or(|default| effort > default);
    let asked = request.reasoning();
    let clashes = (asked.sampling && capability.sampling == Beside::Refused)
        || (asked.forced_tool && capability.forced_tool == Beside::Refused);
    // The budget counts against the cap on the answer, which is never raised or lowered here.
    let room = capability.ask != Ask::BudgetTokens
        || effort == Effort::None
        || request
            .max_output
            .is_some_and(|max| effort.budget_tokens() * 2 <= max.0);
    tools && room && !(more && effort != Effort::None && clashes)
}

/// The fields that say the level.
fn fields(capability: &Capability, effort: Effort) -> Vec<Field> {
    let field = |member, child, value: String| Field {
        member,
        child,
        value,
    };
    let named = format!("\"{}\"", effort.name());
    let typed = |kind: &str| field("thinking", None, format!("{{\"type\":\"{kind}\"}}"));
    let level = || field("output_config", Some("effort"), named.clone());
    let off = effort == Effort::None;
    match capability.ask {
        Ask::EnableThinking => vec![field("enable_thinking", None, (!off).to_string())],
        Ask::Adaptive | Ask::EffortOrOff | Ask::ThinkingType if off => vec![typed("disabled")],
        Ask::ReasoningEffort | Ask::ThinkingType => {
            vec![field("reasoning_effort", None, named)]
        }
        Ask::Adaptive => vec![typed("adaptive"), level()],
        Ask::Effort | Ask::EffortOrOff => vec![level()],
        Ask::BudgetTokens if off => Vec::new(),
        Ask::BudgetTokens => {
            let tokens = effort.budget_tokens();
            let value = format!("{{\"type\":\"enabled\",\"budget_tokens\":{tokens}}}");
            vec![field("thinking", None, value)]
        }
    }
}
