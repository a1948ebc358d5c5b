//! The sixteen ways in which a provider misbehaves, each as decided for a lineup with a fallback and
//! for a target that stands alone, in both dialects.
//!
//! **Invariant**: every behaviour is rescued or cleanly refused within its limits, and a healthy
//! call right after it is served. Virtual time; `cargo test -- --nocapture` prints the table.

use std::fmt::Write as _;
use std::num::NonZeroU16;

use policy::dispatch::balance::Health;
use policy::dispatch::breaker::Rules;
use policy::dispatch::fault::{Blame, Charge, Credential, Fault};
use policy::dispatch::lineup::{Candidate, Card, Lineup, Need, Tail};
use policy::dispatch::patience::Pace;
use policy::dispatch::prefill::Prefill;
use policy::dispatch::read::{read_event, read_status};
use policy::dispatch::retry::{DEADLINE_MS, Policy, Visible};
use policy::dispatch::walk::{Ending, Site, Step, Walk};
use policy::moment::Moment;
use wire::dialect::Dialect;
use wire::usage::Tokens;

const START: Moment = Moment(1_800_000_000_000);

/// Every draw of these stories: 100 ms of any backoff.
const DRAW: u64 = 100;

/// The time to the first token of a healthy target.
const PROMPT_MS: u64 = 500;

/// What a target does with a leg.
#[derive(Clone, Copy)]
enum Does {
    /// Answers.
    Answers,
    /// Answers after a while.
    AnswersAfter(u64),
    /// Refuses with this status, body and `retry-after`.
    Status(u16, &'static str, Option<&'static str>),
    /// Resets the connection.
    Resets,
    /// Accepts and never answers.
    Hangs,
    /// Begins to answer, and then this.
    Begins(Fault),
    /// Sends an error event instead of an answer.
    Event(&'static str),
}

/// What target `a` does with its n-th leg of a call.
type Story = fn(usize, usize) -> Does;

/// How the client gets its answer: what has begun of a stream, it has seen.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Delivery {
    Stream,
    Whole,
}

/// A world of targets `a`, `b`, `c`, and the story of one kind of misbehaviour.
struct World {
    lineup: Lineup,
    health: Vec<Health>,
    policy: Policy,
    need: Need,
    delivery: Delivery,
    now: Moment,
}

/// What became of one call.
struct Told {
    trace: String,
    ending: Option<Ending>,
    legs: Vec<(usize, Option<Fault>)>,
    took_ms: u64,
}

fn card(dialect: Dialect) -> Card {
    Card {
        dialect,
        window: Some(Tokens(200_000)),
        prefill: Prefill::Rejects,
        credential: Credential::Ours,
    }
}

impl World {
    fn new(dialect: Dialect, cards: &[Card]) -> Self {
        let candidates = cards.iter().enumerate().map(|(target, card)| Candidate {
            target,
            rank: u16::try_from(target).expect("few"),
            weight: NonZeroU16::MIN,
            card: *card,
        });
        Self {
            lineup: Lineup::new(candidates.collect()).expect("candidates"),
            health: vec![Health::default(); cards.len()],
            policy: Policy::default(),
            need: Need {
                dialect,
                input: Some(Tokens(1_000)),
                tail: Tail::Others,
            },
            delivery: Delivery::Stream,
            now: START,
        }
    }

