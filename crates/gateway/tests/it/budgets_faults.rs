//! What goes wrong with budgets elsewhere, one test each, named after the fault.
//!
//! **Invariant**: none of it happens here (every test of this file). Replicas that each keep a copy
//! of a limit cannot be shown by one process: `replicas_do_not_each_enforce_their_own_copy` of the
//! `cli` crate starts three.

use gateway::Gateway;
use gateway::admit::Sum;
use gateway::setup::{Budgets, Setup};
use policy::admit::book::hold::UnknownPrice;
use policy::admit::limit::{Limit, Measure, Mode, Quota, Units};
use policy::admit::scope::Kind;
use policy::admit::window::{Period, Window, Zone};
use policy::dispatch::retry;
use policy::money::PicoUsd;
use policy::ports::Payers;
use policy::ports::read::{Spending, StoredCall};
use testkit::client::{Client, Response, exchange};
use testkit::http1::Piece;
use testkit::upstream::{Step, Upstream};
use wire::dialect::Dialect;
use wire::usage::Tokens;

use crate::budgets::{alarms, budgeted, check_refusal, limit, simulated, staged, usd};
use crate::stage::{CLIENT_ID, SPOKEN, Spoken, Stage, TODAY};

/// At `claude-haiku-4-5` this holds 1 100 to 1 300 tokens at $2 a million and 100 at $5: some $0.003.
pub(crate) const HAIKU: &str =
    r#"{"model":"claude-haiku-4-5","max_tokens":100,"messages":[{"role":"user","content":"hi"}]}"#;

const HAIKU_STREAM: &str = r#"{"model":"claude-haiku-4-5","max_tokens":100,"stream":true,"messages":[{"role":"user","content":"hi"}]}"#;

/// 1 000 input tokens: $0.001 at `claude-haiku-4-5`.
pub(crate) const ANSWER: &str = r#"{"content":[],"usage":{"input_tokens":1000,"output_tokens":0}}"#;

const MESSAGES: &Spoken = &SPOKEN[1];

async fn call_with(stage: &Stage, fields: &[(&str, &str)], body: &str) -> Response {
    let headers = [MESSAGES.headers, fields].concat();
    exchange(&stage.url, "POST", MESSAGES.path, &headers, body.as_bytes()).await
}

pub(crate) async fn call(stage: &Stage, body: &str) -> Response {
    call_with(stage, &[], body).await
}

fn answers(count: usize) -> Vec<Vec<Step>> {
    vec![Step::json(200, ANSWER); count]
}

pub(crate) fn check_served(response: &Response) {
    assert_eq!(response.status, 200, "{}", response.text());
}

fn check_refused(response: &Response) {
    check_refusal(Dialect::AnthropicMessages, response);
}

#[tokio::test]
async fn concurrent_requests_do_not_overshoot() {
    let gated: Vec<Step> = std::iter::once(Step::Gate)
        .chain(Step::json(200, ANSWER))
        .collect();
    let upstream = Upstream::scripted(vec![gated; 5]).await;
    let limits = vec![usd(Kind::Key, "0.007", Mode::Hard)];
    let stage = staged(budgeted(upstream.url(), limits)).await;
    // Two worst cases fit. What three would really cost would fit too, but nobody knows that yet.
    let mut under_way = Vec::new();
    for _ in 0..2 {
        let mut client = Client::connect(&stage.url).await;
        client
            .ask("POST", MESSAGES.path, MESSAGES.headers, HAIKU.as_bytes())
            .await;
        under_way.push(client);
    }
    upstream.wait_for(|log| log.requests.len() == 2).await;
    for _ in 0..3 {
        let refused = call(&stage, HAIKU).await;
        check_refused(&refused);
        assert_eq!(refused.header("retry-after"), Some("1"));
        assert_eq!(refused.header("x-should-retry"), None);
    }
    for mut client in under_way {
        upstream.open_gate();
        check_served(&client.response().await.unwrap());
    }
    // $0.002 are spent now, and the rest is free again.
    upstream.open_gate();
    check_served(&call(&stage, HAIKU).await);
    assert_eq!(upstream.requests().len(), 3);
}

/// Where a call is when its client leaves.
#[derive(Clone, Copy, Debug)]
enum State {
    BeforeTheHead,
    AfterTheHead,
    InTheMiddle,
    BetweenAttempts,
    WhileTheLedgerIsSlow,
}

