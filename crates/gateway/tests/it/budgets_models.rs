//! Limits on models: by which names they catch a call, and what each is charged with.
//!
//! **Invariant**: a model's own name is charged with its own legs only, the client's name for it with
//! the whole call.

use gateway::admit::Sum;
use gateway::setup::{Setup, Target};
use policy::admit::limit::{Limit, Mode, Units, Which};
use policy::admit::scope::Kind;
use policy::dispatch::retry;
use policy::ports::read::SpendingAt;
use testkit::upstream::{Step, Upstream};
use wire::dialect::Dialect;

use crate::budgets::{alarms, budgeted, check_refusal, staged, usd};
use crate::budgets_faults::{ANSWER, HAIKU, call, check_served};
use crate::stage::{Stage, TODAY};

/// A daily limit for one model.
fn only(model: &str, amount: &str) -> Limit {
    Limit {
        id: format!("only-{}", model.replace('/', "-")).into(),
        which: Which::One(model.into()),
        ..usd(Kind::Model, amount, Mode::Hard)
    }
}

fn asking(model: &str) -> String {
    HAIKU.replace("claude-haiku-4-5", model)
}

/// What is spent by each name of a model, in order.
fn spent(stage: &Stage) -> Vec<(String, i128)> {
    let usage = stage.gateway.accounts.report(TODAY);
    let usage = usage.into_iter().filter(|it| it.tally.spent != Units(0));
    let usage = usage.map(|it| (it.scope.id.to_string(), it.tally.spent.0));
    usage.collect()
}

#[tokio::test]
async fn a_limit_on_a_model_catches_it_by_every_name() {
    let names = ["fast", "claude-haiku-4-5", "anthropic/claude-haiku-4-5"];
    for limited in ["claude-haiku-4-5", "anthropic/claude-haiku-4-5"] {
        for first in names {
            let upstream = Upstream::scripted(vec![Step::json(200, ANSWER); 2]).await;
            let limits = vec![only(limited, "0.0031")];
            let stage = staged(budgeted(upstream.url(), limits)).await;
            check_served(&call(&stage, &asking(first)).await);
            for name in names {
                let refused = call(&stage, &asking(name)).await;
                check_refusal(Dialect::AnthropicMessages, &refused);
            }
            // Another model has nothing to do with it.
            check_served(&call(&stage, &asking("claude-sonnet-4-6")).await);
            assert_eq!(spent(&stage), [(limited.to_owned(), 1_000_000_000)]);
            assert_eq!(stage.gateway.accounts.open_holds(), 0);
        }
    }
    // A name of our own has a limit of its own still.
    let upstream = Upstream::scripted(vec![Step::json(200, ANSWER); 2]).await;
    let stage = staged(budgeted(upstream.url(), vec![only("fast", "0.0031")])).await;
    check_served(&call(&stage, &asking("fast")).await);
    check_refusal(
        Dialect::AnthropicMessages,
        &call(&stage, &asking("fast")).await,
    );
    check_served(&call(&stage, &asking("claude-haiku-4-5")).await);
}

/// A stage whose model `safe` is one that fails, with a dear fallback.
async fn with_fallback(limits: Vec<Limit>) -> (Stage, Upstream) {
    let target = |model: &str| Target {
        provider: "anthropic".to_owned(),
        model: model.to_owned(),
    };
    let scripts = [Step::json(503, "{}"), Step::json(200, ANSWER)];
    let upstream = Upstream::scripted(scripts).await;
    let mut setup = Setup {
        retry: retry::Policy {
            retries: 0,
            ..retry::Policy::default()
        },
        ..budgeted(upstream.url(), limits)
    };
    let route = ["claude-haiku-4-5", "claude-opus-4-6"].map(|model| vec![target(model)]);
    setup.routes.insert("safe".to_owned(), route.to_vec());
    (staged(setup).await, upstream)
}

#[tokio::test]
async fn each_model_is_charged_with_its_own_legs() {
    let each = || vec![usd(Kind::Model, "1", Mode::Hard)];
    let (stage, _upstream) = with_fallback(each()).await;
    check_served(&call(&stage, &asking("safe")).await);
    // 1 000 tokens at $5 a million; the leg that failed cost nothing.
    let expect = ["anthropic/claude-opus-4-6", "claude-opus-4-6", "safe"];
    let expect = expect.map(|name| (name.to_owned(), 5_000_000_000));
    assert_eq!(spent(&stage), expect);
    assert_eq!(alarms(&stage), Vec::<String>::new());

    // A start reads the same from the ledger.
    let row = stage.books.settled(1).await.remove(0);
    let at: Vec<SpendingAt> = row
        .settled
        .unwrap()
        .legs
        .iter()
        .map(|leg| SpendingAt {
            asked: row.opened.model.clone(),
            provider: leg.provider.clone(),
            model: leg.model.clone(),
            at: row.opened.at,
            cost: leg.cost.unwrap(),
            tokens: leg.usage.input() + leg.usage.output,
            legs: 1,
        })
        .collect::<Vec<_>>();
    let (after, _upstream) = with_fallback(each()).await;
    for spent in &at {
        after.gateway.accounts.restore(Sum::Legs(spent), TODAY);
    }
    assert_eq!(spent(&after), expect[..2]);

    // A fallback whose own model has no room is not asked, and nothing stays held.
    let (stage, upstream) = with_fallback(vec![only("claude-opus-4-6", "0.001")]).await;
    assert_eq!(call(&stage, &asking("safe")).await.status, 503);
    stage.books.settled(1).await;
    assert_eq!(upstream.requests().len(), 1);
    assert_eq!(stage.gateway.accounts.open_holds(), 0);
    for usage in stage.gateway.accounts.report(TODAY) {
        assert_eq!(usage.tally.held_worst, Units(0), "{usage:?}");
    }
}
