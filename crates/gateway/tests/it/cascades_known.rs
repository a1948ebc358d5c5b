//! Cascades of which something is known: calls that pass the cheap target by, and answers that need
//! no judge.
//!
//! **Invariant**: a check is left out only where outcomes, a router or many verdicts vouch for the
//! answer, and even there not always; verdicts are learned from, and outlive a restart.

use std::sync::{Arc, Mutex};

use gateway::setup::cascade::{Cascade, How, Pattern, Verifier};
use gateway::setup::{LeverMode, Setup};
use policy::cascade::word::TRUST_MAX;
use policy::ports::Lever;
use policy::route::predictor::Predictor;
use serde_json::{Value, json};
use testkit::upstream::{Step, Upstream};

use crate::cascades_world::{
    ANTHROPIC, PROSE, Says, answer, cheap, cost, dear, events, last, models, request, setup,
    stream_of, streamed, upstream, verified,
};
use crate::cheaper::{Shelf, expecting, teach};
use crate::stage::{SPOKEN, Stage};

const ROW: usize = ANTHROPIC;

/// A cascade whose verifier fails whatever the cheap target says.
fn strict() -> Cascade {
    verifying("^Because$")
}

/// A cascade whose answers must match this.
fn verifying(pattern: &str) -> Cascade {
    let verifier = Verifier {
        name: "regex 1".into(),
        how: How::Pattern(Pattern::new(pattern).unwrap()),
    };
    Cascade {
        quality: Some(0.95),
        ..verified(ROW, vec![verifier])
    }
}

async fn staged(cascade: Cascade, router: Option<Predictor>) -> (Stage, Upstream) {
    let whole = |model| Step::json(200, &answer(ROW, model, &Says::text(PROSE)));
    let upstream = upstream(ROW, whole(cheap(ROW)), whole(dear(ROW))).await;
    let setup = Setup {
        router: router.map(Arc::new),
        ..setup(upstream.url(), cascade)
    };
    (Stage::with(setup).await, upstream)
}

/// Asks as the so-manieth call, and gives who was asked and what was noted.
async fn ask(stage: &Stage, calls: usize) -> (Vec<String>, Value, Value) {
    let response = stage.ask(&SPOKEN[ROW], request(ROW, &json!({}))).await;
    assert_eq!(response.status, 200, "{}", response.text());
    let (settled, notes) = last(stage, calls).await;
    let all: Value = serde_json::from_str(&settled.notes).unwrap();
    let asked = models(&settled.legs).into_iter().map(str::to_owned);
    (asked.collect(), notes, all["route"]["kinds"].clone())
}

#[tokio::test]
async fn what_is_known_chooses_the_way() {
    let (both, own, first) = ([cheap(ROW), dear(ROW)], [dear(ROW)], [cheap(ROW)]);
    let (both, own, first) = (&both[..], &own[..], &first[..]);
    let promised = |cheaper: f32| Some(expecting(cheaper, f64::INFINITY));
    let not = |cheaper: f32| Some(expecting(cheaper, f64::NEG_INFINITY));
    for (router, outcomes, way, asked, ground) in [
        (None, &[][..], "checked", both, json!(null)),
        (not(0.9), &[], "checked", both, json!(null)),
        (not(0.05), &[], "straight", own, json!(null)),
        (promised(0.9), &[], "unchecked", first, json!("model")),
        // Outcomes outrank the router.
        (
            promised(0.9),
            &[(cheap(ROW), 200, 0.1)],
            "straight",
            own,
            json!(null),
        ),
        (
            not(0.05),
            &[(cheap(ROW), 400, 1.0)],
            "unchecked",
            first,
            json!("outcomes"),
        ),
        // What was good has become bad: nobody vouches for it any more, nor asks.
        (
            promised(0.9),
            &[(cheap(ROW), 200, 1.0), (cheap(ROW), 80, 0.0)],
            "straight",
            own,
            json!(null),
        ),
    ] {
        let (stage, _upstream) = staged(strict(), router).await;
        let (_, _, kinds) = ask(&stage, 1).await;
        teach(&stage, &kinds, outcomes);
        let (found, notes, _) = ask(&stage, 2).await;
        assert_eq!(notes["foreseen"]["way"], way, "{notes}");
        assert_eq!(notes["foreseen"]["ground"], ground, "{notes}");
        assert_eq!(found, asked, "{notes}");
        let outcome = match way {
            "checked" => json!("escalated"),
            "unchecked" => json!("unchecked"),
            _ => json!(null),
        };
        assert_eq!(notes["outcome"], outcome, "{notes}");
    }
}

