//! The commands that do not serve: check, price, keys, report, explain, doctor.
//!
//! **Invariant**: errors are one line with the exit code of their kind (test
//! `failures_say_what_to_do`).

use crate::home::{Home, PLANTED, text};

#[test]
fn check_shows_no_secret() {
    let home = Home::new();
    let config = home.file(
        "a.toml",
        "[[providers]]\nid = \"openai\"\n[models]\nfast = \"openai/gpt-5.4\"\n",
    );
    let config = config.to_str().unwrap();
    let shown = home.prints(&["check", config]);
    for part in [
        "valid",
        "openai at https://",
        "*** (env:OPENAI_API_KEY)",
        "fast = openai/gpt-5.4",
    ] {
        assert!(shown.contains(part), "{shown}");
    }
    let value = home.json(&["check", config, "--json"]);
    assert_eq!(value["providers"][0]["api_key"], "*** (env:OPENAI_API_KEY)");
    assert_eq!(
        home.json(&["check", "--schema"])["title"],
        "Tokenwise configuration"
    );
    assert!(
        home.prints(&["check", "--reference"])
            .starts_with("# Configuration reference")
    );
    assert!(home.prints(&["check", "--providers"]).contains("anthropic"));
}

#[test]
fn examples_are_configurations() {
    let home = Home::new();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "coding-agent.toml",
            "local.toml",
            "merchant-assistant.toml",
            "minimal.toml",
            "routes.toml",
            "team-budgets.toml",
            "team.toml"
        ]
    );
    for name in names {
        let file = folder.join(&name);
        let mut check = home.command(&["check", file.to_str().unwrap()]);
        for variable in [
            "ANTHROPIC_API_KEY",
            "AZURE_OPENAI_API_KEY",
            "DEEPSEEK_API_KEY",
            "VLLM_API_KEY",
        ] {
            check.env(variable, PLANTED);
        }
        let output = check.output().unwrap();
        assert!(output.status.success(), "{name}: {}", text(&output.stderr));
        let shown = text(&output.stdout);
        assert!(
            shown.contains("valid") && !shown.contains(PLANTED),
            "{name}: {shown}"
        );
    }
}

#[test]
fn check_says_routes_and_budgets_in_words() {
    let home = Home::new();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let file = folder.join("team-budgets.toml");
    let check = |arguments: &[&str]| {
        let mut check = home.command(&["check", file.to_str().unwrap()]);
        check.args(arguments);
        for variable in ["ANTHROPIC_API_KEY", "AZURE_OPENAI_API_KEY"] {
            check.env(variable, PLANTED);
        }
        text(&check.output().unwrap().stdout)
    };
    let shown = check(&[]);
    let expect = "
  models     careful = anthropic/claude-opus-5-5, else anthropic/claude-sonnet-5-5
             large = azure-eu/gpt-5.4 or azure-us/gpt-5.4, else openai/gpt-5.4
             small = openai/gpt-5.4-mini
  failover   retries for each target: 2; attempts in all: 6, none after 2 min; a second target after 8.0 s of silence, for 2 % of calls at most
  budgets    team-month (hard): $500.00 per month (Europe/Berlin) for each team
             search-month (hard): $2000.00 per month (Europe/Berlin) for team `search`
             user-day (soft): $12.50 per day (Europe/Berlin) for each user
             session (hard): $25.00 per lifetime for each session
             key-minute (hard): 600 requests per minute (UTC) for each key
             key-at-once (hard): 40 calls at once for each key
             tokens-trial (observe): 200000000 tokens per day (UTC) for model `gpt-5.4`
  unpriced   each call without a known price holds $1.00
  levers ";
    assert!(shown.contains(expect), "{shown}");
    let value: serde_json::Value = serde_json::from_str(&check(&["--json"])).unwrap();
    let equal = serde_json::json!(["azure-eu/gpt-5.4", "azure-us/gpt-5.4"]);
    assert_eq!(value["models"]["large"][0], equal);
    assert_eq!(value["failover"]["deadline_ms"], 120_000);
    assert_eq!(value["failover"]["hedge_after_ms"], 8_000);
    let budget = serde_json::json!({
        "id": "search-month",
        "applies_to": "team",
        "only": "search",
        "mode": "hard",
        "text": "$2000.00 per month (Europe/Berlin) for team `search`",
        "pico_usd": 2_000_000_000_000_000_u64,
        "per": "month",
        "time_zone": "Europe/Berlin",
    });
    assert_eq!(value["budgets"][1], budget);
    let held = &value["budget_rules"]["unknown_price"]["hold_pico_usd"];
    assert_eq!(held, 1_000_000_000_000_u64);
}

