//! Budgets in rows: how they read, what is refused and how that is said.
//!
//! **Invariant**: messages are compared as a whole, for whoever reads one has nothing else (test
//! `incomplete_budgets_are_refused`).

use proptest::prelude::{prop_assert, proptest};

use super::super::rows::{parse, refused};
use super::*;

/// A table with these fields behind its name.
fn budget(fields: &str) -> String {
    format!("[[budgets]]\nid = \"a\"\n{fields}\n")
}

#[test]
fn budgets_read_as_sentences() {
    let check = |fields: &str, expect: &str| {
        let config = parse(&budget(fields)).unwrap();
        let limit = &config.settings().budgets.limits[0];
        let found = format!("{} {limit}", limit.mode.name());
        assert_eq!((limit.id.as_ref(), found.as_str()), ("a", expect));
        assert_eq!(limit.then, Then::Refuse);
    };
    check(
        "applies_to = \"user\"\nusd = \"5\"\nper = \"day\"",
        "hard $5.00 per day (UTC) for each user",
    );
    check(
        "applies_to = \"team\"\nonly = \"search\"\nusd = \"20.50\"\nper = \"month\"\n\
         time_zone = \"europe/berlin\"\nmode = \"soft\"",
        "soft $20.50 per month (Europe/Berlin) for team `search`",
    );
    check(
        "applies_to = \"organisation\"\nusd = \"$0\"\nper = \"lifetime\"\nmode = \"observe\"",
        "observe $0.00 per lifetime for each organisation",
    );
    check(
        "applies_to = \"key\"\nonly = \"key_0123456789ab\"\nrequests = 600\nper = \"minute\"",
        "hard 600 requests per minute (UTC) for key `key_0123456789ab`",
    );
    check(
        "applies_to = \"session\"\ntokens = 2_000_000\nper = \"week\"",
        "hard 2000000 tokens per week (UTC) for each session",
    );
    check(
        "applies_to = \"tag\"\nonly = \"nightly run\"\nconcurrent = 4",
        "hard 4 calls at once for tag `nightly run`",
    );
    for payer in Kind::ALL {
        let name = payer.name();
        let fields = format!("applies_to = \"{name}\"\nrequests = 1\nper = \"hour\"");
        let config = parse(&budget(&fields)).unwrap();
        assert_eq!(config.settings().budgets.limits[0].kind, payer);
    }
    for period in Period::ALL {
        let per = period.name();
        let fields = format!("applies_to = \"task\"\ntokens = 1\nper = \"{per}\"");
        let config = parse(&budget(&fields)).unwrap();
        let window = config.settings().budgets.limits[0].quota.window();
        assert_eq!(window.period(), period);
    }
}

#[test]
fn a_limit_says_what_it_does_without_room() {
    let text = "applies_to = \"team\"\nper = \"day\"\nusd = \"5\"\nthen = \"degrade\"\n\
                degrade_to = [\"openai/gpt-5.4-mini\", \"openai/gpt-5.4-nano\"]";
    let config = parse(&budget(text)).unwrap();
    let budgets = &config.settings().budgets;
    assert_eq!(budgets.limits[0].then, Then::Degrade);
    let names: Vec<String> = budgets.degrade_to["a"].iter().map(routes::name).collect();
    assert_eq!(names, ["openai/gpt-5.4-mini", "openai/gpt-5.4-nano"]);
    let elsewhere = refused(&budget(&text.replace("openai/", "nobody/")));
    assert_eq!(
        elsewhere,
        "a.toml: `budgets.a.degrade_to` cannot be used: limit `a` degrades to a model of provider \
         `nobody`, which is not configured; configured: openai"
    );
}

#[test]
fn amounts_are_exact() {
    let usd = "applies_to = \"team\"\nper = \"day\"\nusd = \"0.000000000001\"";
    let config = parse(&budget(usd)).unwrap();
    let window = Window::new(Period::Day, Zone::UTC);
    let expect = Quota::Usd(PicoUsd(1), window);
    assert_eq!(config.settings().budgets.limits[0].quota, expect);
}