    /// Serves one call; `does` says what target `t` does with its `n`-th leg of the call.
    fn call(&mut self, does: impl Fn(usize, usize, Moment) -> Does) -> Told {
        let began = self.now;
        let mut walk = Walk::new(self.policy, self.need, began);
        let mut told = Told {
            trace: String::new(),
            ending: None,
            legs: Vec::new(),
            took_ms: 0,
        };
        let mut site = Site {
            lineup: &self.lineup,
            rules: &Rules::default(),
            health: &mut self.health,
        };
        let mut leg = walk.start(&mut site, None, began, DRAW).expect("a target");
        loop {
            self.now = self.now.max(leg.at);
            let nth = told.legs.iter().filter(|(target, _)| *target == leg.target);
            let what = does(leg.target, nth.count() + 1, self.now);
            let patience = walk.patience(&site, &leg, Pace::Prompt, self.now);
            let (waited_ms, outcome) =
                play(what, patience.first_token_ms, patience.stall_ms, self.now);
            self.now = self.now.after(waited_ms);
            let name = ["a", "b", "c"][leg.target];
            let target = leg.target;
            let fault = match outcome {
                Ok(()) => {
                    leg.begun(&mut site, waited_ms, self.now);
                    leg.finished(&mut site, self.now);
                    told.legs.push((target, None));
                    write!(told.trace, "{name} ok +{}", self.now.since(began)).expect("text");
                    break;
                }
                Err(fault) => fault,
            };
            let has_begun = matches!(what, Does::Begins(_));
            if has_begun {
                leg.begun(&mut site, PROMPT_MS, self.now);
            }
            let visible = match (has_begun, self.delivery) {
                (true, Delivery::Stream) => Visible::More,
                _ => Visible::Nothing,
            };
            told.legs.push((target, Some(fault)));
            write!(told.trace, "{name} {}, ", fault.name()).expect("text");
            match walk.failed(&mut site, leg, fault, visible, self.now, DRAW) {
                Step::Send(next) => leg = next,
                Step::GiveUp(ending) => {
                    write!(told.trace, "{:?}: {}", ending.why, ending.fault.name()).expect("text");
                    told.ending = Some(ending);
                    break;
                }
            }
        }
        told.took_ms = self.now.since(began);
        assert!(told.took_ms <= DEADLINE_MS, "{}", told.trace);
        for health in &self.health {
            assert_eq!(health.gauge.in_flight(), 0, "{}", told.trace);
        }
        told
    }
}

/// How long a leg takes, and how it ends.
fn play(does: Does, first_token_ms: u64, stall_ms: u64, now: Moment) -> (u64, Result<(), Fault>) {
    match does {
        Does::Answers => (PROMPT_MS, Ok(())),
        Does::AnswersAfter(ms) if ms <= first_token_ms => (ms, Ok(())),
        Does::AnswersAfter(_) | Does::Hangs => (first_token_ms, Err(Fault::Silent)),
        Does::Status(status, body, after) => {
            let header = |name: &str| after.filter(|_| name == "retry-after");
            (20, Err(read_status(status, header, body.as_bytes(), now)))
        }
        Does::Resets => (10, Err(Fault::Reset)),
        Does::Begins(Fault::Stalled) => (PROMPT_MS + stall_ms, Err(Fault::Stalled)),
        Does::Begins(fault) => (PROMPT_MS + 800, Err(fault)),
        Does::Event(data) => (PROMPT_MS, Err(read_event(data.as_bytes()))),
    }
}

/// Plays a behaviour of `a` with a healthy fallback, and alone, in both dialects; then a healthy
/// call. Prints the row.
#[expect(clippy::print_stdout, reason = "the table is for people")]
fn check(name: &str, delivery: Delivery, does: Story, with_fallback: &str, alone: &str) {
    for dialect in Dialect::ALL {
        for (count, expect) in [(2, with_fallback), (1, alone)] {
            let mut world = World::new(dialect, &vec![card(dialect); count]);
            world.delivery = delivery;
            let told = world.call(|target, nth, _| match target {
                0 => does(target, nth),
                _ => Does::Answers,
            });
            println!("{name:<28} {:<18} {count} | {}", dialect.id(), told.trace);
            assert_eq!(told.trace, expect, "{name}, {count} targets, {dialect:?}");
            let after = world.call(|_, _, _| Does::Answers);
            assert!(after.ending.is_none(), "{name}: then {}", after.trace);
        }
    }
}

const OVERFLOW: &str = r#"{"error":{"code":"context_length_exceeded","message":"m"}}"#;
const FILTER: &str = r#"{"error":{"code":"content_policy_violation","message":"m"}}"#;
const OVERLOADED: &str = r#"{"type":"error","error":{"type":"overloaded_error","message":"m"}}"#;

