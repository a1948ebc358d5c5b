//! Documents that a question comes with: those that do not earn their place within a budget are left out,
//! and of the others the best stand first and last, where models read best.
//!
//! Every message of the user is looked at by itself. So a message becomes the same text in every call of
//! its conversation, after a restart and at any replica.
//!
//! **Invariant**: messages with results of tools or images, with cited blocks, or within the budget stay as
//! they are; what is kept says the same (tests `documents_earn_their_place`,
//! `documents_are_found_however_they_are_spelt`, `other_messages_stay_as_they_are` and property `a_longer_conversation_focuses_alike`).

use std::borrow::Cow;
use std::ops::Range;

use memchr::{memchr_iter, memmem};
use wire::dialect::passages::Passage;
use wire::dialect::request::Request;
use wire::json::Tape;
use wire::prompt::{Kind, Part, Role, Segment};
use wire::splice::{Reason, Splice};
use wire::usage::Tokens;

use super::{Chunk, keep, rank};
use crate::shape::trim::Count;

/// Of fewer documents there is nothing to choose.
const DOCUMENTS_MIN: usize = 4;

/// 200 bytes: a shorter text between others is a heading or an instruction and no document.
const DOCUMENT_BYTES_MIN: usize = 200;

/// 1 kB: what people type as a question is shorter.
const QUESTION_BYTES_MAX: usize = 1_000;

/// Names of the elements that documents are commonly wrapped in.
const NAMES: [&str; 5] = ["document", "doc", "chunk", "passage", "source"];

/// What follows `<` where such elements begin.
const BEGINNINGS: [&[u8]; 4] = [b"doc", b"chunk", b"passage", b"source"];

/// How a body spells `<` where it is escaped; the last letter is of either case.
const ESCAPED: &[u8] = br"\u003";

/// What focusing does to a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Focused {
    /// The edits.
    pub splice: Splice,
    /// The messages that were changed.
    pub picks: Vec<Pick>,
}

/// What was kept of a message's documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pick {
    /// The message.
    pub message: u32,
    /// How many documents it has.
    pub documents: usize,
    /// How many are kept.
    pub kept: usize,
    /// Tokens that are left out.
    pub omitted: Tokens,
}

/// Focuses the messages of a request whose documents have more than `budget` tokens.
pub fn focus(request: &Request<'_>, budget: Tokens, count: &mut dyn Count) -> Focused {
    let mut focused = Focused::default();
    for message in asking(request) {
        let texts = request.passages_in(message.clone());
        let Some(asked) = asked(request, &message, &texts) else {
            continue;
        };
        let index = request.prompt.segments.get(message.start);
        let index = index.map_or(0, |segment| segment.index);
        let pick = asked.focus(index, budget, count, &mut focused.splice);
        focused.picks.extend(pick);
    }
    focused
}

/// The part of a segment that documents are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InSegment {
    /// The segment.
    pub segment: usize,
    bytes: usize,
    all: usize,
}

impl InSegment {
    /// The documents' share of the segment's tokens.
    pub fn of(&self, size: Tokens) -> u64 {
        let share = u128::from(size.0) * self.bytes as u128 / self.all.max(1) as u128;
        u64::try_from(share).unwrap_or(size.0).min(size.0)
    }
}

/// Where the documents of all questions are.
pub fn parts(request: &Request<'_>) -> Vec<InSegment> {
    let mut parts = Vec::new();
    for message in asking(request) {
        let texts = request.passages_in(message.clone());
        let Some(asked) = asked(request, &message, &texts) else {
            continue;
        };
        let bytes = asked.documents.iter().map(|it| it.text.len()).sum();
        match (&asked.place, texts.as_slice()) {
            (Place::Text { .. }, [text]) => parts.push(InSegment {
                segment: text.segment,
                bytes,
                all: text.text.len(),
            }),
            (Place::Blocks(range, _), _) if asked.documents.len() >= DOCUMENTS_MIN => {
                let segments = &request.prompt.segments;
                let is_within = |it: &Segment| range.contains(&it.span.start);
                let within = message.filter(|place| segments.get(*place).is_some_and(is_within));
                parts.extend(within.map(|segment| InSegment {
                    segment,
                    bytes: 1,
                    all: 1,
                }));
            }
            _ => {}
        }
    }
    parts
}

