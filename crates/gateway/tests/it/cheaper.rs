//! Cheaper targets before a simulated provider: who is asked on what grounds, and what clients say
//! of the answers.
//!
//! **Invariant**: a call leaves its own target for a cheaper one only where a router, outcomes or a
//! draw that the route allows speak for it.

use std::sync::{Arc, Mutex};

use gateway::setup::{LeverMode, Rule, Setup, Target};
use policy::ports::outcomes::{Judged, Noted, Outcome, Outcomes};
use policy::ports::{CallId, Fault};
use policy::route::predictor::{self, Floor, Head, Line, OUTPUTS, Predictor};
use serde_json::{Value, json};
use testkit::client::{Response, exchange};

use crate::cache::{conversation, simulated};
use crate::stage::{self, Books, Hands, SPOKEN, Stage, full};

const OWN: &str = "claude-sonnet-4-6";
const CHEAPER: &str = "claude-haiku-4-5";

/// Outcomes in memory, of the calls in these books.
pub(crate) struct Shelf {
    pub(crate) books: Arc<Books>,
    pub(crate) outcomes: Mutex<Vec<Outcome>>,
}

impl Outcomes for Shelf {
    fn settled(&self, call: &CallId) -> Result<Option<Judged>, Fault> {
        let calls = self.books.calls();
        let stored = calls.into_iter().find(|it| it.opened.call == *call);
        Ok(stored.and_then(|stored| {
            let settled = stored.settled?;
            let leg = settled.legs.last()?;
            Some(Judged {
                key: stored.opened.key,
                provider: leg.provider.clone(),
                model: leg.model.clone(),
                notes: settled.notes,
            })
        }))
    }

    fn judge(&self, outcome: &Outcome) -> Result<bool, Fault> {
        let mut outcomes = self.outcomes.lock().unwrap();
        let is_new = outcomes.iter().all(|known| known.call != outcome.call);
        if is_new {
            outcomes.push(outcome.clone());
        }
        Ok(is_new)
    }

    fn latest(&self, _: u32) -> Result<Vec<Outcome>, Fault> {
        Ok(self.outcomes.lock().unwrap().clone())
    }

    fn noted(&self, text: &str, _: u32) -> Result<Vec<Noted>, Fault> {
        let settled = self.books.calls().into_iter();
        let settled = settled.filter_map(|stored| stored.settled);
        let noted = settled.map(|settled| Noted {
            call: settled.call,
            at: settled.at,
            notes: settled.notes,
        });
        Ok(noted.filter(|it| it.notes.contains(text)).collect())
    }
}

fn rule() -> Rule {
    Rule {
        cheaper: vec![Target {
            provider: "anthropic".into(),
            model: CHEAPER.into(),
        }],
        quality: 0.95,
        ..stage::rule(LeverMode::On)
    }
}

/// A router that expects the same of every call, and promises this.
fn router(threshold: f64) -> Predictor {
    expecting(0.88, threshold)
}

/// One that expects this of the cheaper target.
pub(crate) fn expecting(cheaper: f32, threshold: f64) -> Predictor {
    let target = |name: &str, quality: f32, cost_usd: f64| predictor::Target {
        name: name.to_owned(),
        cost_usd,
        heads: [quality, quality, 1.0]
            .map(|base| Head {
                base,
                trees: Vec::new(),
            })
            .to_vec(),
        lines: vec![
            Line {
                slope: 1.0,
                shared: 0.0,
                offset: 0.0
            };
            OUTPUTS.len()
        ],
    };
    Predictor {
        targets: vec![target(OWN, 0.9, 0.01), target(CHEAPER, cheaper, 0.002)],
        novelty_max: 1.0,
        floors: vec![Floor {
            segment: String::new(),
            strong: 0,
            weak: 1,
            quality: 0.95,
            threshold,
            lowered: 0.5,
        }],
        ..Predictor::default()
    }
}

