//! Which tools the input of a call is spent on: what defines them, and what they have given back.
//!
//! **Invariant**: what is written down is short, and adds up to all that belongs to a tool (test
//! `the_largest_are_named_and_nothing_is_lost`).

use foldhash::HashMap;
use serde::{Deserialize, Serialize};
use wire::dialect::request::Request;
use wire::prompt::Part;
use wire::usage::Tokens;

use super::classes::is_nothing;

/// 6 tools of a call are named, so that its row stays small; the others are summed.
const NAMED_MAX: usize = 6;

/// 128 letters: neither API allows longer names.
const NAME_LETTERS_MAX: usize = 128;

/// Stands for all tools that are not named.
pub const OTHERS: &str = "…";

/// Estimated input tokens of a tool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Share {
    /// Its name.
    pub name: String,
    /// What defines it.
    #[serde(skip_serializing_if = "is_nothing")]
    pub definition: u64,
    /// What it has given back.
    #[serde(skip_serializing_if = "is_nothing")]
    pub results: u64,
}

impl Share {
    /// All of it.
    pub const fn sum(&self) -> u64 {
        self.definition + self.results
    }
}

/// The tools of a request whose segments have these sizes, the largest first.
pub fn shares(request: &Request<'_>, sizes: &[Tokens]) -> Vec<Share> {
    let named = request.tools();
    // A body may define any number of tools.
    let mut by_name: HashMap<&str, Share> = HashMap::default();
    for (place, name) in &named {
        let size = sizes.get(*place).map_or(0, |size| size.0);
        let share = by_name.entry(name).or_default();
        let part = request.prompt.segments.get(*place).map(|it| it.part);
        if part == Some(Part::Tools) {
            share.definition += size;
        } else {
            share.results += size;
        }
    }
    let named = by_name.into_iter().map(|(name, share)| Share {
        name: name.chars().take(NAME_LETTERS_MAX).collect(),
        ..share
    });
    let mut shares: Vec<Share> = named.collect();
    shares.sort_by(|one, other| {
        let sums = other.sum().cmp(&one.sum());
        sums.then_with(|| one.name.cmp(&other.name))
    });
    let rest = shares.split_off(shares.len().min(NAMED_MAX));
    if !rest.is_empty() {
        shares.push(Share {
            name: OTHERS.to_owned(),
            definition: rest.iter().map(|it| it.definition).sum(),
            results: rest.iter().map(|it| it.results).sum(),
        });
    }
    shares
}

#[cfg(test)]
mod tests {
    use wire::dialect::Dialect;
    use wire::usage::Tokens;

    use super::{NAMED_MAX, OTHERS, Share, shares};

    #[test]
    fn the_largest_are_named_and_nothing_is_lost() {
        let tools = (0..9).map(|tool| format!(r#"{{"name":"tool {tool}"}}"#));
        let tools = tools.collect::<Vec<_>>().join(",");
        let body = format!(
            r#"{{"model":"m","tools":[{tools}],"messages":[
            {{"role":"assistant","content":[{{"type":"tool_use","id":"1","name":"tool 8","input":{{}}}}]}},
            {{"role":"user","content":[{{"type":"tool_result","tool_use_id":"1","content":"a"}}]}}]}}"#
        );
        let request = Dialect::AnthropicMessages
            .read(body.as_bytes())
            .expect("a request");
        let sizes: Vec<Tokens> = (1..=11).map(|size| Tokens(100 * size)).collect();
        let found = shares(&request, &sizes);
        assert_eq!(found.len(), NAMED_MAX + 1);
        let first = Share {
            name: "tool 8".to_owned(),
            definition: 900,
            results: 1_100,
        };
        assert_eq!(found.first(), Some(&first));
        assert_eq!(found.last().map(|it| &*it.name), Some(OTHERS));
        // All but the call itself, which is history.
        let all: u64 = (1..=11).map(|size| 100 * size).sum();
        assert_eq!(found.iter().map(Share::sum).sum::<u64>(), all - 1_000);
    }
}
