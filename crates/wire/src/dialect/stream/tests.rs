//! Stories of streams in rows, and the properties that hold for any cut of them.

use proptest::prelude::{
    ProptestConfig, Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest,
};

use super::{Ending, Pass, StreamEnd, UsageDisplay};
use crate::dialect::Dialect;
use crate::sse::FRAME_BYTES_MAX;
use crate::usage::{Tokens, Usage};

/// Plays a stream in pieces that end at `cuts`. Returns what was passed on before the end, and the
/// end.
fn play(
    dialect: Dialect,
    display: UsageDisplay,
    text: &[u8],
    cuts: &[usize],
) -> (Vec<u8>, StreamEnd) {
    let mut stream = dialect.stream(display);
    let mut onward = Vec::new();
    let mut from = 0;
    for to in cuts.iter().copied().chain([text.len()]) {
        match stream.push(&text[from..to]) {
            Pass::Whole => onward.extend_from_slice(&text[from..to]),
            Pass::Edited(bytes) => onward.extend_from_slice(&bytes),
        }
        from = to;
    }
    (onward, stream.finish())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

const OPENAI: &str = concat!(
    ": ping\n\n",
    r#"data: {"id":"c1","model":"gpt-5.4","service_tier":"default","choices":[{"index":0,"delta":{"role":"assistant","content":""}}],"usage":null}"#,
    "\n\n",
    r#"data: {"id":"c1","choices":[{"index":0,"delta":{"content":"hé"},"finish_reason":null}],"usage": null}"#,
    "\n\n",
    r#"data: {"usage":null ,"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{}"}}]}}]}"#,
    "\n\n",
    r#"data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null}"#,
    "\n\n",
    r#"data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":4,"total_tokens":13}}"#,
    "\n\n",
    "data: [DONE]\n\n",
);

const ANTHROPIC: &str = concat!(
    "event: message_start\n",
    r#"data: {"type":"message_start","message":{"id":"m1","model":"claude-sonnet-4-6","usage":{"input_tokens":9,"cache_read_input_tokens":5,"output_tokens":1}}}"#,
    "\n\n",
    "event: content_block_start\n",
    r#"data: {"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"1","name":"f","input":{}}}"#,
    "\n\n",
    "event: ping\ndata: {\"type\":\"ping\"}\n\n",
    "event: content_block_delta\n",
    r#"data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"hé"}}"#,
    "\n\n",
    "event: content_block_delta\n",
    r#"data: {"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{}"}}"#,
    "\n\n",
    "event: message_delta\n",
    r#"data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":4}}"#,
    "\n\n",
    "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
);

#[test]
fn a_shown_stream_passes_whole_and_its_end_is_held() {
    let (onward, end) = play(
        Dialect::OpenAiChat,
        UsageDisplay::Shown,
        OPENAI.as_bytes(),
        &[],
    );
    assert_eq!(text(&onward) + &text(&end.held), OPENAI);
    assert_eq!(
        end,
        StreamEnd {
            held: b"data: [DONE]\n\n".to_vec(),
            ending: Ending::Whole,
            usage: Some(Usage {
                uncached: Tokens(9),
                output: Tokens(4),
                tier: Some("default".to_owned()),
                ..Usage::default()
            }),
            seen_output_bytes: 5,
            model: Some("gpt-5.4".to_owned()),
            id: Some("c1".to_owned()),
            stop: Some("stop".to_owned()),
            upstream_error: None,
        }
    );

    let dialect = Dialect::AnthropicMessages;
    let (onward, end) = play(dialect, UsageDisplay::Shown, ANTHROPIC.as_bytes(), &[]);
    assert_eq!(text(&onward) + &text(&end.held), ANTHROPIC);
    assert_eq!(
        end,
        StreamEnd {
            held: b"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n".to_vec(),
            ending: Ending::Whole,
            usage: Some(Usage {
                uncached: Tokens(9),
                cache_read: Tokens(5),
                output: Tokens(4),
                ..Usage::default()
            }),
            seen_output_bytes: 5,
            model: Some("claude-sonnet-4-6".to_owned()),
            id: Some("m1".to_owned()),
            stop: Some("end_turn".to_owned()),
            upstream_error: None,
        }
    );
}

#[test]
fn whole_frames_are_not_copied() {
    let mut stream = Dialect::OpenAiChat.stream(UsageDisplay::Shown);
    let frame = b"data: {\"choices\":[]}\n\n";
    assert_eq!(stream.push(frame), Pass::Whole);
    assert_eq!(stream.push(b""), Pass::Whole);
    assert_eq!(stream.push(&frame[..9]), Pass::Edited(Vec::new()));
    assert_eq!(stream.push(&frame[9..]), Pass::Edited(frame.to_vec()));
    assert_eq!(stream.push(frame), Pass::Whole);
}

#[test]
fn hidden_usage_is_cut_and_nothing_else() {
    let check = |frame: &str, expect: &str| {
        let (onward, _) = play(
            Dialect::OpenAiChat,
            UsageDisplay::Hidden,
            frame.as_bytes(),
            &[],
        );
        assert_eq!(text(&onward), expect, "{frame:?}");
    };
    let (onward, end) = play(
        Dialect::OpenAiChat,
        UsageDisplay::Hidden,
        OPENAI.as_bytes(),
        &[],
    );
    assert_eq!(
        text(&onward) + &text(&end.held),
        concat!(
            ": ping\n\n",
            r#"data: {"id":"c1","model":"gpt-5.4","service_tier":"default","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}"#,
            "\n\n",
            r#"data: {"id":"c1","choices":[{"index":0,"delta":{"content":"hé"},"finish_reason":null}]}"#,
            "\n\n",
            r#"data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{}"}}]}}]}"#,
            "\n\n",
            r#"data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
            "\n\n",
            "data: [DONE]\n\n",
        )
    );
    assert_eq!(end.usage.unwrap().output, Tokens(4));

    // On the last choice chunk, as some servers have it; other members keep their bytes.
    check(
        "data: {\"choices\":[{\"delta\":{}}],\"usage\":{\"prompt_tokens\":1.0},  \"x\" : 1e5 }\r\n\r\n",
        "data: {\"choices\":[{\"delta\":{}}],  \"x\" : 1e5 }\r\n\r\n",
    );
    // Azure's first chunk has no choices and no usage yet.
    check(
        "data: {\"choices\":[],\"prompt_filter_results\":[1],\"usage\":null}\n\n",
        "data: {\"choices\":[],\"prompt_filter_results\":[1]}\n\n",
    );
    check(
        "data: {\"usage\":null,\"choices\":[],\"usage\":null,\"usage\":1}\n\n",
        "data: {\"choices\":[]}\n\n",
    );
    check(
        "data: {\"a\":1,\"usage\":null,\"b\":2}\n\n",
        "data: {\"a\":1,\"b\":2}\n\n",
    );
    check("data: {\"usage\":null}\n\n", "data: {}\n\n");
    check("data: {\"usage\":null,\"usage\":null}\n\n", "data: {}\n\n");
    // Text that looks like usage is text.
    let quoted = "data: {\"choices\":[{\"delta\":{\"content\":\"\\\"usage\\\":{}\"}}]}\n\n";
    check(quoted, quoted);
    // Several data lines.
    check(
        "event: x\ndata: {\"choices\":[],\ndata: \"usage\":null}\n\n",
        "event: x\ndata: {\"choices\":[]}\n\n",
    );
    // What is not JSON, and what is no object, passes.
    check("data: hello\n\ndata: 3\n\n", "data: hello\n\ndata: 3\n\n");
}

#[test]
fn endings_are_told_apart() {
    let done = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"length\"}]}\n\n";
    let begun = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n";
    let check = |dialect, stream: &str, ending, held: &str, onward: &str| {
        let (passed, end) = play(dialect, UsageDisplay::Hidden, stream.as_bytes(), &[]);
        assert_eq!(
            (end.ending, text(&end.held), text(&passed)),
            (ending, held.to_owned(), onward.to_owned())
        );
        end
    };
    let (openai, anthropic) = (Dialect::OpenAiChat, Dialect::AnthropicMessages);
    check(openai, "", Ending::Truncated, "", "");
    check(openai, begun, Ending::Truncated, "", begun);
    check(openai, done, Ending::NoTerminator, "", done);
    check(openai, "data: [DONE]", Ending::Whole, "data: [DONE]", "");
    check(
        openai,
        "data: [DONE]\n\n: bye\n\n",
        Ending::Whole,
        "data: [DONE]\n\n: bye\n\n",
        "",
    );
    // A last frame without its blank line: kept if it can be read, dropped if it is torn.
    check(
        openai,
        done.trim_end(),
        Ending::NoTerminator,
        done.trim_end(),
        "",
    );
    check(openai, begun.trim_end(), Ending::Truncated, begun, "");
    check(openai, &begun[..20], Ending::Truncated, "", "");
    check(
        openai,
        &format!("{done}data: {{\"choices\":[],\"usage\":{{}}}}"),
        Ending::NoTerminator,
        "",
        done,
    );

    let error = "data: {\"error\":{\"message\":\"boom\"}}\n\n";
    let end = check(openai, error, Ending::Error, "", error);
    assert_eq!(end.upstream_error.as_deref(), Some("boom"));
    let error = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n";
    let end = check(anthropic, error, Ending::Error, "", error);
    assert_eq!(end.upstream_error.as_deref(), Some("Overloaded"));

    // Cut off in the middle, the input is known, and the output only by its bytes.
    let cut = ANTHROPIC.find("event: message_delta").unwrap();
    let end = check(
        anthropic,
        &ANTHROPIC[..cut],
        Ending::Truncated,
        "",
        &ANTHROPIC[..cut],
    );
    assert_eq!(
        (end.usage.unwrap().input(), end.seen_output_bytes),
        (Tokens(14), 5)
    );
    let cut = ANTHROPIC.find("event: message_stop").unwrap();
    check(
        anthropic,
        &ANTHROPIC[..cut],
        Ending::NoTerminator,
        "",
        &ANTHROPIC[..cut],
    );
}

#[test]
fn an_object_that_breaks_off_is_noticed() {
    for (text, expect) in [
        ("data: {\"choices\":[{\"delta\":{\"con\n\n", true),
        ("data: {\n\n", true),
        ("data: {\"choices\":[]}\n\n", false),
        // Signs of life of some servers, and what a lenient client reads.
        (": ping\n\ndata:\n\ndata: ping\n\n", false),
        ("data: {\"logprob\": NaN}\n\n", false),
        // It has not come whole yet.
        ("data: {\"choices\":[", false),
        ("data: [DONE]\n\ndata: {\n\n", false),
    ] {
        let mut stream = Dialect::OpenAiChat.stream(UsageDisplay::Shown);
        stream.push(text.as_bytes());
        assert_eq!(stream.is_torn(), expect, "{text:?}");
    }
}

#[test]
fn a_torn_oversized_frame_is_closed_before_an_error_can_follow() {
    let huge = [b"data: ", &vec![b'x'; FRAME_BYTES_MAX][..]].concat();
    let (onward, end) = play(Dialect::OpenAiChat, UsageDisplay::Hidden, &huge, &[9]);
    assert!(onward == huge && end.ending == Ending::Truncated);
    assert_eq!(text(&end.held), "\n\n");
}

/// Streams of both dialects, whole, torn, and with things that nobody expects in them.
fn stream_text() -> impl Strategy<Value = String> {
    let frames: Vec<String> = OPENAI
        .split_inclusive("\n\n")
        .chain(ANTHROPIC.split_inclusive("\n\n"))
        .chain([
            "data: {\"usage\":",
            "data: {\"error\":\"x\"}\n\n",
            "\r\n",
            "\n",
            "data: {\n",
            "\r",
        ])
        .map(str::to_owned)
        .collect();
    let some =
        prop::collection::vec(prop::sample::select(frames), 0..12).prop_map(|all| all.concat());
    let crlf = prop::sample::select(vec![OPENAI, ANTHROPIC]).prop_flat_map(|text| {
        prop::sample::select(vec![text.to_owned(), text.replace('\n', "\r\n")])
    });
    prop_oneof![some, crlf]
}

fn any_dialect() -> impl Strategy<Value = Dialect> {
    prop::sample::select(Dialect::ALL.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn any_cut_gives_the_same_stream(
        text in stream_text(),
        dialect in any_dialect(),
        display in prop::sample::select(vec![UsageDisplay::Shown, UsageDisplay::Hidden]),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
    ) {
        let text = text.as_bytes();
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
        cuts.sort_unstable();
        let whole = play(dialect, display, text, &[]);
        prop_assert_eq!(&whole, &play(dialect, display, text, &cuts));
        let every_byte: Vec<_> = (1..text.len()).collect();
        prop_assert_eq!(&whole, &play(dialect, display, text, &every_byte));
    }

    #[test]
    fn shown_streams_pass_untouched(text in stream_text(), dialect in any_dialect()) {
        let (mut onward, end) = play(dialect, UsageDisplay::Shown, text.as_bytes(), &[]);
        onward.extend_from_slice(&end.held);
        // A torn frame at the end is all that may be missing, a blank line all that may be added.
        let common = onward.iter().zip(text.as_bytes()).take_while(|(one, two)| one == two).count();
        prop_assert!(b"\n\n".starts_with(&onward[common..]));
        prop_assert!(!text[common..].contains("\n\n"), "{:?}", &text[common..]);
        if matches!(end.ending, Ending::Whole) {
            prop_assert_eq!(onward, text.as_bytes());
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8),
        dialect in any_dialect(),
    ) {
        let mut stream = dialect.stream(UsageDisplay::Hidden);
        for piece in &pieces {
            stream.push(piece);
        }
        stream.finish();
    }
}
