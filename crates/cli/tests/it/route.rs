//! The learned router from outside: its predictions on recorded outcomes.
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
