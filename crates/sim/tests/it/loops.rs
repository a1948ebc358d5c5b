//! The figures that the cache lever has to reach, each on generated traffic.

use std::collections::HashMap;

use policy::moment::Moment;
use policy::money::PicoUsd;
use policy::shape::cache::{Lead, rules};
use proptest::prelude::{ProptestConfig, Strategy, prop};
use proptest::{prop_assert, prop_assert_eq, proptest};
use sim::replay::{FIRST_TOKEN_MS, Outcome, Sums, Switch};
use wire::prompt::Kind;
use wire::usage::Tokens;

use crate::traffic::{Play, Said, head, said};

/// A loop of an agent: a head, a question, and for each turn a call and its result.
fn turns(head_tokens: u64, turn_tokens: u64, count: u64) -> Vec<Said> {
    let mut segments = head(head_tokens);
    segments.push(said(Kind::Text, 3, turn_tokens));
    for turn in 1..count {
        segments.push(said(Kind::ToolUse, 100 + turn, turn_tokens / 4));
        segments.push(said(
            Kind::ToolResult,
            100 + turn,
            turn_tokens - turn_tokens / 4,
        ));
    }
    segments
}

fn agent_loop(model: &str, pause_ms: u64) -> Sums {
    let mut play = Play::new(model, Switch::On);
    let segments = turns(10_000, 1_000, 40);
    for turn in 0..40_usize {
        let at = u64::try_from(turn).unwrap_or(0) * pause_ms;
        play.call("loop", at, &segments[..3 + 2 * turn], 2);
    }
    play.finish()
}

/// A part as thousandths of a whole.
fn thousandths(part: PicoUsd, whole: PicoUsd) -> i128 {
    part.0 * 1_000 / whole.0.max(1)
}

#[test]
fn a_loop_of_forty_turns_costs_a_seventh() {
    let check = |model: &str, pause_ms: u64, at_most: i128| {
        let sums = agent_loop(model, pause_ms);
        let all = sums.untouched.input.input();
        assert_eq!(all, sums.policy.input.input(), "{model}");
        // Against a cache that is never used: every token at the input price.
        let plain = agent_plain(model);
        let cost = thousandths(sums.policy.cost, plain);
        println!("{model}: {cost} thousandths of what it costs uncached");
        assert!(cost <= at_most, "{model}: {cost} thousandths of uncached");
    };
    check("claude-sonnet-4-6", 10_000, 150);
    check("claude-opus-5-5", 10_000, 102);
    check("gpt-5.6-terra", 10_000, 150);
    check("gpt-5.4", 10_000, 150);
}

fn agent_plain(model: &str) -> PicoUsd {
    let mut play = Play::new(model, Switch::Off);
    let segments = turns(10_000, 1_000, 40);
    for turn in 0..40_usize {
        // A day apart, nothing is ever read; explicit writes do not happen with the lever off, but
        // the newer OpenAI models write by themselves, so the same model without a cache is meant.
        let at = u64::try_from(turn).unwrap_or(0) * 86_400_000;
        play.call("loop", at, &segments[..3 + 2 * turn], 2);
    }
    let sums = play.finish();
    let written = sums.untouched.input.written.total();
    // A write costs 1.25 of plain input.
    let whole = sums.untouched.input.input().0;
    PicoUsd(
        sums.untouched.cost.0 * 4 * i128::from(whole)
            / (4 * i128::from(whole) + i128::from(written.0)),
    )
}

#[test]
fn one_shot_streams_write_nothing() {
    for model in ["gpt-5.6-terra", "claude-sonnet-4-6"] {
        let mut play = Play::new(model, Switch::On);
        for call in 0..400_u64 {
            let segments = [
                said(Kind::Text, 1_000 + call, 3_000),
                said(Kind::Text, 9_000 + call, 900),
            ];
            play.call("stream", call * 1_500, &segments, 0);
        }
        let sums = play.finish();
        assert_eq!(sums.policy.input.written.total(), Tokens(0), "{model}");
        assert!(sums.policy.cost <= sums.untouched.cost, "{model}");
        // Left to itself, the newer OpenAI models write every prompt.
        let alone = sums.untouched.input.written.total();
        let expect = if model == "gpt-5.6-terra" {
            400 * 3_900
        } else {
            0
        };
        assert_eq!(alone, Tokens(expect), "{model}");
        println!("{model}: 0 tokens written; {alone} by its default");
    }
}

#[test]
fn turns_of_sixty_blocks_still_hit() {
    let mut play = Play::new("claude-sonnet-4-6", Switch::On);
    let mut segments = head(4_000);
    segments.push(said(Kind::Text, 3, 400));
    let mut sent = 0;
    for turn in 0..8_u64 {
        let outcome = play.call("long", turn * 9_000, &segments, 2);
        assert_eq!(outcome.policy.cache_read, Tokens(sent), "turn {turn}");
        sent = segments.iter().map(|said| said.tokens).sum();
        for block in 0..60 {
            // Kinds that alternate, so that no two share a position.
            let kind = if block % 2 == 0 {
                Kind::ToolUse
            } else {
                Kind::ToolResult
            };
            segments.push(said(kind, turn * 100 + block, 50));
        }
    }
}

