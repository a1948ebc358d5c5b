//! Agree: asks the cheap target again, and counts how many of its answers say the same.
//!
//! **Invariant**: every sample is a leg with its own cost, none is asked for once the count is decided,
//! and none of them reaches the client (tests `samples_decide_and_are_booked` and
//! `a_sample_that_fails_agrees_with_nobody`).

use policy::cascade::closed::{Count, Says};
use policy::cascade::signals::{Agreement, AnswerSeen};

use crate::dispatch::aside::{self, Question};
use crate::life::Service;
use crate::route::cascade::First;
use crate::settle::receipt::Receipt;

/// What a sample's leg is called in notes.
const SAMPLE: &str = "sample";

/// Whether samples of the cheap target agree with its answer; without a closed answer in it, nobody is
/// asked.
pub(super) async fn agree(
    service: &Service<'_>,
    first: &First,
    answer: &AnswerSeen,
    receipt: &mut Receipt,
) -> Agreement {
    let nobody = Agreement { same: 0, asked: 1 };
    let Some((rule, body)) = first.cascade.agree.as_ref().zip(first.sample.as_ref()) else {
        return nobody;
    };
    let Some(closed) = rule.pattern.closed(&answer.text) else {
        return nobody;
    };
    let mut count = Count::of(rule.samples, rule.from);
    while count.is_open() {
        let question = Question {
            role: SAMPLE,
            plan: &first.plan,
            body: body.clone(),
            time_max: rule.time_max,
        };
        let compared = |seen: &AnswerSeen| Says::of(closed, rule.pattern.closed(&seen.text));
        let said = |seen: &AnswerSeen| compared(seen).name().to_owned();
        let sample = aside::ask(service, question, receipt, said).await;
        count.came(sample.as_ref().map_or(Says::Else, compared));
    }
    count.agreement()
}
