//! Rows for faults and values, and properties against `serde_json`.

use proptest::prelude::{
    Just, ProptestConfig, Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest,
};
use serde::de::IgnoredAny;
use serde_json::Value;

use super::{DEPTH_MAX, JsonError, Node, Shape, Tape};

fn check_fault(text: &[u8], at: usize, found: &str, expected: &'static str) {
    let error = Tape::read(text).unwrap_err();
    assert_eq!(
        error,
        JsonError {
            at,
            found: found.to_owned(),
            expected
        }
    );
}

#[test]
fn faults_name_place_and_remedy() {
    check_fault(b"", 0, "the end", "a value");
    check_fault(b"{\"a\":1,}", 7, "`}`", "a member's name in double quotes");
    check_fault(b"{\"a\" 1}", 5, "`1`", "`:`");
    check_fault(b"[1 2]", 3, "`2`", "`,` or `]`");
    check_fault(b"{\"a\":1]", 6, "`]`", "`,` or `}`");
    check_fault(b"{} x", 3, "`x`", "nothing after the value");
    check_fault(b"[01]", 2, "`1`", "no digit after a leading zero");
    check_fault(b"[-]", 2, "`]`", "a digit");
    check_fault(b"[1.]", 3, "`]`", "a digit");
    check_fault(b"nul", 3, "the end", "null");
    check_fault(
        b"\"a\nb\"",
        2,
        "U+000A",
        "an escape for this control character",
    );
    check_fault(b"\"abc", 4, "the end", "the string's closing quote");
    check_fault(
        b"\"\\x\"",
        2,
        "`x`",
        "one of `\" \\ / b f n r t u` after `\\`",
    );
    check_fault(
        b"\"\\u12g4\"",
        5,
        "`g`",
        "four hexadecimal digits after `\\u`",
    );
    check_fault(b"\"\xff\"", 1, "byte 0xff", "UTF-8 text");
    check_fault(
        "{é}".as_bytes(),
        1,
        "`é`",
        "a member's name in double quotes",
    );
}

#[test]
fn depth_is_bounded() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    assert!(Tape::read(nested(DEPTH_MAX).as_bytes()).is_ok());
    check_fault(
        nested(DEPTH_MAX + 1).as_bytes(),
        DEPTH_MAX,
        "`[`",
        "at most 128 levels of arrays and objects",
    );
}

