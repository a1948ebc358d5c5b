//! Record: how the answers of a cascade's cheap target have fared, and whether asking it first still
//! pays.
//!
//! Each answer that is thrown away is paid for. A cheap target whose answers seldom convince costs
//! more than it saves, however cheap it is; the share that convinced says when.
//!
//! **Invariant**: where the expected cost of both legs is not below that of the dear one alone, the
//! cheap one is asked only now and then, to see whether that has changed (property
//! `asking_pays_or_is_rare`); answers that are taken unjudged are judged now and then (test
//! `what_is_not_judged_is_judged_now_and_then`).

use crate::cascade::choice::{Aim, Candidate, Judge, Plan, choose};
use crate::cascade::way::{Chances, Taken, Verdicts, Way, decide};
use crate::money::PicoUsd;

/// Three of four: what is thought of a cheap target that nobody has asked yet. Whoever sets up a
/// cascade has a reason to; ten answers outweigh it.
const PRIOR: (f64, f64) = (3.0, 1.0);

/// 200 answers: what was before that many others no longer counts, for traffic and models change.
const MEMORY: f64 = 200.0;

/// Every 20th call that should not pay is sent to the cheap target nevertheless.
pub const RETRIAL: u32 = 20;

/// What has become of a cheap target's answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Record {
    accepted: f64,
    rejected: f64,
    /// Calls since it was asked, or judged, last.
    passed_over: u32,
    /// How far judgements can be trusted, of calls of which it was known what to expect.
    verdicts: Verdicts,
}

impl Default for Record {
    fn default() -> Self {
        Self {
            accepted: PRIOR.0,
            rejected: PRIOR.1,
            passed_over: 0,
            verdicts: Verdicts::default(),
        }
    }
}

/// What became of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fared {
    /// The client got it.
    Accepted,
    /// It was thrown away.
    Rejected,
}

/// Whether to ask the cheap target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asks {
    /// It is expected to pay.
    Pays,
    /// It is not, but it is time to look again.
    Retrial,
    /// No.
    Never,
}

impl Record {
    /// The probability that the next answer is accepted.
    pub fn accepts(&self) -> f64 {
        self.accepted / (self.accepted + self.rejected)
    }

    /// The best plan for a call: the dear target alone, or the cheap one before it.
    ///
    /// ```
    /// use policy::cascade::record::Record;
    /// use policy::money::PicoUsd;
    ///
    /// let plan = Record::default().plan(PicoUsd(10), PicoUsd(100)).unwrap();
    /// assert_eq!((plan.legs, plan.cost, plan.wasted), (vec![0, 1], PicoUsd(35), PicoUsd(3)));
    /// ```
    pub fn plan(&self, cheap: PicoUsd, dear: PicoUsd) -> Option<Plan> {
        let adequate = self.accepts();
        let judge = Some(Judge {
            accepts_adequate: 1.0,
            accepts_inadequate: 0.0,
            cost: PicoUsd::ZERO,
        });
        let candidates = [
            Candidate {
                adequate,
                cost: Some(cheap),
                judge,
            },
            Candidate {
                adequate: 1.0,
                cost: Some(dear),
                judge: None,
            },
        ];
        // What the cheap target cannot do must be done by the other one.
        let aim = Aim {
            worth: PicoUsd::ZERO,
            floor: 1.0 - 1e-9,
            overlap: 1.0,
        };
        choose(&candidates, &aim).chosen
    }

    /// Decides on a call, and remembers that it did.
    pub fn asks(&mut self, cheap: PicoUsd, dear: PicoUsd) -> Asks {
        let plan = self.plan(cheap, dear);
        if plan.is_some_and(|plan| plan.legs.first() == Some(&0)) {
            self.passed_over = 0;
            return Asks::Pays;
        }
        if self.looks_again() {
            Asks::Retrial
        } else {
            Asks::Never
        }
    }

    /// The way that a call goes of which it is known what to expect; does not remember it.
    pub fn way(&self, chances: &Chances) -> Taken {
        decide(chances, self.verdicts.judge(chances.check))
    }

    /// Remembers that a call goes this way. True if its answer is to be judged nevertheless: every so
    /// many calls that nobody judges.
    pub fn goes(&mut self, way: Way) -> bool {
        if way == Way::Checked {
            self.passed_over = 0;
            return false;
        }
        self.looks_again()
    }

    fn looks_again(&mut self) -> bool {
        self.passed_over = (self.passed_over + 1) % RETRIAL;
        self.passed_over == 0
    }

    /// An answer was judged; `expected` is the probability with which it was to be adequate, if
    /// anything was known of it.
    pub fn came(&mut self, fared: Fared, expected: Option<f64>) {
        if let Some(expected) = expected {
            self.verdicts.came(expected, fared);
        }
        let kept = 1.0 - 1.0 / MEMORY;
        self.accepted *= kept;
        self.rejected *= kept;
        match fared {
            Fared::Accepted => self.accepted += 1.0,
            Fared::Rejected => self.rejected += 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert_eq, proptest};

    use super::*;

    #[test]
    fn a_record_settles_and_recovers() {
        let mut record = Record::default();
        let (cheap, dear) = (PicoUsd(30), PicoUsd(100));
        let mut asked = 0;
        while record.asks(cheap, dear) == Asks::Pays {
            record.came(Fared::Rejected, None);
            asked += 1;
        }
        // From three of four to below three of ten.
        assert_eq!(asked, 6);
        for _ in 1..RETRIAL - 1 {
            assert_eq!(record.asks(cheap, dear), Asks::Never);
        }
        assert_eq!(record.asks(cheap, dear), Asks::Retrial);
        assert_eq!(record.asks(PicoUsd(1), dear), Asks::Pays, "cheap enough");
        for _ in 0..5 {
            record.came(Fared::Accepted, None);
        }
        assert_eq!(record.asks(cheap, dear), Asks::Pays);
        for _ in 0..10_000 {
            record.came(Fared::Accepted, None);
        }
        assert!(record.accepts() > 0.999);
    }

    #[test]
    fn what_is_not_judged_is_judged_now_and_then() {
        let mut record = Record::default();
        for way in [Way::Unchecked, Way::Straight] {
            let judged = (0..200).filter(|_| record.goes(way)).count();
            assert_eq!(judged, 10, "{way:?}");
        }
        assert!(!record.goes(Way::Checked));
    }

    proptest! {
        #[test]
        fn asking_pays_or_is_rare(cheap in 1..1_000_000_i32, dear in 1..1_000_000_i32, good in 0..400_u32) {
            let mut record = Record::default();
            for step in 0..400_u32 {
                let is_good = step.wrapping_mul(7_919) % 400 < good;
                record.came(if is_good { Fared::Accepted } else { Fared::Rejected }, None);
            }
            let both = f64::from(cheap) + (1.0 - record.accepts()) * f64::from(dear);
            let amounts = (PicoUsd(cheap.into()), PicoUsd(dear.into()));
            let asked = (0..400).filter(|_| record.asks(amounts.0, amounts.1) != Asks::Never);
            let asked = asked.count();
            // Amounts are whole pico-dollars, so that the last one decides nothing.
            if both < f64::from(dear) - 1.0 {
                prop_assert_eq!(asked, 400);
            }
            if both > f64::from(dear) + 1.0 {
                prop_assert_eq!(asked, 20);
            }
        }
    }
}
