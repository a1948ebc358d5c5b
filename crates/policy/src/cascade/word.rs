//! Word: what a verdict on a cheap answer says of its target, and how far it is to be trusted.
//!
//! A verdict is weaker than a client's word: whoever judged has not used the answer. What was checked
//! says how much weaker.
//!
//! **Invariant**: where nothing of an answer was checked, nothing is said of its target, neither good
//! nor bad (test `a_word_weighs_as_much_as_its_check`).

use super::contract::Contract;
use super::verdict::{Doubt, Ground, Rules};

/// What an outcome would say, and how much of one it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Word {
    /// 0 or 1.
    pub score: f64,
    /// Shares of a client's word.
    pub weight: f64,
}

/// One quarter: four verdicts of the operator's own checks weigh as much as one client's word. A guess
/// on the cautious side.
pub const TRUST: f64 = 0.25;

/// One half: more would make a check the equal of whoever has used the answer.
pub const TRUST_MAX: f64 = 0.5;

/// Half of what a check weighs that looks at the content: a form that is kept may be filled wrongly.
const OF_FORM: f64 = 0.5;

/// A quarter of it: how sure a model was of its tokens is its own word, and not calibrated.
const OF_SURENESS: f64 = 0.25;

/// Half of it: a target may be wrong in the same way more than once.
const OF_AGREEMENT: f64 = 0.5;

/// What a verdict says, where checks are trusted as much as `trust`; nothing if nothing was checked.
pub fn word(
    verdict: Result<&Ground, &Doubt>,
    contract: &Contract,
    rules: &Rules,
    trust: f64,
) -> Option<Word> {
    let of_form = if contract.needs_whole() { OF_FORM } else { 0.0 };
    let of_sureness = if rules.sureness.is_some() {
        OF_SURENESS
    } else {
        0.0
    };
    let of_agreement = if rules.agreement.is_some() {
        OF_AGREEMENT
    } else {
        0.0
    };
    let told = of_sureness.max(of_agreement);
    let (score, share) = match verdict {
        Ok(Ground::Verified) => (1.0, 1.0),
        // It has passed all that was looked at.
        Ok(Ground::Likely(_)) => (1.0, told.max(of_form)),
        Err(Doubt::Verifier(_)) => (0.0, 1.0),
        Err(Doubt::Unsure(_)) => (0.0, told),
        Err(
            Doubt::Truncated
            | Doubt::Filtered
            | Doubt::Refused(_)
            | Doubt::Empty
            | Doubt::ToolMissing
            | Doubt::ToolUnknown(_)
            | Doubt::Arguments { .. }
            | Doubt::Form(_),
        ) => (0.0, of_form),
        // None of them is about the answer.
        Err(Doubt::Broken | Doubt::HeldTooLong | Doubt::Unjudged(_)) => (0.0, 0.0),
    };
    let weight = share * trust.clamp(0.0, TRUST_MAX);
    (weight > 0.0).then_some(Word { score, weight })
}

#[cfg(test)]
mod tests {
    use wire::dialect::Dialect;

    use super::*;
    use crate::cascade::verdict::Curve;

    #[test]
    fn a_word_weighs_as_much_as_its_check() {
        let free = Contract::default();
        let body = br#"{"response_format":{"type":"json_object"}}"#;
        let formed = Contract::read(Dialect::OpenAiChat, body);
        let plain = Rules::default();
        let sure = Rules {
            sureness: Curve::new(vec![(-1.0, 0.5)]),
            ..Rules::default()
        };
        let check =
            |verdict: Result<Ground, Doubt>, contract: &Contract, rules: &Rules, expect: f64| {
                let found = word(verdict.as_ref(), contract, rules, TRUST);
                let score = f64::from(u8::from(verdict.is_ok()));
                let expect = (expect > 0.0).then_some(Word {
                    score,
                    weight: expect,
                });
                assert_eq!(found, expect, "{verdict:?}");
            };
        let (good, named) = (Ground::Likely(1.0), || Doubt::Verifier("v".into()));
        check(Ok(Ground::Verified), &free, &plain, 0.25);
        check(Err(named()), &free, &plain, 0.25);
        check(Ok(good), &formed, &plain, 0.125);
        check(Err(Doubt::Form("x".into())), &formed, &plain, 0.125);
        check(Err(Doubt::Truncated), &formed, &plain, 0.125);
        check(Ok(good), &free, &sure, 0.0625);
        let agreeing = Rules {
            agreement: Curve::new(vec![(1.0, 1.0)]),
            ..Rules::default()
        };
        check(Ok(good), &free, &agreeing, 0.125);
        check(Err(Doubt::Unsure(0.1)), &free, &agreeing, 0.125);
        check(Err(Doubt::Unsure(0.1)), &free, &sure, 0.0625);
        check(Ok(good), &free, &plain, 0.0);
        check(Err(Doubt::Refused("no".into())), &free, &plain, 0.0);
        check(Err(Doubt::HeldTooLong), &formed, &sure, 0.0);
        check(Err(Doubt::Broken), &formed, &sure, 0.0);
        check(Err(Doubt::Unjudged("v".into())), &formed, &sure, 0.0);
        let ground = Ground::Verified;
        assert_eq!(word(Ok(&ground), &free, &plain, 0.0), None, "not trusted");
        let most = word(Ok(&ground), &free, &plain, 9.0);
        assert_eq!(most.map(|it| it.weight), Some(TRUST_MAX));
    }
}
