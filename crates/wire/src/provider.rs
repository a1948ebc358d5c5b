//! The registry of providers: a vendor is a row, a dialect is code.
//!
//! **Invariant**: sorted by id, ids unique, addresses and model globs well formed (test
//! `rows_are_sorted_and_complete`).

use memchr::memmem;

use crate::dialect::Dialect;

/// How a provider's key is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// `authorization: Bearer <key>`.
    Bearer,
    /// The key alone in this header.
    Header(&'static str),
    /// No key is needed; one that is configured is sent as a bearer token.
    None,
}

/// How a provider is told which requests share a prefix, so that they reach the same cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheKey {
    /// Not at all.
    None,
    /// `prompt_cache_key` in the body.
    BodyField,
    /// This header.
    Header(&'static str),
}

/// One provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Provider {
    /// The name used in config, prices and the ledger.
    pub id: &'static str,
    /// The name for people.
    pub name: &'static str,
    /// What it speaks.
    pub dialect: Dialect,
    /// Where calls go. For the OpenAI dialect it includes the version, where the provider has one
    /// in its path (`/chat/completions` is appended); for Anthropic it does not (`/v1/messages` is).
    /// Empty where every customer has an address of their own.
    pub base_url: &'static str,
    /// How the key is sent.
    pub auth: Auth,
    /// Environment variables that hold a key, first found first.
    pub key_env: &'static [&'static str],
    /// Globs of the models that come here when nothing is configured.
    pub models: &'static [&'static str],
    /// How requests that share a prefix are named.
    pub cache_key: CacheKey,
    /// Whether `stream_options.include_usage` is understood.
    pub asks_usage: bool,
    /// Whether it is a server of one's own.
    pub local: bool,
    /// Request fields that are answered with an error.
    pub rejects: &'static [&'static str],
    /// Where this was read, and when.
    pub source: &'static str,
}

/// 64 bytes: names of models are seldom longer.
const NAME_BYTES_USUAL: usize = 64;

/// A provider that speaks the OpenAI dialect as most do; rows name what differs.
const OPENAI_LIKE: Provider = Provider {
    id: "",
    name: "",
    dialect: Dialect::OpenAiChat,
    base_url: "",
    auth: Auth::Bearer,
    key_env: &[],
    models: &[],
    cache_key: CacheKey::None,
    asks_usage: true,
    local: false,
    rejects: &[],
    source: "",
};

/// A server of one's own that speaks the OpenAI dialect.
const LOCAL: Provider = Provider {
    auth: Auth::None,
    local: true,
    ..OPENAI_LIKE
};

/// The provider of that id.
pub fn find(id: &str) -> Option<&'static Provider> {
    let index = PROVIDERS
        .binary_search_by(|provider| provider.id.cmp(id))
        .ok()?;
    PROVIDERS.get(index)
}

