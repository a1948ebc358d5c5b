//! Cascades over real TCP: which answers of the cheap target reach the client, and what the books
//! say of them.
//!
//! **Invariant**: the client gets one answer, byte for byte as a target sent it; both legs are in the
//! ledger, and what was saved is the difference to the client's own target, exactly.

use std::time::Duration;

use gateway::setup::cascade::{Cascade, How, Pattern, Verifier};
use gateway::setup::{AskUsage, LeverMode, Setup, Target};
use policy::cascade::verdict::HoldBack;
use policy::money::PicoUsd;
use policy::ports::{End, Lever};
use serde_json::{Value, json};
use testkit::upstream::Step;

use crate::cascades_world::{
    ANTHROPIC, OPENAI, PROSE, ROWS, Says, answer, cascade, cheap, cost, dear, events, last, models,
    request, setup, stream_of, streamed, tools, upstream, verified,
};
use crate::stage::{SPOKEN, Stage};

/// The same bytes in pieces of so many.
fn cut(events: &[String], bytes: usize) -> Vec<Step> {
    let whole = events.concat();
    let pieces = whole.as_bytes().chunks(bytes);
    let pieces = pieces.map(|piece| Step::Chunk(piece.to_vec()));
    let head = Step::head(200, "text/event-stream");
    std::iter::once(head).chain(pieces).collect()
}

#[tokio::test]
async fn what_convinces_is_passed_on_unchanged() {
    for row in ROWS {
        let says = Says::text(PROSE);
        let events = events(row, cheap(row), &says);
        let whole = answer(row, cheap(row), &says);
        let mut cases = vec![(request(row, &json!({})), Step::json(200, &whole), whole)];
        for bytes in [7, 64, usize::MAX] {
            cases.push((
                streamed(row, &json!({})),
                cut(&events, bytes),
                events.concat(),
            ));
        }
        cases.push((
            streamed(row, &json!({})),
            stream_of(&events),
            events.concat(),
        ));
        for (body, script, expect) in cases {
            let upstream = upstream(row, script, Step::json(500, "{}")).await;
            let stage = Stage::with(setup(upstream.url(), cascade(row))).await;
            let response = stage.ask(&SPOKEN[row], &body).await;
            assert_eq!((response.status, response.text()), (200, expect));
            let (settled, notes) = last(&stage, 1).await;
            assert_eq!(models(&settled.legs), [cheap(row)]);
            assert_eq!(
                (&notes["outcome"], &notes["why"]),
                (&json!("accepted"), &json!("likely"))
            );
            let (paid, untouched) = (cost(row, cheap(row)), cost(row, dear(row)));
            assert_eq!(settled.cost, Some(paid));
            assert_eq!(settled.untouched, Some(untouched));
            assert_eq!(
                settled.savings.get(&Lever::Cascade),
                Some(&(untouched - paid))
            );
            // Nothing but the model's name differs from what the client sent.
            let sent = upstream.requests();
            let expect = body.replace(dear(row), cheap(row));
            assert_eq!((sent.len(), sent[0].text()), (1, expect));
            assert!(!settled.notes.contains("tide"), "{}", settled.notes);
        }
    }
}

/// A call, how its answers are judged, what the cheap target says, and why that does not do.
struct Doubtful {
    extras: Value,
    cascade: Cascade,
    says: Says<'static>,
    why: &'static str,
}