#[test]
fn statuses_are_retried_then_left() {
    let stream = Delivery::Stream;
    check(
        "S01 429 with retry-after",
        stream,
        |_, nth| match nth {
            1 => Does::Status(429, "", Some("2")),
            _ => Does::Answers,
        },
        "a rate_limited, a ok +2620",
        "a rate_limited, a ok +2620",
    );
    check(
        "S02 429 persistent",
        stream,
        |_, _| Does::Status(429, "", None),
        "a rate_limited, a rate_limited, a rate_limited, b ok +760",
        "a rate_limited, a rate_limited, a rate_limited, NoTarget: rate_limited",
    );
    check(
        "S02 429 for longer",
        stream,
        |_, _| Does::Status(429, "", Some("60")),
        "a rate_limited, b ok +520",
        "a rate_limited, NoTarget: rate_limited",
    );
    check(
        "S03 500 once",
        stream,
        |_, nth| match nth {
            1 => Does::Status(500, "", None),
            _ => Does::Answers,
        },
        "a failed, a ok +620",
        "a failed, a ok +620",
    );
    check(
        "S04 503 persistent",
        stream,
        |_, _| Does::Status(503, "", None),
        "a overloaded, a overloaded, a overloaded, b ok +760",
        "a overloaded, a overloaded, a overloaded, NoTarget: overloaded",
    );
    check(
        "    overloaded in the stream",
        stream,
        |_, nth| match nth {
            1 => Does::Event(OVERLOADED),
            _ => Does::Answers,
        },
        "a overloaded, a ok +1100",
        "a overloaded, a ok +1100",
    );
    check(
        "    401 of our credential",
        stream,
        |_, _| Does::Status(401, "", None),
        "a denied, b ok +520",
        "a denied, NoTarget: denied",
    );
}

#[test]
fn silence_is_not_waited_out_while_others_could_answer() {
    let stream = Delivery::Stream;
    check(
        "S05 reset before headers",
        stream,
        |_, nth| match nth {
            1 => Does::Resets,
            _ => Does::Answers,
        },
        "a reset, a ok +610",
        "a reset, a ok +610",
    );
    check(
        "S06 silence",
        stream,
        |_, _| Does::Hangs,
        "a silent, b ok +12500",
        "a silent, Deadline: silent",
    );
    check(
        "S07 slow first token",
        stream,
        |_, _| Does::AnswersAfter(20_000),
        "a silent, b ok +12500",
        "a ok +20000",
    );
}

#[test]
fn broken_answers_start_anew_only_unseen() {
    let again = |fault: &str, end: &str| format!("a {fault}, a {fault}, a {fault}, {end}");
    let rows: [(&str, Fault, Story, [String; 2]); 3] = [
        (
            "S08 cut mid-answer",
            Fault::Cut,
            |_, _| Does::Begins(Fault::Cut),
            [again("cut", "b ok +4600"), again("cut", "NoTarget: cut")],
        ),
        (
            "S09 stall",
            Fault::Stalled,
            |_, _| Does::Begins(Fault::Stalled),
            [
                "a stalled, b ok +31000".to_owned(),
                "a stalled, NoTarget: stalled".to_owned(),
            ],
        ),
        (
            "S10 malformed",
            Fault::Unreadable,
            |_, _| Does::Begins(Fault::Unreadable),
            [
                again("unreadable", "b ok +4600"),
                again("unreadable", "NoTarget: unreadable"),
            ],
        ),
    ];
    for (name, fault, does, [with_fallback, alone]) in rows {
        let seen = format!("a {0}, Visible: {0}", fault.name());
        check(name, Delivery::Stream, does, &seen, &seen);
        check(name, Delivery::Whole, does, &with_fallback, &alone);
    }
    // Everything was there: no fault reaches the decisions.
    check(
        "S11 no [DONE]",
        Delivery::Stream,
        |_, _| Does::Answers,
        "a ok +500",
        "a ok +500",
    );
}

#[test]
fn overflows_go_to_a_larger_window_and_refusals_nowhere() {
    check(
        "S12 context exceeded",
        Delivery::Stream,
        |_, _| Does::Status(400, OVERFLOW, None),
        "a context_exceeded, NoTarget: context_exceeded",
        "a context_exceeded, NoTarget: context_exceeded",
    );
    for dialect in Dialect::ALL {
        let large = Card {
            window: Some(Tokens(1_000_000)),
            ..card(dialect)
        };
        let mut world = World::new(dialect, &[card(dialect), card(dialect), large]);
        let told = world.call(|target, _, _| match target {
            0 => Does::Status(400, OVERFLOW, None),
            _ => Does::Answers,
        });
        assert_eq!(told.trace, "a context_exceeded, c ok +520");
    }
    check(
        "S13 content filter",
        Delivery::Stream,
        |_, _| Does::Status(400, FILTER, None),
        "a refused, Final: refused",
        "a refused, Final: refused",
    );
}

