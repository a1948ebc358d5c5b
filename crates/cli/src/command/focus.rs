//! `tokenwise focus`: how much of what a question needs stays within a token budget, measured on long
//! conversations.
//!
//! **Invariant**: a conversation's questions are never ranked with weights that were trained on them,
//! except in the row that says so (test `conversations_are_left_out_in_turn`).

mod documents;
mod rivals;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::ensure;
use learn::listwise::{self, List};
use policy::shape::focus::signals::{SIGNALS, Signals, signals};
use policy::shape::focus::{Chunk, WEIGHTS, keep, weigh};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use wire::usage::Tokens;

use super::think::{read_lines, share};
use crate::print::table::{Set, table};
use crate::print::{self, Format};
use crate::tokens::O200k;

/// Shares of the tokens of a conversation that may be kept, in percent.
const BUDGETS: [u64; 5] = [5, 10, 25, 50, 75];

/// Tokens that frame a turn, besides its text.
const FRAME: u64 = 4;

/// The category of questions that have no answer in their conversation.
const UNANSWERABLE: u8 = 5;

/// Measure which parts of a long context are kept for a question.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// The share of questions all of whose evidence is kept at budgets of 5 to 75 % of the tokens,
    /// beside recency, chance, BM25, and BM25 with neighbours.
    Eval(Eval),
    /// The same for the live path: each session is a document before the question. What would be sent
    /// is looked at, beside BM25 and recency, and whether the evidence stands first or last.
    Documents(Eval),
}

#[derive(Debug, clap::Args)]
struct Eval {
    /// Conversations, one a line: `turns` of `{id, session, date, speaker, text}` and `qa` of
    /// `{q, category, evidence}`.
    data: PathBuf,
    #[command(flatten)]
    format: Format,
}

#[derive(Debug, Deserialize)]
struct Conversation {
    turns: Vec<Turn>,
    qa: Vec<Question>,
}

#[derive(Debug, Deserialize)]
struct Turn {
    id: String,
    session: u32,
    date: String,
    speaker: String,
    text: String,
}

#[derive(Debug, Deserialize)]
struct Question {
    q: String,
    category: u8,
    evidence: Vec<String>,
}