#[test]
fn a_fan_out_writes_its_prefix_once() {
    for model in ["claude-sonnet-4-6", "claude-opus-5-5", "gpt-5.6-terra"] {
        let mut play = Play::new(model, Switch::On);
        for branch in 0..12_u64 {
            let mut segments = head(6_000);
            segments.push(said(Kind::Text, 3, 2_000));
            segments.push(said(Kind::Text, 50 + branch, 20));
            let outcome = play.call("fan", 1_000, &segments, 2);
            assert!(
                outcome.sent_at.0 <= 1_000 + 2_000,
                "{model}: nobody waits longer"
            );
            let own_part = Tokens(2_020);
            if branch > 1 {
                let written = outcome.policy.cache_write.total();
                assert!(written <= own_part, "{model} branch {branch}: {written}");
            }
        }
    }
}

#[test]
fn identical_calls_at_once_write_once() {
    for model in ["claude-sonnet-4-6", "gpt-5.6-terra"] {
        let mut play = Play::new(model, Switch::On);
        let mut segments = head(6_000);
        segments.push(said(Kind::Text, 3, 2_000));
        let leads = (0..12).map(|_| {
            let outcome = play.call("fan", 1_000, &segments, 2);
            (
                outcome.decision.expect("the lever is on").lead,
                outcome.sent_at,
            )
        });
        let leads: Vec<(Lead, Moment)> = leads.collect();
        let Lead::First(prefix) = leads[0].0 else {
            panic!("{model}: {:?} does not lead", leads[0]);
        };
        // The others go out when the leader's answer begins.
        let begins = Moment(1_000 + FIRST_TOKEN_MS);
        assert_eq!(leads[1..], [(Lead::Wait(prefix), begins); 11], "{model}");
        assert_eq!(
            play.finish().policy.input.written.total(),
            Tokens(8_000),
            "{model}"
        );
    }
}

#[test]
fn routing_keys_stay_under_fifteen_a_minute() {
    let check = |model: &str, sessions: u64, every_ms: u64| {
        let mut play = Play::new(model, Switch::On);
        let mut sent: HashMap<String, Vec<u64>> = HashMap::new();
        for call in 0..sessions * 20 {
            let (session, turn) = (call % sessions, call / sessions);
            let mut segments = head(4_000);
            segments.push(said(Kind::Text, 100 + session, 500));
            for step in 0..turn {
                segments.push(said(Kind::ToolUse, 1_000 + step, 100));
                segments.push(said(Kind::ToolResult, 1_000 + step, 400));
            }
            let outcome = play.call(&format!("session {session}"), call * every_ms, &segments, 2);
            let decision = outcome.decision.expect("the lever is on");
            let key = decision.cache_key.expect("it is long enough to be kept");
            sent.entry(key).or_default().push(call * every_ms);
        }
        for (key, times) in &sent {
            for window in times.windows(rules::KEY_REQUESTS_PER_MINUTE + 1) {
                let span = window[window.len() - 1] - window[0];
                assert!(span >= 60_000, "{model} {key}: {window:?}");
            }
        }
    };
    for model in ["gpt-5.4", "gpt-5.6-terra"] {
        check(model, 1, 10_000);
        check(model, 6, 700);
        check(model, 40, 100);
    }
}

#[test]
fn short_loops_are_not_made_dearer() {
    // The fourth call is the first one that the provider would keep, and the last.
    let mut play = Play::new("claude-sonnet-4-6", Switch::On);
    for task in 0..20_u64 {
        let mut segments = vec![said(Kind::Text, 1, 150), said(Kind::Text, 100 + task, 650)];
        for turn in 0..4 {
            let at = task * 60_000 + turn * 5_000;
            play.call(&format!("task {task}"), at, &segments, 1);
            segments.push(said(Kind::ToolUse, turn, 30));
            segments.push(said(Kind::ToolResult, turn, 60));
        }
    }
    for task in play.finish().tasks {
        assert!(task.policy.0 * 100 <= task.untouched.0 * 101, "{task:?}");
    }
}

/// A client that replaces all but its last five results by a stub, as some coding agents do.
fn rewriting(turn: u64) -> Vec<Said> {
    let mut segments = head(2_000);
    segments.push(said(Kind::Text, 3, 1_500));
    for result in 1..=turn {
        segments.push(said(Kind::ToolUse, result, 100));
        let is_old = result + 5 <= turn;
        segments.push(if is_old {
            said(Kind::ToolResult, 5_000 + result, 20)
        } else {
            said(Kind::ToolResult, result, 800)
        });
    }
    segments
}

