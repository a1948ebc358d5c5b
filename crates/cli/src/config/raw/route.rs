//! `[[routes]]` as they are written; these comments, too, are the manual.
//!
//! **Invariant**: a route that says nothing of its lever observes (test
//! `a_route_observes_unless_told_otherwise`).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{RawDialect, RawLeverMode};

/// Which calls a route takes, and what may be done with them. The first route whose conditions all
/// hold takes a call; without a condition, it takes every one.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawRule {
    /// Its name in reports: lowercase letters, digits, `-` and `_`.
    pub(crate) id: String,
    /// Condition: globs of the model as the client names it, one of which matches.
    #[serde(default)]
    pub(crate) models: Vec<String>,
    /// Condition: globs of the key's id, one of which matches (`tokenwise keys list` shows ids).
    #[serde(default)]
    pub(crate) keys: Vec<String>,
    /// Condition: labels of the key or of the client, one of which it carries.
    #[serde(default)]
    pub(crate) tags: Vec<String>,
    /// Condition: globs of the path, one of which matches, as `/v1/messages`.
    #[serde(default)]
    pub(crate) paths: Vec<String>,
    /// Condition: headers, each with a glob of its value, all of which match.
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    /// Condition: the language that the call is written in.
    #[serde(default)]
    pub(crate) dialect: Option<RawDialect>,
    /// Condition: whether it defines tools.
    #[serde(default)]
    pub(crate) tools: Option<RawHaving>,
    /// Condition: whether it carries images, documents or sound.
    #[serde(default)]
    pub(crate) media: Option<RawHaving>,
    /// Condition: the least input in tokens, as estimated from its bytes.
    #[serde(default)]
    pub(crate) input_tokens_min: Option<u64>,
    /// Condition: the largest input in tokens, as estimated from its bytes.
    #[serde(default)]
    pub(crate) input_tokens_max: Option<u64>,
    /// Condition: languages of what the user wrote last, as two-letter codes (`en`, `de`, `zh`), one
    /// of which it is.
    #[serde(default)]
    pub(crate) languages: Vec<String>,
    /// Condition: the time of day, as `22:00-06:00`; the end does not belong to it.
    #[serde(default)]
    pub(crate) hours: Option<String>,
    /// Whose clocks `hours` means: an IANA name, as `Europe/Berlin`. Default: `UTC`.
    #[serde(default)]
    pub(crate) time_zone: Option<String>,
    /// Where the call goes in place of what its client asked for: a name of `[models]`, or
    /// `provider/model`. It holds whatever `lever` says, for it is a rule and no guess.
    #[serde(default, rename = "use")]
    pub(crate) to: Option<String>,
    /// Targets, as `provider/model`, that you hold to be as good for these calls: the lever chooses
    /// the one that is cheapest over what is left of the conversation, the prompt cache included
    /// that a change would leave behind.
    #[serde(default)]
    pub(crate) as_good: Vec<String>,
    /// Targets, as `provider/model`, that cost less and may be good enough: the lever chooses one
    /// where the router (`router`) or outcomes that clients have sent (`POST /v1/feedback`) show that
    /// `quality` is kept. Where nothing is known, a call stays.
    #[serde(default)]
    pub(crate) cheaper: Vec<String>,
    /// The share of the mean score of a call's own target that `cheaper` ones must keep, from 0.5 to
    /// 1. Default: 0.97.
    #[serde(default)]
    pub(crate) quality: Option<f64>,
    /// The share of the conversations that may be tried at a `cheaper` target of which nothing is
    /// known yet, so that outcomes come in, from 0 to 0.2. What looks bad is tried less. Default: 0.
    #[serde(default)]
    pub(crate) explore: Option<f64>,
    /// The longest usual wait for the first token, in milliseconds, of a target that the lever may
    /// choose. Default: any.
    #[serde(default)]
    pub(crate) first_token_ms_max: Option<u64>,
    /// What the lever may do: `observe` writes down what it would have chosen. Default: `observe`.
    #[serde(default)]
    pub(crate) lever: Option<RawLeverMode>,
    /// Whether these calls' models may be asked to think less where the question is easy: once for a
    /// conversation, never against what the client says. Default: what `[levers]` says.
    #[serde(default)]
    pub(crate) think: Option<RawLeverMode>,
    /// Whether that also holds for calls with tools. Default: `false`.
    #[serde(default)]
    pub(crate) think_with_tools: bool,
}

/// Whether a call has something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawHaving {
    /// It must.
    With,
    /// It must not.
    Without,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_observes_unless_told_otherwise() {
        let rule: RawRule = toml::from_str("id = \"a\"").unwrap();
        assert_eq!(rule.lever, None);
        assert!(toml::from_str::<RawRule>("id = \"a\"\nmodel = \"m\"").is_err());
    }
}
