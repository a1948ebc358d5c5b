//! What budgets tell: headers for clients, counters for operators.
//!
//! **Invariant**: a limit speaks up from half its amount on, in every answer that it covers, and an
//! observing one says what it would have refused (`reached_shares_are_told`,
//! `observing_limits_refuse_nothing`).

use policy::admit::limit::{Mode, Quota};
use policy::admit::scope::Kind;
use policy::admit::window::{Period, Window, Zone};
use policy::money::PicoUsd;
use testkit::client::Response;
use testkit::upstream::{Step, Upstream};
use wire::usage::Tokens;

use crate::budgets::{budgeted, limit, lines, staged, usd};
use crate::stage::{SPOKEN, Stage};

/// Each call costs $0.0006 at `claude-haiku-4-5` and has 600 tokens.
const USAGE: &str = r#"{"input_tokens":600,"output_tokens":0}"#;

fn answers(streamed: bool, count: usize) -> Vec<Vec<Step>> {
    let start = format!(
        "event: message_start\ndata: {{\"type\":\"message_start\",\"message\":{{\"usage\":{USAGE}}}}}\n\n"
    );
    let end = "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
    let one = if streamed {
        Step::events(&[start.as_str(), end])
    } else {
        Step::json(200, &format!(r#"{{"content":[],"usage":{USAGE}}}"#))
    };
    vec![one; count]
}

async fn call(stage: &Stage, streamed: bool) -> Response {
    let spoken = &SPOKEN[1];
    let body = format!(
        r#"{{"model":"claude-haiku-4-5","max_tokens":1,"stream":{streamed},"messages":[{{"role":"user","content":"hi"}}]}}"#
    );
    stage.ask(spoken, &body).await
}

/// The values of the budget header, in order.
fn told(response: &Response) -> Vec<&str> {
    let headers = response.headers.iter();
    let told = headers.filter(|(name, _)| name == "x-tokenwise-budget");
    told.map(|(_, value)| value.as_str()).collect()
}

#[tokio::test]
async fn reached_shares_are_told() {
    // After so many of ten calls, of an amount that ten calls use up.
    let expect = |calls: usize| match calls {
        0..5 => None,
        5..8 => Some("50"),
        8..10 => Some("80"),
        _ => Some("100"),
    };
    for streamed in [false, true] {
        let upstream = Upstream::scripted(answers(streamed, 10)).await;
        let limits = vec![usd(Kind::Team, "0.006", Mode::Soft)];
        let stage = staged(budgeted(upstream.url(), limits)).await;
        for calls in 1..=10 {
            let response = call(&stage, streamed).await;
            assert_eq!(response.status, 200, "{}", response.text());
            // A whole answer knows its own cost; a stream's head cannot.
            let known = if streamed { calls - 1 } else { calls };
            let share = expect(known);
            let expect =
                share.map(|share| format!("limit=team-usd-soft; team=blue; reached={share}%"));
            let told = told(&response);
            assert_eq!(told, expect.iter().map(String::as_str).collect::<Vec<_>>());
        }
        assert_eq!(call(&stage, streamed).await.status, 429);
        assert_eq!(
            lines(&stage, "tokenwise_budget_refusals"),
            ["tokenwise_budget_refusals_total{limit=\"team-usd-soft\",measure=\"usd\"} 1"]
        );
        let mut notices = lines(&stage, "tokenwise_budget_notices");
        notices.sort();
        let notice = |event| {
            format!("tokenwise_budget_notices_total{{limit=\"team-usd-soft\",event=\"{event}\"}} 1")
        };
        let events = ["reached=100%", "reached=50%", "reached=80%", "reached=95%"];
        assert_eq!(notices, events.map(notice));
    }
}

#[tokio::test]
async fn observing_limits_refuse_nothing() {
    let upstream = Upstream::scripted(answers(false, 4)).await;
    let hourly = Window::new(Period::Hour, Zone::UTC);
    let limits = vec![
        usd(Kind::Key, "0.0005", Mode::Observe),
        limit(
            Kind::Session,
            Quota::Tokens(Tokens(1_000_000), hourly),
            Mode::Observe,
        ),
    ];
    let stage = staged(budgeted(upstream.url(), limits)).await;
    let full = "limit=key-usd-observe; key=key_client; reached=100%";
    let would = "limit=key-usd-observe; key=key_client; would-refuse";
    for expect in [&[full][..], &[would, full], &[full]] {
        let response = call(&stage, false).await;
        assert_eq!(response.status, 200, "{}", response.text());
        assert_eq!(told(&response), expect);
    }
    assert_eq!(
        lines(&stage, "tokenwise_budget_refusals"),
        Vec::<String>::new()
    );
    let report = stage.gateway.accounts.report(stage.clock.reading());
    assert_eq!(report[0].tally.spent, PicoUsd(1_800_000_000).into());
}
