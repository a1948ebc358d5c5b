//! Notes on routing: which route took a call, which target was chosen and what the others would have
//! cost, as `explain` prints it.
//!
//! **Invariant**: notes name routes, targets and figures, never the client's text (test
//! `only_a_route_that_is_on_moves_a_call` in `tests/it/routes.rs` reads them).

use policy::cascade::word::Word;
use policy::ports::outcomes::{Noted, Outcome};
use policy::route::adequacy::Ground;
use policy::route::economics::{Choice, Unfit};
use policy::route::sessions::Outlook;
use serde::{Deserialize, Serialize};

use crate::route::place::Weighed;
use crate::setup::LeverMode;

/// What is written down about the placing of one call.
#[derive(Clone, Debug, Serialize)]
pub struct RouteNotes {
    name: String,
    lever: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    choice: Option<ChoiceNote>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    options: Vec<OptionNote>,
    /// What an outcome of the call is counted for, as 16 hexadecimal digits each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    kinds: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
struct ChoiceNote {
    target: String,
    why: &'static str,
    calls_ahead: u64,
}

#[derive(Clone, Debug, Serialize)]
struct OptionNote {
    target: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    now_usd: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rest_usd: Option<String>,
    /// The probability that its answer would do.
    #[serde(skip_serializing_if = "Option::is_none")]
    adequate: Option<String>,
    /// Why it may answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    ground: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unfit: Option<&'static str>,
}

/// The kinds of traffic that the notes of a call name; none if its route learns nothing.
pub fn kinds_of(notes: &str) -> Vec<u64> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Notes {
        route: Route,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Route {
        kinds: Vec<String>,
    }
    let notes: Notes = serde_json::from_str(notes).unwrap_or_default();
    let kinds = notes.route.kinds.iter();
    kinds
        .filter_map(|kind| u64::from_str_radix(kind, 16).ok())
        .collect()
}

/// What stands in the notes of a call whose cascade has said something of its cheap target.
pub const VERDICT: &str = "\"verdict\":{";

/// The verdict that the notes of a settled call contain, as a share of an outcome.
pub fn verdict_of(noted: &Noted) -> Option<(Outcome, f64)> {
    #[derive(Deserialize)]
    struct Notes {
        cascade: Cascade,
    }
    #[derive(Deserialize)]
    struct Cascade {
        target: String,
        verdict: VerdictNotes,
    }
    let Notes { cascade } = serde_json::from_str(&noted.notes).ok()?;
    let outcome = Outcome {
        call: noted.call.clone(),
        at: noted.at,
        score: cascade.verdict.score,
        target: cascade.target,
        kinds: kinds_of(&noted.notes),
    };
    Some((outcome, cascade.verdict.weight))
}

/// What a verdict says of the target, as it is noted.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct VerdictNotes {
    score: f64,
    /// The share of a client's word that it weighs.
    weight: f64,
}

impl From<Word> for VerdictNotes {
    fn from(word: Word) -> Self {
        Self {
            score: word.score,
            weight: word.weight,
        }
    }
}

impl RouteNotes {
    /// What an outcome of the call will be counted for.
    pub fn kinds(&self) -> Vec<u64> {
        let kinds = self.kinds.iter();
        kinds
            .filter_map(|kind| u64::from_str_radix(kind, 16).ok())
            .collect()
    }

    /// Of a call that a route has taken.
    pub fn of(name: &str, mode: LeverMode) -> Self {
        Self {
            name: name.to_owned(),
            lever: mode.name(),
            choice: None,
            options: Vec::new(),
            kinds: Vec::new(),
        }
    }

    /// The route's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// With the targets that were weighed.
    pub fn weighed(&mut self, options: &[Weighed<'_>], choice: Choice, outlook: &Outlook) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "at most 64 calls"
        )]
        let calls_ahead = outlook.calls.round() as u64;
        self.choice = options.get(choice.place).map(|option| ChoiceNote {
            target: option.plan.name(),
            why: choice.why.name(),
            calls_ahead,
        });
        let note = |option: &Weighed<'_>| OptionNote {
            target: option.plan.name(),
            now_usd: option.offer.forecast.map(|cost| cost.now.exact()),
            rest_usd: option.offer.forecast.map(|cost| cost.rest.exact()),
            adequate: option.opinion.map(|it| format!("{:.3}", it.adequate)),
            ground: option
                .opinion
                .and_then(|it| it.verdict.ok())
                .map(Ground::name),
            unfit: option.offer.unfit.map(Unfit::name),
        };
        self.options = options.iter().map(note).collect();
    }

    /// With what an outcome of the call will be counted for.
    pub fn counts_for(&mut self, kinds: &[u64]) {
        self.kinds = kinds.iter().map(|kind| format!("{kind:016x}")).collect();
    }
}