#[test]
fn the_last_of_duplicate_names_is_read_and_all_are_listed() {
    let tape = Tape::read(br#"{"a":1,"b":2,"\u0061":3}"#).unwrap();
    assert_eq!(tape.root().get("a").unwrap().as_u64(), Some(3));
    let keys: Vec<_> = tape
        .root()
        .members()
        .map(|(key, _)| key.raw().to_owned())
        .collect();
    assert_eq!(keys, ["a", "b", "\\u0061"]);
}

#[test]
fn values_are_read() {
    let check = |text: &str, expect: Option<u64>| {
        assert_eq!(
            Tape::read(text.as_bytes()).unwrap().root().as_u64(),
            expect,
            "{text}"
        );
    };
    check("0", Some(0));
    check("12.0", Some(12));
    check("18446744073709551615", Some(u64::MAX));
    check("18446744073709551616", None);
    check("-1", None);
    check("1.5", None);
    check("1e2", None);
    check("\"1\"", None);

    let text = br#" {"list":[true,null,"x"], "deep":{"er":[]}} "#;
    let tape = Tape::read(text).unwrap();
    let list = tape.root().get("list").unwrap();
    assert_eq!(
        list.items().map(|item| item.raw()).collect::<Vec<_>>(),
        ["true", "null", "\"x\""]
    );
    assert_eq!(list.items().next().unwrap().as_bool(), Some(true));
    assert_eq!(tape.root().get("deep").unwrap().raw(), r#"{"er":[]}"#);
    assert_eq!(
        tape.root().get("deep").unwrap().get("er").unwrap().shape(),
        Shape::Array
    );
    assert!(
        tape.root().items().next().is_none(),
        "an object has no items"
    );
    assert!(list.members().next().is_none(), "an array has no members");
}

#[test]
fn half_a_surrogate_pair_reads_as_the_replacement_character() {
    let tape = Tape::read(br#"["\ud83d\ude00","\ud83dx","\ude00","\ud83d\u0041"]"#).unwrap();
    let texts: Vec<_> = tape
        .root()
        .items()
        .map(|item| item.as_str().unwrap())
        .collect();
    assert_eq!(texts, ["😀", "\u{fffd}x", "\u{fffd}", "\u{fffd}A"]);
}

/// The tree again, by way of our nodes.
fn rebuilt(node: Node<'_>) -> Value {
    match node.shape() {
        Shape::Array => Value::Array(node.items().map(rebuilt).collect()),
        Shape::Object => Value::Object(
            node.members()
                .map(|(key, value)| (key.name().into_owned(), rebuilt(value)))
                .collect(),
        ),
        Shape::Plain | Shape::Escaped => Value::String(node.as_str().unwrap().into_owned()),
        Shape::Null | Shape::True | Shape::False | Shape::Number => {
            serde_json::from_str(node.raw()).unwrap()
        }
    }
}

/// A JSON text in many spellings: whitespace, escapes, number forms, duplicates.
fn json_text() -> impl Strategy<Value = String> {
    let string = prop_oneof![
        "[ -!#-\\[\\]-~]{0,40}",
        "(a|é|😀|\\\\n|\\\\\"|\\\\\\\\|\\\\/|\\\\u00e9|\\\\uD83D\\\\uDE00){0,12}",
    ]
    .prop_map(|inner| format!("\"{inner}\""));
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("false".to_owned()),
        "-?(0|[1-9][0-9]{0,25})(\\.[0-9]{1,9})?([eE][+-]?[0-9]{1,2})?",
        string.clone(),
    ];
    let space = "[ \n\t\r]{0,2}";
    leaf.prop_recursive(6, 60, 6, move |inner| {
        let items = prop::collection::vec((space, inner.clone(), space), 0..6);
        let members = prop::collection::vec((string.clone(), space, inner, space), 0..6);
        prop_oneof![
            items.prop_map(|items| {
                let items: Vec<_> = items
                    .iter()
                    .map(|(a, item, b)| format!("{a}{item}{b}"))
                    .collect();
                format!("[{}]", items.join(","))
            }),
            members.prop_map(|members| {
                let members = members
                    .iter()
                    .map(|(key, a, value, b)| format!("{b}{key}{a}:{b}{value}{a}"));
                format!("{{{}}}", members.collect::<Vec<_>>().join(","))
            }),
        ]
    })
}

#[test]
fn escapes_behind_a_string_are_not_its_own() {
    for length in 0..80 {
        let plain = "x".repeat(length);
        let text = format!(r#"["{plain}","\n","{plain}\t"]"#);
        let tape = Tape::read(text.as_bytes()).unwrap();
        let shapes: Vec<Shape> = tape.root().items().map(|item| item.shape()).collect();
        assert_eq!(
            shapes,
            [Shape::Plain, Shape::Escaped, Shape::Escaped],
            "{text}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn decodes_as_serde_json_does(text in json_text()) {
        let tape = Tape::read(text.as_bytes()).unwrap();
        prop_assert_eq!(rebuilt(tape.root()), serde_json::from_str::<Value>(&text).unwrap());
        prop_assert_eq!(tape.root().raw(), text.trim_matches([' ', '\n', '\t', '\r']));
    }

    #[test]
    fn accepts_what_serde_json_accepts(
        text in json_text(),
        at in any::<prop::sample::Index>(),
        byte in prop::sample::select(&b"\"\\{}[]:,0-.eEtn \x00\x1f\x7f\xc3\xa9u"[..]),
        kind in 0..3_u8,
    ) {
        let mut bytes = text.into_bytes();
        let at = at.index(bytes.len());
        match kind {
            0 => bytes.truncate(at),
            1 => bytes[at] = byte,
            _ => bytes.insert(at, byte),
        }
        // `IgnoredAny` checks the grammar only: no range of numbers, no pairing of surrogates.
        let theirs = std::str::from_utf8(&bytes).is_ok_and(|text| {
            serde_json::from_str::<IgnoredAny>(text).is_ok()
        });
        let ours = Tape::read(&bytes);
        prop_assert_eq!(ours.is_ok(), theirs, "{:?} {:?}", ours, String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Err(error) = Tape::read(&bytes) {
            prop_assert!(error.at <= bytes.len());
        }
    }

    #[test]
    fn strings_of_any_length_end_where_they_end(
        parts in prop::collection::vec(
            prop_oneof![
                4 => "[a-zé😀]{0,40}",
                4 => prop::sample::select(vec!["\\n", "\\\"", "\\\\", "\\u0041"])
                    .prop_map(str::to_owned),
                1 => prop::sample::select(vec!["\\", "\\x", "\\u00g1", "\u{1f}", "\"", "\n"])
                    .prop_map(str::to_owned),
            ],
            0..12,
        ),
    ) {
        let text = format!("[\"{}\",1]", parts.concat());
        let theirs = serde_json::from_str::<Value>(&text).ok();
        let tape = Tape::read(text.as_bytes()).ok();
        prop_assert_eq!(tape.map(|tape| rebuilt(tape.root())), theirs, "{}", text);
    }
}
