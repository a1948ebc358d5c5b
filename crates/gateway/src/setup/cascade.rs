//! A route's cascade: the cheaper target that is asked first, and what its answers must pass.
//!
//! **Invariant**: a verifier that can be named can be run: its pattern is compiled, and its program
//! has an absolute path (tests `patterns_are_read_once` and `faulty_cascades_are_named`).

use std::path::PathBuf;
use std::time::Duration;

use policy::cascade::rubric::Rubric;
use policy::cascade::verdict::{Curve, HoldBack, Rules};
use regex_automata::meta;

use crate::setup::{LeverMode, Target};

/// 1 MiB: the automaton of a pattern; one for a whole alphabet in every position needs less.
const PATTERN_BYTES_MAX: usize = 1024 * 1024;

/// Points on the way from a mean log-probability to the probability of a token.
const CURVE_POINTS: u32 = 64;

/// A token of probability e^−6 is as good as excluded.
const LOGPROB_LEAST: f64 = -6.0;

/// A cheaper target before a call's own.
#[derive(Clone, Debug, PartialEq)]
pub struct Cascade {
    /// Who is asked first.
    pub target: Target,
    /// The lever.
    pub mode: LeverMode,
    /// The share of the own target's quality that must be kept, where what is known of the cheap one
    /// takes part in the choice; none if every fit call goes there, as long as that pays.
    pub quality: Option<f64>,
    /// How much of a client's word a verdict weighs, where targets are learned of.
    pub trust: f64,
    /// The least mean probability of an answer's tokens, where its client asks for them.
    pub accept_from: Option<f64>,
    /// What its answers must pass.
    pub verifiers: Vec<Verifier>,
    /// Whether further answers of it must agree.
    pub agree: Option<Agree>,
    /// How much of a stream may be held back.
    pub hold_back: HoldBack,
}

/// Closed answers that are asked for more than once.
#[derive(Clone, Debug, PartialEq)]
pub struct Agree {
    /// Finds the closed answer in a text.
    pub pattern: Pattern,
    /// How many further answers are asked for.
    pub samples: u32,
    /// The share of them that must say the same, above 0.
    pub from: f64,
    /// How long each may take.
    pub time_max: Duration,
}

/// Something of the operator's that tells good answers from bad ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verifier {
    /// Its name in notes.
    pub name: String,
    /// What it does.
    pub how: How,
}

/// How an answer's text is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How {
    /// It must contain a match of this pattern.
    Pattern(Pattern),
    /// This program must succeed, with the text as its input.
    Command {
        /// An absolute path.
        program: PathBuf,
        /// Its arguments.
        arguments: Vec<String>,
    },
    /// This model must score it high enough.
    Judge(Judge),
}

/// A model that scores answers by a rubric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judge {
    /// Who is asked.
    pub target: Target,
    /// What it scores by.
    pub rubric: Rubric,
    /// How long its whole reply may take.
    pub time_max: Duration,
}

/// A regular expression that takes time in proportion to the text, whatever both are.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    regex: meta::Regex,
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

impl Pattern {
    /// Compiles a pattern; the error says what is wrong with it.
    pub fn new(text: &str) -> Result<Self, String> {
        let limits = meta::Config::new().nfa_size_limit(Some(PATTERN_BYTES_MAX));
        let regex = meta::Builder::new().configure(limits).build(text);
        let regex = regex.map_err(|error| {
            let Some(syntax) = error.syntax_error() else {
                return "its automaton takes more than 1 MiB".to_owned();
            };
            let words = syntax.to_string();
            words.lines().last().unwrap_or_default().to_owned()
        })?;
        let text = text.to_owned();
        Ok(Self { text, regex })
    }

    /// The closed answer in a text: the first group of the last match, or all of it without a group.
    pub fn closed<'t>(&self, text: &'t str) -> Option<&'t str> {
        let last = self.regex.captures_iter(text).last()?;
        let span = last.get_group(1).or_else(|| last.get_group(0))?;
        text.get(span.range())
    }

    /// Whether it matches anywhere.
    pub fn matches(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }
}

