//! The live path on recorded conversations: each session is a document, the question comes last, and what
//! the gateway would send is looked at.
//!
//! **Invariant**: what is counted as kept stands in the body that would be sent (test
//! `sessions_are_focused_as_live_calls_are`).

use std::collections::BTreeSet;

use anyhow::Context as _;
use policy::shape::focus::documents::focus;
use policy::shape::focus::keep;
use policy::shape::trim::Count;
use serde_json::{Value, json};
use wire::dialect::Dialect;
use wire::usage::Tokens;

use super::rivals::Rivals;
use super::{Chunk, Conversation, UNANSWERABLE};
use crate::command::think::share;
use crate::print::table::{Set, table};
use crate::tokens::O200k;

/// Shares of the tokens of all documents that may be kept, in percent.
const BUDGETS: [u64; 4] = [10, 25, 50, 75];

struct Counted;

impl Count for Counted {
    fn tokens(&mut self, text: &str) -> Tokens {
        Tokens(O200k::count(text))
    }
}

/// Of the questions, at each budget.
#[derive(Clone, Copy, Debug, Default)]
struct Kept {
    /// All evidence is kept.
    focus: u64,
    /// The same by BM25, and by keeping the newest.
    rivals: [u64; 2],
    /// Documents with evidence that are kept, and how many of them stand first or last.
    evidence: u64,
    outermost: u64,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Figures {
    questions: u64,
    kept: [Kept; BUDGETS.len()],
}

/// One conversation as documents, and which turns are in each.
struct Documents<'c> {
    texts: Vec<String>,
    turns: Vec<BTreeSet<&'c str>>,
}

fn documents(conversation: &Conversation) -> Documents<'_> {
    let mut documents = Documents {
        texts: Vec::new(),
        turns: Vec::new(),
    };
    for session in conversation
        .turns
        .chunk_by(|one, other| one.session == other.session)
    {
        let mut text = session
            .first()
            .map(|turn| turn.date.clone())
            .unwrap_or_default();
        for turn in session {
            text = format!("{text}\n{}: {}", turn.speaker, turn.text);
        }
        documents.texts.push(text);
        documents
            .turns
            .push(session.iter().map(|turn| turn.id.as_str()).collect());
    }
    documents
}