/// The segments of each message of the user that says nothing but texts and may hold documents.
fn asking(request: &Request<'_>) -> impl Iterator<Item = Range<usize>> {
    let segments = &request.prompt.segments;
    let behind = segments.iter().position(|it| it.part == Part::Messages);
    let first = behind.unwrap_or(segments.len());
    let said = segments.get(first..).unwrap_or_default();
    let messages = said.chunk_by(|one, other| one.index == other.index);
    let ranges = messages.scan(first, |at, message| {
        let start = *at;
        *at += message.len();
        Some((start..*at, message))
    });
    let is_asked = |it: &Segment| it.role == Role::User && it.kind == Kind::Text;
    let asking = ranges.filter(move |(_, message)| message.iter().all(is_asked));
    asking
        .filter(|(_, message)| may_hold(request.body, message))
        .map(|(range, _)| range)
}

/// Whether it is worth reading a message's texts: as the body spells them, without reading them.
fn may_hold(body: &[u8], message: &[Segment]) -> bool {
    match message {
        [text] => {
            let text = body.get(text.span.clone()).unwrap_or_default();
            let begins = |at: usize| {
                let behind = text.get(at + 1..).unwrap_or_default();
                BEGINNINGS.iter().any(|name| behind.starts_with(name))
            };
            text.len() > DOCUMENT_BYTES_MIN
                && (memchr_iter(b'<', text).any(begins) || memmem::find(text, ESCAPED).is_some())
        }
        texts => texts.len() > DOCUMENTS_MIN,
    }
}

/// A message's question and documents.
fn asked<'t>(
    request: &Request<'t>,
    message: &Range<usize>,
    texts: &'t [Passage],
) -> Option<Asked<'t>> {
    match texts {
        [text] => tagged(text),
        texts if texts.len() == message.len() => in_blocks(request, texts),
        _ => None,
    }
}

/// A question with its documents.
struct Asked<'t> {
    question: &'t str,
    documents: Vec<Document<'t>>,
    place: Place<'t>,
}

struct Document<'t> {
    /// What it says.
    text: &'t str,
    /// How it is written, without a marker.
    written: Cow<'t, str>,
}

/// Where documents stand.
enum Place<'t> {
    /// In these bytes of the body, as blocks with commas between them; the client's last marker among
    /// them goes to the last one that is kept.
    Blocks(Range<usize>, Option<String>),
    /// In a text, between two others, with this between each two of them.
    Text {
        span: Range<usize>,
        before: &'t str,
        between: &'t str,
        after: &'t str,
    },
}

/// Documents that are blocks of their own, with the question last, or first.
fn in_blocks<'t>(request: &Request<'t>, texts: &'t [Passage]) -> Option<Asked<'t>> {
    let (first, last) = (texts.first()?, texts.last()?);
    let is_short = |text: &Passage| text.text.len() <= QUESTION_BYTES_MAX;
    let is_question = |text: &Passage| text.text.trim_end().ends_with('?');
    let asked_first =
        is_short(first) && (!is_short(last) || is_question(first) && !is_question(last));
    let (question, documents) = if asked_first {
        (first, texts.get(1..)?)
    } else {
        (last, texts.get(..texts.len() - 1)?)
    };
    let heads = documents
        .iter()
        .take_while(|it| it.text.len() < DOCUMENT_BYTES_MIN);
    let documents = documents.get(heads.count()..)?;
    let segments = &request.prompt.segments;
    let mut marker = None;
    let mut written = |text: &'t Passage| {
        let block = request.body.get(segments.get(text.segment)?.span.clone())?;
        let is_long = text.text.len() >= DOCUMENT_BYTES_MIN;
        let (written, marked) = plain(block).filter(|_| is_long)?;
        marker = marked.or(marker.take());
        Some(Document {
            text: &text.text,
            written: written.into(),
        })
    };
    let start = segments.get(documents.first()?.segment)?.span.start;
    let end = segments.get(documents.last()?.segment)?.span.end;
    Some(Asked {
        question: is_short(question).then_some(&question.text)?,
        documents: documents.iter().map(&mut written).collect::<Option<_>>()?,
        place: Place::Blocks(start..end, marker),
    })
}