#[test]
fn prefill_is_never_forced() {
    let dialect = Dialect::AnthropicMessages;
    let continues = Card {
        prefill: Prefill::Continues,
        ..card(dialect)
    };
    // S14: the primary dies in the middle, and nobody is asked to continue what it said.
    let told = World::new(dialect, &[continues; 2]).call(|target, _, _| match target {
        0 => Does::Begins(Fault::Cut),
        _ => Does::Answers,
    });
    assert_eq!(told.trace, "a cut, Visible: cut");
    // The client's own prefill goes to targets that take it, and a 400 of a fallback's that was
    // not known to reject it does not hide what was wrong with the primary.
    for (cards, expect) in [
        (
            vec![continues, card(dialect), continues],
            "a overloaded, a overloaded, a overloaded, c ok +760",
        ),
        (
            vec![continues, continues],
            "a overloaded, a overloaded, a overloaded, b bad_request, Final: overloaded",
        ),
    ] {
        let mut world = World::new(dialect, &cards);
        world.need.tail = Tail::Assistant;
        let told = world.call(|target, _, _| match target {
            0 => Does::Status(503, "", None),
            1 => Does::Status(400, "does not take it", None),
            _ => Does::Answers,
        });
        assert_eq!(told.trace, expect);
    }
}

#[test]
fn a_flapping_primary_is_left_and_found_again() {
    // S15: down for 60 s; a call every 4 s, twenty in all.
    for dialect in Dialect::ALL {
        let mut world = World::new(dialect, &[card(dialect), card(dialect)]);
        let mut asked_while_down = 0;
        let mut back_at = None;
        for number in 0..20 {
            world.now = world.now.max(START.after(number * 4_000));
            let told = world.call(|target, _, now| match target {
                0 if now.since(START) < 60_000 => Does::Status(503, "", None),
                _ => Does::Answers,
            });
            assert!(told.ending.is_none(), "call {number}: {}", told.trace);
            let primary = told.legs.iter().filter(|(target, _)| *target == 0);
            if world.now.since(START) < 60_000 {
                asked_while_down += primary.count();
            } else if told.legs == [(0, None)] {
                back_at.get_or_insert(world.now.since(START));
            }
        }
        assert!(
            asked_while_down <= 12,
            "{asked_while_down} legs to a dead target"
        );
        let back_at = back_at.expect("the primary is used again");
        assert!(back_at <= 90_000, "back after {back_at} ms");
        println!(
            "S15 flapping primary         {:<18} 2 | {asked_while_down} legs while down, back at +{back_at}",
            dialect.id()
        );
    }
}

#[test]
fn every_attempt_is_a_leg_with_blame_and_charge() {
    // S16.
    for dialect in Dialect::ALL {
        let mut world = World::new(dialect, &[card(dialect), card(dialect)]);
        let told = world.call(|target, _, _| match target {
            0 => Does::Status(503, "", None),
            _ => Does::Answers,
        });
        let (last, failed) = told.legs.split_last().expect("legs");
        assert_eq!(*last, (1, None), "the fallback is who answered");
        assert_eq!(failed.len(), 3);
        for (target, fault) in failed {
            let fault = fault.expect("it failed");
            assert_eq!(*target, 0);
            assert_eq!(fault.blame(Credential::Ours), Blame::Upstream);
            assert_eq!(fault.charge(), Charge::Nothing);
        }
        println!(
            "S16 accounting               {:<18} 2 | {}",
            dialect.id(),
            told.trace
        );
    }
}

#[test]
fn the_client_learns_when_to_return() {
    let dialect = Dialect::OpenAiChat;
    let mut world = World::new(dialect, &[card(dialect)]);
    let told = world.call(|_, _, _| Does::Status(429, "", Some("60")));
    let ending = told.ending.expect("given up");
    assert_eq!(ending.retry_after_s, Some(60));
    let told = world.call(|_, _, _| Does::Status(400, "", None));
    assert_eq!(told.ending.expect("given up").retry_after_s, None);
    let mut world = World::new(dialect, &[card(dialect)]);
    for _ in 0..2 {
        let told = world.call(|_, _, _| Does::Status(500, "", None));
        let ending = told.ending.expect("given up");
        let is_open = told.legs.len() < 3;
        assert_eq!(ending.retry_after_s.is_some(), is_open, "{}", told.trace);
    }
}