/// Whether a model's name matches a glob, in which `*` stands for any text, also none.
///
/// ```
/// use wire::provider::matches_glob;
/// assert!(matches_glob("claude-*-4-6", "claude-sonnet-4-6"));
/// assert!(!matches_glob("o3*", "gpt-5.4"));
/// ```
pub fn matches_glob(glob: &str, model: &str) -> bool {
    if glob == "*" {
        return true;
    }
    let Some((start, rest)) = glob.split_once('*') else {
        return glob == model;
    };
    let Some(mut model) = model.strip_prefix(start) else {
        return false;
    };
    let (middle, end) = rest.rsplit_once('*').unwrap_or(("", rest));
    // Between the first and the last star, the earliest place for each piece leaves most room.
    for piece in middle.split('*') {
        match place_of(piece, model) {
            Some(at) => model = model.get(at + piece.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    model.ends_with(end)
}

/// Where a piece of a glob first stands. In a name of usual length, looking at each place costs less
/// than preparing to skip some.
fn place_of(piece: &str, name: &str) -> Option<usize> {
    let (name, piece) = (name.as_bytes(), piece.as_bytes());
    let Some(first) = piece.first() else {
        return Some(0);
    };
    if name.len() > NAME_BYTES_USUAL {
        return memmem::find(name, piece);
    }
    let mut places = name.windows(piece.len());
    places.position(|part| part.first() == Some(first) && part == piece)
}

/// Every provider, by id.
pub static PROVIDERS: &[Provider] = &[
    Provider {
        id: "anthropic",
        name: "Anthropic",
        dialect: Dialect::AnthropicMessages,
        base_url: "https://api.anthropic.com",
        auth: Auth::Header("x-api-key"),
        key_env: &["ANTHROPIC_API_KEY"],
        models: &["claude-*"],
        source: "https://platform.claude.com/docs/en/api/overview, read 2026-11-23",
        ..OPENAI_LIKE
    },
    Provider {
        // The address names the customer's resource: https://<resource>.openai.azure.com/openai/v1.
        id: "azure_openai",
        name: "Azure OpenAI",
        auth: Auth::Header("api-key"),
        key_env: &["AZURE_OPENAI_API_KEY"],
        cache_key: CacheKey::BodyField,
        source: "https://learn.microsoft.com/azure/foundry/openai/api-version-lifecycle, read 2026-11-23",
        ..OPENAI_LIKE
    },
    Provider {
        id: "deepseek",
        name: "DeepSeek",
        base_url: "https://api.deepseek.com",
        key_env: &["DEEPSEEK_API_KEY"],
        models: &["deepseek-*"],
        source: "https://api-docs.deepseek.com, read 2026-11-23",
        ..OPENAI_LIKE
    },
    Provider {
        id: "gemini",
        name: "Google Gemini",
        base_url: "https://generativelanguage.googleapis.com/v1beta/openai",
        key_env: &["GEMINI_API_KEY", "GOOGLE_API_KEY"],
        models: &["gemini-*"],
        source: "https://ai.google.dev/gemini-api/docs/openai, read 2026-11-23",
        ..OPENAI_LIKE
    },
    Provider {
        id: "groq",
        name: "Groq",
        base_url: "https://api.groq.com/openai/v1",
        key_env: &["GROQ_API_KEY"],
        rejects: &["logit_bias", "logprobs", "messages[].name", "top_logprobs"],
        source: "https://console.groq.com/docs/openai, read 2026-11-23",
        ..OPENAI_LIKE
    },
    Provider {
        id: "lmstudio",
        name: "LM Studio",
        base_url: "http://127.0.0.1:1234/v1",
        key_env: &["LMSTUDIO_API_KEY"],
        source: "https://lmstudio.ai/docs/developer/openai-compat, read 2026-11-23",
        ..LOCAL
    },
    Provider {
        // Streams end with usage unasked, and unknown fields are refused.
        id: "mistral",
        name: "Mistral",
        base_url: "https://api.mistral.ai/v1",
        key_env: &["MISTRAL_API_KEY"],
        models: &[
            "codestral-*",
            "devstral-*",
            "magistral-*",
            "ministral-*",
            "mistral-*",
            "open-mistral-*",
            "pixtral-*",
        ],
        cache_key: CacheKey::BodyField,
        asks_usage: false,
        source: "https://docs.mistral.ai/api, read 2026-11-23",
        ..OPENAI_LIKE
    },
    Provider {
        id: "ollama",
        name: "Ollama",
        base_url: "http://127.0.0.1:11434/v1",
        key_env: &["OLLAMA_API_KEY"],
        source: "https://docs.ollama.com/api/openai-compatibility, read 2026-11-23",
        ..LOCAL
    },
    Provider {
        id: "openai",
        name: "OpenAI",
        base_url: "https://api.openai.com/v1",
        key_env: &["OPENAI_API_KEY"],
        models: &[
            "chatgpt-*",
            "gpt-*",
            "o1*",
            "o3*",
            "o4*",
            "text-embedding-*",
        ],
        cache_key: CacheKey::BodyField,
        source: "https://developers.openai.com/api/reference/overview, read 2026-11-23",
        ..OPENAI_LIKE
    },
    Provider {
        id: "openrouter",
        name: "OpenRouter",
        base_url: "https://openrouter.ai/api/v1",
        key_env: &["OPENROUTER_API_KEY"],
        source: "https://openrouter.ai/docs/quickstart, read 2026-11-23",
        ..OPENAI_LIKE
    },
    Provider {
        id: "sglang",
        name: "SGLang",
        base_url: "http://127.0.0.1:30000/v1",
        key_env: &["SGLANG_API_KEY"],
        source: "https://docs.sglang.io/basic_usage/openai_api.html, read 2026-11-23",
        ..LOCAL
    },
    Provider {
        id: "together",
        name: "Together AI",
        base_url: "https://api.together.ai/v1",
        key_env: &["TOGETHER_API_KEY"],
        source: "https://docs.together.ai/docs/inference/openai-compatibility, read 2026-11-23",
        ..OPENAI_LIKE
    },
    Provider {
        id: "vllm",
        name: "vLLM",
        base_url: "http://127.0.0.1:8000/v1",
        key_env: &["VLLM_API_KEY"],
        source: "https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html, read 2026-11-23",
        ..LOCAL
    },
    Provider {
        id: "xai",
        name: "xAI",
        base_url: "https://api.x.ai/v1",
        key_env: &["XAI_API_KEY"],
        models: &["grok-*"],
        cache_key: CacheKey::Header("x-grok-conv-id"),
        source: "https://docs.x.ai/developers/advanced-api-usage/prompt-caching, read 2026-11-23",
        ..OPENAI_LIKE
    },
];

#[cfg(test)]
mod tests {
    use super::{Auth, PROVIDERS, find, matches_glob};
    use crate::dialect::Dialect;

    #[test]
    fn rows_are_sorted_and_complete() {
        assert!(
            PROVIDERS.is_sorted_by(|one, two| one.id < two.id),
            "sorted by id, ids unique"
        );
        for row in PROVIDERS {
            assert_eq!(find(row.id), Some(row));
            assert!(
                row.source.contains(", read 20") && !row.name.is_empty(),
                "{}",
                row.id
            );
            assert!(
                !row.base_url.ends_with('/'),
                "{}: the call's path begins with the slash",
                row.id
            );
            assert_eq!(row.local, row.auth == Auth::None, "{}", row.id);
            assert_eq!(
                row.local,
                row.base_url.starts_with("http://127.0.0.1:"),
                "{}",
                row.id
            );
            assert!(
                row.models.is_sorted() && row.rejects.is_sorted(),
                "{}",
                row.id
            );
            assert!(!row.key_env.is_empty(), "{}", row.id);
            if row.dialect == Dialect::AnthropicMessages {
                assert!(
                    !row.base_url.ends_with("/v1"),
                    "{}: the path brings the version",
                    row.id
                );
            }
        }
        let globs = PROVIDERS.iter().flat_map(|row| row.models);
        let mut seen = std::collections::HashSet::new();
        assert!(
            globs.into_iter().all(|glob| seen.insert(glob)),
            "a glob names one provider"
        );
        assert_eq!(find("acme"), None);
    }
    #[test]
    fn globs_match() {
        let check = |glob: &str, model: &str, expect: bool| {
            assert_eq!(matches_glob(glob, model), expect, "{glob} {model}");
        };
        check("gpt-5.4", "gpt-5.4", true);
        check("gpt-5.4", "gpt-5.4-mini", false);
        check("gpt-*", "gpt-", true);
        check("gpt-*", "xgpt-5", false);
        check("*", "", true);
        check("*-mini", "gpt-5.4-mini", true);
        check("*-mini", "gpt-5.4-mini-x", false);
        check("a*a", "a", false);
        check("a*a", "aba", true);
        check("a*b*c", "a-c-b-c", true);
        check("a*b*c", "a-c-b", false);
        check("a*b*b*c", "abc", false);
        check("**", "x", true);
        let long = "x".repeat(super::NAME_BYTES_USUAL);
        check("*b*c", &format!("{long}-b-c"), true);
        check("*b*c", &format!("{long}-c"), false);
        check("*bc*", "b", false);
    }
}
