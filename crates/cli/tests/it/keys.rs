//! `tokenwise keys`: keys through their whole life, and who is said to have changed them.
//!
//! **Invariant**: no output but that of `create` and `rotate` has a secret, and none has a hash
//! (test `no_hash_is_shown`).

use serde_json::{Value, json};

use crate::home::Home;

/// Makes a key with these arguments, and returns its id and its secret.
fn make(home: &Home, arguments: &[&str]) -> (String, String) {
    let made = home.json(&[&["keys", "create", "ci", "--json"], arguments].concat());
    let text = |field: &str| made[field].as_str().unwrap().to_owned();
    (text("id"), text("secret"))
}

fn shown(home: &Home, id: &str) -> Value {
    home.json(&["keys", "show", id, "--json"])
}

#[test]
fn keys_have_terms() {
    let home = Home::new();
    let terms = [
        &[
            "--team",
            "search",
            "--organisation",
            "acme",
            "--user",
            "ann",
        ][..],
        &["--tag", "b, c", "--tag", "a", "--tag", "a"],
        &["--model", "gpt-*", "--model", "claude-haiku-*"],
    ];
    let (id, _) = make(&home, &terms.concat());
    let found = shown(&home, &id);
    let check = |found: &Value, field: &str, expect: Value| {
        assert_eq!(found[field], expect, "{field}: {found}");
    };
    check(&found, "organisation", json!("acme"));
    check(&found, "team", json!("search"));
    check(&found, "user", json!("ann"));
    check(&found, "tags", json!(["a", "b, c"]));
    check(&found, "models", json!(["claude-haiku-*", "gpt-*"]));
    check(&found, "previous_until_ms", json!(null));
    assert_eq!(home.json(&["keys", "list", "--json"]), json!([found]));

    let assign = [
        "keys",
        "assign",
        &id,
        "--team",
        "ads",
        "--clear",
        "tags,user",
    ];
    let expect = "has organisation `acme`, team `ads`, models `claude-haiku-*` `gpt-*`";
    assert!(home.prints(&assign).contains(expect));
    let found = shown(&home, &id);
    check(&found, "organisation", json!("acme"));
    check(&found, "team", json!("ads"));
    check(&found, "user", json!(null));
    check(&found, "tags", json!([]));
    check(&found, "models", json!(["claude-haiku-*", "gpt-*"]));
    let cleared = home.json(&["keys", "assign", &id, "--clear", "models", "--json"]);
    check(&cleared, "models", json!([]));

    // Columns that say nothing are left out.
    let listed = home.prints(&["keys", "list"]);
    assert!(
        listed.contains("ads") && !listed.contains("tags"),
        "{listed}"
    );
    let one = home.prints(&["keys", "show", &id]);
    let models = one.lines().find(|line| line.starts_with("models"));
    assert!(models.unwrap().ends_with(" all"), "{one}");
}

#[test]
fn keys_end_and_come_back() {
    let home = Home::new();
    let (id, _) = make(&home, &[]);
    for (action, says, expect) in [
        (&["disable", &id][..], "is disabled\n", "disabled"),
        (&["disable", &id], "is disabled\n", "disabled"),
        (&["expire", &id], "has expired\n", "disabled"),
        (&["enable", &id], "keys expire", "expired"),
        (&["expire", &id, "--in", "1h"], "works until", "active"),
        (
            &["expire", &id, "--at", "2020-01-31"],
            "has expired\n",
            "expired",
        ),
        (
            &["expire", &id, "--at", "2999-01-31"],
            "2999-01-31 00:00:00 UTC\n",
            "active",
        ),
        (&["disable", &id], "is disabled\n", "disabled"),
        (&["expire", &id, "--in", "2h"], "keys enable", "disabled"),
        (&["enable", &id], "is enabled\n", "active"),
    ] {
        let printed = home.prints(&[&["keys"], action].concat());
        assert!(printed.contains(says), "{action:?}: {printed}");
        assert_eq!(shown(&home, &id)["state"], expect, "{action:?}");
    }
}

#[test]
fn a_rotation_gives_a_new_secret_and_time_to_change_it() {
    let home = Home::new();
    let (id, first) = make(&home, &["--team", "search"]);
    let before = shown(&home, &id);
    let rotated = home.json(&["keys", "rotate", &id, "--json"]);
    let second = rotated["secret"].as_str().unwrap();
    assert!(second.starts_with("tw-") && second != first);
    assert_eq!(rotated["id"], before["id"]);
    assert_eq!(rotated["team"], before["team"]);
    // A day after the rotation, which came after the key was made.
    let until = rotated["previous_until_ms"].as_u64().unwrap();
    assert!(until >= before["created_at_ms"].as_u64().unwrap() + 86_400_000);
    let listed = home.prints(&["keys", "list"]);
    assert!(listed.contains("secret before works until"), "{listed}");

    let printed = home.prints(&["keys", "rotate", &id, "--grace", "0"]);
    let ended = printed.contains("the secret before works no longer.\n");
    assert!(printed.starts_with("tw-") && ended, "{printed}");
    assert!(!home.prints(&["keys", "list"]).contains("secret before"));
    home.prints(&["keys", "disable", &id]);
    let printed = home.prints(&["keys", "rotate", &id, "--grace", "30m"]);
    for part in ["the secret before works until 20", "keys enable"] {
        assert!(printed.contains(part), "{printed}");
    }
}