#[tokio::test]
async fn phantom_holds_after_cancel_at_every_state() {
    let events = [
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":9,\"output_tokens\":1}}}\n\n",
    ];
    for state in [
        State::BeforeTheHead,
        State::AfterTheHead,
        State::InTheMiddle,
        State::BetweenAttempts,
        State::WhileTheLedgerIsSlow,
    ] {
        let head = vec![Step::head(200, "text/event-stream")];
        let script = match state {
            State::BeforeTheHead => vec![],
            State::AfterTheHead => head,
            State::InTheMiddle => Step::events(&events),
            State::BetweenAttempts => Step::json(503, "{}"),
            State::WhileTheLedgerIsSlow => Step::json(200, ANSWER),
        };
        let mut script = script;
        if !matches!(state, State::BetweenAttempts | State::WhileTheLedgerIsSlow) {
            script.push(Step::Hang);
        }
        let upstream = Upstream::scripted([vec![script], answers(1)].concat()).await;
        let one_at_a_time = limit(Kind::Key, Quota::Concurrency(1), Mode::Hard);
        let limits = vec![usd(Kind::Key, "0.005", Mode::Hard), one_at_a_time];
        let setup = Setup {
            retry: retry::Policy {
                // An hour between attempts: the client leaves long before.
                backoff_ms: 3_600_000,
                backoff_ms_max: 3_600_000,
                deadline_ms: 36_000_000,
                ..retry::Policy::default()
            },
            ..budgeted(upstream.url(), limits)
        };
        let stage = staged(setup).await;
        if matches!(state, State::WhileTheLedgerIsSlow) {
            stage.books.hold();
        }
        let mut client = Client::connect(&stage.url).await;
        client
            .ask(
                "POST",
                MESSAGES.path,
                MESSAGES.headers,
                HAIKU_STREAM.as_bytes(),
            )
            .await;
        upstream.request(0).await;
        match state {
            State::InTheMiddle => {
                client.head().await.unwrap();
                assert!(matches!(client.piece().await, Piece::Data(_)));
            }
            State::BetweenAttempts => upstream.played(0).await,
            State::WhileTheLedgerIsSlow => {
                stage.books.wait_for(|now| now.settled == 1).await;
            }
            State::BeforeTheHead | State::AfterTheHead => {}
        }
        assert_eq!(stage.gateway.accounts.open_holds(), 1, "{state:?}");
        client.hang_up();
        stage.books.settled(1).await;
        stage.books.release();
        assert_eq!(stage.gateway.accounts.open_holds(), 0, "{state:?}");
        let next = call(&stage, HAIKU).await;
        assert_eq!(next.status, 200, "{state:?}: {}", next.text());
    }
}

