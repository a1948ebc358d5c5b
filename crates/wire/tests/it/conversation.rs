//! Generates conversations as their clients would write them: any spacing, order of members,
//! escapes and unknown fields, with and without markers of their own.

use proptest::prelude::{BoxedStrategy, Just, Strategy, any, prop, prop_oneof};
use wire::dialect::Dialect;

/// A conversation that grows by messages; its parts are written once, as agents write them.
#[derive(Clone, Debug)]
pub(crate) struct Conversation {
    pub(crate) dialect: Dialect,
    /// Members of the root before the messages, each `"key":value`.
    head: Vec<String>,
    pub(crate) messages: Vec<String>,
    /// Members after the messages.
    tail: Vec<String>,
}

impl Conversation {
    /// The request with the first `count` messages.
    pub(crate) fn body(&self, count: usize) -> String {
        let messages = format!("\"messages\": [{}]", self.messages[..count].join(", "));
        let members: Vec<_> = self
            .head
            .iter()
            .chain([&messages])
            .chain(&self.tail)
            .cloned()
            .collect();
        format!("{{{}}}", members.join(","))
    }

    /// The whole request.
    pub(crate) fn whole(&self) -> String {
        self.body(self.messages.len())
    }
}

/// A JSON string as somebody might write it.
fn string() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a",
        "word ",
        "é",
        "😀",
        "\\n",
        "\\\"",
        "\\\\",
        "\\/",
        "\\u00e9",
        "\\ud83d\\ude00",
        "\\ud83d",
        "{",
        "}]",
        "cache_control",
    ]);
    prop::collection::vec(piece, 0..6).prop_map(|pieces| format!("\"{}\"", pieces.concat()))
}

/// Members that no dialect knows: odd numbers, duplicates, nesting.
fn unknown() -> impl Strategy<Value = Vec<String>> {
    let member = prop::sample::select(vec![
        "\"x\":9007199254740993",
        "\"x\": 1.0",
        "\"x\":1e400",
        "\"y\" : {\"x\":[ ],\"x\":null}",
        "\"temperature\":0.70",
        "\"\\u0073tream_ish\":true",
        "\"user\":\"u\"",
    ]);
    prop::collection::vec(member.prop_map(str::to_owned), 0..3)
}

/// A block of those members in any spacing, sometimes with the client's own marker.
fn block(dialect: Dialect, members: Vec<String>) -> impl Strategy<Value = String> {
    let marker = match dialect {
        Dialect::AnthropicMessages => r#""cache_control": {"type":"ephemeral"}"#,
        Dialect::OpenAiChat => r#""prompt_cache_breakpoint":{"mode":"explicit"}"#,
    };
    (0..12_u8, " {0,1}").prop_map(move |(choice, space)| {
        let mut members = members.clone();
        match choice {
            0 => members.push(marker.to_owned()),
            1 => members.insert(0, marker.to_owned()),
            _ => {}
        }
        format!("{{{space}{}{space}}}", members.join(&format!("{space},")))
    })
}

fn text_block(dialect: Dialect) -> impl Strategy<Value = String> {
    string().prop_flat_map(move |text| {
        block(
            dialect,
            vec!["\"type\":\"text\"".to_owned(), format!("\"text\":{text}")],
        )
    })
}

fn content(dialect: Dialect, more: BoxedStrategy<String>) -> impl Strategy<Value = String> {
    let blocks = prop::collection::vec(prop_oneof![2 => text_block(dialect), 1 => more], 0..4);
    prop_oneof![
        string(),
        blocks.prop_map(|blocks| format!("[{}]", blocks.join(" , ")))
    ]
}