#[test]
fn every_change_is_audited() {
    let home = Home::new();
    assert!(home.prints(&["keys", "audit"]).contains("no changes yet"));
    let (id, _) = make(&home, &["--team", "search", "--expires", "30d"]);
    for change in [
        &["rotate", &id, "--grace", "0"][..],
        &["disable", &id],
        &["enable", &id],
        &["expire", &id],
        &["assign", &id, "--tag", "batch"],
    ] {
        home.prints(&[&["keys"], change].concat());
    }
    // What only looks, or fails, changes nothing.
    home.prints(&["keys", "list"]);
    shown(&home, &id);
    home.fails(&["keys", "disable", "key_0"]);
    home.fails(&["keys", "assign", &id]);

    let entries = home.json(&["keys", "audit", "--json"]);
    let entries = entries.as_array().unwrap();
    let told = |field: &str| -> Vec<&str> {
        let texts = entries.iter().map(|entry| entry[field].as_str());
        texts.collect::<Option<_>>().unwrap()
    };
    assert_eq!(
        told("action"),
        ["assign", "expire", "enable", "disable", "rotate", "create"]
    );
    assert_eq!(told("actor"), ["command line"; 6]);
    assert_eq!(told("subject"), [&id; 6]);
    let details = told("detail");
    assert_eq!(details[0], "team `search`, tags `batch`, all models");
    assert!(details[1].starts_with("until 20"), "{details:?}");
    assert_eq!(details[2..5], ["", "", "the secret before works no longer"]);
    let created = details[5];
    assert!(
        created.starts_with("`ci`, until 20")
            && created.ends_with(" UTC; team `search`, all models"),
        "{created}"
    );

    let last = home.prints(&["keys", "audit", "--last", "2"]);
    assert_eq!(last.lines().count(), 4, "{last}");
    assert!(last.contains("assign") && last.contains("expire"), "{last}");
}

#[test]
fn no_hash_is_shown() {
    let home = Home::new();
    let (id, first) = make(&home, &[]);
    let rotated = home.json(&["keys", "rotate", &id, "--json"]);
    let second = rotated["secret"].as_str().unwrap();
    let hashes = [&first, second].map(|secret| blake3::hash(secret.as_bytes()).to_hex());
    let printed = [
        home.prints(&["keys", "list"]),
        home.prints(&["keys", "list", "--json"]),
        home.prints(&["keys", "show", &id]),
        home.prints(&["keys", "show", &id, "--json"]),
        home.prints(&["keys", "audit"]),
        home.prints(&["keys", "audit", "--json"]),
        home.prints(&["keys", "disable", &id, "--json"]),
    ];
    for printed in printed {
        for hidden in [&first, second, &hashes[0], &hashes[1], "hash"] {
            assert!(!printed.contains(hidden), "{hidden}: {printed}");
        }
    }
}

#[test]
fn wrong_arguments_are_explained() {
    let home = Home::new();
    let (id, _) = make(&home, &[]);
    let long = "x".repeat(129);
    let many = [&["assign", &id][..], &["--tag", "a"].repeat(17)].concat();
    for (arguments, part) in [
        (&["show", "key_0"][..], "keys list"),
        (&["rotate", "key_0"], "keys list"),
        (&["enable", "key_0"], "keys list"),
        (&["expire", "key_0"], "keys list"),
        (&["assign", "key_0", "--team", "a"], "keys list"),
        (&["create", "a\nb"], "1 to 128"),
        (&["create", "a", "--team", ""], "`--team` has 1 to 128"),
        (
            &["create", "a", "--model", " gpt"],
            "`--model` has 1 to 128",
        ),
        (&["assign", &id, "--tag", &long], "`--tag` has 1 to 128"),
        (&many, "allowed: 16"),
        (&["assign", &id], "`--clear`"),
        (
            &["assign", &id, "--team", "a", "--clear", "team"],
            "`--clear team`",
        ),
        (&["rotate", &id, "--grace", "soon"], "7d"),
        (&["expire", &id, "--in", "soon"], "7d"),
        (&["expire", &id, "--at", "soon"], "2027-01-31"),
    ] {
        let (code, message) = home.fails(&[&["keys"], arguments].concat());
        assert!(
            code == 2 && message.contains(part),
            "{arguments:?}: {message}"
        );
        assert_eq!(message.trim_end().lines().count(), 1, "{message}");
    }
    // What the command line's grammar refuses says what is allowed, on lines of its own.
    for (arguments, part) in [
        (
            &["assign", &id, "--clear", "all"][..],
            "organisation, team, user, tags, models",
        ),
        (
            &["expire", &id, "--in", "1d", "--at", "2027-01-31"],
            "cannot be used with",
        ),
        (&["audit", "--last", "0"], "1.."),
    ] {
        let (code, message) = home.fails(&[&["keys"], arguments].concat());
        assert!(
            code == 2 && message.contains(part),
            "{arguments:?}: {message}"
        );
    }
}