/// A block that says a text and nothing else, without its marker, and the marker.
fn plain(block: &[u8]) -> Option<(String, Option<String>)> {
    let tape = Tape::read(block).ok()?;
    let root = tape.root();
    let raw = |name| Some(root.get(name)?.raw().to_owned());
    let (kind, text, marker) = (raw("type")?, raw("text")?, raw("cache_control"));
    let is_plain = root.members().count() == 2 + usize::from(marker.is_some());
    is_plain.then(|| (format!(r#"{{"type":{kind},"text":{text}}}"#), marker))
}

/// Documents that are elements within one text, `<document …>…</document>`, with nothing but blanks
/// between them.
fn tagged(passage: &Passage) -> Option<Asked<'_>> {
    let text = passage.text.as_str();
    let (name, start) = NAMES
        .iter()
        .filter_map(|name| Some((*name, opening(text, name)?)))
        .min_by_key(|(_, start)| *start)?;
    let closing = format!("</{name}>");
    let mut documents = Vec::new();
    let mut between = None;
    let mut at = start;
    let end = loop {
        let rest = text.get(at..)?;
        let length = rest.find(&closing)? + closing.len();
        let written = rest.get(..length)?;
        documents.push(Document {
            text: written,
            written: written.into(),
        });
        let end = at + length;
        let rest = text.get(end..)?;
        let Some(next) = opening(rest, name) else {
            break end;
        };
        let gap = rest.get(..next)?;
        if !gap.trim().is_empty() {
            return None;
        }
        between.get_or_insert(gap);
        at = end + next;
    };
    let (before, after) = (text.get(..start)?, text.get(end..)?);
    let question = if after.trim().is_empty() {
        before
    } else {
        after
    };
    let question = question.trim();
    let from = question.len().saturating_sub(QUESTION_BYTES_MAX);
    let from = (from..=question.len()).find(|from| question.is_char_boundary(*from))?;
    Some(Asked {
        question: question.get(from..).filter(|it| !it.is_empty())?,
        documents,
        place: Place::Text {
            span: passage.span.clone()?,
            before,
            between: between.unwrap_or_default(),
            after,
        },
    })
}

/// Where an element of this name opens first.
fn opening(text: &str, name: &str) -> Option<usize> {
    let tag = format!("<{name}");
    let mut found = text.match_indices(&tag);
    found.find_map(|(at, _)| {
        let behind = text.get(at + tag.len()..)?;
        behind.starts_with(['>', ' ', '\n']).then_some(at)
    })
}

impl Asked<'_> {
    /// Leaves out what does not earn its place, if there is more than the budget.
    fn focus(
        self,
        message: u32,
        budget: Tokens,
        count: &mut dyn Count,
        splice: &mut Splice,
    ) -> Option<Pick> {
        let documents = self.documents.len();
        if documents < DOCUMENTS_MIN {
            return None;
        }
        let chunks: Vec<Chunk<'_>> = (0_u32..)
            .zip(&self.documents)
            .map(|(group, document)| Chunk {
                text: document.text,
                group,
                tokens: count.tokens(document.text),
                ..Chunk::default()
            })
            .collect();
        let all: Tokens = chunks.iter().map(|chunk| chunk.tokens).sum();
        if all <= budget {
            return None;
        }
        let worth = rank(self.question, &chunks);
        let kept = keep(&worth, &chunks, budget);
        let order = first_and_last(&worth, &kept);
        // A budget below the smallest document leaves none: then the question would stand alone.
        if order.is_empty() {
            return None;
        }
        let written = order.iter().filter_map(|place| self.documents.get(*place));
        let written: Vec<&str> = written.map(|it| &*it.written).collect();
        let left = order.iter().filter_map(|place| chunks.get(*place));
        let left: Tokens = left.map(|chunk| chunk.tokens).sum();
        match self.place {
            Place::Blocks(range, marker) => {
                let mut blocks = written.join(",");
                if let Some(marker) = marker {
                    blocks.truncate(blocks.len() - 1);
                    blocks = format!(r#"{blocks},"cache_control":{marker}}}"#);
                }
                splice.replace(range, blocks, Reason::Focused);
            }
            Place::Text {
                span,
                before,
                between,
                after,
            } => {
                let text = [before, &written.join(between), after].concat();
                let text = serde_json::Value::String(text).to_string();
                splice.replace(span, text, Reason::Focused);
            }
        }
        Some(Pick {
            message,
            documents,
            kept: order.len(),
            omitted: Tokens(all.0 - left.0),
        })
    }
}

/// The kept ones in order: the best first, the second best last, and so on to the middle. The earlier of
/// equals is the better.
pub fn first_and_last(worth: &[f64], kept: &[bool]) -> Vec<usize> {
    let of = |place: &usize| worth.get(*place).copied().unwrap_or(f64::NEG_INFINITY);
    let places = kept.iter().enumerate().filter(|(_, kept)| **kept);
    let mut best: Vec<usize> = places.map(|(place, _)| place).collect();
    best.sort_by(|one, other| of(other).total_cmp(&of(one)));
    let front = best.iter().step_by(2);
    let back = best.iter().skip(1).step_by(2);
    front.chain(back.rev()).copied().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Strategy, prop, prop_assert, prop_assert_eq, proptest};
    use serde_json::{Value, json};
    use wire::dialect::Dialect;

    use super::*;

    struct Words;

    impl Count for Words {
        fn tokens(&mut self, text: &str) -> Tokens {
            Tokens(text.split_whitespace().count() as u64)
        }
    }

    const TOPICS: [&str; 6] = ["apples", "rivers", "copper", "violins", "glaciers", "bread"];

    /// A document of 62 words about a topic.
    fn about(topic: &str) -> String {
        format!("{topic}: {} \"{topic}\".", "this and that, ".repeat(20))
    }

    fn texts(last: &str) -> Value {
        let texts = TOPICS
            .iter()
            .map(|topic| about(topic))
            .chain([last.to_owned()]);
        texts
            .map(|text| json!({"type": "text", "text": text}))
            .collect()
    }

    fn body(content: &[Value]) -> String {
        let messages = content
            .iter()
            .map(|it| json!({"role": "user", "content": it}));
        json!({"model": "m", "max_tokens": 1, "messages": messages.collect::<Value>()}).to_string()
    }

    fn focused(body: &str, budget: u64) -> (Vec<u8>, Vec<Pick>) {
        let request = Dialect::AnthropicMessages.read(body.as_bytes()).unwrap();
        let focused = focus(&request, Tokens(budget), &mut Words);
        (focused.splice.apply(body.as_bytes()), focused.picks)
    }

    #[test]
    fn documents_earn_their_place() {
        let asked = body(&[texts("what is known of violins and copper?")]);
        let (sent, picks) = focused(&asked, 130);
        let sent: Value = serde_json::from_slice(&sent).unwrap();
        let blocks = sent["messages"][0]["content"].as_array().unwrap();
        let said = |block: &Value| block["text"].as_str().unwrap().to_owned();
        let kept: Vec<String> = blocks.iter().map(said).collect();
        let mut documents = kept[..2].to_vec();
        documents.sort();
        assert_eq!(documents, [about("copper"), about("violins")]);
        assert_eq!(kept[2], "what is known of violins and copper?");
        assert_eq!(
            picks,
            [Pick {
                message: 0,
                documents: 6,
                kept: 2,
                omitted: Tokens(4 * 62)
            }]
        );
        // A marker says where a cache ends, and changes nothing else.
        let mut marked = texts("what is known of violins and copper?");
        marked[1]["cache_control"] = json!({"type": "ephemeral"});
        let (sent, _) = focused(&body(&[marked]), 130);
        let mut sent: Value = serde_json::from_slice(&sent).unwrap();
        let last = sent["messages"][0]["content"][1].as_object_mut().unwrap();
        assert_eq!(
            last.remove("cache_control"),
            Some(json!({"type": "ephemeral"}))
        );
        assert_eq!(&sent["messages"][0]["content"], &json!(blocks));
        // The same as elements of one text; what stands around them stays.
        let element =
            |topic: &&str| format!("<document id=\"{topic}\">\n{}</document>", about(topic));
        let elements: Vec<String> = TOPICS.iter().map(element).collect();
        let text = format!("Read:\n{}\nWhat of glaciers?", elements.join("\n\n"));
        let (sent, picks) = focused(&body(&[json!(text)]), 70);
        let sent: Value = serde_json::from_slice(&sent).unwrap();
        let expect = format!("Read:\n{}\nWhat of glaciers?", element(&"glaciers"));
        assert_eq!(sent["messages"][0]["content"], expect);
        assert_eq!((picks[0].kept, picks[0].documents), (1, 6));
    }

    #[test]
    fn documents_are_found_however_they_are_spelt() {
        let parts = |body: &str| {
            let request = Dialect::AnthropicMessages.read(body.as_bytes()).unwrap();
            let parts = parts(&request);
            let of = parts.iter().map(|it| (it.segment, it.of(Tokens(1_000))));
            of.collect::<Vec<_>>()
        };
        let document = format!("<doc>{}</doc>", about("bread"));
        let text = format!("{document}\n{document}\nWhich of them? {}", " ".repeat(60));
        let share = 2 * document.len() * 1_000 / text.len();
        let spelt = body(&[json!("hello"), json!(text)]);
        assert_eq!(parts(&spelt), [(1, share as u64)]);
        let escaped = spelt.replace('<', r"\u003C").replace('>', r"\u003E");
        assert_eq!(parts(&escaped), [(1, share as u64)]);
        let blocks = body(&[json!("hello"), texts("Which?")]);
        assert_eq!(parts(&blocks), [1, 2, 3, 4, 5, 6].map(|it| (it, 1_000)));
        let few =
            json!([{"type": "text", "text": about("bread")}, {"type": "text", "text": "And?"}]);
        assert_eq!(parts(&body(&[few])), [(0, 0); 0]);
    }

    #[test]
    fn the_best_stand_first_and_last() {
        let worth = [0.1, 0.9, 0.5, 0.7, 0.3];
        let order = |kept: [bool; 5]| first_and_last(&worth, &kept);
        assert_eq!(order([true; 5]), [1, 2, 0, 4, 3]);
        assert_eq!(order([false, true, false, true, true]), [1, 4, 3]);
        assert_eq!(order([false; 5]), [0; 0]);
    }

    #[test]
    fn other_messages_stay_as_they_are() {
        let question = "what is known of violins?";
        let cited = {
            let mut texts = texts(question);
            texts[2]["citations"] = json!([]);
            texts
        };
        let pictured = {
            let mut texts = texts(question);
            texts[2] = json!({"type": "image", "source": {}});
            texts
        };
        let result =
            json!([{"type": "tool_result", "tool_use_id": "t", "content": texts(question)}]);
        let few: Value = texts(question).as_array().unwrap()[3..]
            .iter()
            .cloned()
            .collect();
        let spoken = format!("<document>{}</document> and more", about("bread"));
        for content in [
            cited,
            pictured,
            result,
            few,
            json!(spoken.repeat(6)),
            json!("<document>".repeat(9)),
            json!(about("bread")),
        ] {
            let body = body(&[content]);
            let (sent, picks) = focused(&body, 100);
            assert_eq!(sent, body.as_bytes());
            assert_eq!(picks, []);
        }
        // Within the budget, below every document, and words of the model.
        let asked = body(&[texts(question)]);
        for (body, budget) in [
            (asked.clone(), 10_000),
            (asked.clone(), 5),
            (asked.replace("user", "assistant"), 100),
        ] {
            assert_eq!(focused(&body, budget).0, body.as_bytes(), "{budget}");
        }
    }

    fn said() -> impl Strategy<Value = Vec<(u8, Vec<u8>)>> {
        prop::collection::vec((0..3_u8, prop::collection::vec(0..6_u8, 0..9)), 1..5)
    }

    proptest! {
        /// What a message becomes depends on nothing but the message.
        #[test]
        fn a_longer_conversation_focuses_alike(said in said(), budget in 0..400_u64) {
            let content = |(kind, topics): &(u8, Vec<u8>)| {
                let texts = topics.iter().map(|topic| about(TOPICS[usize::from(*topic)]));
                match kind {
                    0 => {
                        let texts: Vec<String> = texts.map(|it| format!("<doc>{it}</doc>")).collect();
                        json!(texts.concat() + " bread?")
                    }
                    1 => texts.chain(["which rivers?".to_owned()])
                        .map(|text| json!({"type": "text", "text": text})).collect(),
                    _ => json!(texts.collect::<String>()),
                }
            };
            let content: Vec<Value> = said.iter().map(content).collect();
            let mut before: Vec<Value> = Vec::new();
            for length in 1..=content.len() {
                let body = body(&content[..length]);
                let (sent, _) = focused(&body, budget);
                prop_assert!(sent.len() <= body.len());
                let sent: Value = serde_json::from_slice(&sent).unwrap();
                let messages = sent["messages"].as_array().unwrap().clone();
                prop_assert_eq!(messages.len(), length);
                prop_assert_eq!(&messages[..before.len()], &before[..]);
                before = messages;
            }
        }
    }
}