fn anthropic_message() -> impl Strategy<Value = String> {
    let dialect = Dialect::AnthropicMessages;
    let fixed = prop::sample::select(vec![
        r#"{"type":"tool_use","id":"t","name":"f","input":{"cache_control":1}}"#,
        r#"{"type":"thinking","thinking":"hm","signature":"c2ln"}"#,
        r#"{"type":"tool_result","tool_use_id":"t","content":[{"type":"text","text":"r","cache_control":{"type":"ephemeral"}}]}"#,
        r#"{"type":"tool_result","tool_use_id":"t","content":"r","is_error":true}"#,
        r#"{"type":"image","source":{"type":"base64","data":"AA=="}}"#,
        r#"{"type":"hologram"}"#,
        "{}",
    ]);
    let more = fixed.prop_map(str::to_owned).boxed();
    let role = prop::sample::select(vec!["user", "assistant", "system"]);
    (role, content(dialect, more))
        .prop_map(|(role, content)| format!(r#"{{"role": "{role}","content":{content}}}"#))
}

fn openai_message() -> impl Strategy<Value = String> {
    let fixed = prop::sample::select(vec![
        r#"{"type":"image_url","image_url":{"url":"data:,"}}"#,
        r#"{"type":"refusal","refusal":"no"}"#,
        r#"{"type":"input_audio","input_audio":{"data":""}}"#,
        "\"bare\"",
    ]);
    let more = fixed.prop_map(str::to_owned).boxed();
    let said = (
        prop::sample::select(vec!["user", "assistant", "system", "developer", "narrator"]),
        content(Dialect::OpenAiChat, more),
    );
    prop_oneof![
        3 => said.prop_map(|(role, content)| format!(r#"{{"content":{content}, "role":"{role}"}}"#)),
        1 => string().prop_map(|text| format!(r#"{{"role":"tool","tool_call_id":"1","content":{text}}}"#)),
        1 => Just(r#"{"role":"assistant","content":null,"tool_calls":[{"id":"1"}]}"#.to_owned()),
    ]
}

fn tools(dialect: Dialect) -> impl Strategy<Value = Option<String>> {
    let tool = string().prop_flat_map(move |text| {
        block(
            dialect,
            vec![
                "\"name\":\"f\"".to_owned(),
                format!("\"description\":{text}"),
            ],
        )
    });
    let tools = prop::collection::vec(tool, 0..3);
    prop::option::of(tools.prop_map(|tools| format!("\"tools\":[{}]", tools.join(","))))
}

/// Any conversation of either dialect.
pub(crate) fn conversation() -> impl Strategy<Value = Conversation> {
    let model = prop::sample::select(vec!["\"model\":\"m\"", "\"model\" : \"vendor\\/m\""]);
    let stream = prop::sample::select(vec![
        "\"stream\":true",
        "\"stream\":false",
        "\"stream\":true,\"stream_options\":{}",
        "\"stream_options\": {\"include_usage\":false, \"x\":1},\"stream\":true",
        "\"prompt_cache_key\":null",
    ]);
    let shared = (model, stream, unknown(), unknown(), any::<bool>());
    let parts = prop_oneof![
        (
            Just(Dialect::AnthropicMessages),
            tools(Dialect::AnthropicMessages),
            prop::option::of(content(
                Dialect::AnthropicMessages,
                text_block(Dialect::AnthropicMessages).boxed()
            )),
            prop::collection::vec(anthropic_message(), 1..8),
        ),
        (
            Just(Dialect::OpenAiChat),
            tools(Dialect::OpenAiChat),
            Just(None),
            prop::collection::vec(openai_message(), 1..8),
        ),
    ];
    (parts, shared).prop_map(|((dialect, tools, system, messages), shared)| {
        let (model, stream, before, after, is_tools_first) = shared;
        let mut head = vec![model.to_owned()];
        head.extend(before);
        let mut tail = vec![stream.to_owned()];
        tail.extend(system.map(|system| format!("\"system\":{system}")));
        let place = if is_tools_first { &mut head } else { &mut tail };
        place.extend(tools);
        tail.extend(after);
        Conversation {
            dialect,
            head,
            messages,
            tail,
        }
    })
}