#[test]
fn check_says_what_routes_do() {
    let home = Home::new();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let file = folder.join("routes.toml");
    let check = |arguments: &[&str]| {
        let mut check = home.command(&["check", file.to_str().unwrap()]);
        check.args(arguments).env("ANTHROPIC_API_KEY", PLANTED);
        text(&check.output().unwrap().stdout)
    };
    let shown = check(&[]);
    let expect = "
  routes     nightly: takes tags nightly, hours 22:00-06:00 (UTC); to batch; loops observe; think observe
             support: takes tags support; cheaper openai/gpt-5.4-mini (on); loops observe; think observe
             extraction: takes tags extraction; asks openai/gpt-5.4-mini first (on), checked by a pattern; loops observe; think observe
             summaries: takes tags summaries; asks openai/gpt-5.4-mini first (on), checked by openai/gpt-5.4-nano; loops observe; think observe
             handbook: takes tags handbook; at most 8,000 tokens of documents (on); loops observe; think observe
             agents: takes tools with; tool_results over 120,000 tokens: compress (on); input over 180,000 tokens: refuse; loops nudge; think observe
";
    assert!(shown.contains(expect), "{shown}");
    let value: serde_json::Value = serde_json::from_str(&check(&["--json"])).unwrap();
    let routes = value["routes"].as_array().unwrap();
    assert_eq!(routes.len(), 6);
    let when = serde_json::json!({"tags": ["nightly"], "hours": "22:00-06:00 (UTC)"});
    assert_eq!(
        (&routes[0]["when"], &routes[0]["use"]),
        (&when, &"batch".into())
    );
    assert_eq!(routes[2]["cascade"]["target"], "openai/gpt-5.4-mini");
    assert_eq!(routes[4]["focus_tokens"], 8_000);
    let refuse = serde_json::json!({"class": "input", "tokens_max": 180_000, "over": ["refuse"]});
    assert_eq!(
        (&routes[5]["context"][1], &routes[5]["loops"]),
        (&refuse, &"nudge".into())
    );
}

#[test]
fn prices_are_looked_up() {
    let home = Home::new();
    let shown = home.prints(&["price", "claude-sonnet-4-6"]);
    assert!(
        shown.contains("anthropic/claude-sonnet-4-6") && shown.contains("write_5m"),
        "{shown}"
    );
    let usage = "input=1000,read=100000,write_5m=10,output=10";
    let value = home.json(&[
        "price",
        "claude-sonnet-4-6",
        "--usage",
        usage,
        "--json",
        "--at",
        "2026-11-24",
    ]);
    // 1000 × $3 + 100 000 × $0.30 + 10 × $3.75 + 10 × $15, each per million.
    assert_eq!(value["bill"]["total_pico_usd"], 33_187_500_000_u64);
    assert!(
        home.json(&["price", "list", "--json"])["models"]
            .as_array()
            .unwrap()
            .len()
            >= 60
    );
    let file = home.file(
        "acme.toml",
        "provider = \"acme\"\ndated = 2026-11-24\n[[model]]\nid = \"anvil\"\n\
         source = \"https://acme.example\"\nread = 2026-11-24\n\
         [[model.window]]\nrates = [{ input = \"1\", output = \"2\" }]\n",
    );
    let shown = home.prints(&["price", "refresh", file.to_str().unwrap()]);
    assert!(shown.contains("+ acme/anvil"), "{shown}");
    assert!(!home.path().join(".config").exists());
    home.prints(&["price", "refresh", file.to_str().unwrap(), "--write"]);
    assert!(
        home.path()
            .join(".config/tokenwise/prices/acme.toml")
            .exists()
    );
}

