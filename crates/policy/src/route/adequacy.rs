//! Adequacy: whether a cheaper target may answer a call in place of the client's own, and on what
//! grounds.
//!
//! **Invariant**: what outcomes have shown outranks what a model expects, and without either a call
//! stays where it is (test `a_call_stays_until_something_speaks_for_leaving`).

use crate::route::posterior::Belief;

/// 1.645 standard errors: one chance in twenty, on one side.
const ERRORS: f64 = 1.645;

/// 20 outcomes: with fewer, what was believed before any would speak louder than they do.
const OUTCOMES_LEAST: f64 = 20.0;

/// What outcomes say of the promise that the cheaper target keeps a share of the other's quality.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// It does, with 95 % confidence.
    Kept,
    /// It does not, with 95 % confidence.
    Broken,
    /// Neither is known.
    Open,
    /// Its answers have got worse lately, and nothing is known since.
    Drifted,
}

impl Evidence {
    /// Weighs what is believed of a cheaper target against what is believed of the client's own.
    pub fn of(cheaper: Belief, own: Belief, quality: f64) -> Self {
        let open = if cheaper.has_drifted {
            Self::Drifted
        } else {
            Self::Open
        };
        if cheaper.outcomes < OUTCOMES_LEAST {
            return open;
        }
        let lead = cheaper.mean - quality * own.mean;
        let noise = cheaper.spread.hypot(quality * own.spread);
        if lead >= ERRORS * noise {
            Self::Kept
        } else if lead <= -ERRORS * noise {
            Self::Broken
        } else {
            open
        }
    }
}

/// What a trained model says of a call and a pair of targets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Word {
    /// It knows no such pair, or promises nothing at this quality.
    Nothing,
    /// The call is unlike anything that it was trained on.
    Unlike,
    /// How much the call is worth at the stronger target, and from where on it must stay there.
    Worth {
        /// As `predictor::worth` has it.
        worth: f64,
        /// As `predictor::Floor` has it.
        threshold: f64,
    },
}

/// Why a cheaper target may answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ground {
    /// Outcomes of such calls.
    Outcomes,
    /// The model's promise.
    Model,
    /// None, but outcomes are wanted.
    Explored,
}

impl Ground {
    /// The name in notes and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Outcomes => "outcomes",
            Self::Model => "model",
            Self::Explored => "explored",
        }
    }
}

/// Why a cheaper target may not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// Nothing is known of the two targets on such calls.
    Unproven,
    /// The call is unlike anything that the model was trained on.
    Unlike,
    /// The quality that is wanted would not be kept.
    Below,
    /// It was kept, and then no longer.
    Drifted,
}

/// Decides. `explores` is whether this call was drawn to be tried where nothing is known.
pub fn judge(evidence: Evidence, word: Word, explores: bool) -> Result<Ground, Doubt> {
    let doubt = match (evidence, word) {
        (Evidence::Kept, _) => return Ok(Ground::Outcomes),
        (Evidence::Open, Word::Worth { worth, threshold }) if worth < threshold => {
            return Ok(Ground::Model);
        }
        (Evidence::Broken, _) | (Evidence::Open, Word::Worth { .. }) => return Err(Doubt::Below),
        (Evidence::Open, Word::Nothing) => Doubt::Unproven,
        (Evidence::Open, Word::Unlike) => Doubt::Unlike,
        // What a model was trained on came before.
        (Evidence::Drifted, _) => Doubt::Drifted,
    };
    if explores {
        Ok(Ground::Explored)
    } else {
        Err(doubt)
    }
}

/// Whether a call is tried at a cheaper target of which little is known: a share of the calls is
/// drawn, and once there are outcomes, of those the ones in which a draw of each belief keeps the
/// quality (Thompson's rule), so that a target is tried the less, the worse it looks. `share` is drawn
/// from 0..1; `normals` are standard normal.
pub fn explores(
    (cheaper, own): (Belief, Belief),
    quality: f64,
    share_max: f64,
    share: f64,
    normals: [f64; 2],
) -> bool {
    let drawn =
        |belief: Belief, normal: f64| (belief.mean + normal * belief.spread).clamp(0.0, 1.0);
    let is_new = cheaper.outcomes < OUTCOMES_LEAST;
    share < share_max && (is_new || drawn(cheaper, normals[0]) >= quality * drawn(own, normals[1]))
}