impl Cascade {
    /// The model that judges under this name, if it is one.
    pub fn judge(&self, name: &str) -> Option<&Judge> {
        let verifier = self.verifiers.iter().find(|it| it.name == name)?;
        match &verifier.how {
            How::Judge(judge) => Some(judge),
            How::Pattern(_) | How::Command { .. } => None,
        }
    }

    /// The models that judge, in their order.
    pub fn judges(&self) -> impl Iterator<Item = &Judge> {
        self.verifiers.iter().filter_map(|it| match &it.how {
            How::Judge(judge) => Some(judge),
            How::Pattern(_) | How::Command { .. } => None,
        })
    }

    /// How answers are judged; `has_logprobs` says whether they tell how sure their tokens were.
    pub fn rules(&self, has_logprobs: HasLogprobs) -> Rules {
        let verifiers = self.verifiers.iter();
        let rules = Rules {
            verifiers: verifiers.map(|verifier| verifier.name.clone()).collect(),
            ..Rules::default()
        };
        if let Some(agree) = &self.agree {
            return Rules {
                accept_from: agree.from,
                agreement: Curve::new(vec![(0.0, 0.0), (1.0, 1.0)]),
                ..rules
            };
        }
        match (self.accept_from, has_logprobs) {
            (Some(accept_from), HasLogprobs::Yes) => Rules {
                accept_from,
                sureness: exponential(),
                ..rules
            },
            _ => rules,
        }
    }
}

/// Whether an answer tells how sure its tokens were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HasLogprobs {
    /// It does.
    Yes,
    /// It does not.
    No,
}

/// From a mean log-probability to the probability that it is the logarithm of.
fn exponential() -> Option<Curve> {
    let steps = 0..=CURVE_POINTS;
    let points = steps.map(|step| {
        let logprob = LOGPROB_LEAST * (1.0 - f64::from(step) / f64::from(CURVE_POINTS));
        (logprob, logprob.exp())
    });
    Curve::new(points.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_read_once() {
        for (text, given, expect) in [
            (r"^\d+$", "42", Ok(true)),
            (r"^\d+$", "42 or so", Ok(false)),
            ("(?i)yes", "Oh YES", Ok(true)),
            ("(", "", Err("unclosed group")),
            (r"(\w{1000}){1000}", "", Err("more than 1 MiB")),
            (r"\bno\b", "no, not", Ok(true)),
            (r"\bno\b", "not", Ok(false)),
        ] {
            let found = Pattern::new(text).map(|pattern| pattern.matches(given));
            match (found, expect) {
                (Ok(found), Ok(expect)) => assert_eq!(found, expect, "{text}"),
                (Err(found), Err(expect)) => assert!(found.contains(expect), "{text}: {found}"),
                (found, expect) => assert_eq!(found, expect.map_err(str::to_owned), "{text}"),
            }
        }
    }

    #[test]
    fn closed_answers_are_found() {
        for (pattern, text, expect) in [
            (r"(?i)answer:\s*([a-d])", "Answer: B", Some("B")),
            // What is said last counts.
            (
                r"(?i)answer:\s*([a-d])",
                "Answer: A? No.\nAnswer: C",
                Some("C"),
            ),
            (r"\d+", "17 and 4 make 21", Some("21")),
            (r"(?i)^(yes|no)", "Perhaps", None),
        ] {
            assert_eq!(
                Pattern::new(pattern).unwrap().closed(text),
                expect,
                "{text}"
            );
        }
    }

    #[test]
    fn a_threshold_is_a_probability_of_tokens() {
        let cascade = Cascade {
            target: Target {
                provider: "p".into(),
                model: "m".into(),
            },
            mode: LeverMode::On,
            quality: None,
            trust: 0.0,
            accept_from: Some(0.9),
            verifiers: Vec::new(),
            agree: None,
            hold_back: HoldBack::default(),
        };
        assert_eq!(cascade.rules(HasLogprobs::No), Rules::default());
        let rules = cascade.rules(HasLogprobs::Yes);
        let curve = rules.sureness.expect("a curve");
        for probability in [1.0_f64, 0.95, 0.9, 0.5, 0.05] {
            let found = curve.at(probability.ln()).expect("a point");
            assert!(
                (found - probability).abs() < 0.002,
                "{probability}: {found}"
            );
        }
    }
}
