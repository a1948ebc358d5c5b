//! Rows: what is refused, what a prompt looks like, and what each edit does to the bytes.

use super::{Request, read, read_embeddings};
use crate::dialect::chain::row;
use crate::prompt::Slot;
use crate::splice::Splice;
use crate::usage::{Tokens, Ttl};

fn check_refusal(body: &str, message: &str) {
    let error = read(body.as_bytes()).unwrap_err();
    assert_eq!(error.to_string(), message, "{body}");
}

#[test]
fn refusals_name_field_given_and_allowed() {
    let model = "the name of a model, as a string";
    check_refusal(
        "{",
        "the request body is not JSON: at byte 1 found the end, expected a member's name in double quotes",
    );
    check_refusal(
        "[]",
        "the request body is an array; it must be a JSON object",
    );
    check_refusal("{}", &format!("`model` is missing; it must be {model}"));
    check_refusal(
        r#"{"model":3}"#,
        &format!("`model` is 3; it must be {model}"),
    );
    check_refusal(
        r#"{"model":""}"#,
        &format!("`model` is an empty string; it must be {model}"),
    );
    check_refusal(
        r#"{"model":null}"#,
        &format!("`model` is null; it must be {model}"),
    );
    let with = |rest: &str| format!(r#"{{"model":"m",{rest}}}"#);
    check_refusal(
        r#"{"model":"m"}"#,
        "`messages` is missing; it must be an array of messages",
    );
    check_refusal(
        &with(r#""messages":"hi""#),
        "`messages` is a string; it must be an array of messages",
    );
    check_refusal(
        &with(r#""messages":[1]"#),
        "`messages[0]` is 1; it must be an object",
    );
    check_refusal(
        &with(r#""messages":[{"role":"user"},{"content":"x"}]"#),
        "`messages[1].role` is missing; it must be a role, as a string",
    );
    check_refusal(
        &with(r#""messages":[{"role":7}]"#),
        "`messages[0].role` is 7; it must be a role, as a string",
    );
    check_refusal(
        &with(r#""messages":[{"role":"user","content":{}}]"#),
        "`messages[0].content` is an object; it must be a string or an array of content blocks",
    );
    check_refusal(
        &with(r#""stream":"yes""#),
        "`stream` is a string; it must be true or false",
    );
    check_refusal(
        &with(r#""max_tokens":0"#),
        "`max_tokens` is 0; it must be a whole number of 1 or more",
    );
    check_refusal(
        &with(r#""max_tokens":1.5"#),
        "`max_tokens` is 1.5; it must be a whole number of 1 or more",
    );
    check_refusal(
        &with(r#""tools":{}"#),
        "`tools` is an object; it must be an array",
    );
    check_refusal(
        &with(r#""stream_options":[]"#),
        "`stream_options` is an array; it must be an object",
    );
}

#[test]
fn what_is_unknown_or_null_is_read() {
    let body = br#"{"model":"m","stream":null,"max_tokens":null,"tools":null,"stream_options":null,
        "messages":[{"role":"narrator","content":[{"type":"hologram"},"bare",7]},{"role":"user"}]}"#;
    let request = read(body).unwrap();
    assert_eq!(request.prompt.segments.len(), 4);
    assert!(!request.stream && request.usage_asked && request.max_output.is_none());
    assert!(
        request
            .prompt
            .segments
            .iter()
            .all(|segment| segment.slot == Slot::Closed)
    );
}

#[test]
fn facts_are_read() {
    let body = br#"{"messages":[],"model":"gpt-\u0035.4","stream":true,"max_tokens":9,
        "max_completion_tokens":64,"n":2,"service_tier":"flex","user":"u","safety_identifier":"s",
        "prompt_cache_key":"k","prompt_cache_options":{"ttl":"12h"},"prompt_cache_retention":"24h",
        "functions":[{"name":"f"}],"model":"gpt-5.5"}"#;
    let request = read(body).unwrap();
    assert_eq!(request.model, "gpt-5.5", "the last of duplicates");
    assert_eq!(&body[request.model_span.clone()], br#""gpt-5.5""#);
    assert!(request.stream && !request.usage_asked && request.has_tools);
    assert_eq!((request.max_output, request.choices), (Some(Tokens(64)), 2));
    assert_eq!(request.tier.as_deref(), Some("flex"));
    assert_eq!(request.client.user.as_deref(), Some("u"));
    assert_eq!(request.client.safety_identifier.as_deref(), Some("s"));
    assert_eq!(request.client.prompt_cache_key.as_deref(), Some("k"));
    let cache = &request.cache;
    assert!(cache.key_given && cache.options_given && cache.retention_given);
}

#[test]
fn segments_follow_the_rendered_order() {
    let body = br#"{"model":"m","messages":[
        {"role":"system","content":"be brief"},
        {"role":"developer","content":[{"type":"text","text":"a"},{"type":"text","text":""}]},
        {"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}},
            {"type":"text","text":"b","prompt_cache_breakpoint":{"mode":"explicit","ttl":"12h"}}]},
        {"role":"assistant","content":null,"tool_calls":[{"id":"1"},{"id":"2"}]},
        {"role":"tool","tool_call_id":"1","content":"one"},
        {"role":"tool","tool_call_id":"2","content":"two"},
        {"role":"system","content":"late"}],
        "tools":[{"type":"function","function":{"name":"f"}}]}"#;
    let request = read(body).unwrap();
    let rows = [
        "Tools System ToolDefinition 0.0 @0 closed",
        "System System Text 0.0 @1 bare",
        "System System Text 1.0 @2 member",
        "System System Text 1.1 @3 closed",
        "Messages User Media 2.0 @4 member",
        "Messages User Text 2.1 @5 closed 12h",
        "Messages Assistant ToolUse 3.0 @6 closed",
        "Messages Tool ToolResult 4.0 @7 bare",
        "Messages Tool ToolResult 5.0 @7 bare",
        "Messages System Text 6.0 @8 bare",
    ];
    assert_eq!(
        request.prompt.segments.iter().map(row).collect::<Vec<_>>(),
        rows
    );
    assert_eq!(request.cache.markers, 1);
    assert_eq!(request.prompt.head_end(), Some(3));
}

#[test]
fn settings_change_the_chain() {
    let chains = |rest: &str| {
        let body = format!(
            r#"{{"model":"m","tools":[{{"name":"t"}}],"messages":[{{"role":"user","content":"a"}}]{rest}}}"#
        );
        let segments = read(body.as_bytes()).unwrap().prompt.segments;
        segments
            .iter()
            .map(|segment| segment.chain)
            .collect::<Vec<_>>()
    };
    let plain = chains("");
    let shaped = chains(r#","response_format":{"type":"json_object"}"#);
    assert!(plain.iter().zip(&shaped).all(|(one, two)| one != two));
    assert_eq!(
        plain,
        chains(r#","response_format":null,"temperature":1,"user":"u""#)
    );
}

fn ask_usage(request: &Request<'_>, splice: &mut Splice) {
    request.ask_usage(splice);
}

fn check_edit(body: &str, edit: impl Fn(&Request<'_>, &mut Splice), expect: &str) {
    let request = read(body.as_bytes()).unwrap();
    let mut splice = Splice::default();
    edit(&request, &mut splice);
    assert_eq!(
        String::from_utf8(splice.apply(body.as_bytes())).unwrap(),
        expect
    );
}

#[test]
fn usage_is_asked_for_on_streams_only() {
    let check = |options: &str, expect: &str| {
        let body = |rest: &str| format!(r#"{{{rest}"model":"m","messages":[]}}"#);
        check_edit(&body(options), ask_usage, &body(expect));
    };
    let asked = r#""stream_options":{"include_usage":true},"#;
    check("", "");
    check(r#""stream":false,"#, r#""stream":false,"#);
    check(
        &format!(r#""stream":true,{asked}"#),
        &format!(r#""stream":true,{asked}"#),
    );
    check(r#""stream":true,"#, &format!(r#"{asked}"stream":true,"#));
    check(
        r#""stream":true,"stream_options":null,"#,
        &format!(r#""stream":true,{asked}"#),
    );
    check(
        r#""stream":true,"stream_options":{ },"#,
        r#""stream":true,"stream_options":{"include_usage":true },"#,
    );
    check(
        r#""stream":true,"stream_options":{"include_obfuscation":false},"#,
        r#""stream":true,"stream_options":{"include_usage":true,"include_obfuscation":false},"#,
    );
    check(
        r#""stream":true,"stream_options":{"include_usage": false},"#,
        r#""stream":true,"stream_options":{"include_usage": true},"#,
    );
    check(
        r#""stream":true,"stream_options":{"include_usage":null},"#,
        r#""stream":true,"stream_options":{"include_usage":true},"#,
    );
}

#[test]
fn options_are_set_where_the_client_has_not() {
    let body = r#"{"model":"m","messages":[]}"#;
    check_edit(
        body,
        |request, splice| {
            request.set_cache_key("k\"1", splice);
            request.set_cache_explicit(splice);
            request.rename_model("vendor/é", splice);
        },
        r#"{"prompt_cache_key":"k\"1","prompt_cache_options":{"mode":"explicit"},"model":"vendor/é","messages":[]}"#,
    );

    let body = r#"{"model":"m","messages":[],"prompt_cache_key":null,"prompt_cache_options":null}"#;
    check_edit(
        body,
        |request, splice| {
            request.set_cache_key("k", splice);
            request.set_cache_explicit(splice);
        },
        r#"{"model":"m","messages":[],"prompt_cache_key":"k","prompt_cache_options":{"mode":"explicit"}}"#,
    );

    let body = r#"{"model":"m","messages":[],"prompt_cache_key":"c","prompt_cache_options":{}}"#;
    check_edit(
        body,
        |request, splice| {
            request.set_cache_key("k", splice);
            request.set_cache_explicit(splice);
            request.rename_model("m", splice);
        },
        body,
    );
}

#[test]
fn markers_are_members_or_wraps() {
    let body = r#"{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"a"}]},{"role":"tool","content":"b"}]}"#;
    check_edit(
        body,
        |request, splice| {
            request.mark(0, Ttl::Minutes30, splice).unwrap();
            request.mark(1, Ttl::Hours12, splice).unwrap();
        },
        concat!(
            r#"{"model":"m","messages":[{"role":"user","content":[{"prompt_cache_breakpoint":{"mode":"explicit"},"type":"text","text":"a"}]},"#,
            r#"{"role":"tool","content":[{"type":"text","text":"b","prompt_cache_breakpoint":{"mode":"explicit","ttl":"12h"}}]}]}"#,
        ),
    );
    let request = read(body.as_bytes()).unwrap();
    let mut splice = Splice::default();
    let mut refusal = |segment, ttl| {
        request
            .mark(segment, ttl, &mut splice)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        refusal(0, Ttl::Hour1),
        "openai_chat has no cache lifetime of 1h"
    );
    assert_eq!(refusal(2, Ttl::Hours12), "the prompt has no segment 2");
    request.mark(1, Ttl::Hours12, &mut splice).unwrap();
    let refusal = request.mark(1, Ttl::Hours12, &mut splice).unwrap_err();
    assert_eq!(refusal.to_string(), "segment 1 is marked already");
}

#[test]
fn embeddings_are_counted() {
    let check = |input: &str, inputs: Result<usize, &str>| {
        let body = format!(r#"{{"model":"e",{input}}}"#);
        let read = read_embeddings(body.as_bytes());
        let read = read
            .map(|read| read.inputs)
            .map_err(|error| error.to_string());
        assert_eq!(read, inputs.map_err(str::to_owned), "{input}");
    };
    check(r#""input":"a""#, Ok(1));
    check(r#""input":["a","b"]"#, Ok(2));
    check(r#""input":[1,2,3]"#, Ok(1));
    check(r#""input":[[1],[2]]"#, Ok(2));
    check(
        r#""x":1"#,
        Err("`input` is missing; it must be a string, or an array of strings or token ids"),
    );
    check(
        r#""input":{}"#,
        Err("`input` is an object; it must be a string, or an array of strings or token ids"),
    );
}
