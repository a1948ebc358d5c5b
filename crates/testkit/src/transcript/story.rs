//! A transcript file as data: stories, what the client asks in them, how the upstream answers.
//!
//! **Invariant**: what the run does not write is kept as it stands (test
//! `a_true_story_is_told_back_unchanged`).

use crate::http1::Headers;
use crate::transcript::fail;
use crate::upstream::Step;

/// A block of the file: its first line without the mark, and the lines that follow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) head: String,
    pub(super) lines: Vec<String>,
}

/// A call of the client, and how the upstream answers what comes of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Exchange {
    pub(super) ask: Block,
    pub(super) answers: Vec<Block>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Story {
    pub(super) title: String,
    pub(super) exchanges: Vec<Exchange>,
}

/// The text before the first story, and the stories without their expectations.
pub(super) fn parse(text: &str) -> (String, Vec<Story>) {
    let mut preamble = String::new();
    let mut stories: Vec<Story> = Vec::new();
    let mut blocks: Vec<(&str, Block)> = Vec::new();
    for line in text.lines() {
        let mark = line
            .get(..3)
            .filter(|mark| ["== ", ">> ", "-> ", "<- ", "<< "].contains(mark));
        match (mark, blocks.last_mut()) {
            (Some(mark), _) => {
                blocks.push((
                    mark,
                    Block {
                        head: line[3..].to_owned(),
                        lines: Vec::new(),
                    },
                ));
            }
            (None, Some((_, block))) => block.lines.push(line.to_owned()),
            (None, None) => preamble.extend([line, "\n"]),
        }
    }
    for (mark, mut block) in blocks {
        while block
            .lines
            .last()
            .is_some_and(|line| line.trim().is_empty())
        {
            block.lines.pop();
        }
        let story = stories.last_mut();
        match (mark, story) {
            ("== ", _) if block.head != "ledger" => {
                stories.push(Story {
                    title: block.head,
                    exchanges: Vec::new(),
                });
            }
            (">> ", Some(story)) => {
                story.exchanges.push(Exchange {
                    ask: block,
                    answers: Vec::new(),
                });
            }
            ("<- ", Some(Story { exchanges, .. })) => match exchanges.last_mut() {
                Some(exchange) => exchange.answers.push(block),
                None => fail("an answer `<-` stands before any request `>>`"),
            },
            ("-> " | "<< " | "== ", Some(_)) => {}
            (mark, _) => fail(&format!("`{mark}` stands before any story `== title`")),
        }
    }
    (
        preamble.trim_end().to_owned() + if preamble.is_empty() { "" } else { "\n" },
        stories,
    )
}

impl Block {
    /// Headers of the first line (after two spaces or more) and of the indented lines that follow.
    pub(super) fn headers(&self) -> Headers {
        let inline = self.head.split("  ").skip(1);
        let indented = self.lines.iter().map_while(|line| line.strip_prefix("   "));
        let fields = inline
            .chain(indented)
            .filter_map(|field| field.split_once(':'));
        fields
            .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
            .collect()
    }

    pub(super) fn body(&self) -> &[String] {
        let indented = self
            .lines
            .iter()
            .take_while(|line| line.starts_with("   "))
            .count();
        &self.lines[indented..]
    }

    /// The first line up to its headers, word by word.
    pub(super) fn words(&self) -> Vec<&str> {
        self.head
            .split("  ")
            .next()
            .unwrap_or_default()
            .split(' ')
            .collect()
    }

    pub(super) fn written(&self, mark: &str) -> String {
        let mut text = format!("{mark} {}\n", self.head);
        for line in &self.lines {
            text.push_str(line);
            text.push('\n');
        }
        text
    }

    /// The answer that it describes, and after how many events the client leaves, if it does.
    pub(super) fn steps(&self) -> (Vec<Step>, Option<usize>) {
        if let Some(step) = directive(&self.head) {
            let leaves = (self.head == "[client closes]").then_some(0);
            return (vec![step], leaves);
        }
        let words = self.words();
        let status = words[0]
            .parse()
            .unwrap_or_else(|_| fail("`<-` wants a status first"));
        let mut headers: Headers = Vec::new();
        if let Some(content_type) = words.get(1) {
            headers.push(("content-type".into(), (*content_type).into()));
        }
        headers.extend(self.headers());
        let events = words
            .get(1)
            .is_some_and(|content_type| *content_type == "text/event-stream");
        if events {
            let (chunks, leaves) = event_steps(self.body());
            let head = Step::Head(status, headers);
            return (std::iter::once(head).chain(chunks).collect(), leaves);
        }
        let ending = self.body().last().and_then(|line| directive(line));
        let lines = self.body().len() - usize::from(ending.is_some());
        let body = self.body()[..lines].join("\n");
        if ending.is_none() {
            headers.push(("content-length".into(), body.len().to_string()));
        }
        let head = [Step::Head(status, headers), Step::Chunk(body.into_bytes())];
        (head.into_iter().chain(ending).collect(), None)
    }
}

/// One chunk an event; a directive stands on a line of its own.
fn event_steps(lines: &[String]) -> (Vec<Step>, Option<usize>) {
    let mut steps = Vec::new();
    let mut leaves = None;
    let mut event = String::new();
    for line in lines.iter().map(String::as_str).chain([""]) {
        if let Some(step) = directive(line) {
            if line == "[client closes]" {
                leaves = Some(steps.len());
            }
            // An event without its blank line is one that the upstream never finished.
            if !event.is_empty() {
                steps.push(Step::Chunk(std::mem::take(&mut event).into_bytes()));
            }
            steps.push(step);
        } else if !line.is_empty() {
            event.push_str(line);
            event.push('\n');
        } else if !event.is_empty() {
            event.push('\n');
            steps.push(Step::Chunk(std::mem::take(&mut event).into_bytes()));
        }
    }
    (steps, leaves)
}

fn directive(line: &str) -> Option<Step> {
    match line {
        "[cut]" => Some(Step::Cut),
        "[reset]" => Some(Step::Reset),
        "[hang]" | "[client closes]" => Some(Step::Hang),
        _ => None,
    }
}
