//! Every way in which a call can end, at every boundary at which it can end there.
//!
//! **Invariant**: one settled row a call, no output seen that was not written down, no upstream
//! connection left behind, and no broken answer that looks whole
//! (`every_exit_settles_exactly_once`).

use gateway::setup::{AskUsage, Setup};
use policy::ports::read::StoredCall;
use policy::ports::{CallSettled, End, Leg};
use testkit::client::Client;
use testkit::http1::{Ending, Piece};
use testkit::upstream::{Step, Upstream};
use wire::dialect::Dialect;

use crate::stage::{SPOKEN, Spoken, Stage, plain};

/// One kind of answer, and what is known after each of its pieces.
struct Answer {
    spoken: &'static Spoken,
    body: &'static str,
    head: Step,
    pieces: Vec<&'static str>,
    /// Tokens of visible output in the first so many pieces, counted at four bytes a token.
    seen: Vec<u64>,
    /// From this many pieces on the usage is known.
    metered_from: usize,
    /// Pieces that go on before the last one is let out: all but the terminal event.
    onward: usize,
    stream: bool,
}

/// The usage that every answer reports at its end: output tokens.
const OUTPUT: u64 = 40;

fn openai_stream() -> Answer {
    Answer {
        spoken: &SPOKEN[0],
        body: r#"{"model":"gpt-5.4","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"hi"}]}"#,
        head: Step::head(200, "text/event-stream"),
        pieces: vec![
            "data: {\"id\":\"c1\",\"model\":\"gpt-5.4\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n",
            "data: {\"id\":\"c1\",\"model\":\"gpt-5.4\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Good morning\"}}]}\n\n",
            "data: {\"id\":\"c1\",\"model\":\"gpt-5.4\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\", dear world\"}}]}\n\n",
            "data: {\"id\":\"c1\",\"model\":\"gpt-5.4\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
            "data: {\"id\":\"c1\",\"model\":\"gpt-5.4\",\"choices\":[],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":40,\"total_tokens\":50}}\n\n",
            "data: [DONE]\n\n",
        ],
        seen: vec![0, 0, 3, 6, 6, OUTPUT, OUTPUT],
        metered_from: 5,
        onward: 5,
        stream: true,
    }
}

fn anthropic_stream() -> Answer {
    Answer {
        spoken: &SPOKEN[1],
        body: r#"{"model":"claude-sonnet-4-6","max_tokens":99,"stream":true,"messages":[{"role":"user","content":"hi"}]}"#,
        head: Step::head(200, "text/event-stream"),
        pieces: vec![
            "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"claude-sonnet-4-6\",\"content\":[],\"stop_reason\":null,\"usage\":{\"input_tokens\":10,\"output_tokens\":1}}}\n\n",
            "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
            "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Good morning\"}}\n\n",
            "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\", dear world\"}}\n\n",
            "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
            "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":40}}\n\n",
            "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
        ],
        seen: vec![0, 1, 1, 3, 6, 6, OUTPUT, OUTPUT],
        metered_from: 6,
        onward: 6,
        stream: true,
    }
}

