//! Equal deployments: conversations stay where their prompt cache is warm, and are spread.
//!
//! **Invariant**: a conversation changes its deployment only when that is ill.

use std::collections::BTreeSet;

use gateway::setup::{Setup, Target};
use serde_json::json;
use testkit::client::exchange;
use wire::dialect::Dialect;

use crate::misbehaviour_world::{Delivery, Does, World, models, spoken};

const CONVERSATIONS: usize = 32;
const TURNS: usize = 4;

/// Both targets in one rank.
fn as_equals(setup: &mut Setup) {
    let route = setup.routes.get_mut("m").unwrap();
    let equals: Vec<Target> = std::mem::take(route).into_iter().flatten().collect();
    *route = vec![equals];
}

#[tokio::test]
async fn conversations_stay_and_are_spread() {
    for dialect in Dialect::ALL {
        let equal = models(dialect)[1];
        let world = World::new(
            dialect,
            Delivery::Whole,
            |_, _| Does::Answers,
            2,
            equal,
            as_equals,
        )
        .await;
        let mut homes = BTreeSet::new();
        for conversation in 0..CONVERSATIONS {
            let mut messages = vec![json!({"role": "user", "content": format!("{conversation}")})];
            let mut targets = BTreeSet::new();
            for turn in 0..TURNS {
                let body = json!({"model": "m", "max_tokens": 64, "messages": &messages});
                let (spoken, body) = (spoken(dialect), body.to_string());
                let url = &world.stage.url;
                let response =
                    exchange(url, "POST", spoken.path, spoken.headers, body.as_bytes()).await;
                assert_eq!(response.status, 200, "{}", response.text());
                let target = response.header("x-tokenwise-target").unwrap();
                targets.insert(target.to_owned());
                messages.push(json!({"role": "assistant", "content": format!("answer {turn}")}));
                messages.push(json!({"role": "user", "content": format!("and {turn}?")}));
            }
            assert_eq!(targets.len(), 1, "conversation {conversation}: {targets:?}");
            homes.extend(targets);
        }
        // Thirty-two draws that all fall alike: one run in two billion.
        assert_eq!(homes.len(), 2, "{homes:?}");
        world.assert_at_rest();
    }
}