fn doubtful(row: usize) -> Vec<Doubtful> {
    let case = |extras: Value, says: Says<'static>, why: &'static str| Doubtful {
        extras,
        cascade: cascade(row),
        says,
        why,
    };
    let plain = json!({});
    let cut = Says {
        is_cut: true,
        ..Says::text("The tide")
    };
    let with_tools = json!({"tools": tools(row)});
    let form = if row == OPENAI {
        json!({"response_format": {"type": "json_object"}})
    } else {
        json!({"output_config": {"format": {"type": "json_schema",
            "schema": {"type": "object", "required": ["cause"]}}}})
    };
    vec![
        case(plain.clone(), cut, "truncated"),
        case(
            plain.clone(),
            Says::text("I can't help with that."),
            "refused",
        ),
        case(plain.clone(), Says::text(""), "empty"),
        case(form, Says::text("The Moon."), "form"),
        case(
            with_tools.clone(),
            Says::calling("write", r#"{"path":"a"}"#),
            "tool_unknown",
        ),
        case(
            with_tools,
            Says::calling("read", r#"{"file":"a"}"#),
            "arguments",
        ),
        Doubtful {
            cascade: verified(row, vec![pattern("^Because")]),
            ..case(plain, Says::text(PROSE), "verifier")
        },
    ]
}

fn pattern(text: &str) -> Verifier {
    Verifier {
        name: "regex 1".into(),
        how: How::Pattern(Pattern::new(text).unwrap()),
    }
}

fn command(script: &str) -> Verifier {
    Verifier {
        name: "command 1".into(),
        how: How::Command {
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
        },
    }
}

#[tokio::test]
async fn a_verifier_that_fails_itself_convinces_nobody() {
    for row in ROWS {
        for (script, outcome, why) in [
            ("grep -q tide", "accepted", "verified"),
            ("grep -q ebb", "escalated", "verifier"),
            ("exit 3", "escalated", "unjudged"),
            ("kill -9 $$", "escalated", "unjudged"),
        ] {
            let whole = |model| Step::json(200, &answer(row, model, &Says::text(PROSE)));
            let upstream = upstream(row, whole(cheap(row)), whole(dear(row))).await;
            let cascade = verified(row, vec![command(script)]);
            let stage = Stage::with(setup(upstream.url(), cascade)).await;
            let response = stage.ask(&SPOKEN[row], request(row, &json!({}))).await;
            assert_eq!(response.status, 200, "{script}");
            let (_, notes) = last(&stage, 1).await;
            let expect = (&json!(outcome), &json!(why));
            assert_eq!((&notes["outcome"], &notes["why"]), expect, "{script}");
        }
    }
}

#[tokio::test]
async fn an_answer_that_does_not_convince_is_booked_and_replaced() {
    for row in ROWS {
        let own = Says::text("The dear one's own words.");
        for (index, case) in doubtful(row).into_iter().enumerate() {
            for is_stream in [false, true] {
                let (body, cheaply, dearly, expect) = if is_stream {
                    let own = events(row, dear(row), &own);
                    let cheaply = stream_of(&events(row, cheap(row), &case.says));
                    let expect = own.concat();
                    (
                        streamed(row, &case.extras),
                        cheaply,
                        stream_of(&own),
                        expect,
                    )
                } else {
                    let own = answer(row, dear(row), &own);
                    let cheaply = Step::json(200, &answer(row, cheap(row), &case.says));
                    let dearly = Step::json(200, &own);
                    (request(row, &case.extras), cheaply, dearly, own)
                };
                let upstream = upstream(row, cheaply, dearly).await;
                let stage = Stage::with(setup(upstream.url(), case.cascade.clone())).await;
                let response = stage.ask(&SPOKEN[row], &body).await;
                assert_eq!(response.status, 200, "{index}: {}", response.text());
                assert_eq!(response.text(), expect, "{index}");
                let (settled, notes) = last(&stage, 1).await;
                assert_eq!(models(&settled.legs), [cheap(row), dear(row)]);
                assert_eq!(notes["outcome"], "escalated", "{index}: {notes}");
                assert_eq!(notes["why"], case.why, "{index}: {notes}");
                assert_eq!(settled.legs[0].end, End::Answered);
                // A doubt before the end of a stream is booked by what had come.
                let wasted = settled.legs[0].cost.unwrap();
                if !settled.legs[0].estimated {
                    assert_eq!(wasted, cost(row, cheap(row)));
                }
                let untouched = cost(row, dear(row));
                assert!(wasted > PicoUsd::ZERO);
                assert_eq!(settled.cost, Some(wasted + untouched));
                assert_eq!(settled.untouched, Some(untouched));
                assert_eq!(
                    settled.savings.get(&Lever::Cascade),
                    Some(&(PicoUsd::ZERO - wasted))
                );
                assert_eq!(upstream.requests()[1].text(), body, "{index}");
                // Neither target is held to be ill, and nothing is left under way.
                let in_flight = stage.gateway.healths.in_flight();
                assert!(
                    in_flight.iter().all(|(_, calls)| *calls == 0),
                    "{in_flight:?}"
                );
                let metrics = stage.counts();
                assert!(
                    metrics.contains(&format!("why=\"{}\"", case.why)),
                    "{metrics}"
                );
                assert!(!metrics.contains("failed_legs_total{"), "{metrics}");
            }
        }
    }
}

#[tokio::test]
async fn what_verifiers_and_tokens_say_decides() {
    let sure = |logprob: f64| Says {
        logprob: Some(logprob),
        ..Says::text(PROSE)
    };
    let threshold = Cascade {
        accept_from: Some(0.8),
        ..cascade(OPENAI)
    };
    let asks = json!({"logprobs": true});
    let says = Says::text(PROSE);
    let verify = |text: &str| verified(OPENAI, vec![pattern(text)]);
    for (cascade, extras, says, outcome, why) in [
        (verify("Moon"), json!({}), says, "accepted", "verified"),
        (verify("^Moon"), json!({}), says, "escalated", "verifier"),
        // Calls of tools have no text that a verifier could look at.
        (
            verify("^Moon"),
            json!({"tools": tools(OPENAI)}),
            Says::calling("read", r#"{"path":"a"}"#),
            "accepted",
            "likely",
        ),
        (
            threshold.clone(),
            asks.clone(),
            sure(-0.1),
            "accepted",
            "likely",
        ),
        (threshold.clone(), asks, sure(-0.9), "escalated", "unsure"),
        (threshold, json!({}), says, "accepted", "likely"),
    ] {
        let cheaply = Step::json(200, &answer(OPENAI, cheap(OPENAI), &says));
        let dearly = Step::json(200, &answer(OPENAI, dear(OPENAI), &Says::text("x")));
        let upstream = upstream(OPENAI, cheaply, dearly).await;
        let stage = Stage::with(setup(upstream.url(), cascade)).await;
        stage.ask(&SPOKEN[OPENAI], request(OPENAI, &extras)).await;
        let (_, notes) = last(&stage, 1).await;
        assert_eq!(
            (&notes["outcome"], &notes["why"]),
            (&json!(outcome), &json!(why)),
            "{notes}"
        );
    }
}

#[tokio::test]
async fn a_lever_that_observes_changes_nothing() {
    for row in ROWS {
        for mode in [LeverMode::Off, LeverMode::Observe] {
            let own = answer(row, dear(row), &Says::text(PROSE));
            let upstream = upstream(row, Step::json(500, "{}"), Step::json(200, &own)).await;
            let cascade = Cascade {
                mode,
                ..cascade(row)
            };
            let stage = Stage::with(setup(upstream.url(), cascade)).await;
            let body = request(row, &json!({}));
            let response = stage.ask(&SPOKEN[row], &body).await;
            assert_eq!(response.text(), own);
            assert_eq!(upstream.requests()[0].text(), body);
            let (settled, notes) = last(&stage, 1).await;
            assert_eq!(models(&settled.legs), [dear(row)]);
            assert_eq!(settled.savings.get(&Lever::Cascade), None);
            if mode == LeverMode::Off {
                assert_eq!(notes, json!(null));
                continue;
            }
            let usd = |field: &str| notes[field].as_str().unwrap().parse::<PicoUsd>().unwrap();
            assert!(usd("target_usd") < usd("own_usd"), "{notes}");
            assert_eq!(
                (&notes["unfit"], &notes["outcome"]),
                (&json!(null), &json!(null))
            );
        }
    }
}

#[tokio::test]
async fn unfit_calls_go_straight_to_their_own_target() {
    let to = |provider: &str, model: &str| Cascade {
        target: Target {
            provider: provider.into(),
            model: model.into(),
        },
        ..cascade(ANTHROPIC)
    };
    let search = json!([{"type": "web_search_20250305", "name": "web_search"}]);
    let openai_search = json!({"web_search_options": {}});
    for (row, cascade, extras, unfit) in [
        (OPENAI, cascade(OPENAI), json!({"n": 2}), "alternatives"),
        (OPENAI, cascade(OPENAI), openai_search, "provider_tools"),
        (
            ANTHROPIC,
            cascade(ANTHROPIC),
            json!({"tools": search}),
            "provider_tools",
        ),
        (OPENAI, cascade(ANTHROPIC), json!({}), "other_dialect"),
        (
            ANTHROPIC,
            to("anthropic", "claude-opus-4-5"),
            json!({}),
            "dearer",
        ),
        (
            ANTHROPIC,
            to("anthropic", dear(ANTHROPIC)),
            json!({}),
            "dearer",
        ),
        (
            ANTHROPIC,
            to("anthropic", "claude-unheard-of"),
            json!({}),
            "unpriced",
        ),
    ] {
        let own = answer(row, dear(row), &Says::text(PROSE));
        let upstream = upstream(row, Step::json(500, "{}"), Step::json(200, &own)).await;
        let stage = Stage::with(setup(upstream.url(), cascade)).await;
        let body = request(row, &extras);
        let response = stage.ask(&SPOKEN[row], &body).await;
        assert_eq!((response.status, response.text()), (200, own), "{unfit}");
        assert_eq!(upstream.requests()[0].text(), body, "{unfit}");
        let (settled, notes) = last(&stage, 1).await;
        assert_eq!(models(&settled.legs), [dear(row)], "{unfit}");
        assert_eq!(notes["unfit"], unfit, "{notes}");
    }
}

#[tokio::test]
async fn a_stream_beyond_its_bounds_is_given_up() {
    for row in ROWS {
        // Tools may be called until the end, so that nothing convinces before.
        let extras = json!({"tools": tools(row)});
        let all = events(row, cheap(row), &Says::text(PROSE));
        let own = events(row, dear(row), &Says::text("Own."));
        let (bytes_max, time_max) = (HoldBack::default().bytes_max, Duration::from_secs(600));
        for (hold_back, sent) in [
            (
                HoldBack {
                    bytes_max: 1_024,
                    time_max,
                },
                all.len() - 1,
            ),
            (
                HoldBack {
                    bytes_max,
                    time_max: Duration::from_millis(1),
                },
                3,
            ),
        ] {
            let mut cheaply = stream_of(&all[..sent]);
            cheaply.push(Step::Hang);
            let upstream = upstream(row, cheaply, stream_of(&own)).await;
            let cascade = Cascade {
                hold_back,
                ..cascade(row)
            };
            let stage = Stage::with(setup(upstream.url(), cascade)).await;
            let response = stage.ask(&SPOKEN[row], streamed(row, &extras)).await;
            assert_eq!(response.text(), own.concat());
            // The cheap target is told that nobody listens any more.
            upstream.gone(0).await;
            let (settled, notes) = last(&stage, 1).await;
            assert_eq!(models(&settled.legs), [cheap(row), dear(row)]);
            assert_eq!(notes["why"], "held_too_long", "{notes}");
            assert!(settled.legs[0].estimated && settled.legs[0].cost > Some(PicoUsd::ZERO));
        }
    }
}

#[tokio::test]
async fn a_cheap_target_that_never_convinces_is_seldom_asked() {
    let error = r#"{"type":"error","error":{"type":"invalid_request_error","message":"x"}}"#;
    for row in ROWS {
        let declines = answer(row, cheap(row), &Says::text("I can't help with that."));
        for script in [Step::json(200, &declines), Step::json(400, error)] {
            let own = answer(row, dear(row), &Says::text(PROSE));
            let upstream = upstream(row, script, Step::json(200, &own)).await;
            let stage = Stage::with(setup(upstream.url(), cascade(row))).await;
            let mut asked = Vec::new();
            for call in 1..=60 {
                // Conversations of their own, so that nothing is warm.
                let body = request(row, &json!({"user": format!("u{call}")}));
                let response = stage.ask(&SPOKEN[row], &body).await;
                assert_eq!(response.text(), own);
                let (settled, notes) = last(&stage, call).await;
                if settled.legs.len() == 2 {
                    asked.push(call);
                } else {
                    assert_eq!(notes["unfit"], "does_not_pay", "{call}: {notes}");
                }
            }
            // At first it is trusted; then every twentieth call looks again.
            let is_first = |(place, call): &(usize, &usize)| place + 1 == **call;
            let trusted = asked.iter().enumerate().take_while(is_first).count();
            assert!((5..20).contains(&trusted), "{asked:?}");
            let again: Vec<usize> = (trusted + 20..=60).step_by(20).collect();
            assert_eq!(asked[trusted..], again, "{asked:?}");
        }
    }
}

#[tokio::test]
async fn usage_that_only_we_asked_for_stays_hidden() {
    for row in ROWS {
        let body = request(row, &json!({"stream": true}));
        let mut answers = Vec::new();
        for (mode, model) in [(LeverMode::Off, dear(row)), (LeverMode::On, cheap(row))] {
            // The same words, whoever says them.
            let script = stream_of(&events(row, "m", &Says::text(PROSE)));
            let upstream = upstream(row, script.clone(), script).await;
            let cascade = Cascade {
                mode,
                ..cascade(row)
            };
            let setup = Setup {
                ask_usage: AskUsage::Always,
                ..setup(upstream.url(), cascade)
            };
            let stage = Stage::with(setup).await;
            answers.push(stage.ask(&SPOKEN[row], &body).await.text());
            let (settled, _) = last(&stage, 1).await;
            assert_eq!(models(&settled.legs), [model]);
            assert_eq!(settled.cost, Some(cost(row, model)));
        }
        assert_eq!(answers[0], answers[1]);
        assert!(!answers[0].contains("total_tokens"), "{}", answers[0]);
    }
}

/// With the cache lever on and usage asked for but hidden, as it is by default.
#[tokio::test]
async fn the_cheap_leg_is_compared_with_the_clients_own_cache() {
    use crate::cache::{conversation, simulated};
    use crate::stage::{Hands, full};
    let clock = Hands::default();
    let upstream = simulated(clock.clone(), Vec::new()).await;
    let plain = setup(upstream.url(), cascade(ANTHROPIC));
    let setup = Setup {
        rules: plain.rules,
        ..full(upstream.url())
    };
    let stage = Stage::at(clock, setup).await;
    for turn in 1..=3 {
        let response = stage.ask(&SPOKEN[ANTHROPIC], conversation(turn)).await;
        assert_eq!(response.status, 200, "{}", response.text());
        let (settled, notes) = last(&stage, turn).await;
        assert_eq!(notes["outcome"], "accepted", "{notes}");
        // The client marks nothing, so that its own target would take every call in full.
        let usage = &settled.legs[0].usage;
        let expect =
            i128::from(usage.input().0) * 3_000_000 + i128::from(usage.output.0) * 15_000_000;
        assert_eq!(settled.untouched, Some(PicoUsd(expect)), "{notes}");
        let total: PicoUsd = settled.savings.values().sum();
        assert_eq!(Some(total), settled.cost.map(|cost| PicoUsd(expect) - cost));
        stage.clock.turn(20_000);
    }
}

#[tokio::test]
async fn a_replaced_call_is_compared_as_if_it_was_served_once() {
    use crate::cache::{conversation, simulated};
    use crate::stage::{Hands, full};
    let clock = Hands::default();
    let upstream = simulated(clock.clone(), Vec::new()).await;
    let plain = setup(
        upstream.url(),
        verified(ANTHROPIC, vec![pattern("^never$")]),
    );
    let setup = Setup {
        rules: plain.rules,
        ..full(upstream.url())
    };
    let stage = Stage::at(clock, setup).await;
    for turn in 1..=3 {
        // The client marks its own prefix, which its own target writes and reads.
        let mut body: Value = serde_json::from_str(&conversation(turn)).unwrap();
        let mark = json!({"type": "ephemeral"});
        body["system"] = json!([{"type": "text", "text": body["system"], "cache_control": mark}]);
        stage.ask(&SPOKEN[ANTHROPIC], body.to_string()).await;
        let (settled, notes) = last(&stage, turn).await;
        assert_eq!(models(&settled.legs), [cheap(ANTHROPIC), dear(ANTHROPIC)]);
        let wasted = settled.legs[0].cost.unwrap();
        let saved = |lever| settled.savings.get(&lever).copied().unwrap_or_default();
        assert_eq!(saved(Lever::Cascade), PicoUsd::ZERO - wasted, "{notes}");
        let own = settled.legs[1].cost.unwrap();
        assert_eq!(
            settled.untouched,
            Some(own + saved(Lever::Cache)),
            "{notes}"
        );
        // Untouched, the first call would have written what its client marks, not read it.
        if turn == 1 {
            let usage = &settled.legs[1].usage;
            let uncached = i128::from(usage.input().0) * 3_000_000;
            let output = i128::from(usage.output.0) * 15_000_000;
            assert!(
                settled.untouched > Some(PicoUsd(uncached + output)),
                "{settled:?}"
            );
        }
        stage.clock.turn(20_000);
    }
}
