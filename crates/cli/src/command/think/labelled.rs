//! The decision on labelled questions, class by class.
//!
//! **Invariant**: a question counts as lowered only if its class is one that is lowered (test
//! `shares_follow_the_decision`).

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use policy::think::class::Class;
use serde_json::{Value, json};

use super::{answers, read_lines, share};
use crate::print::table::{Set, table};

/// Questions of each class, and how many would be lowered, for people and as JSON.
pub(super) fn evaluate(file: &Path) -> anyhow::Result<(String, Value)> {
    let mut counts: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    read_lines(file, |value| {
        let field = |name: &str| {
            let text = value[name].as_str();
            text.with_context(|| format!("a line has no `{name}`; it must be a string"))
        };
        let (all, lowered) = counts.entry(field("class")?.to_owned()).or_default();
        *all += 1;
        *lowered += u64::from(!answers::thinks(field("text")?));
        Ok(())
    })?;
    let is_easy = |name: &str| {
        let mut classes = Class::ALL.into_iter();
        classes.any(|class| class.is_easy() && class.name() == name)
    };
    for (kind, easy) in [("(all easy)", true), ("(all hard)", false)] {
        let chosen = counts
            .iter()
            .filter(|(name, _)| is_easy(name) == easy && !name.starts_with('('));
        let sums = chosen.fold((0, 0), |sum, (_, it)| (sum.0 + it.0, sum.1 + it.1));
        counts.insert(kind.to_owned(), sums);
    }
    let cells = counts.iter().map(|(name, (all, lowered))| {
        let percent = format!("{:.1} %", 100.0 * share(*lowered, *all));
        vec![name.clone(), all.to_string(), lowered.to_string(), percent]
    });
    let heads = [
        ("class", Set::Left),
        ("questions", Set::Right),
        ("lowered", Set::Right),
        ("share", Set::Right),
    ];
    let text = table(&heads, &cells.collect::<Vec<_>>());
    let value = counts
        .iter()
        .map(|(name, (all, lowered))| (name.clone(), json!({"questions": all, "lowered": lowered})))
        .collect();
    Ok((
        format!("labelled questions\n{text}\n"),
        Value::Object(value),
    ))
}
