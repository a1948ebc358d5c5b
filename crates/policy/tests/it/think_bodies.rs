//! Bodies with thinking in them, before and after an effort is set.
//!
//! **Invariant**: everything but the reasoning field stays as it came, to the byte (property
//! `reasoning_in_messages_stays_byte_identical`).

use policy::think::capability::Table;
use policy::think::edits::edits;
use policy::think::effort::Effort;
use proptest::prelude::{Strategy, any, prop, prop_assert, prop_assert_eq, proptest};
use serde_json::{Value, json};
use wire::dialect::Dialect;
use wire::splice::{Reason, Splice};

/// A block of an earlier answer: thinking that is signed, hidden or encrypted, or text.
fn block() -> impl Strategy<Value = Value> {
    (0..4_u8, "[a-zA-Z0-9+/=\"\\\\ é{}]{0,40}").prop_map(|(kind, text)| match kind {
        0 => json!({"type": "thinking", "thinking": text, "signature": format!("{text}==")}),
        1 => json!({"type": "redacted_thinking", "data": text}),
        2 => json!({"type": "reasoning", "encrypted_content": text, "effort": "low"}),
        _ => json!({"type": "text", "text": text}),
    })
}

/// Root members that are near to reasoning, each as a client may have written it.
fn near() -> impl Strategy<Value = Vec<&'static str>> {
    prop::sample::subsequence(
        vec![
            r#""output_config":{"format":{"type":"json_schema","schema":{}}}"#,
            r#""reasoning_effort":null"#,
            r#""thinking" : null"#,
            r#""metadata":{"reasoning_effort":"high","thinking":{"type":"x"}}"#,
            r#""stream":true"#,
        ],
        0..=5,
    )
}

proptest! {
    #[test]
    fn reasoning_in_messages_stays_byte_identical(
        blocks in prop::collection::vec(block(), 1..6),
        near in near(),
        pretty in any::<bool>(),
        level in prop::sample::select(Effort::ALL.to_vec()),
        row in any::<prop::sample::Index>(),
    ) {
        let rows = Table::built_in().rows();
        let row = &rows[row.index(rows.len())];
        let messages = json!([
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": blocks, "reasoning_content": "r"},
            {"role": "user", "content": "b"},
        ]);
        let messages = if pretty {
            serde_json::to_string_pretty(&messages).unwrap()
        } else {
            messages.to_string()
        };
        let near = near.iter().fold(String::new(), |all, member| all + "," + member);
        let body = format!(r#"{{"model":"m","max_tokens":70000,"messages":{messages}{near}}}"#);
        for dialect in Dialect::ALL {
            let request = dialect.read(body.as_bytes()).unwrap();
            let mut splice = Splice::default();
            edits(&request, row, level, &mut splice);
            let edited = splice.apply(body.as_bytes());
            let text = String::from_utf8(edited.clone()).unwrap();
            prop_assert!(text.contains(&messages), "messages changed: {}", text);
            prop_assert!(serde_json::from_str::<Value>(&text).is_ok(), "{}", text);
            let mut restored = edited;
            for (range, original) in splice.undo(body.as_bytes()).into_iter().rev() {
                restored.splice(range, original.iter().copied());
            }
            prop_assert_eq!(restored, body.as_bytes());
            for edit in splice.edits() {
                prop_assert_eq!(edit.reason, Reason::Reasoning);
                prop_assert!(["", "null"].contains(&&body[edit.range.clone()]), "only what is empty");
            }
        }
    }
}
