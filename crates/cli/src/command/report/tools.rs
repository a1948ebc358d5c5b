//! Which tools the input of calls is spent on: `tokenwise report --tools`.
//!
//! **Invariant**: tokens are summed as they were noted when the calls came (test `tools_are_summed`).

use std::cmp::Reverse;
use std::collections::BTreeMap;

use policy::ports::read::StoredCall;
use policy::shape::context::classes::Classes;
use policy::shape::context::tools::{OTHERS, Share};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::print::amount::count;
use crate::print::table::{Set, table};

#[derive(Debug, Deserialize)]
struct Notes {
    input: Option<Classes>,
    #[serde(default)]
    tools: Vec<Share>,
}

/// The calls that carried one tool.
#[derive(Clone, Debug, Default)]
struct Line {
    calls: u64,
    definition: u64,
    results: u64,
}

impl Line {
    const fn sum(&self) -> u64 {
        self.definition + self.results
    }
}

/// All lines, and the input of all calls that were broken down.
#[derive(Debug, Default)]
pub(super) struct Tools {
    lines: BTreeMap<String, Line>,
    input: u64,
}

impl Tools {
    /// Adds a call, if it was broken down when it came.
    pub(super) fn add(&mut self, call: &StoredCall) {
        let Some(settled) = &call.settled else {
            return;
        };
        let Ok(Notes { input, tools }) = serde_json::from_str(&settled.notes) else {
            return;
        };
        self.input += input.unwrap_or_default().sum();
        for share in tools {
            let line = self.lines.entry(share.name).or_default();
            line.calls += 1;
            line.definition += share.definition;
            line.results += share.results;
        }
    }

    fn largest_first(&self) -> Vec<(&String, &Line)> {
        let mut lines: Vec<_> = self.lines.iter().collect();
        lines.sort_by_key(|(name, line)| (*name == OTHERS, Reverse(line.sum())));
        lines
    }

    pub(super) fn json(&self) -> Value {
        let lines = self.largest_first().into_iter().map(|(name, line)| {
            json!({
                "tool": name, "calls": line.calls, "definition_tokens": line.definition,
                "result_tokens": line.results,
            })
        });
        json!({"tools": lines.collect::<Vec<_>>(), "input_tokens": self.input})
    }

    pub(super) fn text(&self) -> String {
        if self.lines.is_empty() {
            return "no call in the ledger that matches has tools and was broken down; that is done \
                    for conversations while the cache lever is not off\n"
                .to_owned();
        }
        let heads = [
            ("tool", Set::Left),
            ("calls", Set::Right),
            ("definition", Set::Right),
            ("results", Set::Right),
            ("of all input", Set::Right),
        ];
        let rows: Vec<Vec<String>> = self
            .largest_first()
            .into_iter()
            .map(|it| self.row(it))
            .collect();
        let mut text = table(&heads, &rows);
        text.push_str(
            "\nTokens are estimates, made when the calls came; what a conversation carries counts in \
             each of its calls.\n",
        );
        if self.lines.contains_key(OTHERS) {
            put!(text, "{OTHERS} are the smaller tools of each call.\n");
        }
        text
    }

    fn row(&self, (name, line): (&String, &Line)) -> Vec<String> {
        let input = self.input.max(1);
        vec![
            name.clone(),
            count(line.calls),
            count(line.definition),
            count(line.results),
            format!("{} %", (line.sum() * 100 + input / 2) / input),
        ]
    }
}

#[cfg(test)]
mod tests {
    use wire::usage::Usage;

    use super::super::stored;
    use super::Tools;

    #[test]
    fn tools_are_summed() {
        let mut tools = Tools::default();
        for number in 0..2 {
            let notes = r#"{"input":{"tools":40,"tool_results":100,"system":60},"tools":[
                {"name":"read","definition":10,"results":100},{"name":"…","definition":30}]}"#;
            tools.add(&stored::call(number, notes.to_owned(), Usage::default()));
        }
        tools.add(&stored::call(3, "{}".to_owned(), Usage::default()));
        let document = tools.json();
        assert_eq!(document["input_tokens"], 400);
        let read = &document["tools"][0];
        assert_eq!((&read["tool"], &read["calls"]), (&"read".into(), &2.into()));
        assert_eq!(read["definition_tokens"], 20);
        assert_eq!(read["result_tokens"], 200);
        let text = tools.text();
        assert!(
            text.contains("55 %") && text.contains("smaller tools"),
            "{text}"
        );
        assert!(Tools::default().text().contains("no call"));
    }
}