#[test]
fn rewritten_history_is_marked_before_the_rewrite() {
    let mut play = Play::new("claude-sonnet-4-6", Switch::On);
    for task in 0..6_u64 {
        for turn in 0..30 {
            let mut segments = rewriting(turn);
            segments[2].text = 900 + task;
            play.call(
                &format!("task {task}"),
                (task * 30 + turn) * 4_000,
                &segments,
                2,
            );
        }
    }
    let sums = play.finish();
    let reached = thousandths(
        sums.untouched.cost - sums.policy.cost,
        sums.untouched.cost - sums.ideal.cost,
    );
    assert!(
        reached >= 970,
        "{reached} thousandths of the ideal's saving"
    );
}

#[test]
fn surcharges_stay_within_the_seed() {
    let tokens = 50_000;
    // From so fast that all are sent before one is known to be lost, to so slow that all are known.
    for apart_ms in [10, 1_000, 20_000] {
        let mut play = Play::new("claude-sonnet-4-6", Switch::On);
        let (mut lost, mut sent) = (0, 0);
        for call in 0..1_000_u64 {
            // Each looks like the start of an agent's loop, none goes on.
            let mut segments = head(tokens);
            segments[0].text = 7_000 + call;
            let outcome = play.call("bait", call * apart_ms, &segments, 2);
            lost += (outcome.policy_cost - outcome.untouched_cost).0;
            let may_lose = (131_072 + sent / 20).min(1_048_576);
            assert!(
                lost <= may_lose * 3_000_000,
                "{lost} lost of {call} calls, {apart_ms} ms apart"
            );
            sent += i128::from(tokens);
        }
        assert!(lost > 0, "it was tempted");
    }
}

/// Steps of several sessions: which, how many segments it adds, how long after the step before, and
/// whether it changes an earlier segment.
fn steps() -> impl Strategy<Value = Vec<(usize, usize, u64, bool)>> {
    let step = (
        0..3_usize,
        1..12_usize,
        0..400_000_u64,
        prop::bool::weighted(0.1),
    );
    prop::collection::vec(step, 1..30)
}

/// One model of each kind of cache.
const MODELS: [&str; 4] = [
    "claude-sonnet-4-6",
    "gpt-5.4",
    "gpt-5.6-terra",
    "deepseek-v4-pro",
];

/// Plays steps; `look` sees each call's outcome and how much was sent.
fn play_steps(
    model: &str,
    switch: Switch,
    steps: &[(usize, usize, u64, bool)],
    mut look: impl FnMut(&Outcome, u64),
) -> Sums {
    let mut play = Play::new(model, switch);
    let mut sessions = vec![head(3_000); 3];
    let mut at = 0;
    for (number, (session, more, pause, rewrites)) in (0..).zip(steps) {
        at += pause;
        let segments = &mut sessions[*session];
        if *rewrites {
            segments.truncate(3);
        }
        for part in 0..u64::try_from(*more).unwrap_or(0) {
            segments.push(said(Kind::Text, number * 100 + part, 400));
        }
        let outcome = play.call("task", at, segments, 2);
        look(&outcome, segments.iter().map(|said| said.tokens).sum());
    }
    play.finish()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn splits_add_up(steps in steps()) {
        for model in MODELS {
            for switch in [Switch::On, Switch::Off] {
                let mut sent = 0;
                let sums = play_steps(model, switch, &steps, |outcome, input| {
                    sent += input;
                    assert_eq!(outcome.policy.input(), Tokens(input), "{model}");
                    assert_eq!(outcome.untouched.input(), Tokens(input), "{model}");
                });
                let bills = [&sums.untouched, &sums.policy, &sums.ideal, &sums.ideal_all_written];
                for bill in bills {
                    prop_assert_eq!(bill.input.input(), Tokens(sent), "{}", model);
                }
            }
        }
    }

    #[test]
    fn nothing_beats_the_ideal(steps in steps()) {
        for model in MODELS {
            let run = |switch| play_steps(model, switch, &steps, |_, _| ());
            let sums = run(Switch::On);
            prop_assert!(sums.ideal.cost <= sums.policy.cost, "{}", model);
            prop_assert!(sums.ideal.cost <= sums.untouched.cost, "{}", model);
            prop_assert!(sums.ideal.cost <= sums.ideal_all_written.cost, "{}", model);
            let saved: PicoUsd = sums.levers.values().copied().sum();
            prop_assert_eq!(saved, sums.untouched.cost - sums.policy.cost);
            let tasks: PicoUsd = sums.tasks.iter().map(|task| task.policy).sum();
            prop_assert_eq!(tasks, sums.policy.cost);
            // The same traffic gives the same figures, and no lever no difference.
            prop_assert_eq!(&run(Switch::On), &sums);
            let off = run(Switch::Off);
            prop_assert_eq!(off.policy, sums.untouched);
        }
    }
}