/// Runs the evaluation.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let eval = match &arguments.action {
        Action::Eval(eval) => eval,
        Action::Documents(eval) => return on_documents(eval),
    };
    let figures = evaluate(&eval.data)?;
    if eval.format.json {
        print::json(&figures.json())?;
    } else {
        print::out(&figures.text())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs the evaluation of the live path.
fn on_documents(eval: &Eval) -> anyhow::Result<ExitCode> {
    let mut figures = documents::Figures::default();
    read_lines(&eval.data, |line| {
        figures.ask(&serde_json::from_value(line)?)
    })?;
    if eval.format.json {
        print::json(&figures.json())?;
    } else {
        print::out(&figures.text())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A ranking, and of how many questions all evidence was kept at each budget.
struct Row {
    name: &'static str,
    kept: [u64; BUDGETS.len()],
}

struct Figures {
    conversations: usize,
    questions: u64,
    rows: Vec<Row>,
    /// Trained on all conversations; none if there is but one.
    weights: Option<Signals>,
}

/// A question with what every ranking says about each turn.
struct Asked {
    conversation: usize,
    list: List<{ SIGNALS.len() }>,
    rivals: [(&'static str, Vec<f64>); 4],
}

fn evaluate(data: &Path) -> anyhow::Result<Figures> {
    let mut conversations: Vec<Conversation> = Vec::new();
    read_lines(data, |line| {
        conversations.push(serde_json::from_value(line)?);
        Ok(())
    })?;
    let chunks: Vec<Vec<Chunk<'_>>> = conversations.iter().map(chunks).collect();
    let mut asked = Vec::new();
    for (index, (conversation, chunks)) in conversations.iter().zip(&chunks).enumerate() {
        let rivals = rivals::Rivals::of(chunks);
        for question in &conversation.qa {
            let needed: BTreeSet<&String> = question.evidence.iter().collect();
            let is_needed = conversation
                .turns
                .iter()
                .map(|turn| needed.contains(&turn.id));
            let list: List<{ SIGNALS.len() }> = signals(&question.q, chunks)
                .into_iter()
                .zip(is_needed)
                .collect();
            if question.category != UNANSWERABLE && list.iter().any(|entry| entry.1) {
                asked.push(Asked {
                    conversation: index,
                    list,
                    rivals: rivals.rank(&question.q),
                });
            }
        }
    }
    ensure!(
        !asked.is_empty(),
        "no question in {} has evidence",
        data.display()
    );
    Ok(compare(&asked, &chunks))
}

fn compare(asked: &[Asked], chunks: &[Vec<Chunk<'_>>]) -> Figures {
    let mut figures = Figures {
        conversations: chunks.len(),
        questions: u64::try_from(asked.len()).unwrap_or(u64::MAX),
        rows: Vec::new(),
        weights: None,
    };
    let mut note = |name, asked: &Asked, worth: &[f64]| {
        let chunks = chunks
            .get(asked.conversation)
            .map_or(&[][..], Vec::as_slice);
        let at = figures.rows.iter().position(|row: &Row| row.name == name);
        let at = at.unwrap_or_else(|| {
            figures.rows.push(Row {
                name,
                kept: [0; BUDGETS.len()],
            });
            figures.rows.len() - 1
        });
        if let Some(row) = figures.rows.get_mut(at) {
            for (sum, kept) in row.kept.iter_mut().zip(kept_at(worth, asked, chunks)) {
                *sum += u64::from(kept);
            }
        }
    };
    for question in asked {
        for (name, worth) in &question.rivals {
            note(*name, question, worth);
        }
    }
    let worth = |question: &Asked, weights: &Signals| -> Vec<f64> {
        question
            .list
            .iter()
            .map(|(signals, _)| weigh(signals, weights))
            .collect()
    };
    for question in asked {
        note(
            "focus, weights of this binary",
            question,
            &worth(question, &WEIGHTS),
        );
    }
    if chunks.len() > 1 {
        for left_out in 0..chunks.len() {
            let others = asked.iter().filter(|it| it.conversation != left_out);
            let others: Vec<_> = others.map(|it| &it.list).collect();
            let weights = listwise::train(&others);
            for question in asked.iter().filter(|it| it.conversation == left_out) {
                let worth = worth(question, &weights);
                note("focus, conversation left out", question, &worth);
            }
        }
        let all: Vec<_> = asked.iter().map(|it| &it.list).collect();
        figures.weights = Some(listwise::train(&all));
    }
    figures
}

/// Whether all evidence is kept, at each budget.
fn kept_at(worth: &[f64], asked: &Asked, chunks: &[Chunk<'_>]) -> [bool; BUDGETS.len()] {
    let all: u64 = chunks.iter().map(|chunk| chunk.tokens.0).sum();
    BUDGETS.map(|percent| {
        let kept = keep(worth, chunks, Tokens(all * percent / 100));
        let mut entries = asked.list.iter().zip(kept);
        entries.all(|((_, is_needed), is_kept)| is_kept || !is_needed)
    })
}

fn chunks(conversation: &Conversation) -> Vec<Chunk<'_>> {
    let chunk = |turn: &'_ Turn| O200k::count(&format!("{}: {}", turn.speaker, turn.text)) + FRAME;
    let turns = conversation.turns.iter();
    turns
        .map(|turn| Chunk {
            text: &turn.text,
            speaker: &turn.speaker,
            date: &turn.date,
            group: turn.session,
            tokens: Tokens(chunk(turn)),
        })
        .collect()
}

impl Figures {
    fn weights(&self) -> impl Iterator<Item = (&'static str, f64)> {
        SIGNALS.into_iter().zip(self.weights.into_iter().flatten())
    }

    fn json(&self) -> Value {
        let row = |row: &Row| {
            let kept = BUDGETS.iter().zip(row.kept);
            let kept: Map<String, Value> = kept
                .map(|(percent, kept)| (percent.to_string(), share(kept, self.questions).into()))
                .collect();
            (row.name.to_owned(), Value::Object(kept))
        };
        json!({
            "conversations": self.conversations,
            "questions": self.questions,
            "share_with_all_evidence_by_percent_of_tokens":
                self.rows.iter().map(row).collect::<Map<_, _>>(),
            "weights": self.weights().map(|(name, weight)| (name.to_owned(), weight.into()))
                .collect::<Map<_, _>>(),
        })
    }

    fn text(&self) -> String {
        let titles = BUDGETS.map(|percent| format!("{percent} %"));
        let mut heads = vec![("all evidence kept at", Set::Left)];
        heads.extend(titles.iter().map(|title| (title.as_str(), Set::Right)));
        let row = |row: &Row| {
            let shares = row
                .kept
                .map(|kept| format!("{:.3}", share(kept, self.questions)));
            std::iter::once(row.name.to_owned()).chain(shares).collect()
        };
        let rows: Vec<Vec<String>> = self.rows.iter().map(row).collect();
        let mut text = table(&heads, &rows);
        let Self {
            conversations,
            questions,
            ..
        } = self;
        writeln!(
            text,
            "{questions} questions about {conversations} conversations"
        )
        .ok();
        for (name, weight) in self.weights() {
            writeln!(text, "weight of `{name}`: {weight:.3}").ok();
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use serde_json::{Value, json};

    use super::evaluate;

    #[test]
    fn conversations_are_left_out_in_turn() {
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        for conversation in ["red", "blue", "green"] {
            let turn = |at: u32| {
                json!({"id": at.to_string(), "session": at / 5, "date": "", "speaker": "Ann",
                    "text": format!("item {at} of {conversation} letters number{at}")})
            };
            let turns: Vec<Value> = (0..20).map(turn).collect();
            let question = |at: u32, category: u8| {
                json!({"q": format!("where is number{at}?"), "category": category,
                    "evidence": [at.to_string()]})
            };
            let line =
                json!({"turns": turns, "qa": [question(3, 1), question(17, 2), question(4, 5)]});
            writeln!(file, "{line}").expect("it takes lines");
        }
        let figures = evaluate(file.path()).expect("it can be evaluated");
        assert_eq!((figures.conversations, figures.questions), (3, 6));
        let kept = |name: &str| {
            let row = figures.rows.iter().find(|row| row.name == name);
            row.map(|row| row.kept)
        };
        assert_eq!(kept("BM25"), Some([6; 5]));
        assert_eq!(kept("focus, conversation left out"), Some([6; 5]));
        assert_eq!(kept("recency"), Some([0, 0, 3, 3, 3]));
        assert!(figures.weights.is_some());
        assert_eq!(figures.json()["questions"], 6);
    }
}