impl Figures {
    /// Asks every question of a conversation.
    pub(super) fn ask(&mut self, conversation: &Conversation) -> anyhow::Result<()> {
        let documents = documents(conversation);
        let chunks: Vec<Chunk<'_>> = (0_u32..)
            .zip(&documents.texts)
            .map(|(group, text)| Chunk {
                text,
                group,
                tokens: Counted.tokens(text),
                ..Chunk::default()
            })
            .collect();
        let all: u64 = chunks.iter().map(|chunk| chunk.tokens.0).sum();
        let rivals = Rivals::of(&chunks);
        for question in &conversation.qa {
            let evidence: Vec<&str> = question.evidence.iter().map(String::as_str).collect();
            let has_some = |turns: &BTreeSet<&str>| evidence.iter().any(|id| turns.contains(id));
            let needed: Vec<bool> = documents.turns.iter().map(has_some).collect();
            if question.category == UNANSWERABLE || !needed.contains(&true) {
                continue;
            }
            self.questions += 1;
            let [recency, _, _, bm25] = rivals.rank(&question.q);
            for (kept, percent) in self.kept.iter_mut().zip(BUDGETS) {
                let budget = Tokens(all * percent / 100);
                let sent = sent(&documents.texts, &question.q, budget)?;
                let places: Vec<Option<usize>> = documents
                    .texts
                    .iter()
                    .map(|text| sent.iter().position(|sent| sent == text))
                    .collect();
                let has_all = |is_kept: &dyn Fn(usize) -> bool| {
                    let mut needed = needed.iter().enumerate().filter(|(_, needed)| **needed);
                    u64::from(needed.all(|(place, _)| is_kept(place)))
                };
                kept.focus += has_all(&|place| places.get(place).is_some_and(Option::is_some));
                for (sum, (_, worth)) in kept.rivals.iter_mut().zip([&bm25, &recency]) {
                    let chosen = keep(worth, &chunks, budget);
                    *sum += has_all(&|place| chosen.get(place) == Some(&true));
                }
                let found = places.iter().zip(&needed).filter(|(_, needed)| **needed);
                for place in found.filter_map(|(place, _)| *place) {
                    kept.evidence += 1;
                    kept.outermost += u64::from(place == 0 || place + 1 == sent.len());
                }
            }
        }
        Ok(())
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        let rows = BUDGETS.iter().zip(&self.kept).map(|(percent, kept)| {
            let [bm25, recency] = kept.rivals.map(|kept| share(kept, self.questions));
            json!({
                "percent_of_tokens": percent, "focus": share(kept.focus, self.questions),
                "bm25": bm25, "recency": recency,
                "evidence_first_or_last": share(kept.outermost, kept.evidence),
            })
        });
        json!({"questions": self.questions, "documents": rows.collect::<Value>()})
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let heads = [
            "kept of the tokens",
            "focus",
            "BM25",
            "recency",
            "first or last",
        ];
        let heads = heads.map(|head| (head, Set::Right));
        let rows: Vec<Vec<String>> = BUDGETS
            .iter()
            .zip(&self.kept)
            .map(|(percent, kept)| {
                let [bm25, recency] = kept.rivals;
                let all = [kept.focus, bm25, recency].map(|kept| share(kept, self.questions));
                let outermost = share(kept.outermost, kept.evidence);
                let shares = all.into_iter().chain([outermost]);
                let shares = shares.map(|share| format!("{share:.3}"));
                std::iter::once(format!("{percent} %"))
                    .chain(shares)
                    .collect()
            })
            .collect();
        format!(
            "{}{} questions; the share of which all sessions with evidence are sent, and of those \
             sessions the share that stands first or last\n",
            table(&heads, &rows),
            self.questions
        )
    }
}

/// The documents that the gateway would send, in their order.
fn sent(texts: &[String], question: &str, budget: Tokens) -> anyhow::Result<Vec<String>> {
    let blocks = texts.iter().map(String::as_str).chain([question]);
    let blocks: Value = blocks
        .map(|text| json!({"type": "text", "text": text}))
        .collect();
    let body = json!({"model": "m", "max_tokens": 1,
        "messages": [{"role": "user", "content": blocks}]})
    .to_string();
    let request = Dialect::AnthropicMessages.read(body.as_bytes())?;
    let sent = focus(&request, budget, &mut Counted)
        .splice
        .apply(body.as_bytes());
    let sent = Dialect::AnthropicMessages
        .read(&sent)
        .context("a focused body")?;
    let mut texts: Vec<String> = sent.passages().into_iter().map(|it| it.text).collect();
    texts.pop();
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use super::super::{Question, Turn};
    use super::*;

    #[test]
    fn sessions_are_focused_as_live_calls_are() {
        let turn = |session: u32| Turn {
            id: format!("D{session}"),
            session,
            date: String::new(),
            speaker: "Ann".to_owned(),
            text: format!("letters about number{session} {}", "and so on ".repeat(30)),
        };
        let mut figures = Figures::default();
        figures
            .ask(&Conversation {
                turns: (0..8).map(turn).collect(),
                qa: vec![Question {
                    q: "where is number3?".to_owned(),
                    category: 1,
                    evidence: vec!["D3".to_owned()],
                }],
            })
            .expect("a request");
        assert_eq!(figures.questions, 1);
        let [_, quarter, half, _] = figures.kept;
        assert_eq!((quarter.focus, quarter.rivals), (1, [1, 0]));
        assert_eq!((half.evidence, half.outermost), (1, 1));
    }
}
