//! Rows: what is refused, what a prompt looks like, and where a setting breaks the chain.

use super::{MARKABLE, read};
use crate::dialect::chain::row;
use crate::prompt::Kind;
use crate::splice::Splice;
use crate::usage::{Tokens, Ttl};

#[test]
fn markable_types_are_sorted() {
    assert!(MARKABLE.is_sorted());
}

#[test]
fn refusals_name_field_given_and_allowed() {
    let check = |rest: &str, message: &str| {
        let body = format!(r#"{{"model":"m","messages":[],{rest}}}"#);
        assert_eq!(read(body.as_bytes()).unwrap_err().to_string(), message);
    };
    check(
        r#""system":1"#,
        "`system` is 1; it must be a string or an array of text blocks",
    );
    check(
        r#""max_tokens":-1"#,
        "`max_tokens` is -1; it must be a whole number of 0 or more",
    );
    check(
        r#""tools":"none""#,
        "`tools` is a string; it must be an array",
    );
    let problem = read(br#"{"model":"m","messages":[{"role":"user","content":4}]}"#)
        .unwrap_err()
        .problem();
    assert_eq!(problem.param.as_deref(), Some("messages[0].content"));
    assert_eq!(problem.code, "invalid_value");
}

#[test]
fn facts_are_read() {
    let body = br#"{"model":"claude-sonnet-4-6","max_tokens":0,"stream":true,"messages":[],
        "service_tier":"auto","metadata":{"user_id":"session_1"},"cache_control":{"type":"ephemeral","ttl":"1h"}}"#;
    let request = read(body).unwrap();
    assert!(request.stream && request.usage_asked && !request.has_tools);
    assert_eq!(request.max_output, Some(Tokens(0)), "a pre-warming request");
    assert_eq!(request.client.user_id.as_deref(), Some("session_1"));
    assert_eq!(request.cache.automatic, Some(Ttl::Hour1));
    assert_eq!(request.tier.as_deref(), Some("auto"));
}

#[test]
fn segments_follow_the_rendered_order() {
    let body = br#"{"model":"m","messages":[
        {"role":"user","content":"hi"},
        {"role":"assistant","content":[
            {"type":"thinking","thinking":"t","signature":"s"},
            {"type":"redacted_thinking","data":"d"},
            {"type":"tool_use","id":"1","name":"a","input":{"cache_control":{"type":"ephemeral"}}},
            {"type":"tool_use","id":"2","name":"b","input":{}}]},
        {"role":"user","content":[
            {"type":"tool_result","tool_use_id":"1","content":[{"type":"text","text":"r","cache_control":{"type":"ephemeral"}}]},
            {"type":"tool_result","tool_use_id":"2","content":"r","cache_control":{"type":"ephemeral","ttl":"1h"}},
            {"type":"text","text":""},
            {"type":"hologram"}]},
        {"role":"system","content":[],"output_config":{"effort":"low"}}],
        "system":[{"type":"text","text":"be brief","cache_control":null}],
        "tools":[{"name":"a"},{"name":"b","defer_loading":true},{}]}"#;
    let request = read(body).unwrap();
    let rows = [
        "Tools System ToolDefinition 0.0 @0 member",
        "Tools System ToolDefinition 1.0 @1 closed",
        "Tools System ToolDefinition 2.0 @2 closed",
        "System System Text 0.0 @3 closed",
        "Messages User Text 0.0 @4 bare",
        "Messages Assistant Thinking 1.0 @5 closed",
        "Messages Assistant Thinking 1.1 @6 closed",
        "Messages Assistant ToolUse 1.2 @7 member",
        "Messages Assistant ToolUse 1.3 @7 member",
        "Messages Tool ToolResult 2.0 @8 member 5m",
        "Messages Tool ToolResult 2.1 @8 closed 1h",
        "Messages User Text 2.2 @9 closed",
        "Messages User Other 2.3 @10 closed",
        "Messages System Other 3.0 @11 closed",
    ];
    assert_eq!(
        request.prompt.segments.iter().map(row).collect::<Vec<_>>(),
        rows
    );
    assert_eq!(
        request.cache.markers, 2,
        "input that looks like a marker is content"
    );
    assert!(request.has_tools);
}

