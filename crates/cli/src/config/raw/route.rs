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
    /// A cheaper target that is asked before the call's own; its answer counts if it convinces.
    #[serde(default)]
    pub(crate) cascade: Option<RawCascade>,
    /// Whether these calls' models may be asked to think less where the question is easy: once for a
    /// conversation, never against what the client says. Default: what `[levers]` says.
    #[serde(default)]
    pub(crate) think: Option<RawLeverMode>,
    /// Whether that also holds for calls with tools. Default: `false`.
    #[serde(default)]
    pub(crate) think_with_tools: bool,
    /// What is done about agents that go in circles. Default: what `[loops]` says.
    #[serde(default)]
    pub(crate) loops: Option<RawLoops>,
    /// How much may be left out of results of tools, and of long texts that are pasted, from the first
    /// time that they are sent. Default: nothing.
    #[serde(default)]
    pub(crate) trim: Option<RawTrim>,
    /// What that lever may do: `observe` writes down what it would have saved. A conversation keeps
    /// what it began with. Default: what `[levers]` says.
    #[serde(default)]
    pub(crate) trim_lever: Option<RawLeverMode>,
    /// The most tokens, from 1000 to 10000000, of the documents that a question comes with: several text
    /// blocks, or `<document>` elements, in one message of the user. Beyond it, those that the question
    /// needs least are left out, and of the others the best stand first and last. It is the trim
    /// lever's: it acts where `trim_lever` is `on`. Default: any.
    #[serde(default)]
    pub(crate) focus_tokens: Option<u64>,
    /// How many tokens classes of the context may have. Default: any.
    #[serde(default)]
    pub(crate) context: Vec<RawContext>,
}

/// How many tokens a class of the context may have, and what follows beyond that. Beyond it, a call is
/// noted and told (`x-tokenwise-context`), whatever else follows.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawContext {
    /// The class, as `tokenwise report --context` breaks calls down; `input` is all of it.
    pub(crate) class: RawClass,
    /// The most tokens, from 1000 to 10000000, as estimated before a call is sent.
    pub(crate) tokens_max: u64,
    /// What follows beyond that, in the order `compress`, `prune`, `refuse`. The first two are for
    /// `tool_results` and are the trim lever's: they act where `trim_lever` is `on`. Default: nothing.
    #[serde(default)]
    pub(crate) over: Vec<RawOver>,
}

/// A class of the context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawClass {
    /// System text.
    System,
    /// Definitions of tools.
    Tools,
    /// What was said before the last message, documents aside.
    History,
    /// Results of tools.
    ToolResults,
    /// Thinking blocks.
    Thinking,
    /// Documents that questions come with: blocks to be cited, `<document>` elements, several long texts.
    Documents,
    /// Images, documents in encoded form, and sound.
    Media,
    /// The last message, results of tools and documents aside.
    LastMessage,
    /// Everything.
    Input,
}

/// What follows when a budget of the context is exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawOver {
    /// Results that come from then on are folded, as with `trim = "folded"`.
    Compress,
    /// Old results are left out whole, where that pays for the prompt cache that it destroys, or where
    /// the window or a price cliff forces it; never before models that bind thinking to what is before
    /// it. What was left out once stays left out.
    Prune,
    /// The call is refused with advice.
    Refuse,
}

/// What is done about agents that go in circles: that repeat the same calls with the same results, the
/// same error, the same words. It is seen from the messages of each request alone.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawLoops {
    /// How far it may go; each includes those before it. Default: `observe`, or `degrade` with
    /// `degrade_to`.
    pub(crate) action: Option<RawLoopAction>,
    /// Names of tools that repeat on purpose, besides `wait`, `poll`, `get_status` and the like.
    pub(crate) polling: Vec<String>,
    /// Where calls go for as long as a loop lasts, as `provider/model`.
    pub(crate) degrade_to: Option<String>,
}

/// How far it may go with an agent that goes in circles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawLoopAction {
    /// Nothing is looked at.
    Off,
    /// It is written down, and named in the header `x-tokenwise-loop`.
    Observe,
    /// The agent is told: a note is added to the text that it reads next, and stays there.
    Nudge,
    /// For as long as the loop lasts, calls go to `degrade_to`.
    Degrade,
    /// A task that goes on with it is refused.
    Stop,
}

/// What may be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawTrim {
    /// Only what the request says elsewhere, or what a reader can put back together.
    Exact,
    /// Also the middle of runs of similar lines, encoded data, and markup.
    Folded,
}