/// An answer that is no stream arrives in pieces too, but is passed on only as a whole.
fn whole(spoken: &'static Spoken, body: &'static str, pieces: [&'static str; 3]) -> Answer {
    Answer {
        spoken,
        body,
        head: Step::head(200, "application/json"),
        pieces: pieces.to_vec(),
        seen: vec![0, 0, 0, OUTPUT],
        metered_from: 3,
        onward: 0,
        stream: false,
    }
}

fn answers() -> Vec<Answer> {
    vec![
        openai_stream(),
        anthropic_stream(),
        whole(
            &SPOKEN[0],
            r#"{"model":"gpt-5.4","messages":[{"role":"user","content":"hi"}]}"#,
            [
                r#"{"id":"c1","model":"gpt-5.4","choices":[{"index":0,"message":"#,
                r#"{"role":"assistant","content":"Good morning"},"finish_reason":"stop"}],"#,
                r#""usage":{"prompt_tokens":10,"completion_tokens":40,"total_tokens":50}}"#,
            ],
        ),
        whole(
            &SPOKEN[1],
            r#"{"model":"claude-sonnet-4-6","max_tokens":99,"messages":[{"role":"user","content":"hi"}]}"#,
            [
                r#"{"id":"m1","type":"message","role":"assistant","model":"claude-sonnet-4-6","#,
                r#""content":[{"type":"text","text":"Good morning"}],"stop_reason":"end_turn","#,
                r#""usage":{"input_tokens":10,"output_tokens":40}}"#,
            ],
        ),
    ]
}

/// How a call ends.
#[derive(Clone, Copy, Debug)]
enum Exit {
    /// The upstream falls silent after so many pieces, and the client leaves then.
    ClientLeaves { after: usize },
    /// The upstream breaks off after so many pieces, and the client reads what it gets.
    UpstreamBreaks { after: usize },
    /// Both: the client leaves after fewer pieces than the upstream sends before it breaks off.
    Both { sent: usize, read: usize },
}

impl Exit {
    fn sent(self) -> usize {
        match self {
            Self::ClientLeaves { after } | Self::UpstreamBreaks { after } => after,
            Self::Both { sent, .. } => sent,
        }
    }
}

impl Answer {
    fn exits(&self) -> Vec<Exit> {
        let boundaries = 0..=self.pieces.len();
        let mut exits: Vec<Exit> = boundaries
            .clone()
            .flat_map(|after| [Exit::ClientLeaves { after }, Exit::UpstreamBreaks { after }])
            .collect();
        for sent in boundaries {
            exits.extend((0..=sent.min(self.onward)).map(|read| Exit::Both { sent, read }));
        }
        exits
    }

    fn script(&self, exit: Exit) -> Vec<Step> {
        let sent = self.pieces.iter().take(exit.sent());
        let sent = sent.map(|piece| Step::Chunk((*piece).into()));
        let last = match exit {
            Exit::ClientLeaves { .. } => Step::Hang,
            Exit::UpstreamBreaks { .. } | Exit::Both { .. } => Step::Cut,
        };
        [self.head.clone()]
            .into_iter()
            .chain(sent)
            .chain([last])
            .collect()
    }

    /// The bytes that a client has after so many pieces.
    fn onward_bytes(&self, pieces: usize) -> usize {
        let onward = self.pieces.iter().take(pieces.min(self.onward));
        onward.map(|piece| piece.len()).sum()
    }

    /// Whether something of the answer can be seen after so many pieces: more than the one token
    /// that an Anthropic stream counts before it says anything.
    fn shows(&self, pieces: usize) -> bool {
        self.stream && self.seen[pieces] > 1
    }

    async fn ask(&self, url: &str) -> Client {
        let mut client = Client::connect(url).await;
        client
            .ask(
                "POST",
                self.spoken.path,
                self.spoken.headers,
                self.body.as_bytes(),
            )
            .await;
        client
    }
}

/// Reads a stream's head and so many bytes of its body.
async fn read(client: &mut Client, bytes: usize) {
    assert_eq!(client.head().await.unwrap().status(), 200);
    let mut got = 0;
    while got < bytes {
        match client.piece().await {
            Piece::Data(data) => got += data.len(),
            end @ (Piece::End | Piece::Broken) => panic!("{end:?} after {got} of {bytes} bytes"),
        }
    }
}

/// The row of the only leg.
fn leg(call: &StoredCall) -> (&CallSettled, &Leg) {
    let settled = call.settled.as_ref().unwrap();
    assert_eq!(settled.legs.len(), 1, "{settled:?}");
    (settled, &settled.legs[0])
}

fn setup(url: &str) -> Setup {
    Setup {
        ask_usage: AskUsage::Always,
        ..plain(url)
    }
}

#[tokio::test]
async fn every_exit_settles_exactly_once() {
    for answer in answers() {
        let exits = answer.exits();
        let upstream = Upstream::scripted(exits.iter().map(|exit| answer.script(*exit))).await;
        let mut stage = Stage::with(setup(upstream.url())).await;
        for (index, exit) in exits.iter().enumerate() {
            leave(&answer, *exit, index, &stage, &upstream).await;
            let calls = stage.books.settled(index + 1).await;
            check(&answer, *exit, &calls[index]);
        }
        stage.stop().await;
        let counts = stage.counts();
        assert!(counts.contains("tokenwise_calls_open 0\n"), "{counts}");
    }
}

/// Plays one exit.
async fn leave(answer: &Answer, exit: Exit, index: usize, stage: &Stage, upstream: &Upstream) {
    let mut client = answer.ask(&stage.url).await;
    match exit {
        Exit::ClientLeaves { after } => {
            upstream.request(index).await;
            if answer.shows(after) {
                read(&mut client, answer.onward_bytes(after)).await;
            }
            client.hang_up();
            upstream.gone(index).await;
        }
        Exit::Both { read: pieces, .. } => {
            upstream.request(index).await;
            if answer.shows(pieces) {
                read(&mut client, answer.onward_bytes(pieces)).await;
            }
            client.hang_up();
            upstream.played(index).await;
        }
        Exit::UpstreamBreaks { after } => {
            let response = client.response().await.unwrap();
            assert_eq!(response.ending, Ending::Whole, "{exit:?}");
            let is_whole = answer.stream && after == answer.pieces.len();
            // What breaks before anything can be seen need not be told as a stream.
            let begins = is_whole || answer.shows(after);
            assert_eq!(response.status, if begins { 200 } else { 502 });
            assert_words(answer.spoken.dialect, &response.text(), is_whole);
        }
    }
}

/// A broken answer ends with an error in the dialect and without a terminator, a whole one the
/// other way round.
fn assert_words(dialect: Dialect, text: &str, is_whole: bool) {
    let (terminator, error) = match dialect {
        Dialect::OpenAiChat => ("[DONE]", r#"{"error":{"message":"provider `openai`"#),
        Dialect::AnthropicMessages => (
            r#""message_stop""#,
            r#"{"type":"error","error":{"type":"api_error","message":"provider `anthropic`"#,
        ),
    };
    assert_eq!(text.contains(terminator), is_whole, "{text}");
    let last = text.trim_end().lines().last().unwrap_or_default();
    assert_eq!(
        last.trim_start_matches("data: ").starts_with(error),
        !is_whole,
        "{text}"
    );
}

fn check(answer: &Answer, exit: Exit, call: &StoredCall) {
    let (settled, leg) = leg(call);
    let (sent, all) = (exit.sent(), answer.pieces.len());
    // With both gone, either may be noticed first.
    let ends: &[End] = match exit {
        // Everything was there to be had, so the call is answered, whoever is left to have it.
        Exit::ClientLeaves { .. } | Exit::UpstreamBreaks { .. } if answer.stream && sent == all => {
            &[End::Answered]
        }
        Exit::ClientLeaves { .. } => &[End::ClientGone],
        Exit::UpstreamBreaks { .. } => &[End::UpstreamBroke],
        Exit::Both { .. } => &[End::ClientGone, End::UpstreamBroke, End::Answered],
    };
    assert!(
        ends.contains(&leg.end) && settled.end == leg.end,
        "{exit:?}: {settled:?}"
    );
    let read = match exit {
        Exit::Both { read, .. } => read,
        Exit::ClientLeaves { .. } | Exit::UpstreamBreaks { .. } => sent,
    };
    let at_least = if answer.stream { answer.seen[read] } else { 0 };
    assert!(leg.usage.output.0 >= at_least, "{exit:?}: {settled:?}");
    let is_metered = answer.stream && read >= answer.metered_from;
    if is_metered || sent < answer.metered_from {
        assert_eq!(leg.estimated, !is_metered, "{exit:?}: {settled:?}");
    }
    assert_eq!(settled.cost, leg.cost);
    assert!(settled.cost.is_some(), "{exit:?}: {settled:?}");
}