/// One that promises everything, and thinks that every call is new.
fn unlike() -> Predictor {
    Predictor {
        novelty_max: -1.0,
        ..router(f64::INFINITY)
    }
}

async fn staged(rule: Rule, router: Option<Predictor>) -> (Stage, testkit::upstream::Upstream) {
    let clock = Hands::default();
    let upstream = simulated(clock.clone(), Vec::new()).await;
    let setup = Setup {
        rules: vec![rule],
        router: router.map(Arc::new),
        ..full(upstream.url())
    };
    let stage = Stage::at(clock, setup).await;
    let shelf = Shelf {
        books: Arc::clone(&stage.books),
        outcomes: Mutex::default(),
    };
    stage.gateway.learned.open(Arc::new(shelf)).unwrap();
    (stage, upstream)
}

/// Asks, and gives who answered and what was noted of the cheaper target.
async fn ask(stage: &Stage, calls: usize) -> (Response, Value) {
    let response = stage.ask(&SPOKEN[1], conversation(1)).await;
    assert_eq!(response.status, 200, "{}", response.text());
    let rows = stage.books.settled(calls).await;
    let settled = rows.last().and_then(|row| row.settled.clone()).unwrap();
    let notes: Value = serde_json::from_str(&settled.notes).unwrap();
    (response, notes["route"].clone())
}

async fn judge(stage: &Stage, word: &Value) -> (u16, Value) {
    let body = word.to_string();
    let headers = SPOKEN[1].headers;
    let response = exchange(&stage.url, "POST", "/v1/feedback", headers, body.as_bytes()).await;
    (
        response.status,
        serde_json::from_slice(&response.body).unwrap(),
    )
}

/// As many outcomes of each target as are given.
pub(crate) fn teach(stage: &Stage, kinds: &Value, outcomes: &[(&str, usize, f64)]) {
    let kinds = kinds.as_array().unwrap().iter();
    let kinds = kinds.map(|kind| u64::from_str_radix(kind.as_str().unwrap(), 16).unwrap());
    let kinds: Vec<u64> = kinds.collect();
    for (target, count, score) in outcomes {
        for number in 0..*count {
            stage.gateway.learned.learn(&Outcome {
                call: CallId(format!("call_{number}")),
                at: stage.clock.reading(),
                score: *score,
                target: format!("anthropic/{target}"),
                kinds: kinds.clone(),
            });
        }
    }
}

#[tokio::test]
async fn a_call_leaves_only_for_a_reason() {
    let always = Rule {
        explore: 1.0,
        ..rule()
    };
    let promised = || Some(router(f64::INFINITY));
    let none = || Some(router(f64::NEG_INFINITY));
    let unlike = || Some(unlike());
    for (rule, router, outcomes, served, ground, unfit) in [
        (rule(), None, &[][..], OWN, json!(null), json!("unproven")),
        (
            rule(),
            promised(),
            &[],
            CHEAPER,
            json!("model"),
            json!(null),
        ),
        (rule(), none(), &[], OWN, json!(null), json!("below")),
        (rule(), unlike(), &[], OWN, json!(null), json!("unlike")),
        (
            rule(),
            None,
            &[(CHEAPER, 200, 1.0)],
            CHEAPER,
            json!("outcomes"),
            json!(null),
        ),
        // Outcomes outrank the router.
        (
            rule(),
            promised(),
            &[(CHEAPER, 200, 0.5)],
            OWN,
            json!(null),
            json!("below"),
        ),
        // Nine in ten is enough beside nine in ten.
        (
            rule(),
            None,
            &[(CHEAPER, 1_000, 0.9), (OWN, 1_000, 0.9)],
            CHEAPER,
            json!("outcomes"),
            json!(null),
        ),
        // What was good has become bad: neither old outcomes nor the router count then.
        (
            rule(),
            promised(),
            &[(CHEAPER, 200, 1.0), (CHEAPER, 15, 0.0)],
            OWN,
            json!(null),
            json!("drifted"),
        ),
        // A bad one is not tried, however willing the route.
        (
            always.clone(),
            None,
            &[(CHEAPER, 200, 0.2)],
            OWN,
            json!(null),
            json!("below"),
        ),
    ] {
        let (stage, _upstream) = staged(rule, router).await;
        let (_, notes) = ask(&stage, 1).await;
        teach(&stage, &notes["kinds"], outcomes);
        let (response, notes) = ask(&stage, 2).await;
        let option = &notes["options"][1];
        let expect = format!("anthropic/{served}");
        assert_eq!(
            response.header("x-tokenwise-target"),
            Some(expect.as_str()),
            "{notes}"
        );
        assert_eq!(
            (&option["ground"], &option["unfit"]),
            (&ground, &unfit),
            "{notes}"
        );
    }
}

