//! Price files that are wrong, and refreshing the book from newer ones.
//!
//! **Invariant**: a fault names its file and row; a refresh leaves the past as it was.

use policy::prices::PriceBook;

use crate::invoices::{moment, usage};

const ROW: &str = r#"
provider = "acme"
dated = 2026-11-24

[[model]]
id = "anvil"
source = "https://acme.example/prices"
read = 2026-11-24
[[model.window]]
rates = [
  { input = "1", output = "2" },
]
"#;

#[test]
fn faulty_files_are_refused_with_the_place() {
    for (from, to, expect) in [
        (
            r#"input = "1""#,
            r#"input = "0.0000001""#,
            "is finer than 6 decimal places",
        ),
        (
            r#"input = "1""#,
            r#"input = "-1""#,
            "`-1` is not a decimal amount",
        ),
        (r#"input = "1""#, "input = 1.5", "expected a string"),
        (r#"input = "1""#, r#"inptu = "1""#, "unknown field `inptu`"),
        ("read = 2026-11-24\n", "", "missing field `read`"),
        ("https://acme.example/prices", "", "`source` is empty"),
        (
            "read = 2026-11-24",
            "read = 2026-11-24T10:00:00",
            "is not a day from 1970 on",
        ),
        (
            r#"{ input = "1""#,
            r#"{ tier = "batch", over = 9, input = "1""#,
            "no base rate",
        ),
        (
            r#"{ input = "1""#,
            r#"{ over = 9, at_least = 10, input = "1""#,
            "both `over` and `at_least`",
        ),
        (
            r#"{ input = "1""#,
            r#"{ hours = ["4-1"], input = "1""#,
            "`4-1` is not a span of hours",
        ),
        (
            r#"{ input = "1""#,
            r#"{ days = ["mon"], input = "1""#,
            "`days` without `hours`",
        ),
        (
            "output = \"2\" },",
            "output = \"2\" },\n{ input = \"3\" },",
            "two rates of tier `standard` apply at once",
        ),
        (
            "rates = [",
            "from = 2026-02-01\nuntil = 2026-01-01\nrates = [",
            "ends before it begins",
        ),
        (
            "[[model.window]]",
            "[[model.window]]\nuntil = 2026-02-01\nrates = [{ input = \"1\" }]\n[[model.window]]\nfrom = 2026-01-31",
            "two windows overlap",
        ),
    ] {
        assert!(ROW.contains(from), "{from}");
        let error = PriceBook::parse(&[("acme.toml", &ROW.replacen(from, to, 1))]).unwrap_err();
        let error = error.to_string();
        assert!(error.starts_with("acme.toml: "), "{error}");
        assert!(error.contains(expect), "{error}");
    }
}

#[test]
fn two_rows_for_one_name_are_refused() {
    let row = &ROW[ROW.find("[[model]]").unwrap()..];
    let twice = format!("{ROW}{row}");
    let error = PriceBook::parse(&[("acme.toml", &twice)])
        .unwrap_err()
        .to_string();
    let expect =
        "acme.toml: `anvil`: the name `anvil` belongs to an earlier row; a name has one meaning";
    assert_eq!(error, expect);
    let error = PriceBook::parse(&[("a.toml", ROW), ("b.toml", ROW)])
        .unwrap_err()
        .to_string();
    assert!(error.contains("has a file already"), "{error}");
}

#[test]
fn a_refresh_keeps_the_past() {
    let old = PriceBook::parse(&[("acme.toml", ROW)]).unwrap();
    let newer = r#"
        provider = "acme"
        dated = 2026-12-24
        [[model]]
        id = "anvil"
        source = "https://acme.example/prices"
        read = 2026-12-24
        [[model.window]]
        from = 2027-01-01
        rates = [{ input = "1.5", output = "2" }, { tier = "batch", input = "0.75", output = "1" }]
        [[model]]
        id = "hammer"
        source = "https://acme.example/prices"
        read = 2026-12-24
        [[model.window]]
        rates = [{ input = "7", output = "8" }]
    "#;
    let (book, changes) = old.refreshed_with(&[("newer.toml", newer)]).unwrap();
    let lines: Vec<String> = changes.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "~ acme/anvil standard input: $1.00 -> $1.50 from 2027-01-01",
            "~ acme/anvil batch input: unknown -> $0.75 from 2027-01-01",
            "~ acme/anvil batch output: unknown -> $1.00 from 2027-01-01",
            "+ acme/hammer",
        ]
    );
    let cost = |at| {
        book.cost("acme", "anvil", &usage("in=1"), moment(at))
            .unwrap()
            .total()
            .0
    };
    assert_eq!(cost("2026-12-31 23:59"), 1_000_000);
    assert_eq!(cost("2027-01-01 00:00"), 1_500_000);
    assert!(
        book.version().starts_with("2026-12-24."),
        "{}",
        book.version()
    );
    assert_ne!(book.version(), old.version());

    let (again, changes) = book.refreshed_with(&[("newer.toml", newer)]).unwrap();
    assert_eq!(changes, []);
    assert_eq!(again.find("acme", "anvil"), book.find("acme", "anvil"));
}

