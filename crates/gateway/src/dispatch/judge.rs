//! Judge: a model that is asked whether the cheap answer meets a rubric.
//!
//! **Invariant**: a judge that is not asked, fails, takes too long or replies with anything but a score
//! has not said that the answer is good (test `a_judge_that_fails_convinces_nobody`).

use policy::cascade::rubric::score;
use policy::cascade::signals::{AnswerSeen, Outcome};

use crate::dispatch::aside::{self, Question};
use crate::life::Service;
use crate::route::Plan;
use crate::settle::receipt::Receipt;
use crate::setup::cascade::Judge;

/// What the judge's leg is called in notes.
pub(super) const JUDGE: &str = "judge";

/// Asks the judge.
pub(super) async fn judge(
    service: &Service<'_>,
    judge: &Judge,
    (question, answer): (&str, &AnswerSeen),
    receipt: &mut Receipt,
) -> Outcome {
    let Some(plan) = Plan::of(service.setup, &judge.target) else {
        return Outcome::Unknown;
    };
    let to = &plan.upstream;
    let at = (to.dialect, to.prices.as_str(), plan.model.as_str());
    let Some(body) = judge.rubric.request(at, question, &answer.text) else {
        receipt.not_turned_aside((JUDGE, &plan), "too_long");
        return Outcome::Unknown;
    };
    let asked = Question {
        role: JUDGE,
        plan: &plan,
        body: body.into(),
        time_max: judge.time_max,
    };
    let said = |reply: &AnswerSeen| {
        let score = score(reply);
        score.map_or_else(|| "no_score".to_owned(), |it| it.to_string())
    };
    let reply = aside::ask(service, asked, receipt, said).await;
    reply.map_or(Outcome::Unknown, |reply| judge.rubric.read(&reply))
}