#[tokio::test]
async fn an_observed_route_only_says_where_a_call_would_go() {
    let observed = Rule {
        mode: LeverMode::Observe,
        ..rule()
    };
    let (stage, _upstream) = staged(observed, Some(router(f64::INFINITY))).await;
    let (response, notes) = ask(&stage, 1).await;
    let expect = format!("anthropic/{OWN}");
    assert_eq!(response.header("x-tokenwise-target"), Some(expect.as_str()));
    assert_eq!(notes["choice"]["target"], format!("anthropic/{CHEAPER}"));
}

#[tokio::test]
async fn a_call_is_judged_by_its_own_key() {
    let (stage, _upstream) = staged(rule(), None).await;
    let (response, _) = ask(&stage, 1).await;
    let call = response.header("x-tokenwise-call").unwrap().to_owned();
    let (status, answer) = judge(&stage, &json!({"call": call, "score": 1})).await;
    assert_eq!(status, 200);
    assert_eq!(
        answer,
        json!({"call": call, "target": format!("anthropic/{OWN}"), "kept": true, "learned": true})
    );
    let (_, answer) = judge(&stage, &json!({"call": call, "score": 0})).await;
    assert_eq!(answer["kept"], false, "the first word stands");
    for (word, status, expect) in [
        (
            json!({"call": "call_x", "score": 1}),
            404,
            "no settled call `call_x` of this key",
        ),
        (
            json!({"call": call, "score": 2}),
            400,
            "`score` is 2; give `call`",
        ),
        (json!({"call": call}), 400, "missing field `score`"),
        (json!([]), 400, "the body is not feedback"),
    ] {
        let (found, answer) = judge(&stage, &word).await;
        assert_eq!(found, status, "{word}");
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains(expect), "{word}: {message}");
    }
    let calls = stage.books.calls().len();
    assert_eq!(calls, 1, "feedback is no call");
}

#[tokio::test]
async fn outcomes_outlive_a_restart() {
    let (first, _upstream) = staged(rule(), None).await;
    let (_, notes) = ask(&first, 1).await;
    let kinds = gateway::route::notes::kinds_of(&json!({"route": notes}).to_string());
    assert_eq!(kinds.len(), 3);
    let outcome = |number: usize| Outcome {
        call: CallId(format!("call_{number}")),
        at: first.clock.reading(),
        score: 1.0,
        target: format!("anthropic/{CHEAPER}"),
        kinds: kinds.clone(),
    };
    let shelf = Shelf {
        books: Arc::default(),
        outcomes: Mutex::new((0..200).map(outcome).collect()),
    };
    let clock = Hands::default();
    let upstream = simulated(clock.clone(), Vec::new()).await;
    let setup = Setup {
        rules: vec![rule()],
        ..full(upstream.url())
    };
    let second = Stage::at(clock, setup).await;
    let read = second.gateway.learned.open(Arc::new(shelf)).unwrap();
    assert_eq!(read, 200);
    let (response, _) = ask(&second, 1).await;
    let expect = format!("anthropic/{CHEAPER}");
    assert_eq!(response.header("x-tokenwise-target"), Some(expect.as_str()));
}
