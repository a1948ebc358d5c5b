//! Tasks within tasks: what a part uses is charged to every task that it is part of.
//!
//! **Invariant**: however many sub-agents call at once, no hard limit on a task above them is exceeded
//! (`a_thousand_sub_agents_stay_within_their_task`).

use policy::admit::limit::{Measure, Mode, Units};
use policy::admit::scope::Kind;
use policy::money::PicoUsd;
use policy::ports::read::StoredCall;

use crate::budgets::{CLIENTS, budgeted, drawn, rest, rush, simulated, spent, staged, usd};
use crate::stage::TODAY;

/// Different mixes of clients.
const SEEDS: u64 = 5;

/// What a task and all its parts may cost in a day.
const AMOUNT: &str = "0.05";

/// What the books say that a task and its parts cost.
fn charged(calls: &[StoredCall], task: &str) -> PicoUsd {
    let is_charged = |call: &&StoredCall| {
        let opened = &call.opened;
        let mut tasks = opened.task.iter().chain(&opened.payers.parents);
        tasks.any(|name| name == task)
    };
    let chosen: Vec<StoredCall> = calls.iter().filter(is_charged).cloned().collect();
    spent(&chosen)
}

#[tokio::test]
async fn a_thousand_sub_agents_stay_within_their_task() {
    for seed in 0..SEEDS {
        let upstream = simulated().await;
        let limits = vec![usd(Kind::Task, AMOUNT, Mode::Hard)];
        let mut stage = staged(budgeted(upstream.url(), limits)).await;
        let mut plans = drawn(500 + seed, CLIENTS);
        for (number, plan) in plans.iter_mut().enumerate() {
            plan.fields = vec![
                ("x-tokenwise-task", format!("sub-{number}")),
                (
                    "x-tokenwise-parent-task",
                    format!("middle-{}, whole", number % 7),
                ),
            ];
        }
        let served = rush(&stage, plans).await;
        let calls = rest(&mut stage).await;
        let amount = AMOUNT.parse::<PicoUsd>().unwrap();
        let accounts = &stage.gateway.accounts;
        assert_eq!(accounts.open_holds(), 0);
        let mut tasks = 0;
        for usage in accounts.report(TODAY) {
            assert_eq!(usage.limit.quota.measure(), Measure::Usd);
            assert_eq!(usage.tally.held_worst, Units(0), "{usage:?}");
            let charged = charged(&calls, &usage.scope.id);
            assert_eq!(usage.tally.spent, charged.into(), "{usage:?}");
            assert!(charged <= amount, "seed {seed}: {charged} of {amount}");
            tasks += 1;
        }
        assert_eq!(charged(&calls, "whole"), spent(&calls));
        // Nobody's own budget was felt: it is the whole that was full.
        assert!((20..900).contains(&served), "seed {seed}: {served} served");
        assert!(tasks > 8, "{tasks} tasks");
        println!(
            "seed {seed}: {} of {amount}, {served} served",
            spent(&calls)
        );
    }
}
