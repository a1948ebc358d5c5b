//! What providers' error codes and messages mean, as data: each row with the place it was read.
//!
//! Codes are the contract; messages are read only for what some providers tell in no other way.
//!
//! **Invariant**: codes are sorted and have one meaning, messages are lowercase and none contains
//! another, and every row has a source (test `rows_are_sorted_and_sourced`).

/// What a code or a message means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// The request is longer than the model's context window.
    ContextExceeded,
    /// A content filter refused.
    Refused,
    /// The account has no money or quota left.
    Exhausted,
    /// There is no such model.
    ModelMissing,
    /// No conversation may end with an assistant's message.
    PrefillRejected,
    /// The credential is not accepted.
    Denied,
    /// Too many requests or tokens.
    RateLimited,
    /// Short of capacity.
    Overloaded,
    /// Failed, and may work again.
    Failed,
    /// The request is wrong.
    BadRequest,
}

/// Whether a code is more exact than the status that it comes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// It says what the status does not: it counts whatever the status is.
    Exact,
    /// It repeats what a status says: it counts where there is no status, in a stream.
    General,
}

/// An error code or type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// As it stands in `error.code`, `error.type`, `error.details.error_code` or
    /// `error.innererror.code`.
    pub code: &'static str,
    /// What it means.
    pub meaning: Meaning,
    /// Whether it overrules a status.
    pub weight: Weight,
    /// Where this was read, and when.
    pub source: &'static str,
}

/// Words in an error's message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wording {
    /// Lowercase text that the message contains.
    pub text: &'static str,
    /// What it means.
    pub meaning: Meaning,
    /// Who words it so, where this was read, and when.
    pub source: &'static str,
}

const ANTHROPIC: &str = "https://platform.claude.com/docs/en/api/errors, read 2026-11-24";
const AZURE: &str =
    "https://www.developersdigest.tech/errors/api/azure-openai/400-content-filter, read 2026-11-24";
const OPENAI: &str = "https://developers.openai.com/api/docs/guides/error-codes, read 2026-11-23";
const OPENAI_QUOTA: &str = "https://learn.microsoft.com/microsoft-cloud/dev/dev-proxy/concepts/openai-insufficient-quota, read 2026-11-24";
const OVERFLOWS: &str = "https://github.com/openxjarvis/pi-mono-python/blob/main/packages/ai/src/pi_ai/utils/overflow.py, read 2026-11-24";

const fn exact(code: &'static str, meaning: Meaning, source: &'static str) -> Code {
    Code {
        code,
        meaning,
        weight: Weight::Exact,
        source,
    }
}

const fn general(code: &'static str, meaning: Meaning, source: &'static str) -> Code {
    Code {
        code,
        meaning,
        weight: Weight::General,
        source,
    }
}

/// Every code that we know, by code.
pub static CODES: &[Code] = &[
    exact(
        "ResponsibleAIPolicyViolation",
        Meaning::Refused,
        "https://raw.githubusercontent.com/api-evangelist/microsoft-azure/refs/heads/main/json-schema/microsoft-azure-innererrorcode-schema.json, read 2026-11-24",
    ),
    general("api_error", Meaning::Failed, ANTHROPIC),
    general("authentication_error", Meaning::Denied, ANTHROPIC),
    exact("billing_error", Meaning::Exhausted, ANTHROPIC),
    exact("content_filter", Meaning::Refused, AZURE),
    exact(
        "content_policy_violation",
        Meaning::Refused,
        "https://github.com/failoverbench/failoverbench, scenario S13, read 2026-11-24",
    ),
    exact(
        "context_length_exceeded",
        Meaning::ContextExceeded,
        "https://github.com/failoverbench/failoverbench, scenario S12, read 2026-11-24",
    ),
    exact("credit_balance_exhausted", Meaning::Exhausted, OPENAI_QUOTA),
    exact(
        "enforced_spend_limit_reached",
        Meaning::Exhausted,
        "https://learn.microsoft.com/microsoft-cloud/dev/dev-proxy/concepts/anthropic-529-overloaded-error, read 2026-11-24",
    ),
    exact(
        "exceed_context_size_error",
        Meaning::ContextExceeded,
        "llama.cpp's server, as quoted in public clients, read 2026-11-24",
    ),
    exact("insufficient_quota", Meaning::Exhausted, OPENAI_QUOTA),
    general("invalid_request_error", Meaning::BadRequest, ANTHROPIC),
    exact("model_not_found", Meaning::ModelMissing, OPENAI),
    general("not_found_error", Meaning::ModelMissing, ANTHROPIC),
    exact(
        "organization_spend_limit_exceeded",
        Meaning::Exhausted,
        OPENAI_QUOTA,
    ),
    exact(
        "organization_usage_limit_exceeded",
        Meaning::Exhausted,
        OPENAI_QUOTA,
    ),
    general("overloaded_error", Meaning::Overloaded, ANTHROPIC),
    general("permission_error", Meaning::Denied, ANTHROPIC),
    exact(
        "project_spend_limit_exceeded",
        Meaning::Exhausted,
        OPENAI_QUOTA,
    ),
    general("rate_limit_error", Meaning::RateLimited, ANTHROPIC),
    general("rate_limit_exceeded", Meaning::RateLimited, OPENAI),
    general("request_too_large", Meaning::BadRequest, ANTHROPIC),
    general("server_error", Meaning::Failed, OPENAI),
    general("server_is_overloaded", Meaning::Overloaded, OPENAI),
    general("slow_down", Meaning::RateLimited, OPENAI),
    general("timeout_error", Meaning::Failed, ANTHROPIC),
];