#[test]
fn settings_change_the_chain_where_they_invalidate() {
    let chains = |rest: &str| {
        let body = format!(
            r#"{{"model":"m","tools":[{{"name":"t"}}],"system":"s","messages":[{{"role":"user","content":"a"}}]{rest}}}"#
        );
        let segments = read(body.as_bytes()).unwrap().prompt.segments;
        segments
            .iter()
            .map(|segment| segment.chain)
            .collect::<Vec<_>>()
    };
    let plain = chains("");
    let check = |rest: &str, kept: usize| {
        let changed = chains(rest);
        let common = plain
            .iter()
            .zip(&changed)
            .take_while(|(one, two)| one == two)
            .count();
        assert_eq!(common, kept, "{rest}");
    };
    check(
        r#","temperature":0.5,"metadata":{"user_id":"u"},"stream":true"#,
        3,
    );
    check(r#","thinking":{"type":"adaptive"}"#, 2);
    check(r#","tool_choice":{"type":"any"}"#, 2);
    check(r#","output_config":{"effort":"low"}"#, 2);
    check(r#","speed":"fast""#, 1);
}

#[test]
fn markers_are_members_or_wraps() {
    let body = r#"{"model":"m","system":"s","messages":[{"role":"user","content":[{ "type":"text","text":"a"}]}],"tools":[{"name":"t"}]}"#;
    let request = read(body.as_bytes()).unwrap();
    let mut splice = Splice::default();
    request.mark(2, Ttl::Minutes5, &mut splice).unwrap();
    request.mark(1, Ttl::Hour1, &mut splice).unwrap();
    request.mark(0, Ttl::Hour1, &mut splice).unwrap();
    // Members of the other dialect are left out without a word.
    request.set_cache_key("k", &mut splice);
    request.set_cache_explicit(&mut splice);
    request.ask_usage(&mut splice);
    assert_eq!(
        String::from_utf8(splice.apply(body.as_bytes())).unwrap(),
        concat!(
            r#"{"model":"m","system":[{"type":"text","text":"s","cache_control":{"type":"ephemeral","ttl":"1h"}}],"#,
            r#""messages":[{"role":"user","content":[{"cache_control":{"type":"ephemeral"}, "type":"text","text":"a"}]}],"#,
            r#""tools":[{"cache_control":{"type":"ephemeral","ttl":"1h"},"name":"t"}]}"#,
        )
    );
    let refusal = request
        .mark(0, Ttl::Minutes30, &mut splice)
        .unwrap_err()
        .to_string();
    assert_eq!(refusal, "anthropic_messages has no cache lifetime of 30m");
}

#[test]
fn documents_are_text_or_media() {
    for (block, kind) in [
        (
            r#"{"type":"document","source":{"type":"text","media_type":"text/plain","data":"d"}}"#,
            Kind::Document,
        ),
        (
            r#"{"type":"document","source":{"type":"content","content":"d"}}"#,
            Kind::Document,
        ),
        (
            r#"{"type":"search_result","source":"s","title":"t","content":[]}"#,
            Kind::Document,
        ),
        (
            r#"{"type":"document","source":{"type":"base64","media_type":"application/pdf","data":"ZA=="}}"#,
            Kind::Media,
        ),
        (
            r#"{"type":"document","source":{"type":"file","file_id":"f"}}"#,
            Kind::Media,
        ),
        (r#"{"type":"document"}"#, Kind::Media),
        (
            r#"{"type":"image","source":{"type":"url","url":"u"}}"#,
            Kind::Media,
        ),
    ] {
        let body = format!(
            r#"{{"model":"m","max_tokens":1,"messages":[{{"role":"user","content":[{block}]}}]}}"#
        );
        let request = read(body.as_bytes()).expect("a request");
        let kinds: Vec<Kind> = request.prompt.segments.iter().map(|it| it.kind).collect();
        assert_eq!(kinds, [kind], "{block}");
    }
}