#[tokio::test]
async fn an_unknown_user_has_the_default_budget_from_its_first_call() {
    let upstream = Upstream::scripted(answers(9)).await;
    let limits = vec![usd(Kind::User, "0.0031", Mode::Hard)];
    let stage = staged(budgeted(upstream.url(), limits)).await;
    let dear = HAIKU.replace("100", "9999");
    let named = |body: &str, user: &str| {
        body.replace(
            r#""messages""#,
            &format!(r#""metadata":{{"user_id":"{user}"}},"messages""#),
        )
    };
    for (fields, body) in [
        (&[("x-tokenwise-user", "new-1")][..], dear.clone()),
        (&[], named(&dear, "new-2")),
    ] {
        // Never seen before, and its first call is too dear already.
        check_refused(&call_with(&stage, fields, &body).await);
    }
    assert_eq!(upstream.requests().len(), 0);
    for user in ["new-1", "new-3"] {
        check_served(&call_with(&stage, &[("x-tokenwise-user", user)], HAIKU).await);
        check_refused(&call_with(&stage, &[("x-tokenwise-user", user)], HAIKU).await);
    }
    check_served(&call(&stage, &named(HAIKU, "new-2")).await);
    check_refused(&call(&stage, &named(HAIKU, "new-2")).await);
}

/// A way in, and whether it costs anything.
struct Ingress {
    line: (&'static str, &'static str),
    dialect: usize,
    body: &'static str,
    is_free: bool,
}

const INGRESS: [Ingress; 8] = [
    Ingress {
        line: ("POST", "/v1/chat/completions"),
        dialect: 0,
        body: r#"{"model":"gpt-5.4","user":"ann","messages":[{"role":"user","content":"hi"}]}"#,
        is_free: false,
    },
    Ingress {
        line: ("POST", "/v1/messages"),
        dialect: 1,
        body: r#"{"model":"claude-haiku-4-5","max_tokens":9,"metadata":{"user_id":"ann"},"messages":[{"role":"user","content":"hi"}]}"#,
        is_free: false,
    },
    Ingress {
        line: ("POST", "/v1/embeddings"),
        dialect: 0,
        body: r#"{"model":"text-embedding-3-small","user":"ann","input":"hi"}"#,
        is_free: false,
    },
    Ingress {
        line: ("POST", "/openai/v1/responses"),
        dialect: 0,
        body: r#"{"model":"gpt-5.4","user":"ann","input":"hi"}"#,
        is_free: false,
    },
    Ingress {
        line: ("POST", "/v1/responses"),
        dialect: 0,
        body: r#"{"model":"gpt-5.4","user":"ann","input":"hi"}"#,
        is_free: false,
    },
    Ingress {
        line: ("POST", "/v1/messages/count_tokens"),
        dialect: 1,
        body: r#"{"model":"claude-haiku-4-5","metadata":{"user_id":"ann"},"messages":[{"role":"user","content":"hi"}]}"#,
        is_free: true,
    },
    Ingress {
        line: ("GET", "/openai/v1/files"),
        dialect: 0,
        body: "",
        is_free: true,
    },
    Ingress {
        line: ("GET", "/v1/models/gpt-5.4"),
        dialect: 0,
        body: "",
        is_free: true,
    },
];

/// A limit of nothing.
fn nothing(kind: Kind, measure: Measure) -> Limit {
    let window = Window::new(Period::Day, Zone::UTC);
    let quota = match measure {
        Measure::Usd => Quota::Usd(PicoUsd::ZERO, window),
        Measure::Tokens => Quota::Tokens(Tokens(0), window),
        Measure::Requests => Quota::Requests(0, window),
        Measure::Concurrency => Quota::Concurrency(0),
    };
    limit(kind, quota, Mode::Hard)
}

#[tokio::test]
async fn every_ingress_obeys_every_limit() {
    let upstream = Upstream::playing(|_| Step::json(200, "{}")).await;
    let stage = staged(budgeted(upstream.url(), Vec::new())).await;
    let mut refused = 0;
    for kind in Kind::ALL {
        for measure in Measure::ALL {
            let limits = vec![nothing(kind, measure)];
            stage.gateway.adopt(budgeted(upstream.url(), limits));
            for ingress in &INGRESS {
                let fields = [
                    ("x-tokenwise-session", "s"),
                    ("x-tokenwise-task", "t"),
                    ("x-tokenwise-tags", "a, b"),
                ];
                let fields = [SPOKEN[ingress.dialect].headers, &fields].concat();
                let (method, path) = ingress.line;
                let body = ingress.body.as_bytes();
                let before = upstream.requests().len();
                let response = exchange(&stage.url, method, path, &fields, body).await;
                let sent = upstream.requests().len() - before;
                // What costs nothing still is a call. A call without a body names no user.
                let counts = matches!(measure, Measure::Requests | Measure::Concurrency);
                let unnamed = method == "GET" && kind == Kind::User;
                if (ingress.is_free && !counts) || unnamed {
                    assert_eq!(
                        (response.status, sent),
                        (200, 1),
                        "{path} {kind:?} {measure:?}"
                    );
                } else {
                    check_refusal(SPOKEN[ingress.dialect].dialect, &response);
                    assert_eq!(sent, 0, "{path} {kind:?} {measure:?}");
                    refused += 1;
                }
            }
        }
    }
    println!("{} calls, {refused} refused", INGRESS.len() * 32);
    // The list of models is nobody's call.
    let spoken = &SPOKEN[0];
    let list = exchange(&stage.url, "GET", "/v1/models", spoken.headers, b"").await;
    check_served(&list);
}

#[tokio::test]
async fn the_first_ten_requests_of_a_fresh_install_move_the_number() {
    let upstream = simulated().await;
    let limits = vec![usd(Kind::Key, "1", Mode::Hard)];
    let stage = staged(budgeted(upstream.url(), limits)).await;
    let mut before = Units(0);
    for calls in 1..=10 {
        check_served(&call(&stage, HAIKU).await);
        let rows = stage.books.settled(calls).await;
        let usage = stage.gateway.accounts.report(TODAY).remove(0);
        assert!(usage.tally.spent > before, "call {calls}");
        before = usage.tally.spent;
        assert_eq!(before, crate::budgets::spent(&rows).into(), "call {calls}");
    }
}

/// The same setup with one limit for each key, by Berlin's days.
fn in_berlin(upstream: &Upstream, amount: &str) -> Setup {
    let window = Window::new(Period::Day, Zone::named("Europe/Berlin").unwrap());
    let quota = Quota::Usd(amount.parse().unwrap(), window);
    budgeted(upstream.url(), vec![limit(Kind::Key, quota, Mode::Hard)])
}

#[tokio::test]
async fn windows_reset_when_they_end_in_their_time_zone() {
    let upstream = Upstream::scripted(answers(3)).await;
    let stage = staged(in_berlin(&upstream, "0.0031")).await;
    check_served(&call(&stage, HAIKU).await);
    // It is one o'clock in Berlin: 23 hours are left.
    for (turned, retry_after) in [(0, "82800"), (82_799_999, "1")] {
        stage.clock.turn(turned);
        let refused = call(&stage, HAIKU).await;
        check_refused(&refused);
        assert_eq!(refused.header("retry-after"), Some(retry_after));
    }
    stage.clock.turn(1);
    check_served(&call(&stage, HAIKU).await);
    check_refused(&call(&stage, HAIKU).await);
}

fn limit_spent(gateway: &Gateway, stage: &Stage) -> Units {
    gateway.accounts.report(stage.clock.reading())[0]
        .tally
        .spent
}

/// What the ledger says of two calls with the client's key.
fn spending(cost: i128) -> Spending {
    Spending {
        key: CLIENT_ID.to_owned(),
        session: None,
        task: None,
        model: "claude-haiku-4-5".to_owned(),
        payers: Payers::default(),
        at: TODAY,
        cost: PicoUsd(cost),
        tokens: Tokens(2_000),
        calls: 2,
    }
}

#[tokio::test]
async fn editing_a_limit_keeps_its_usage() {
    let upstream = Upstream::scripted(answers(5)).await;
    let stage = staged(in_berlin(&upstream, "0.0031")).await;
    let gateway = &stage.gateway;
    check_served(&call(&stage, HAIKU).await);
    let one = Units(1_000_000_000);
    assert_eq!(limit_spent(gateway, &stage), one);
    // More, less, none at all, and back: what was spent today stays spent today.
    assert_eq!(gateway.adopt(in_berlin(&upstream, "0.005")).missing(), None);
    check_served(&call(&stage, HAIKU).await);
    gateway.adopt(in_berlin(&upstream, "0.001"));
    check_refused(&call(&stage, HAIKU).await);
    gateway.adopt(budgeted(upstream.url(), Vec::new()));
    gateway.adopt(in_berlin(&upstream, "1"));
    assert_eq!(limit_spent(gateway, &stage), Units(2 * one.0));
    // A window that nobody counted is missing, until the ledger fills it.
    let monthly = Window::new(Period::Month, Zone::UTC);
    let quota = Quota::Usd("0.0041".parse().unwrap(), monthly);
    let limits = vec![limit(Kind::Key, quota, Mode::Hard)];
    let gaps = gateway.adopt(budgeted(upstream.url(), limits));
    assert_eq!(
        gaps.missing().map(|it| it.since),
        Some(policy::moment::Moment(1_793_491_200_000))
    );
    gateway
        .accounts
        .fill(&gaps, Sum::Calls(&spending(2 * one.0)), TODAY);
    assert_eq!(limit_spent(gateway, &stage), Units(2 * one.0));
    check_refused(&call(&stage, HAIKU).await);
}

#[tokio::test]
async fn a_call_that_an_edit_finds_under_way_counts_once() {
    let gated: Vec<Step> = std::iter::once(Step::Gate)
        .chain(Step::json(200, ANSWER))
        .collect();
    let upstream = Upstream::scripted([answers(1), vec![gated], answers(1)].concat()).await;
    let stage = staged(in_berlin(&upstream, "1")).await;
    // Before the edit, across it, and after it, until the ledger is read.
    check_served(&call(&stage, HAIKU).await);
    let mut across = Client::connect(&stage.url).await;
    across
        .ask("POST", MESSAGES.path, MESSAGES.headers, HAIKU.as_bytes())
        .await;
    upstream.request(1).await;
    stage.clock.turn(1);
    let monthly = Window::new(Period::Month, Zone::UTC);
    let quota = Quota::Usd("1".parse().unwrap(), monthly);
    let limits = vec![limit(Kind::Key, quota, Mode::Hard)];
    let gaps = stage.gateway.adopt(budgeted(upstream.url(), limits));
    stage.clock.turn(1);
    upstream.open_gate();
    check_served(&across.response().await.unwrap());
    check_served(&call(&stage, HAIKU).await);
    let missing = gaps.missing().unwrap();
    let mut spent = Vec::new();
    for StoredCall { opened, settled } in stage.books.settled(3).await {
        let settled = settled.unwrap();
        if missing.admits(&opened, &settled) {
            spent.push(Spending {
                at: opened.at,
                cost: settled.cost.unwrap(),
                calls: 1,
                ..spending(0)
            });
        }
    }
    let now = stage.clock.reading();
    for spent in &spent {
        stage.gateway.accounts.fill(&gaps, Sum::Calls(spent), now);
    }
    assert_eq!(limit_spent(&stage.gateway, &stage), Units(3_000_000_000));
}

#[tokio::test]
async fn an_unpriced_model_is_blocked_held_for_or_allowed() {
    let nameless = HAIKU.replace("claude-haiku-4-5", "claude-of-nobody");
    let ceiling = "0.4".parse().unwrap();
    for (rule, served, spent) in [
        (UnknownPrice::Block, 0, "0"),
        (UnknownPrice::HoldAtCeiling(ceiling), 2, "0.8"),
        (UnknownPrice::Allow, 3, "0"),
    ] {
        let upstream = Upstream::scripted(answers(4)).await;
        let limits = vec![usd(Kind::Key, "1", Mode::Hard)];
        let setup = Setup {
            budgets: Budgets {
                limits,
                unknown_price: rule,
                ..Budgets::default()
            },
            ..budgeted(upstream.url(), Vec::new())
        };
        let stage = staged(setup).await;
        for calls in 0..3 {
            let response = call(&stage, &nameless).await;
            if calls < served {
                check_served(&response);
                let row = stage.books.settled(calls + 1).await.remove(calls);
                // Unknown is never zero; what a restart would have to know is what is held.
                assert_eq!(row.settled.unwrap().cost, None);
                let held = row.opened.held.unwrap().usd;
                let ceiling = (rule != UnknownPrice::Allow).then_some(ceiling);
                assert_eq!(held, ceiling);
            } else {
                check_refused(&response);
            }
        }
        let report = stage.gateway.accounts.report(TODAY);
        let found = report.first().map_or(Units(0), |usage| usage.tally.spent);
        assert_eq!(found, spent.parse::<PicoUsd>().unwrap().into(), "{rule:?}");
        let alarm = "tokenwise_budget_alarms_total{alarm=\"unpriced\"} 3".to_owned();
        assert!(alarms(&stage).contains(&alarm), "{:?}", alarms(&stage));
        // Models with a price are not touched by it.
        assert_eq!(call(&stage, HAIKU).await.status, 200, "{rule:?}");
    }
}

#[tokio::test]
async fn a_call_that_a_crash_cut_off_blocks_nobody_longer_than_ten_minutes() {
    let upstream = Upstream::scripted(answers(3)).await;
    let limits = || vec![usd(Kind::Key, "0.005", Mode::Hard)];
    let before = staged(budgeted(upstream.url(), limits())).await;
    before.books.hold();
    let mut client = Client::connect(&before.url).await;
    client
        .ask("POST", MESSAGES.path, MESSAGES.headers, HAIKU.as_bytes())
        .await;
    before.books.wait_for(|now| now.opened == 1).await;
    let cut_off = before.books.calls().remove(0).opened;
    // Another process starts with nothing but the row of the call.
    let after = staged(budgeted(upstream.url(), limits())).await;
    after.gateway.accounts.restore_holds(&[cut_off], TODAY);
    assert_eq!(after.gateway.accounts.open_holds(), 1);
    check_refused(&call(&after, HAIKU).await);
    after.clock.turn(599_999);
    check_refused(&call(&after, HAIKU).await);
    after.clock.turn(1);
    check_served(&call(&after, HAIKU).await);
    assert_eq!(after.gateway.accounts.open_holds(), 0);
}