#[test]
fn keys_and_reports_work_on_a_fresh_store() {
    let home = Home::new();
    let (code, message) = home.fails(&["report"]);
    assert_eq!(code, 2);
    assert!(message.contains("tokenwise serve"), "{message}");
    assert!(home.prints(&["keys", "list"]).contains("no keys yet"));
    let made = home.json(&["keys", "create", "ci", "--expires", "30d", "--json"]);
    let (id, secret) = (
        made["id"].as_str().unwrap(),
        made["secret"].as_str().unwrap(),
    );
    assert!(secret.starts_with("tw-"));
    let listed = home.prints(&["keys", "list"]);
    assert!(
        listed.contains(id) && listed.contains("active") && !listed.contains(secret),
        "{listed}"
    );
    home.prints(&["keys", "disable", id]);
    assert_eq!(
        home.json(&["keys", "list", "--json"])[0]["state"],
        "disabled"
    );
    let ledger = home.path().join(".local/share/tokenwise/ledger.db");
    let bytes = std::fs::read(&ledger).unwrap();
    let holds = |part: &str| {
        bytes
            .windows(part.len())
            .any(|window| window == part.as_bytes())
    };
    assert!(holds(id) && !holds(secret));
    assert!(home.prints(&["report"]).contains("no calls"));
    assert_eq!(
        home.json(&["report", "--json", "--since", "7d"])["totals"]["calls"],
        0
    );
}

#[test]
fn failures_say_what_to_do() {
    let home = Home::new();
    let broken = home.file("broken.toml", "[limits]\nidle_timeout_ms = 5\n");
    let broken = broken.to_str().unwrap();
    home.prints(&["keys", "create", "ci"]);
    for (arguments, code, part) in [
        (&["check", broken][..], 2, "10 to 3600000"),
        (&["check", "no.toml"], 2, "--config"),
        (
            &["serve", "--config", broken],
            2,
            "`limits.idle_timeout_ms` is 5",
        ),
        (&["price", "claude-sonet"], 2, "anthropic/claude-"),
        (
            &["price", "claude-sonnet-4-6", "--at", "soon"],
            2,
            "2026-11-24",
        ),
        (&["price", "refresh", "no.toml"], 1, "no.toml"),
        (&["keys", "create", " "], 2, "1 to 128"),
        (&["keys", "create", "a", "--expires", "soon"], 2, "7d"),
        (&["keys", "disable", "key_0"], 2, "keys list"),
        (&["report", "--since", "soon"], 2, "7d"),
        (&["explain", "last"], 2, "x-tokenwise-call"),
        (&["explain", "call_0"], 2, "call_0"),
        (&["frobnicate"], 2, "--help"),
    ] {
        let (found, message) = home.fails(arguments);
        assert!(
            found == code && message.contains(part),
            "{arguments:?}: {found}: {message}"
        );
        if arguments[0] != "frobnicate" {
            assert_eq!(message.trim_end().lines().count(), 1, "{message}");
        }
    }
}

#[test]
fn the_doctor_finds_what_is_wrong() {
    let home = Home::new();
    // Port 9 of this machine refuses connections; nothing else is called.
    let config = home.file(
        "a.toml",
        "listen = \"127.0.0.1:0\"\n[[providers]]\nid = \"openai\"\nbase_url = \"http://127.0.0.1:9/v1\"\n",
    );
    let output = home.run(&["doctor", "--json", "--config", config.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let findings: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let state = |subject: &str| {
        let all = findings.as_array().unwrap().iter();
        let found = all
            .filter(|finding| finding["subject"] == subject)
            .map(|it| &it["state"]);
        found.cloned().collect::<Vec<_>>()
    };
    assert_eq!(state("configuration"), ["ok"]);
    assert_eq!(state("ledger"), ["ok"]);
    assert_eq!(state("port"), ["ok"]);
    assert_eq!(state("provider openai"), ["fail"]);
}

/// Without any data: the assistant is made up, what is measured is exact, and the rest is marked.
#[test]
fn a_monthly_bill_is_printed_on_a_bare_clone() {
    let home = Home::new();
    let bill = home.json(&["simulate", "--conversations", "10k/day", "--json"]);
    let month = |side: &str| bill[side]["month_pico_usd"].as_i64().unwrap();
    let all = |side: &str| bill[side]["pico_usd"].as_i64().unwrap();
    assert_eq!(bill["conversations_a_month"], 300_000);
    let replayed = bill["conversations"].as_i64().unwrap();
    for side in ["untouched", "cache"] {
        assert_eq!(month(side), all(side) * (300_000 / replayed), "{side}");
    }
    assert!(all("cache") * 3 < all("untouched"));
    for estimate in bill["estimates"].as_array().unwrap() {
        assert_eq!(estimate["estimated"], true);
        assert!(!estimate["source"].as_str().unwrap().is_empty());
    }
    let (_, error) = home.fails(&["simulate", "--conversations", "10M"]);
    assert!(error.contains("as `10M/day`"), "{error}");
    let (_, error) = home.fails(&["simulate", "--traffic", "a.jsonl"]);
    assert!(error.contains("--conversations"), "{error}");
}