/// A cheaper target that is asked first. Its answer is given to the client if it is whole, declines
/// nothing, keeps the form and calls only the tools that the call asks for, and passes what is
/// written here. If not, it is paid for and thrown away, and the call's own target is asked. Calls
/// whose tools the provider runs, and calls for which it would not be cheaper, never go there.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawCascade {
    /// Who is asked first, as `provider/model`.
    pub(crate) target: String,
    /// What the lever may do: `observe` writes down which calls it could take, and what they would
    /// cost there. Default: `observe`.
    #[serde(default)]
    pub(crate) lever: Option<RawLeverMode>,
    /// The share of the mean score of a call's own target that must be kept, from 0.5 to 1. With it,
    /// what is known of the cheap target on such calls (the router, outcomes) takes part in the
    /// choice: a call whose cheap answer would probably be thrown away goes straight to its own
    /// target, and one for which the quality is shown to be kept is not judged. Default: none; every
    /// call is judged, as long as that pays.
    #[serde(default)]
    pub(crate) quality: Option<f64>,
    /// How much of a client's word a verdict on the cheap answer weighs, from 0 to 0.5, where the
    /// route learns of targets (`quality`, `cheaper`): verdicts of `verify` weigh that, those on the
    /// form half of it, `accept_from` a quarter. Default: 0.25.
    #[serde(default)]
    pub(crate) trust: Option<f64>,
    /// The least mean probability of an answer's tokens, 0 to 1 (the exponential of the mean of their
    /// log-probabilities). It counts for calls that ask for `logprobs`. Default: none.
    #[serde(default)]
    pub(crate) accept_from: Option<f64>,
    /// What the text of an answer must pass besides, in this order.
    #[serde(default)]
    pub(crate) verify: Vec<RawVerifier>,
    /// For closed answers (a letter, a number, a label): further answers of the cheap target that must
    /// say the same. Not beside `accept_from`.
    #[serde(default)]
    pub(crate) agree: Option<RawAgree>,
    /// How long a stream may be held back from its first byte on, in milliseconds, 1 to 60000; then
    /// it is given up unless its beginning convinces. Default: 4000.
    #[serde(default)]
    pub(crate) hold_back_ms: Option<u64>,
    /// How much of a stream may be held back, in KiB, 1 to 16384. Default: 256.
    #[serde(default)]
    pub(crate) hold_back_kb: Option<u64>,
}

/// Further answers of the cheap target to the same call, asked one after the other until it is decided;
/// each is a leg with its own cost. Calls that define tools, or ask for no chance (`temperature` or
/// `top_p` of 0, a `seed`), do not go to the cheap target then.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawAgree {
    /// A regular expression that finds the closed answer: the first group of its last match, as
    /// `(?i)answer:\s*([a-e])`. Numbers are compared as numbers, other texts without case and spaces.
    pub(crate) pattern: String,
    /// How many further answers are asked for, 1 to 4. Default: 2.
    #[serde(default)]
    pub(crate) samples: Option<u32>,
    /// The share of them that must say the same, 0.1 to 1. Default: 1.
    #[serde(default)]
    pub(crate) from: Option<f64>,
    /// How long each may take, in milliseconds, 100 to 60000. Default: 10000.
    #[serde(default)]
    pub(crate) timeout_ms: Option<u64>,
}

/// Something that tells good answers from bad ones: one of the three.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawVerifier {
    /// A regular expression that must match somewhere in the answer.
    #[serde(default)]
    pub(crate) regex: Option<String>,
    /// A program with its arguments, as `["/usr/local/bin/check", "--strict"]`. It gets the answer as
    /// its input and no environment; the status 0 passes it, 1 fails it; after anything else,
    /// like more than five seconds, the answer does not convince, and the target is not blamed.
    #[serde(default)]
    pub(crate) command: Option<Vec<String>>,
    /// A model that scores the answer. Asking it is a leg of the same call, with its own cost.
    #[serde(default)]
    pub(crate) judge: Option<RawJudge>,
}

/// A model that scores answers. It is shown what the user wrote last and the answer's text, both
/// quoted, and must reply with one whole number; any other reply, a failure or one that comes too late
/// does not convince.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawJudge {
    /// Who is asked, as `provider/model`; another model than the one that it judges.
    pub(crate) target: String,
    /// What it scores by, in words: what a good answer to these calls does.
    pub(crate) rubric: String,
    /// The least score that passes, 1 to 10. Default: 7.
    #[serde(default)]
    pub(crate) from: Option<u8>,
    /// How long its whole reply may take, in milliseconds, 100 to 60000. The answer is held back
    /// meanwhile, after `hold_back_ms`. Default: 5000.
    #[serde(default)]
    pub(crate) timeout_ms: Option<u64>,
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