const fn wording(text: &'static str, meaning: Meaning, source: &'static str) -> Wording {
    Wording {
        text,
        meaning,
        source,
    }
}

/// Every wording that we know: overflow, then money, then prefill.
pub static WORDINGS: &[Wording] = &[
    // Anthropic: `prompt is too long: 213462 tokens > 200000 maximum`.
    wording("prompt is too long", Meaning::ContextExceeded, OVERFLOWS),
    // Anthropic: ``input length and `max_tokens` exceed context limit: 178902 + 32000 > 200000``.
    wording(
        "exceed context limit",
        Meaning::ContextExceeded,
        "as quoted in the tests of public clients, read 2026-11-24",
    ),
    // OpenAI: `Your input exceeds the context window of this model`.
    wording(
        "exceeds the context window",
        Meaning::ContextExceeded,
        OVERFLOWS,
    ),
    // OpenAI, OpenRouter, DeepSeek and vLLM.
    wording(
        "maximum context length is",
        Meaning::ContextExceeded,
        "https://github.com/vllm-project/vllm/issues/20409, read 2026-11-24",
    ),
    // Gemini: `The input token count (1196265) exceeds the maximum number of tokens allowed`.
    wording(
        "exceeds the maximum number of tokens allowed",
        Meaning::ContextExceeded,
        OVERFLOWS,
    ),
    // xAI: `This model's maximum prompt length is 131072`.
    wording(
        "maximum prompt length is",
        Meaning::ContextExceeded,
        OVERFLOWS,
    ),
    // Groq: `Please reduce the length of the messages or completion`.
    wording(
        "reduce the length of the messages or",
        Meaning::ContextExceeded,
        OVERFLOWS,
    ),
    // llama.cpp, where its type is lost on the way.
    wording(
        "exceeds the available context size",
        Meaning::ContextExceeded,
        OVERFLOWS,
    ),
    // LM Studio.
    wording(
        "greater than the context length",
        Meaning::ContextExceeded,
        OVERFLOWS,
    ),
    // MiniMax.
    wording(
        "context window exceeds limit",
        Meaning::ContextExceeded,
        OVERFLOWS,
    ),
    // Moonshot.
    wording(
        "exceeded model token limit",
        Meaning::ContextExceeded,
        OVERFLOWS,
    ),
    // Together: `Input token count + max_tokens parameter must be less than the context length`.
    wording(
        "must be less than the context length",
        Meaning::ContextExceeded,
        "https://docs.together.ai/docs/error-codes, read 2026-11-24",
    ),
    // Bedrock.
    wording(
        "input is too long for requested model",
        Meaning::ContextExceeded,
        OVERFLOWS,
    ),
    // Anthropic: an empty account is a 400 without a code of its own.
    wording(
        "credit balance is too low",
        Meaning::Exhausted,
        "https://github.com/anthropics/claude-code/issues/66314, read 2026-11-24",
    ),
    // Anthropic: `You have reached your specified [workspace] API usage limits`.
    wording(
        "api usage limits",
        Meaning::Exhausted,
        "https://learn.microsoft.com/microsoft-cloud/dev/dev-proxy/concepts/anthropic-529-overloaded-error, read 2026-11-24",
    ),
    // Anthropic, Claude 4.6 and later.
    wording(
        "does not support assistant message prefill",
        Meaning::PrefillRejected,
        "https://github.com/strands-agents/sdk-python/issues/1694, read 2026-11-24",
    ),
    wording(
        "prefilling assistant messages is no longer supported",
        Meaning::PrefillRejected,
        "https://github.com/livekit/agents/issues/4907, read 2026-11-24",
    ),
    // Mistral.
    wording(
        "expected last role user or tool",
        Meaning::PrefillRejected,
        "https://github.com/huggingface/smolagents/issues/757, read 2026-11-24",
    ),
];

/// What a code means, if we know it.
pub fn code(code: &str) -> Option<&'static Code> {
    let index = CODES.binary_search_by(|row| row.code.cmp(code)).ok()?;
    CODES.get(index)
}

/// What a message means, if we know its words.
pub fn message(message: &str) -> Option<Meaning> {
    let message = message.to_lowercase();
    let row = WORDINGS.iter().find(|row| message.contains(row.text))?;
    Some(row.meaning)
}

#[cfg(test)]
mod tests {
    use super::{CODES, Meaning, WORDINGS, code, message};

    #[test]
    fn rows_are_sorted_and_sourced() {
        assert!(CODES.is_sorted_by(|one, two| one.code < two.code));
        for row in CODES {
            assert!(row.source.contains("read 2026-"), "{}", row.code);
            assert_eq!(code(row.code), Some(row));
        }
        for row in WORDINGS {
            assert!(row.source.contains("read 2026-"), "{}", row.text);
            assert_eq!(row.text, row.text.to_lowercase());
            let others = WORDINGS.iter().filter(|other| other.text != row.text);
            for other in others {
                assert!(!row.text.contains(other.text), "{}", row.text);
            }
        }
    }

    #[test]
    fn messages_are_read_in_any_case() {
        assert_eq!(
            message("Prompt is TOO LONG: 9 tokens"),
            Some(Meaning::ContextExceeded)
        );
        assert_eq!(message("the answer is too long"), None);
        assert_eq!(code("no_such_code"), None);
    }
}