#[cfg(test)]
mod tests {
    use super::{Doubt, Evidence, Ground, Word, explores, judge};
    use crate::route::posterior::{Belief, Posterior};

    #[test]
    fn a_call_stays_until_something_speaks_for_leaving() {
        let worth = |worth| Word::Worth {
            worth,
            threshold: 1.0,
        };
        for (evidence, word, explored, expect) in [
            (Evidence::Open, Word::Nothing, false, Err(Doubt::Unproven)),
            (Evidence::Open, Word::Unlike, false, Err(Doubt::Unlike)),
            (Evidence::Open, worth(1.0), false, Err(Doubt::Below)),
            (Evidence::Open, worth(0.9), false, Ok(Ground::Model)),
            (Evidence::Open, Word::Nothing, true, Ok(Ground::Explored)),
            // What a model has judged is not tried against its word.
            (Evidence::Open, worth(1.0), true, Err(Doubt::Below)),
            (Evidence::Broken, worth(0.9), true, Err(Doubt::Below)),
            (Evidence::Kept, worth(1.0), false, Ok(Ground::Outcomes)),
            (Evidence::Drifted, worth(0.5), false, Err(Doubt::Drifted)),
            (Evidence::Drifted, Word::Nothing, true, Ok(Ground::Explored)),
            (Evidence::Kept, Word::Unlike, false, Ok(Ground::Outcomes)),
        ] {
            assert_eq!(
                judge(evidence, word, explored),
                expect,
                "{evidence:?} {word:?}"
            );
        }
    }

    /// Nothing is known of the client's own target: it is held to be always right.
    #[test]
    fn evidence_takes_outcomes() {
        let after = |good: u32, bad: u32| {
            let mut posterior = Posterior::default();
            (0..good).for_each(|_| _ = posterior.observe(&[1, 2], 7, 1.0));
            (0..bad).for_each(|_| _ = posterior.observe(&[1, 2], 7, 0.0));
            let own = posterior.belief(&[1, 2], 8, 1.0);
            Evidence::of(posterior.belief(&[1, 2], 7, 0.8), own, 0.95)
        };
        for (good, bad, expect) in [
            (0, 0, Evidence::Open),
            (20, 0, Evidence::Open),
            // Of a target that is right 95 times in 100, one run in five is as good.
            (30, 0, Evidence::Open),
            (100, 0, Evidence::Kept),
            (300, 5, Evidence::Kept),
            (95, 5, Evidence::Open),
            (160, 40, Evidence::Broken),
        ] {
            assert_eq!(after(good, bad), expect, "{good} good, {bad} bad");
        }
    }

    /// One chance in twenty is stated, of a target that is right just as often as it must be.
    #[test]
    fn who_is_no_better_than_the_border_seldom_passes() {
        let mut state = 1_u64;
        let mut is_right = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % 100 < 95
        };
        for prior in [0.75, 0.9] {
            let mut passed = 0;
            for _ in 0..1_000 {
                let mut posterior = Posterior::default();
                for _ in 0..100 {
                    posterior.observe(&[1, 2], 7, f64::from(u8::from(is_right())));
                }
                let own = posterior.belief(&[1, 2], 8, 1.0);
                let cheaper = posterior.belief(&[1, 2], 7, prior);
                passed += usize::from(Evidence::of(cheaper, own, 0.95) == Evidence::Kept);
            }
            assert!(passed <= 50, "{prior}: {passed} of 1000");
        }
    }

    #[test]
    fn a_share_is_tried_and_what_looks_bad_is_not() {
        let belief = |mean| Belief {
            mean,
            spread: 0.1,
            outcomes: 30.0,
            has_drifted: false,
        };
        let tried = |mean, share, normal| {
            explores(
                (belief(mean), belief(1.0)),
                0.95,
                0.05,
                share,
                [normal, 0.0],
            )
        };
        assert!(tried(0.9, 0.01, 1.0));
        assert!(!tried(0.9, 0.06, 1.0), "beyond the share");
        assert!(!tried(0.9, 0.01, 0.0), "drawn below");
        assert!(!tried(0.3, 0.01, 3.0), "looks bad");
        let new = Belief {
            outcomes: 19.0,
            ..belief(0.3)
        };
        let pair = (new, belief(1.0));
        assert!(
            explores(pair, 0.95, 0.05, 0.01, [0.0, 0.0]),
            "nobody knows yet"
        );
        assert!(!explores(pair, 0.95, 0.05, 0.05, [0.0, 0.0]));
    }
}
