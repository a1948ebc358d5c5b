//! Whether what is held is enough: usages as dear as bodies and limits allow, and fallbacks.
//!
//! **Invariant**: no call costs more than was held for it (`reservation_is_an_upper_bound`,
//! `reservation_covers_the_fallback_model`).

use gateway::setup::Target;
use policy::admit::limit::Mode;
use policy::admit::scope::Kind;
use policy::dispatch::retry;
use testkit::client::exchange;
use testkit::upstream::{Step, Upstream};

use crate::budgets::{alarms, budgeted, staged, usd};
use crate::budgets_faults::{ANSWER, HAIKU, call, check_served};
use crate::stage::SPOKEN;

/// A call whose usage is as dear as its body and limits allow.
struct Dear {
    why: &'static str,
    dialect: usize,
    body: String,
    usage: String,
}

fn dear_calls() -> Vec<Dear> {
    let filled = |model: &str, bytes: usize, rest: &str| {
        let text = "x".repeat(bytes);
        format!(
            r#"{{"model":"{model}","max_tokens":10,{rest}"messages":[{{"role":"user","content":"{text}"}}]}}"#
        )
    };
    let anthropic = |usage: &str| format!(r#"{{"content":[],"usage":{{{usage}}}}}"#);
    let openai = |usage: &str| format!(r#"{{"choices":[],"usage":{{{usage}}}}}"#);
    vec![
        Dear {
            why: "written to the cache for an hour, each byte a token",
            dialect: 1,
            body: filled("claude-haiku-4-5", 20_000, ""),
            usage: anthropic(
                r#""input_tokens":0,"output_tokens":10,"cache_creation_input_tokens":21000,"cache_creation":{"ephemeral_1h_input_tokens":21000,"ephemeral_5m_input_tokens":0}"#,
            ),
        },
        Dear {
            why: "just over the edge of a long context",
            dialect: 1,
            body: filled("claude-haiku-5-5", 99_500, ""),
            usage: anthropic(r#""input_tokens":100001,"output_tokens":10"#),
        },
        Dear {
            why: "a tier that the client names",
            dialect: 0,
            body: filled("gpt-5.4", 5_000, r#""service_tier":"priority","#),
            usage: openai(r#""prompt_tokens":6000,"completion_tokens":10,"total_tokens":6010"#)
                .replace(r#""choices":[]"#, r#""service_tier":"priority","choices":[]"#),
        },
        Dear {
            why: "three answers",
            dialect: 0,
            body: filled("gpt-5.4", 500, r#""n":3,"#),
            usage: openai(r#""prompt_tokens":1500,"completion_tokens":30,"total_tokens":1530"#),
        },
        Dear {
            why: "an image that is an address",
            dialect: 1,
            body: r#"{"model":"claude-haiku-4-5","max_tokens":10,"messages":[{"role":"user","content":[{"type":"image","source":{"type":"url","url":"https://a/b.png"}}]}]}"#.to_owned(),
            usage: anthropic(r#""input_tokens":4900,"output_tokens":10"#),
        },
        Dear {
            why: "a document that is a name",
            dialect: 1,
            body: r#"{"model":"claude-haiku-4-5","max_tokens":10,"messages":[{"role":"user","content":[{"type":"document","source":{"type":"file","file_id":"f"}}]}]}"#.to_owned(),
            usage: anthropic(r#""input_tokens":199000,"output_tokens":10"#),
        },
        Dear {
            why: "pages that the provider searches for",
            dialect: 1,
            body: r#"{"model":"claude-haiku-4-5","max_tokens":10,"tools":[{"type":"web_search_20250305","name":"web_search"}],"messages":[{"role":"user","content":"hi"}]}"#.to_owned(),
            usage: anthropic(
                r#""input_tokens":150000,"output_tokens":10,"server_tool_use":{"web_search_requests":9}"#,
            ),
        },
    ]
}

#[tokio::test]
async fn reservation_is_an_upper_bound() {
    for dear in dear_calls() {
        let upstream = Upstream::scripted([Step::json(200, &dear.usage)]).await;
        let limits = vec![usd(Kind::Key, "100", Mode::Hard)];
        let stage = staged(budgeted(upstream.url(), limits)).await;
        let spoken = &SPOKEN[dear.dialect];
        let body = dear.body.as_bytes();
        let response = exchange(&stage.url, "POST", spoken.path, spoken.headers, body).await;
        check_served(&response);
        let row = stage.books.settled(1).await.remove(0);
        let held = row.opened.held.unwrap().usd.unwrap();
        let cost = row.settled.unwrap().cost.unwrap();
        assert!(cost <= held, "{}: {cost} of {held}", dear.why);
        // And not so far above that nothing would be let in.
        assert!(held.0 <= cost.0 * 5, "{}: {cost} of {held}", dear.why);
        assert_eq!(alarms(&stage), Vec::<String>::new(), "{}", dear.why);
        println!("{cost} of {held} held: {}", dear.why);
    }
}

#[tokio::test]
async fn reservation_covers_the_fallback_model() {
    let target = |model: &str| Target {
        provider: "anthropic".to_owned(),
        model: model.to_owned(),
    };
    // The fallback is five times as dear. It fits beside the first attempt, or it is not made.
    for (amount, status, legs) in [("0.5", 200, 2), ("0.01", 503, 1)] {
        let scripts = [Step::json(503, "{}"), Step::json(200, ANSWER)];
        let upstream = Upstream::scripted(scripts).await;
        let limits = vec![usd(Kind::Key, amount, Mode::Hard)];
        let mut setup = budgeted(upstream.url(), limits);
        let route = vec![
            vec![target("claude-haiku-4-5")],
            vec![target("claude-opus-4-6")],
        ];
        setup.routes.insert("safe".to_owned(), route);
        setup.retry = retry::Policy {
            retries: 0,
            ..retry::Policy::default()
        };
        let stage = staged(setup).await;
        let body = HAIKU.replace("claude-haiku-4-5", "safe");
        assert_eq!(call(&stage, &body).await.status, status, "{amount}");
        let row = stage.books.settled(1).await.remove(0);
        // What a start after a crash would hold again: both attempts, at the second one's target.
        let (held, target) = (row.opened.held.unwrap(), row.opened.target.unwrap());
        let first = held.usd.unwrap() < "0.005".parse().unwrap();
        assert_eq!(first, legs == 1, "{amount}: {held:?}");
        assert_eq!(target == "anthropic/claude-opus-4-6", legs == 2, "{target}");
        let settled = row.settled.unwrap();
        assert_eq!(settled.legs.len(), legs, "{amount}");
        assert!(settled.cost.unwrap() <= amount.parse().unwrap());
        assert_eq!(stage.gateway.accounts.open_holds(), 0);
        assert_eq!(alarms(&stage), Vec::<String>::new());
    }
}
