//! `tokenwise learn` and what becomes of its file.
//!
//! **Invariant**: a router says what it promises before anybody relies on it, and a file that cannot
//! be trained on leaves nothing behind.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::home::Home;

/// In `easy` the small target is as good; in `hard` it is wrong half of the time.
fn rows(count: usize) -> String {
    let mut rows = String::new();
    for number in 0..count {
        let route = ["easy", "hard"][number % 2];
        let ask = ["what is", "where is", "who is"][number / 4 % 3];
        let small = u8::from(number % 4 != 1);
        writeln!(
            rows,
            r#"{{"id":"{number}","route":"{route}","text":"{ask} it?","outcomes":{{"acme/large":{{"score":1,"cost_usd":0.02}},"acme/small":{{"score":{small},"cost_usd":0.002}}}}}}"#
        )
        .unwrap();
    }
    rows
}

#[test]
fn a_router_is_learned_from_a_file() {
    let home = Home::new();
    home.file("outcomes.jsonl", &rows(400));
    let document = home.json(&["learn", "outcomes.jsonl", "--json"]);
    let lowered = |route: &str| {
        let promises = document["promises"].as_array().unwrap().iter();
        let mut of = promises.filter(|it| it["route"] == route && it["promised_quality"] == 0.95);
        of.next().unwrap()["lowered"].as_f64().unwrap()
    };
    assert!(lowered("easy") > 0.95);
    assert!(lowered("hard") < 0.2);
    let file = home.file(
        "a.toml",
        "router = \"router.model\"\n[[providers]]\nid = \"acme\"\nbase_url = \"http://127.0.0.1:1\"\n\
         dialect = \"openai_chat\"\n[[routes]]\nid = \"easy\"\nuse = \"acme/large\"\n\
         cheaper = [\"acme/small\", \"acme/tiny\"]\n",
    );
    let printed = home.prints(&["check", file.to_str().unwrap()]);
    assert!(
        printed.contains("the router knows nothing of `acme/tiny`"),
        "{printed}"
    );
    assert!(!printed.contains("nothing of `acme/small`"), "{printed}");
}

#[test]
fn rows_that_cannot_be_used_are_named() {
    let home = Home::new();
    for (rows, expect) in [
        ("{}", "outcomes.jsonl: line 1"),
        (
            r#"{"id":"1","text":"t","outcomes":{"a":{"score":1}}}"#,
            "the rows have outcomes of 1 targets (a); a router needs 2 to 12",
        ),
    ] {
        home.file("outcomes.jsonl", rows);
        let (_, error) = home.fails(&["learn", "outcomes.jsonl"]);
        assert!(error.contains(expect), "{error}");
        assert!(!home.path().join("router.model").exists());
    }
}

/// Two suites of one pair each, in which the weak target is as good: what one promises holds on the
/// other, and every call goes.
#[test]
fn a_promise_moves_to_another_suite() {
    let home = Home::new();
    let suite = |source: &str| format!(r#"{{"sources": {{"{source}": ["big", "small"]}}}}"#);
    let suites = format!(r#"{{"a": {}, "b": {}}}"#, suite("one"), suite("two"));
    home.file("suites.json", &suites);
    for source in ["one", "two"] {
        for split in ["train", "dev"] {
            let mut rows = String::new();
            for number in 0..200 {
                writeln!(
                    rows,
                    r#"{{"id":"{number}","task":"{source}","query":"what is number {number}?","outcomes":{{"big":{{"score":1,"cost_usd":0.02}},"small":{{"score":1,"cost_usd":0.002}}}}}}"#
                )
                .unwrap();
            }
            let path = home.path().join(format!("{source}.{split}.jsonl.gz"));
            let mut gzip = GzEncoder::new(File::create(path).unwrap(), Compression::fast());
            gzip.write_all(rows.as_bytes()).unwrap();
            gzip.finish().unwrap();
        }
    }
    let printed = home.prints(&["route", "transfer", "."]);
    let lines: Vec<Vec<&str>> = printed
        .lines()
        .map(|it| it.split_whitespace().collect())
        .collect();
    let of = |suite: &str| lines.iter().find(|it| it.first() == Some(&suite)).unwrap();
    assert_eq!(
        of("a")[1..5],
        ["0.95", "1.000", "1.000", "1.000"],
        "{printed}"
    );
    assert_eq!(
        of("b")[1..5],
        ["0.95", "1.000", "1.000", "1.000"],
        "{printed}"
    );
}
