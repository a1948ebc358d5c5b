//! Which models take a conversation that ends with an assistant's message, and what they do with it.
//!
//! **Invariant**: a model of a dialect that knows prefill rejects it unless a row says otherwise,
//! and every row has a source (test `rows_are_sourced`).

use wire::dialect::Dialect;
use wire::provider::matches_glob;

/// What a target makes of a last message of the assistant's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefill {
    /// It goes on from there.
    Continues,
    /// It reads it as history and answers anew.
    Ignores,
    /// It answers with an error.
    Rejects,
}

/// What some models of a provider do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// A glob of provider ids.
    pub provider: &'static str,
    /// A glob of models.
    pub model: &'static str,
    /// What they do.
    pub prefill: Prefill,
    /// Where this was read, and when.
    pub source: &'static str,
}

/// Claude up to 4.5 continues; "Prefilling assistant messages returns a 400 error on Claude 4.6
/// models", and on those after them.
const CLAUDE: &str = "https://platform.claude.com/docs/en/about-claude/models/migration-guide and https://github.com/QwenLM/qwen-code/issues/8039, read 2026-11-24";

const fn claude(model: &'static str) -> Row {
    Row {
        provider: "*",
        model,
        prefill: Prefill::Continues,
        source: CLAUDE,
    }
}

/// Every model that differs from its dialect's rule; the first that matches counts.
pub static ROWS: &[Row] = &[
    claude("*claude-3*"),
    claude("*claude-haiku-4-5*"),
    claude("*claude-haiku-4.5*"),
    claude("*claude-opus-4-0*"),
    claude("*claude-opus-4-1*"),
    claude("*claude-opus-4-2*"), // the dated first Opus 4: `claude-opus-4-20250514`
    claude("*claude-opus-4-5*"),
    claude("*claude-sonnet-4-0*"),
    claude("*claude-sonnet-4-2*"), // the dated first Sonnet 4: `claude-sonnet-4-20250514`
    claude("*claude-sonnet-4-5*"),
    claude("*claude-sonnet-4.5*"),
    Row {
        provider: "mistral",
        model: "*",
        prefill: Prefill::Rejects,
        source: "https://github.com/huggingface/smolagents/issues/757, read 2026-11-24",
    },
];

/// What a target does with a last message of the assistant's.
pub fn prefill(provider: &str, model: &str, dialect: Dialect) -> Prefill {
    let row = ROWS
        .iter()
        .find(|row| matches_glob(row.provider, provider) && matches_glob(row.model, model));
    match (row, dialect) {
        // Over the OpenAI dialect nobody promises to continue, whatever the model could do.
        (Some(row), Dialect::OpenAiChat) if row.prefill == Prefill::Rejects => Prefill::Rejects,
        (_, Dialect::OpenAiChat) if model.contains("claude") && row.is_none() => Prefill::Rejects,
        (_, Dialect::OpenAiChat) => Prefill::Ignores,
        (Some(row), Dialect::AnthropicMessages) => row.prefill,
        (None, Dialect::AnthropicMessages) => Prefill::Rejects,
    }
}

#[cfg(test)]
mod tests {
    use super::{Prefill, ROWS, prefill};
    use wire::dialect::Dialect;

    #[test]
    fn rows_are_sourced() {
        for row in ROWS {
            assert!(row.source.contains("read 2026-"), "{}", row.model);
        }
    }

    #[test]
    fn models_do_what_their_rows_say() {
        let (anthropic, openai) = (Dialect::AnthropicMessages, Dialect::OpenAiChat);
        for (provider, model, dialect, expect) in [
            (
                "anthropic",
                "claude-sonnet-4-5",
                anthropic,
                Prefill::Continues,
            ),
            (
                "anthropic",
                "claude-sonnet-4-5-20250929",
                anthropic,
                Prefill::Continues,
            ),
            (
                "anthropic",
                "claude-opus-4-20250514",
                anthropic,
                Prefill::Continues,
            ),
            (
                "anthropic",
                "claude-3-5-haiku-latest",
                anthropic,
                Prefill::Continues,
            ),
            ("anthropic", "claude-opus-4-6", anthropic, Prefill::Rejects),
            (
                "anthropic",
                "claude-sonnet-4-6",
                anthropic,
                Prefill::Rejects,
            ),
            ("anthropic", "claude-opus-4-8", anthropic, Prefill::Rejects),
            ("anthropic", "claude-fable-5-2", anthropic, Prefill::Rejects),
            ("anthropic", "claude-haiku-5-5", anthropic, Prefill::Rejects),
            ("openai", "gpt-5.4", openai, Prefill::Ignores),
            ("local", "qwen-9", openai, Prefill::Ignores),
            ("mistral", "mistral-large-4", openai, Prefill::Rejects),
            (
                "openrouter",
                "anthropic/claude-sonnet-4.5",
                openai,
                Prefill::Ignores,
            ),
            (
                "openrouter",
                "anthropic/claude-sonnet-4.6",
                openai,
                Prefill::Rejects,
            ),
        ] {
            assert_eq!(
                prefill(provider, model, dialect),
                expect,
                "{provider} {model}"
            );
        }
    }
}
