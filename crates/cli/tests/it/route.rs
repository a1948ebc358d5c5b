//! Routes and the learned router from outside: where a call would go, and predictions on recorded
//! outcomes.
//!
//! **Invariant**: a prediction does not use the outcome of its own row (test
//! `predictions_do_not_see_their_outcomes`).

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::home::Home;

const SUITES: &str = r#"{"a": {"strong": "s", "weak": "w", "sources": {"one": ["big", "small"]}}}"#;

/// A row; `is_right` is how the small target did.
fn row(index: usize, is_right: bool) -> String {
    let text = ["name the capital", "derive the integral"][index % 2];
    let score = u8::from(is_right);
    format!(
        r#"{{"id":"{index}","task":"t","query":"{text}","outcomes":{{"big":{{"score":1,"cost_usd":1}},"small":{{"score":{score},"cost_usd":0.1}}}}}}"#
    )
}

fn write(home: &Home, split: &str, is_right: impl Fn(usize) -> bool) {
    let path = home.path().join(format!("one.{split}.jsonl.gz"));
    let mut gzip = GzEncoder::new(std::fs::File::create(path).unwrap(), Compression::fast());
    for index in 0..40 {
        writeln!(gzip, "{}", row(index, is_right(index))).unwrap();
    }
    gzip.finish().unwrap();
}

#[test]
fn predictions_do_not_see_their_outcomes() {
    let home = Home::new();
    home.file("suites.json", SUITES);
    let is_easy = |index: usize| index.is_multiple_of(2);
    for split in ["train", "dev", "heldout"] {
        write(&home, split, is_easy);
    }
    let predict = |split: &str| -> Vec<String> {
        let printed = home.prints(&["route", "predict", ".", "--suite", "a", "--split", split]);
        printed.lines().map(str::to_owned).collect()
    };
    let (dev, heldout) = (predict("dev"), predict("heldout"));
    assert_eq!((dev.len(), heldout.len()), (40, 40));

    write(&home, "heldout", |index| !is_easy(index));
    assert_eq!(
        predict("heldout"),
        heldout,
        "no outcome of the split is used"
    );

    write(&home, "dev", |index| is_easy(index) != (index == 6));
    let now = predict("dev");
    assert_eq!(now[6], dev[6], "calibration comes from the other half");
    assert_ne!(now, dev, "which the row is a part of");
}

#[test]
fn a_route_is_explained_before_a_call() {
    let home = Home::new();
    let config = home.before(
        "http://127.0.0.1:1",
        "[models]\nfast = [\"openai/gpt-5.4-mini\"]\n\
         [[routes]]\nid = \"nightly\"\nhours = \"22:00-06:00\"\nuse = \"fast\"\n\
         [[routes]]\nid = \"support\"\ntags = [\"support\"]\ncheaper = [\"openai/gpt-5.4-mini\"]\n\
         [[routes]]\nid = \"rest\"\n",
    );
    home.file(
        "call.json",
        r#"{"model":"gpt-5.4","messages":[{"role":"user","content":"Where is my parcel, please?"}]}"#,
    );
    let explain = |more: &[&str]| {
        let common = ["route", "explain", "call.json", "--config", &config];
        [&common[..], more].concat().join("\n")
    };
    let json = |more: &[&str]| {
        let arguments = explain(more);
        home.json(&[arguments.lines().collect(), vec!["--json"]].concat())
    };
    let noon = ["--at", "2026-11-24T12:00"];
    let night = json(&["--at", "2026-11-24T23:00"]);
    assert_eq!(night["targets"], serde_json::json!(["openai/gpt-5.4-mini"]));
    assert_eq!(night["routes"][0]["takes"], true);

    let plain = json(&noon);
    assert_eq!(plain["routes"][0]["unmet"], "hours");
    assert_eq!(plain["routes"][1]["unmet"], "tags");
    assert_eq!(plain["routes"][2]["takes"], true);
    assert_eq!(plain["targets"], serde_json::json!(["openai/gpt-5.4"]));

    let tagged = json(&[&noon[..], &["--tag", "support"]].concat());
    assert_eq!(tagged["routes"][1]["takes"], true);
    let options = &tagged["notes"]["route"]["options"];
    assert_eq!(options[1]["unfit"], "unproven", "{options}");

    let arguments = explain(&noon);
    let printed = home.prints(&arguments.lines().collect::<Vec<_>>());
    assert!(printed.contains("goes to openai/gpt-5.4\n"), "{printed}");
    assert!(printed.contains("`hours` does not hold"), "{printed}");
    assert!(
        !home.path().join("a.db").exists() && std::fs::read_dir(home.path()).unwrap().count() == 2,
        "nothing is made"
    );
    for (more, expect) in [
        (["--key", "nobody"], "no key `nobody`"),
        (["--path", "/v1/embeddings"], "/v1/chat/completions"),
        (["--at", "noonish"], "2026-11-24T22:30"),
        (["--header", "x-app"], "x-app: billing"),
    ] {
        let arguments = explain(&more);
        let (code, message) = home.fails(&arguments.lines().collect::<Vec<_>>());
        assert_eq!(code, 2, "{message}");
        assert!(message.contains(expect), "{message}");
    }
}