/// What is written behind `applies_to`, and what is said about it.
const INCOMPLETE: &[(&str, &str)] = &[
    (
        "per = \"day\"",
        "a.toml: `budgets.a` limits nothing; write one of `usd = \"20.50\"`, \
         `tokens = 1_000_000`, `requests = 600`, `concurrent = 4`",
    ),
    (
        "usd = \"5\"\nper = \"day\"\ntokens = 1",
        "a.toml: `budgets.a` has `usd` and `tokens`; allowed: one of them, and another \
         [[budgets]] table for each of the others",
    ),
    (
        "usd = \"5\"\nrequests = 1\nconcurrent = 1",
        "a.toml: `budgets.a` has `usd` and `requests` and `concurrent`; allowed: one of them, and \
         another [[budgets]] table for each of the others",
    ),
    (
        "usd = \"5\"",
        "a.toml: `budgets.a.per` is missing; allowed: `minute`, `hour`, `day`, `week`, `month`, \
         `lifetime`",
    ),
    (
        "concurrent = 5\nper = \"day\"",
        "a.toml: `budgets.a.per` does not go with `concurrent`, which counts calls under way at \
         any one time; leave it out",
    ),
    (
        "concurrent = 5\ntime_zone = \"UTC\"",
        "a.toml: `budgets.a.time_zone` does not go with `concurrent`, which counts calls under way \
         at any one time; leave it out",
    ),
    (
        "tokens = 5\nper = \"lifetime\"\ntime_zone = \"UTC\"",
        "a.toml: `budgets.a.time_zone` does not go with `per = \"lifetime\"`, which never starts \
         anew; leave it out",
    ),
    (
        "tokens = 5\nper = \"day\"\ntime_zone = \"Berlin\"",
        "a.toml: `budgets.a.time_zone` is `Berlin`, which is unknown: no time zone `Berlin`; write \
         an IANA name, as `Europe/Berlin` or `UTC`",
    ),
    (
        "tokens = 5\nper = \"day\"\nonly = \"\"",
        "a.toml: `budgets.a.only` is empty; name one key, or leave it out for a limit for each key",
    ),
    (
        "tokens = 5\nper = \"day\"\nonly = \"tw-planted\"",
        "a.toml: `budgets.a.only` looks like a key itself (not shown); write its id, which \
         `tokenwise keys list` shows, as `key_0123456789ab`",
    ),
    (
        "tokens = 5\nper = \"day\"\nmode = \"observe\"\nthen = \"degrade\"",
        "a.toml: `budgets.a.then` is `degrade`, which does nothing with `mode = \"observe\"`; write \
         `hard` or `soft` there, or leave this out",
    ),
    (
        "concurrent = 5\nthen = \"degrade\"",
        "a.toml: `budgets.a.then` is `degrade`, but a lesser answer is still a call; allowed: with \
         `usd` and `tokens`, or where `applies_to = \"model\"`",
    ),
    (
        "tokens = 5\nper = \"day\"\ndegrade_to = [\"a/b\"]",
        "a.toml: `budgets.a.degrade_to` does nothing without `then = \"degrade\"`; write that too, \
         or leave this out",
    ),
    (
        "tokens = 5\nper = \"day\"\nthen = \"degrade\"\ndegrade_to = [\"b\"]",
        "a.toml: `budgets.a.degrade_to` lists `b`; allowed: `provider/model`",
    ),
    (
        "usd = \"-5\"\nper = \"day\"",
        "a.toml: `budgets.a.usd` is `-5`; allowed: zero or more",
    ),
    (
        "usd = \"5,00\"\nper = \"day\"",
        "a.toml: `budgets.a.usd` is not an amount: `5,00` is not a decimal amount; write digits \
         with at most one point, as `0.0375`",
    ),
    (
        "usd = \"0.0000000000001\"\nper = \"day\"",
        "a.toml: `budgets.a.usd` is not an amount: `0.0000000000001` is finer than 12 decimal \
         places; round it at its source",
    ),
    (
        "usd = 20.5\nper = \"day\"",
        "a.toml:4: `usd`: allowed: dollars in quotes, as \"20.50\", so that they stay exact; \
         `tokenwise check --schema` lists every field",
    ),
    (
        "tokens = 5\nper = \"year\"",
        "a.toml:5: `per`: unknown variant `year`, expected one of `minute`, `hour`, `day`, `week`, \
         `month`, `lifetime`; `tokenwise check --schema` lists every field",
    ),
    (
        "tokens = -5\nper = \"day\"",
        "a.toml:4: `tokens`: invalid value: integer `-5`, expected u64; `tokenwise check --schema` \
         lists every field",
    ),
];