#[test]
fn a_whole_file_ends_what_it_does_not_list() {
    let old = PriceBook::parse(&[("acme.toml", ROW)]).unwrap();
    let newer = ROW.replace("anvil", "saw").replace(
        "dated = 2026-11-24",
        "dated = 2026-12-24\ncoverage = \"whole\"",
    );
    let (book, changes) = old.refreshed_with(&[("newer.toml", &newer)]).unwrap();
    let lines: Vec<String> = changes.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        ["- acme/anvil: no price from 2026-12-24", "+ acme/saw"]
    );
    let cost = |at| book.cost("acme", "anvil", &usage("in=1"), moment(at));
    assert!(cost("2026-12-23 23:59").is_ok());
    assert!(cost("2026-12-24 00:00").is_err());
}

#[test]
fn a_rate_without_a_date_holds_from_the_day_of_its_file() {
    let old = PriceBook::parse(&[("acme.toml", ROW)]).unwrap();
    let newer = ROW
        .replace("dated = 2026-11-24", "dated = 2026-12-24")
        .replace("output = \"2\"", "output = \"3\"");
    let (_, changes) = old.refreshed_with(&[("newer.toml", &newer)]).unwrap();
    let lines: Vec<String> = changes.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        ["~ acme/anvil standard output: $2.00 -> $3.00 from 2026-12-24"]
    );
}

#[test]
fn what_is_no_rate_is_told_too() {
    let old = PriceBook::parse(&[("acme.toml", ROW)]).unwrap();
    for (from, to) in [
        ("id = \"anvil\"", "id = \"anvil\"\naliases = [\"block\"]"),
        ("id = \"anvil\"", "id = \"anvil\"\nweb_search = \"0.01\""),
        ("acme.example/prices", "acme.example/pricing"),
        ("read = 2026-11-24", "read = 2026-11-25"),
    ] {
        let newer = ROW.replace(from, to);
        let (book, changes) = old.refreshed_with(&[("newer.toml", &newer)]).unwrap();
        let lines: Vec<String> = changes.iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            ["~ acme/anvil: names, limits, cache, searches or source"],
            "{to}"
        );
        let (_, changes) = book.refreshed_with(&[("newer.toml", &newer)]).unwrap();
        assert_eq!(changes, [], "{to}");
    }
}

#[test]
fn the_built_in_book_refreshes_itself_without_change() {
    let book = PriceBook::built_in();
    let openai = ("openai.toml", include_str!("../../prices/openai.toml"));
    let (refreshed, changes) = book.refreshed_with(&[openai]).unwrap();
    assert_eq!(changes, []);
    assert_eq!(
        refreshed.find("openai", "gpt-5.6-sol"),
        book.find("openai", "gpt-5.6-sol")
    );
}
