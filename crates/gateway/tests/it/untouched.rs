//! Bodies that nobody asked us to change.
//!
//! **Invariant**: with every lever off, the bytes that go upstream are the bytes that came
//! (`levers_off_is_byte_identical`); equal bytes have equal SHA-256 sums.

use std::sync::{Arc, Mutex};

use gateway::setup::{LeverMode, Setup};
use testkit::client::Client;
use testkit::upstream::{Step, Upstream};

use crate::stage::{SPOKEN, Spoken, Stage, plain};

/// Requests of the main run.
const REQUESTS: u64 = 10_000;

/// Requests of the shorter run with the lever observing.
const OBSERVED: u64 = 500;

/// Every so many requests one has a large body.
const LARGE_EVERY: u64 = 2_500;

/// 8 MiB: a conversation with several images.
const LARGE_BYTES: usize = 8 << 20;

/// Numbers that only repeat themselves: xorshift64*.
struct Draws(u64);

impl Draws {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let drawn = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(drawn).unwrap() % end
    }

    fn of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }

    fn space(&mut self) -> &'static str {
        self.of(&["", "", "", " ", "\n", "\t", "  ", "\r\n "])
    }

    /// A JSON string, quotes included, whose spelling a serialiser would not keep.
    fn string(&mut self) -> String {
        let mut text = String::from("\"");
        for _ in 0..self.below(5) {
            text += self.of(&[
                "plain words",
                "\\u0041",
                "\\/",
                "/",
                "\\\"",
                "\\\\",
                "\\n",
                "\\u00e9",
                "é",
                "\\ud83d\\ude00",
                "😀",
                "👩‍👩‍👧",
                "\\ud800",
                "\\u0000",
                "\u{2028}",
                "data: [DONE]",
                "\\u007f",
                "\u{7f}",
                "</script>",
                "e\u{301}",
            ]);
        }
        text + "\""
    }

    fn value(&mut self, depth: usize) -> String {
        match self.below(if depth == 0 { 3 } else { 5 }) {
            0 => self.string(),
            1 => self
                .of(&[
                    "1.0",
                    "1",
                    "-0",
                    "-0.0",
                    "9007199254740993",
                    "18446744073709551616",
                    "1e400",
                    "1E+2",
                    "0.1000000000000000055511151231257827",
                    "123456789012345678901234567890",
                ])
                .to_owned(),
            2 => self.of(&["true", "false", "null", "[]", "{}"]).to_owned(),
            3 => {
                let items: Vec<String> =
                    (0..self.below(3)).map(|_| self.value(depth - 1)).collect();
                format!("[{}{}]", self.space(), items.join(","))
            }
            _ => {
                let members: Vec<String> =
                    (0..self.below(4)).map(|_| self.member(depth - 1)).collect();
                format!("{{{}{}}}", self.space(), members.join(", "))
            }
        }
    }

    /// A member that no dialect knows; names repeat often.
    fn member(&mut self, depth: usize) -> String {
        let name = self.of(&[
            "\"x\"",
            "\"x\"",
            "\"future_field\"",
            "\"\\u0078\"",
            "\"\"",
            "\"ключ\"",
        ]);
        format!(
            "{name}{}:{}{}",
            self.space(),
            self.space(),
            self.value(depth)
        )
    }

    fn content(&mut self) -> String {
        let text = self.string();
        let more = self.member(2);
        match self.below(3) {
            0 => text,
            1 => format!(r#"[{{"type":"text","text":{text},{more}}}]"#),
            _ => format!(
                r#"[{{{more},"type" : "text" , "text":{text}}},{{"text":"b","type":"text"}}]"#
            ),
        }
    }

    fn messages(&mut self) -> String {
        let mut turns = Vec::new();
        for turn in 0..=2 * self.below(3) {
            let role = ["user", "assistant"][turn % 2];
            let (content, more) = (self.content(), self.member(1));
            turns.push(format!(r#"{{"role":"{role}","content":{content},{more}}}"#));
        }
        format!("[{}]", turns.join(self.of(&[",", ", ", " ,\n"])))
    }

    /// A request's body, its members in any order.
    fn body(&mut self, model: &str) -> String {
        let mut members = vec![
            format!(r#""model"{}:"{model}""#, self.space()),
            format!(r#""messages":{}"#, self.messages()),
            format!(r#""max_tokens":{}"#, self.of(&["1", "64", "4096"])),
            format!(r#""temperature":{}"#, self.of(&["1.0", "0", "1e0"])),
        ];
        if self.below(3) == 0 {
            members.push(r#""temperature":0.7"#.to_owned());
        }
        if self.below(3) == 0 {
            members.push(format!(r#""stream":{}"#, self.of(&["true", "false"])));
        }
        members.extend(
            (0..self.below(4))
                .map(|_| self.member(3))
                .collect::<Vec<_>>(),
        );
        for place in (1..members.len()).rev() {
            members.swap(place, self.below(place + 1));
        }
        let (before, between) = (self.space(), self.of(&[",", ", ", "\n,\t"]));
        format!("{before}{{{}}}{}", members.join(between), self.space())
    }
}

/// Sends `requests` bodies over one connection, half of them in each dialect.
async fn check(setup: fn(&str) -> Setup, requests: u64) {
    let expected: Arc<Mutex<Vec<u8>>> = Arc::default();
    let sent = Arc::clone(&expected);
    let upstream = Upstream::playing(move |recorded| {
        let sent = sent.lock().unwrap();
        let is_same = *sent == recorded.body;
        Step::json(if is_same { 200 } else { 500 }, "{}")
    })
    .await;
    let stage = Stage::with(setup(upstream.url())).await;
    let mut client = Client::connect(&stage.url).await;
    let mut draws = Draws(0x9E37_79B9_7F4A_7C15);
    for number in 0..requests {
        let Spoken { path, headers, .. } = SPOKEN[draws.below(2)];
        let model = if path == "/v1/messages" {
            "claude-sonnet-4-6"
        } else {
            "gpt-5.4"
        };
        let mut body = draws.body(model);
        if number % LARGE_EVERY == LARGE_EVERY - 1 {
            let large = "é\\u0041 ".repeat(LARGE_BYTES / "é\\u0041 ".len());
            body = body.replacen('{', &format!(r#"{{"large":"{large}","#), 1);
        }
        expected
            .lock()
            .unwrap()
            .clone_from(&body.clone().into_bytes());
        client.ask("POST", path, headers, body.as_bytes()).await;
        let response = client.response().await.unwrap();
        let shown: String = body.chars().take(2_000).collect();
        assert_eq!(
            response.status,
            200,
            "{number}: {}\n{shown}",
            response.text()
        );
    }
    stage
        .books
        .settled(usize::try_from(requests).unwrap())
        .await;
}

#[tokio::test]
async fn levers_off_is_byte_identical() {
    check(plain, REQUESTS).await;
}

#[tokio::test]
async fn observing_is_byte_identical() {
    fn observing(url: &str) -> Setup {
        Setup {
            cache: LeverMode::Observe,
            ..plain(url)
        }
    }
    check(observing, OBSERVED).await;
}