#[test]
fn incomplete_budgets_are_refused() {
    for (fields, expect) in INCOMPLETE {
        let text = budget(&format!("applies_to = \"key\"\n{fields}"));
        assert_eq!(refused(&text), *expect, "{fields}");
    }
}

#[test]
fn budgets_do_not_contradict_each_other() {
    let table = |id: &str, usd: &str| {
        format!(
            "[[budgets]]\nid = \"{id}\"\napplies_to = \"key\"\nusd = \"{usd}\"\nper = \"day\"\n"
        )
    };
    for (text, expect) in [
        (
            table("a", "5") + &table("a", "6"),
            "a.toml: `budgets` cannot be used: two limits are called `a`; give each its own name",
        ),
        (
            table("a", "5") + &table("b", "6"),
            "a.toml: `budgets` cannot be used: limits `a` and `b` are both hard limits on the same \
             usage; keep one",
        ),
        (
            table("A team", "5"),
            "a.toml: `budgets.id` is `A team`; allowed: 1 to 64 lowercase letters, digits, `-` and \
             `_`",
        ),
    ] {
        assert_eq!(refused(&text), expect);
    }
    let soft = table("b", "4") + "mode = \"soft\"\n";
    assert!(parse(&(table("a", "5") + &soft)).is_ok());
}

#[test]
fn unknown_prices_are_blocked_allowed_or_held() {
    let rules = |value: &str| format!("[budget_rules]\nunknown_price = {value}\n");
    for (value, expect) in [
        ("\"block\"", UnknownPrice::Block),
        ("\"allow\"", UnknownPrice::Allow),
        (
            "{ hold_usd = \"1.00\" }",
            UnknownPrice::HoldAtCeiling(PicoUsd(1_000_000_000_000)),
        ),
    ] {
        let config = parse(&rules(value)).unwrap();
        assert_eq!(config.settings().budgets.unknown_price, expect, "{value}");
    }
    let nothing = parse("").unwrap();
    assert_eq!(nothing.settings().budgets, Budgets::default());
    for (value, expect) in [
        (
            "\"hold\"",
            "a.toml:2: `unknown_price`: unknown variant `hold`, expected one of `block`, `allow`, \
             `hold_usd`; `tokenwise check --schema` lists every field",
        ),
        (
            "{ hold_usd = 1.0 }",
            "a.toml:2: `unknown_price`: allowed: dollars in quotes, as \"20.50\", so that they stay \
             exact; `tokenwise check --schema` lists every field",
        ),
        (
            "{ hold_usd = \"-1\" }",
            "a.toml: `budget_rules.unknown_price.hold_usd` is `-1`; allowed: zero or more",
        ),
    ] {
        assert_eq!(refused(&rules(value)), expect, "{value}");
    }
}

#[test]
fn agents_are_asked_to_finish_where_there_is_an_end() {
    let config = parse(&budget(
        "applies_to = \"task\"\nusd = \"1\"\nper = \"lifetime\"\nwrap_up = true",
    ));
    assert_eq!(config.unwrap().settings().budgets.wrap_up.len(), 1);
    for fields in [
        "applies_to = \"key\"\nusd = \"1\"\nper = \"day\"\nwrap_up = true",
        "applies_to = \"task\"\nconcurrent = 2\nwrap_up = true",
        "applies_to = \"task\"\nusd = \"1\"\nper = \"day\"\nmode = \"observe\"\nwrap_up = true",
    ] {
        let said = refused(&budget(fields));
        assert!(
            said.contains("there is nothing to finish; allowed: for `session`"),
            "{said}"
        );
    }
    for field in ["wrap_up = true", "then = \"degrade\""] {
        let fields = "applies_to = \"task\"\nusd = \"1\"\nper = \"day\"";
        let said = refused(&budget(&format!(
            "{fields}\n{field}\n[levers]\npassthrough = true"
        )));
        assert!(said.contains("contradicts `passthrough = true`"), "{said}");
    }
}

