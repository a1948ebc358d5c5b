//! The decision: which effort a session gets, and why.
//!
//! **Invariant**: an explicit setting of the client and a session's earlier decision stand; with
//! tools nothing is lowered unless the route opts in (test `decisions_and_their_reasons`).

use wire::dialect::effort::Asked;

use super::capability::{Beside, Capability, WithTools};
use super::class::{Class, classify};
use super::effort::Effort;
use crate::prices::model::Confidence;

/// 24 properties in a schema: filling in more counts as a task of many constraints. A guess on the
/// cautious side.
const SCHEMA_FIELDS_MAX: usize = 24;

/// Whether a call defines tools.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tools {
    /// It does not.
    #[default]
    None,
    /// It does.
    Defined,
}

/// What is asked, as far as the decision looks at it.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// What the user wrote, without instructions and tool results.
    pub text: &'a str,
    /// Whether tools are defined.
    pub tools: Tools,
    /// What the client says about reasoning and the form of the answer.
    pub asked: &'a Asked,
}

/// Whether a route does something that is off unless it says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Opted {
    /// It does not.
    #[default]
    Out,
    /// It does.
    In,
}

/// What a route's owner allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The lowest level that an easy question may get.
    pub floor: Effort,
    /// Whether calls with tools may be lowered too.
    pub tools: Opted,
    /// Whether rows of the table that nobody has verified may be used.
    pub unverified: Opted,
    /// Whether an answer that failed its check may raise the next one's effort above the model's own
    /// default, too, and not only take back what was lowered.
    pub beyond_default: Opted,
}

impl Default for Policy {
    /// Easy questions get a little thinking rather than none, and nothing else is touched.
    fn default() -> Self {
        Self {
            floor: Effort::Low,
            tools: Opted::Out,
            unverified: Opted::Out,
            beyond_default: Opted::Out,
        }
    }
}

/// What became of the work before this call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Earlier sessions or legs over the same question whose answer failed a check (a schema, a
    /// tool call, a test); they begin anew, so that no cached prefix is lost.
    pub failures: u32,
}

/// What a session stores: its effort, for as long as it stays with the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Provider and model.
    pub target: String,
    /// What the session's calls carry; none leaves them untouched.
    pub effort: Option<Effort>,
    /// The kind of its first question.
    pub class: Class,
    /// Whether its first call had tools.
    pub tools: Tools,
}

/// Why an effort is as it is; `explain` prints it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The client said how hard to think.
    Client,
    /// The session began so.
    Session,
    /// It is not known what the model can be asked.
    UnknownModel,
    /// What is known about the model was not verified.
    Unverified,
    /// The call has tools.
    Tools,
    /// The schema of the answer has many fields.
    Schema,
    /// The question needs thought, or may.
    Needed(Class),
    /// The model has no level that is surely below its default and not below the floor.
    NothingLower,
    /// Easy: thinking seldom helps with such questions.
    Easy(Class),
    /// An earlier answer failed its check.
    Raised,
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Client => f.write_str("the client says how hard to think"),
            Self::Session => f.write_str("the session began so"),
            Self::UnknownModel => f.write_str("it is not known what this model can be asked"),
            Self::Unverified => f.write_str("what this model can be asked was not verified"),
            Self::Tools => f.write_str("calls with tools are not lowered"),
            Self::Schema => f.write_str("the schema of the answer has many fields"),
            Self::Needed(class) => write!(f, "{} may need thought", class.name()),
            Self::NothingLower => f.write_str("the model has no lower level that is allowed"),
            Self::Easy(class) => write!(f, "{} seldom gains from thought", class.name()),
            Self::Raised => f.write_str("an earlier answer failed its check"),
        }
    }
}

/// The effort of a call, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What to send; none leaves the call untouched.
    pub effort: Option<Effort>,
    /// The kind of question.
    pub class: Class,
    /// Why.
    pub why: Why,
}

impl Decision {
    /// What the session stores after its first call.
    pub fn held(&self, target: &str, tools: Tools) -> Held {
        Held {
            target: target.to_owned(),
            effort: self.effort,
            class: self.class,
            tools,
        }
    }
}

/// Decides for one call. `held` is what its session stored; the caller passes it only while the
/// session stays with the same target.
pub fn decide(
    question: &Question<'_>,
    capability: Option<&Capability>,
    held: Option<&Held>,
    history: History,
    policy: Policy,
) -> Decision {
    let untouched = |class, why| Decision {
        effort: None,
        class,
        why,
    };
    if question.asked.given {
        return untouched(Class::Unknown, Why::Client);
    }
    let Some(capability) = capability else {
        return untouched(Class::Unknown, Why::UnknownModel);
    };
    let guarded = question.tools == Tools::Defined && policy.tools == Opted::Out;
    // Tools that appear change the front of the prompt, so that no cache is left to keep.
    let appeared = guarded && held.is_some_and(|held| held.tools == Tools::None);
    if let Some(held) = held
        && !appeared
    {
        return Decision {
            effort: held.effort.filter(|level| capability.takes(*level)),
            class: held.class,
            why: Why::Session,
        };
    }
    if capability.confidence == Confidence::Unverified && policy.unverified == Opted::Out {
        return untouched(Class::Unknown, Why::Unverified);
    }
    let class = classify(question.text);
    let lowered = lowered(question, class, capability, policy);
    let plain = |why| untouched(class, why);
    match (lowered, history.failures) {
        (Ok(level), 0) => Decision {
            effort: Some(level),
            class,
            why: Why::Easy(class),
        },
        (Err(why), 0) => plain(why),
        (lowered, _) => {
            let base = lowered.ok().or(capability.default);
            let raised = base.and_then(|level| capability.raised(level));
            let is_beyond = |level| capability.default.is_some_and(|default| level > default);
            let raised =
                raised.filter(|level| policy.beyond_default == Opted::In || !is_beyond(*level));
            match raised {
                Some(level) if may_raise(question, capability) => Decision {
                    effort: Some(level),
                    class,
                    why: Why::Raised,
                },
                _ => plain(Why::Raised),
            }
        }
    }
}

/// The level of an easy question, or why there is none.
fn lowered(
    question: &Question<'_>,
    class: Class,
    capability: &Capability,
    policy: Policy,
) -> Result<Effort, Why> {
    if question.tools == Tools::Defined
        && (policy.tools == Opted::Out || capability.tools == WithTools::Never)
    {
        return Err(Why::Tools);
    }
    if question.asked.schema_fields > SCHEMA_FIELDS_MAX {
        return Err(Why::Schema);
    }
    if !class.is_easy() {
        return Err(Why::Needed(class));
    }
    capability.lowered(policy.floor).ok_or(Why::NothingLower)
}

/// Whether more thought can be asked for beside what the request carries.
fn may_raise(question: &Question<'_>, capability: &Capability) -> bool {
    let tools = question.tools == Tools::None || capability.tools == WithTools::Any;
    let sampling = !question.asked.sampling || capability.sampling == Beside::Taken;
    let forced = !question.asked.forced_tool || capability.forced_tool == Beside::Taken;
    tools && sampling && forced
}
