//! Cascades whose closed answers are asked for more than once.
//!
//! **Invariant**: every sample is paid for and booked, samples that differ or fail convince nobody, and
//! calls of which samples would say nothing go straight to their own target.

use std::sync::Mutex;
use std::time::Duration;

use gateway::setup::cascade::{Agree, Cascade, Pattern};
use gateway::setup::{Budgets, Setup};
use policy::admit::limit::Mode;
use policy::admit::scope::Kind;
use policy::ports::Lever;
use serde_json::{Value, json};
use testkit::upstream::{Step, Upstream};

use crate::budgets::{check_rest, rest, usd};
use crate::cascades_world::{
    ROWS, Says, answer, cascade, cheap, cost, dear, events, last, models, request, setup,
    stream_of, streamed, tools,
};
use crate::stage::{SPOKEN, Stage};

/// One sample, which must say the same letter. At a third of the price, two would not pay.
fn agreeing(row: usize) -> Cascade {
    Cascade {
        agree: Some(Agree {
            pattern: Pattern::new(r"(?i)answer:\s*([a-d])").unwrap(),
            samples: 1,
            from: 1.0,
            time_max: Duration::from_secs(600),
        }),
        ..cascade(row)
    }
}

/// An upstream whose cheap target says these in turn; the first as a stream, if that is asked for.
async fn upstream(row: usize, says: &[&'static str]) -> Upstream {
    let left = Mutex::new(says.to_vec());
    Upstream::playing(move |asked| {
        let body: Value = serde_json::from_slice(&asked.body).unwrap_or_default();
        let is_cheap = body["model"] == cheap(row);
        let (model, text) = if is_cheap {
            let mut left = left.lock().unwrap();
            (cheap(row), left.remove(0))
        } else {
            (dear(row), OWN)
        };
        if text == BROKEN {
            Step::json(
                500,
                r#"{"type":"error","error":{"type":"api_error","message":"x"}}"#,
            )
        } else if body["stream"] == true {
            stream_of(&events(row, model, &Says::text(text)))
        } else {
            Step::json(200, &answer(row, model, &Says::text(text)))
        }
    })
    .await
}

const OWN: &str = "Answer: D";
const BROKEN: &str = "broken";

#[tokio::test]
async fn samples_decide_and_are_booked() {
    for row in ROWS {
        for (says, samples, why) in [
            (&["Answer: B", "So, ANSWER: b."][..], 1, "likely"),
            (&["Answer: B", "Answer: C"], 1, "unsure"),
            (&["Answer: B", "I do not know."], 1, "unsure"),
            // No closed answer, nothing to compare.
            (&["I do not know."], 0, "unsure"),
        ] {
            for is_stream in [false, true] {
                let upstream = upstream(row, says).await;
                let budgeted = Setup {
                    budgets: Budgets {
                        limits: vec![usd(Kind::Key, "9", Mode::Hard)],
                        ..Budgets::default()
                    },
                    ..setup(upstream.url(), agreeing(row))
                };
                let mut stage = Stage::with(budgeted).await;
                let body = if is_stream {
                    streamed(row, &json!({}))
                } else {
                    request(row, &json!({}))
                };
                let response = stage.ask(&SPOKEN[row], body).await;
                let is_accepted = why == "likely";
                let (text, model) = if is_accepted {
                    (says[0], cheap(row))
                } else {
                    (OWN, dear(row))
                };
                let expect = if is_stream {
                    events(row, model, &Says::text(text)).concat()
                } else {
                    answer(row, model, &Says::text(text))
                };
                assert_eq!((response.status, response.text()), (200, expect));
                let (settled, notes) = last(&stage, 1).await;
                assert_eq!(notes["why"], why, "{notes}");
                let mut legs = vec![cheap(row); samples + 1];
                legs.extend((!is_accepted).then_some(dear(row)));
                assert_eq!(models(&settled.legs), legs);
                let (one, own) = (cost(row, cheap(row)), cost(row, dear(row)));
                let paid = legs.iter().map(|leg| cost(row, leg)).sum();
                assert_eq!(settled.cost, Some(paid));
                assert_eq!(settled.untouched, Some(own));
                assert_eq!(settled.savings.get(&Lever::Cascade), Some(&(own - paid)));
                let beside = notes["beside"].as_array().map_or(0, Vec::len);
                assert_eq!(beside, samples, "{notes}");
                if samples > 0 {
                    assert_eq!(notes["beside"][0]["role"], "sample");
                    assert_eq!(notes["beside"][0]["usd"], one.exact());
                    let sample: Value =
                        serde_json::from_slice(&upstream.requests()[1].body).unwrap();
                    assert_ne!(sample["stream"], true);
                }
                rest(&mut stage).await;
                check_rest(&stage, paid);
            }
        }
    }
}

#[tokio::test]
async fn a_sample_that_fails_agrees_with_nobody() {
    for row in ROWS {
        let upstream = upstream(row, &["Answer: B", BROKEN]).await;
        let stage = Stage::with(setup(upstream.url(), agreeing(row))).await;
        let response = stage.ask(&SPOKEN[row], request(row, &json!({}))).await;
        assert_eq!(response.status, 200);
        let (settled, notes) = last(&stage, 1).await;
        assert_eq!(models(&settled.legs), [cheap(row), cheap(row), dear(row)]);
        assert_eq!(
            (&notes["why"], &notes["beside"][0]["said"]),
            (&json!("unsure"), &json!("failed"))
        );
    }
}

#[tokio::test]
async fn calls_that_cannot_be_sampled_go_straight() {
    for row in ROWS {
        for (extras, unfit) in [
            (json!({"temperature": 0}), "no_samples_without_chance"),
            (json!({"tools": tools(row)}), "no_samples_with_tools"),
        ] {
            let upstream = upstream(row, &[]).await;
            let stage = Stage::with(setup(upstream.url(), agreeing(row))).await;
            let response = stage.ask(&SPOKEN[row], request(row, &extras)).await;
            assert_eq!(response.status, 200);
            let (settled, notes) = last(&stage, 1).await;
            assert_eq!(models(&settled.legs), [dear(row)]);
            assert_eq!(notes["unfit"], unfit);
        }
    }
}

#[tokio::test]
async fn samples_that_would_cost_more_than_they_save_are_not_asked() {
    for row in ROWS {
        let mut cascade = agreeing(row);
        cascade.agree.as_mut().unwrap().samples = 2;
        let upstream = upstream(row, &[]).await;
        let stage = Stage::with(setup(upstream.url(), cascade)).await;
        let response = stage.ask(&SPOKEN[row], request(row, &json!({}))).await;
        assert_eq!(response.status, 200);
        let (settled, notes) = last(&stage, 1).await;
        assert_eq!(models(&settled.legs), [dear(row)]);
        // At 30 % of the own target's price the three are cheaper, and not by enough; at a third of it
        // they are as dear.
        assert_eq!(notes["unfit"], ["does_not_pay", "dearer"][row]);
    }
}