#[test]
fn runaways_are_told_of_stopped_or_left_alone() {
    let rules = |text: &str| format!("[budget_rules]\n{text}\n");
    for (text, expect) in [
        ("", Runaway::Alarm),
        ("runaway = \"stop\"", Runaway::Stop),
        ("runaway = \"off\"", Runaway::Off),
    ] {
        let config = parse(&rules(text)).unwrap();
        assert_eq!(config.settings().budgets.runaway, expect, "{text}");
    }
    let config = parse(&rules("runaway_times = 20\nrunaway_usd = \"0.5\"")).unwrap();
    let found = config.settings().budgets.runaway_rules;
    assert_eq!(found.times, 20);
    assert_eq!(found.least, PicoUsd(500_000_000_000));
    for (text, expect) in [
        ("runaway_times = 0", "`budget_rules.runaway_times` is 0"),
        ("runaway_usd = 1", "dollars in quotes"),
        ("runaway = \"kill\"", "`off`, `alarm`, `stop`"),
    ] {
        let said = refused(&rules(text));
        assert!(said.contains(expect), "{said}");
    }
}

#[test]
fn models_that_budgets_refuse_are_remarked() {
    let providers = "[[providers]]\nid = \"openai\"\n[[providers]]\nid = \"acme\"\n\
                     dialect = \"openai_chat\"\nbase_url = \"http://127.0.0.1:1\"\n";
    let models = "[models]\nfast = [\"openai/gpt-5.4\", \"openai/anvil\", \"acme/anvil\"]\n";
    let dollars = "applies_to = \"key\"\nusd = \"5\"\nper = \"day\"";
    let expect = "budgets in dollars refuse models without a known price: `acme/*`, \
                  `openai/anvil`; name a file with their prices in `[prices] files`, or set \
                  `unknown_price` in [budget_rules]";
    for (fields, rules, expect) in [
        (dollars.to_owned(), "", Some(expect)),
        (format!("{dollars}\nmode = \"soft\""), "", Some(expect)),
        (format!("{dollars}\nmode = \"observe\""), "", None),
        (dollars.to_owned(), "unknown_price = \"allow\"", None),
        ("applies_to = \"key\"\nconcurrent = 2".to_owned(), "", None),
    ] {
        let rules = format!("[budget_rules]\n{rules}\n");
        let config = parse(&format!("{providers}{models}{rules}{}", budget(&fields))).unwrap();
        let mut remarks = config.remarks.iter();
        let found = remarks.find(|remark| remark.starts_with("budgets"));
        assert_eq!(found.map(String::as_str), expect, "{fields} {rules}");
    }
}

proptest! {
    /// Whatever is written is a budget or a fault, and a secret is in neither.
    #[test]
    fn no_text_is_too_strange(id in ".{0,70}", only in ".{0,9}", usd in ".{0,40}", zone in ".{0,20}") {
        let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
        let fields = |only: &str, usd: &str, zone: &str| format!(
            "applies_to = \"key\"\nonly = {}\nusd = {}\nper = \"day\"\ntime_zone = {}\n",
            quoted(only), quoted(usd), quoted(zone),
        );
        let strange = fields(&only, &usd, &zone);
        parse(&format!("[[budgets]]\nid = {}\n{strange}", quoted(&id))).ok();
        let secret = format!("{PREFIX}planted{only}");
        for fields in [fields(&secret, &usd, &zone), fields(&secret, "5", "UTC")] {
            let message = refused(&budget(&fields));
            prop_assert!(!message.contains("planted"), "{message}");
        }
    }
}