#[tokio::test]
async fn what_is_vouched_for_is_judged_now_and_then() {
    let (stage, _upstream) = staged(strict(), Some(expecting(0.9, f64::INFINITY))).await;
    let mut judged = 0;
    for call in 1..=40 {
        let (asked, notes, _) = ask(&stage, call).await;
        let is_judged = notes["foreseen"]["looks_again"] == true;
        assert_eq!(asked.len() == 2, is_judged, "{notes}");
        judged += u32::from(is_judged);
    }
    assert_eq!(judged, 2);
}

#[tokio::test]
async fn an_unjudged_stream_is_passed_on_and_booked() {
    let says = events(ROW, cheap(ROW), &Says::text("Short."));
    let upstream = upstream(ROW, stream_of(&says), Step::json(500, "{}")).await;
    let setup = Setup {
        router: Some(Arc::new(expecting(0.9, f64::INFINITY))),
        ..setup(upstream.url(), strict())
    };
    let stage = Stage::with(setup).await;
    let response = stage.ask(&SPOKEN[ROW], streamed(ROW, &json!({}))).await;
    assert_eq!((response.status, response.text()), (200, says.concat()));
    let (settled, _) = last(&stage, 1).await;
    let (paid, untouched) = (cost(ROW, cheap(ROW)), cost(ROW, dear(ROW)));
    assert_eq!(
        settled.savings.get(&Lever::Cascade),
        Some(&(untouched - paid))
    );
}

#[tokio::test]
async fn an_observed_cascade_only_says_which_way() {
    let observed = Cascade {
        mode: LeverMode::Observe,
        ..strict()
    };
    let (stage, _upstream) = staged(observed, Some(expecting(0.9, f64::INFINITY))).await;
    for call in 1..=40 {
        let (asked, notes, _) = ask(&stage, call).await;
        assert_eq!(notes["foreseen"]["way"], "unchecked");
        assert_eq!(notes["foreseen"]["looks_again"], json!(null));
        assert_eq!(asked, [dear(ROW)]);
    }
}

/// As many verdicts as it takes until nobody is asked to judge any more, or until nobody asks.
#[tokio::test]
async fn verdicts_are_learned_from() {
    for (pattern, score, way, calls) in [
        ("tide", 1.0, "unchecked", 180..260),
        ("^Because$", 0.0, "straight", 2..20),
    ] {
        let cascade = Cascade {
            trust: TRUST_MAX,
            ..verifying(pattern)
        };
        let (stage, _upstream) = staged(cascade, None).await;
        let mut call = 0;
        loop {
            call += 1;
            let (_, notes, _) = ask(&stage, call).await;
            if notes["foreseen"]["way"] == way {
                break;
            }
            assert_eq!(notes["verdict"], json!({"score": score, "weight": 0.5}));
            assert!(call < calls.end, "{notes}");
        }
        assert!(calls.contains(&call), "{pattern}: {call}");
    }
}

#[tokio::test]
async fn verdicts_that_are_not_trusted_say_nothing() {
    let untrusted = Cascade {
        trust: 0.0,
        ..strict()
    };
    let unlearned = Cascade {
        quality: None,
        ..strict()
    };
    for cascade in [untrusted, unlearned] {
        let (stage, _upstream) = staged(cascade, None).await;
        let (_, notes, _) = ask(&stage, 1).await;
        assert_eq!(
            (&notes["why"], &notes["verdict"]),
            (&json!("verifier"), &json!(null))
        );
    }
}

#[tokio::test]
async fn verdicts_outlive_a_restart() {
    let (first, _upstream) = staged(strict(), None).await;
    let mut believed = String::new();
    for call in 1..=4 {
        let (_, notes, _) = ask(&first, call).await;
        believed = notes["foreseen"]["adequate"].as_str().unwrap().to_owned();
    }
    let (second, _upstream) = staged(strict(), None).await;
    let shelf = Shelf {
        books: Arc::clone(&first.books),
        outcomes: Mutex::default(),
    };
    assert_eq!(second.gateway.learned.open(Arc::new(shelf)).unwrap(), 4);
    let (_, notes, _) = ask(&second, 1).await;
    let adequate = notes["foreseen"]["adequate"].as_str().unwrap();
    // From three of four, as long as nobody knows, towards none; what convinced lately starts anew.
    assert!(adequate < "0.7", "{adequate}");
    assert!(believed.as_str() < "0.7", "{believed}");
}
