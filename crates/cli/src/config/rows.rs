//! Configurations in rows: what is refused and how it is said, and what holds without a file.
//!
//! **Invariant**: a message names file, key, value and what is allowed (test `bad_values_are_named`).

use std::path::Path;

use gateway::setup::loops::Action;
use gateway::setup::{Access, AskUsage, Credential, LeverMode};
use policy::admit::limit::Then;

use super::build::{Config, KeysMade, Place, build};
use super::fault::ConfigError;
use super::load;
use super::raw::{RawConfig, RawLeverMode};
use crate::env::Environment;
use crate::print::failure::chain;

const PLANTED: &str = "sk-planted-secret";

fn environment() -> Environment {
    Environment::from([("HOME", "/h"), ("OPENAI_API_KEY", PLANTED)])
}

pub(super) fn parse(text: &str) -> Result<Config, ConfigError> {
    let file = Path::new("a.toml");
    let raw: RawConfig =
        toml::from_str(text).map_err(|error| ConfigError::shape(file, text, &error))?;
    build(&raw, Some(file), &environment())
}

/// What is said of a configuration that cannot be used.
pub(super) fn refused(text: &str) -> String {
    chain(&parse(text).expect_err(text))
}

fn provider(fields: &str) -> String {
    format!("[[providers]]\n{fields}\n")
}

/// What is written, and parts of what is said about it.
const BAD_SETTINGS: &[(&str, &[&str])] = &[
    (
        "lisen = 1",
        &["a.toml:1: `lisen`", "unknown field", "--schema"],
    ),
    (
        "[limits]\n\nidle_timeout = 1",
        &["a.toml:3: `idle_timeout`", "idle_timeout_ms"],
    ),
    (
        "[levers]\ncache = \"onn\"",
        &["a.toml:2: `cache`", "`observe`"],
    ),
    (
        "listen = \"8787\"",
        &["a.toml: `listen` is `8787`", "0 to 65535"],
    ),
    (
        "[limits]\nidle_timeout_ms = 5",
        &["`limits.idle_timeout_ms` is 5", "10 to 3600000"],
    ),
    (
        "[limits]\nbody_bytes_max = 1",
        &["`limits.body_bytes_max` is 1", "1024 to 1073741824"],
    ),
    (
        "[limits]\nbody_bytes_max = -1",
        &["a.toml:2: `body_bytes_max`"],
    ),
    (
        "[store]\npath = \"\"",
        &["`store.path` is empty", ":memory:"],
    ),
    ("[log]\nlevel = \" \"", &["`log.level` is empty", "debug"]),
    (
        "[prices]\nfiles = [\"no.toml\"]",
        &["`prices.files` names no.toml", "cannot be read"],
    ),
    (
        "[levers]\npassthrough = true\ncache = \"on\"",
        &["`levers.cache` contradicts", "`off`"],
    ),
    (
        "[levers]\npassthrough = true\nask_usage = \"always\"",
        &["`levers.ask_usage`", "`never`"],
    ),
];

/// The same for the fields of one provider.
const BAD_PROVIDERS: &[(&str, &[&str])] = &[
    ("id = \"Acme\"", &["`providers.id` is `Acme`", "lowercase"]),
    ("id = \"v1\"", &["`v1`", "path of the gateway"]),
    (
        "id = \"acme\"",
        &["`providers.acme.dialect`", "anthropic, ", "openai_chat"],
    ),
    (
        "id = \"acme\"\ndialect = \"openai_chat\"",
        &["`providers.acme.base_url` is missing"],
    ),
    (
        "id = \"openai\"\nbase_url = \"acme.example\"",
        &["is `acme.example`", "https://"],
    ),
    (
        "id = \"openai\"\nbase_url = \"https://a.example/?a=1\"",
        &["without query"],
    ),
    (
        "id = \"openai\"\nbase_url = \"https://u:p@a.example/\"",
        &["user name or password"],
    ),
    (
        "id = \"openai\"\nprices = \"acme\"",
        &["`providers.openai.prices` is `acme`", "anthropic, "],
    ),
    (
        "id = \"openai\"\napi_key = \"env:NO\"",
        &["`NO`, which is not set"],
    ),
    (
        "id = \"anthropic\"",
        &[
            "`providers.anthropic.api_key`",
            "ANTHROPIC_API_KEY",
            "`client`",
        ],
    ),
    (
        "id = \"openai\"\nmodels = [\"\"]",
        &["`providers.openai.models`", "empty glob"],
    ),
    (
        "id = \"openai\"\n[[providers]]\nid = \"openai\"",
        &["provider `openai` is configured twice"],
    ),
];

#[test]
fn bad_values_are_named() {
    let settings = BAD_SETTINGS
        .iter()
        .map(|(text, parts)| ((*text).to_owned(), parts));
    let providers = BAD_PROVIDERS
        .iter()
        .map(|(fields, parts)| (provider(fields), parts));
    for (text, parts) in settings.chain(providers) {
        let message = refused(&text);
        for part in *parts {
            assert!(message.contains(part), "{text}\n{message}\n{part}");
        }
        assert!(!message.contains('\n'), "{message}");
    }
}

#[test]
fn secrets_are_never_shown() {
    for text in [
        format!("id = \"openai\"\napi_key = \"{PLANTED}\""),
        format!("id = \"openai\"\napikey = \"{PLANTED}\""),
        format!("id = \"openai\"\napi_key = [\"{PLANTED}\"]"),
        format!("id = \"openai\"\napi_key = \"{PLANTED}"),
    ] {
        let message = refused(&provider(&text));
        assert!(message.contains("api"), "{message}");
        assert!(!message.contains(PLANTED), "{message}");
    }
    let config = parse(&provider("id = \"openai\"")).unwrap();
    let shown = format!("{config:?}");
    assert!(shown.contains("***") && !shown.contains(PLANTED), "{shown}");
}

#[test]
fn the_environment_names_the_providers() {
    for (variables, expect) in [
        (
            &[][..],
            &["anthropic each client's own", "openai each client's own"][..],
        ),
        (&["OPENAI_API_KEY"], &["openai *** (env:OPENAI_API_KEY)"]),
        (
            &["ANTHROPIC_API_KEY"],
            &["anthropic *** (env:ANTHROPIC_API_KEY)"],
        ),
        (
            &["OPENAI_API_KEY", "ANTHROPIC_API_KEY"],
            &[
                "anthropic *** (env:ANTHROPIC_API_KEY)",
                "openai *** (env:OPENAI_API_KEY)",
            ],
        ),
    ] {
        let mut environment = Environment::from([("HOME", "/h")]);
        for name in variables {
            environment.set(name, PLANTED);
        }
        let config = load(None, &environment).unwrap();
        let providers = config.providers.iter();
        let providers: Vec<String> = providers
            .map(|row| format!("{} {}", row.upstream.id, row.key))
            .collect();
        assert_eq!(providers, expect, "{variables:?}");
        assert_eq!(
            config.place,
            Place::File("/h/.local/share/tokenwise/ledger.db".into())
        );
        assert_eq!(
            config.remarks.is_empty(),
            !variables.is_empty(),
            "{:?}",
            config.remarks
        );
    }
}

#[test]
fn credentials_are_sent_as_each_provider_wants() {
    let key = "api_key = \"env:OPENAI_API_KEY\"";
    let other = "id = \"acme\"\nbase_url = \"http://127.0.0.1:1\"\ndialect";
    for (fields, expect) in [
        (
            format!("id = \"openai\"\n{key}"),
            Some(format!("Bearer {PLANTED}")),
        ),
        (
            format!("id = \"anthropic\"\n{key}"),
            Some(PLANTED.to_owned()),
        ),
        (
            format!("{other} = \"openai_chat\"\n{key}"),
            Some(format!("Bearer {PLANTED}")),
        ),
        (
            format!("{other} = \"anthropic_messages\"\n{key}"),
            Some(PLANTED.to_owned()),
        ),
        (format!("{other} = \"openai_chat\""), None),
        ("id = \"anthropic\"\napi_key = \"client\"".to_owned(), None),
    ] {
        let config = parse(&provider(&fields)).unwrap();
        let value = match &config.settings().upstreams[0].credential {
            Credential::Configured(value) => {
                assert!(value.is_sensitive());
                Some(value.to_str().unwrap().to_owned())
            }
            Credential::FromClient | Credential::Nothing => None,
        };
        assert_eq!(value, expect, "{fields}");
    }
}

#[test]
fn a_base_may_end_with_the_version() {
    for (dialect, written, expect) in [
        (
            "anthropic_messages",
            "https://a.example/v1",
            "https://a.example/",
        ),
        (
            "anthropic_messages",
            "https://a.example/x/v1/",
            "https://a.example/x",
        ),
        (
            "anthropic_messages",
            "https://a.example",
            "https://a.example/",
        ),
        (
            "openai_chat",
            "https://a.example/v1/",
            "https://a.example/v1",
        ),
    ] {
        let fields = format!("id = \"acme\"\ndialect = \"{dialect}\"\nbase_url = \"{written}\"");
        let config = parse(&provider(&fields)).unwrap();
        assert_eq!(
            config.settings().upstreams[0].base.to_string(),
            expect,
            "{written}"
        );
    }
}

#[test]
fn every_known_provider_finds_its_prices() {
    for known in wire::provider::PROVIDERS {
        let mut fields = format!("id = \"{}\"\napi_key = \"client\"", known.id);
        if known.base_url.is_empty() {
            fields.push_str("\nbase_url = \"https://a.example/v1\"");
        }
        let config = parse(&provider(&fields)).unwrap();
        assert_eq!(config.remarks, Vec::<String>::new(), "{}", known.id);
    }
}

#[test]
fn access_is_open_on_loopback_only() {
    let config = |mode: &str| parse(&format!("[access]\nmode = \"{mode}\"")).unwrap();
    let (near, far) = ("127.0.0.1:1", "0.0.0.0:1");
    for (mode, listen, keys, expect) in [
        ("auto", near, KeysMade::None, Some(Access::Open)),
        ("auto", "[::1]:1", KeysMade::None, Some(Access::Open)),
        ("auto", near, KeysMade::Some, Some(Access::Keys)),
        ("auto", far, KeysMade::None, None),
        ("auto", far, KeysMade::Some, Some(Access::Keys)),
        ("open", near, KeysMade::Some, Some(Access::Open)),
        ("open", far, KeysMade::Some, None),
        ("keys", far, KeysMade::None, Some(Access::Keys)),
    ] {
        match (config(mode).setup(listen.parse().unwrap(), keys), expect) {
            (Ok(setup), Some(access)) => assert_eq!(setup.access, access, "{mode} {listen}"),
            (Err(error), None) => {
                let message = error.to_string();
                assert!(message.contains("tokenwise keys create"), "{message}");
            }
            (result, expect) => panic!("{mode} {listen}: {result:?}, not {expect:?}"),
        }
    }
}

#[test]
fn levers_are_set_together_or_apart() {
    for (text, cache, ask) in [
        ("", LeverMode::On, AskUsage::Always),
        ("cache = \"observe\"", LeverMode::Observe, AskUsage::Always),
        ("ask_usage = \"never\"", LeverMode::On, AskUsage::Never),
        ("passthrough = true", LeverMode::Off, AskUsage::Never),
        (
            "passthrough = true\ncache = \"off\"",
            LeverMode::Off,
            AskUsage::Never,
        ),
    ] {
        let config = parse(&format!("[levers]\n{text}")).unwrap();
        assert_eq!(
            (config.settings().cache, config.settings().ask_usage),
            (cache, ask),
            "{text}"
        );
    }
    let all = "[[providers]]\nid = \"openai\"\n[[routes]]\nid = \"a\"\nlever = \"on\"\n\
               [routes.cascade]\ntarget = \"openai/gpt-5.4-mini\"\nlever = \"on\"\n\
               [routes.loops]\naction = \"nudge\"\n\
               [[budgets]]\nid = \"t\"\napplies_to = \"task\"\nusd = \"1\"\nper = \"day\"\n\
               then = \"degrade\"\nwrap_up = true\n";
    for (mode, lever, loops, then) in [
        (RawLeverMode::Off, LeverMode::Off, Action::Off, Then::Refuse),
        (
            RawLeverMode::Observe,
            LeverMode::Observe,
            Action::Observe,
            Then::Degrade,
        ),
    ] {
        let config = parse(all).unwrap().with_levers(mode);
        let (settings, rule) = (config.settings(), &config.settings().rules[0]);
        let cascade = rule.cascade.as_ref().unwrap();
        assert_eq!([settings.cache, rule.mode, cascade.mode], [lever; 3]);
        assert_eq!([settings.loops.action, rule.loops.action], [loops; 2]);
        assert_eq!(settings.budgets.limits[0].then, then);
        assert!(settings.budgets.wrap_up.is_empty());
        let is_off = mode == RawLeverMode::Off;
        assert_eq!(settings.ask_usage == AskUsage::Never, is_off);
    }
}

#[test]
fn relative_paths_start_at_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.toml");
    let price = "provider = \"acme\"\ndated = 2026-11-24\n[[model]]\nid = \"anvil\"\n\
                 source = \"https://acme.example\"\nread = 2026-11-24\n\
                 [[model.window]]\nrates = [{ input = \"1\", output = \"2\" }]\n";
    std::fs::write(folder.path().join("acme.toml"), price).unwrap();
    let text = "[prices]\nfiles = [\"acme.toml\"]\n[store]\npath = \"l.db\"\n";
    std::fs::write(&file, text).unwrap();
    let config = load(Some(&file), &environment()).unwrap();
    assert_eq!(config.place, Place::File(folder.path().join("l.db")));
    assert!(config.settings().prices.find("acme", "anvil").is_some());
}

#[test]
fn the_admin_api_opens_with_a_reference() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.toml");
    std::fs::write(folder.path().join("token"), "planted-file-token-1\n").unwrap();
    let mut environment = environment();
    environment.set("SHORT", "planted-15-long");
    environment.set("SPACED", "planted token with spaces");
    for (reference, expect) in [
        ("env:OPENAI_API_KEY", Ok(PLANTED)),
        ("file:token", Ok("planted-file-token-1")),
        ("env:NO", Err("`NO`, which is not set")),
        ("env:", Err("names no variable")),
        (
            "env:SHORT",
            Err("leads to a token that has 15 bytes; allowed: 16"),
        ),
        (
            "env:SPACED",
            Err("allowed: 16 or more, all of them visible ASCII"),
        ),
        ("file:absent", Err("cannot be read")),
        ("planted-literal-token", Err("is no reference (not shown)")),
        ("client", Err("is no reference (not shown)")),
        ("none", Err("is no reference (not shown)")),
        ("", Err("is no reference (not shown)")),
    ] {
        std::fs::write(&file, format!("[admin]\ntoken = \"{reference}\"\n")).unwrap();
        match (load(Some(&file), &environment), expect) {
            (Ok(config), Ok(token)) => {
                assert!(config.settings().admin.is_some_and(|admin| admin.is(token)));
                assert!(!format!("{config:?}").contains("planted"), "{reference}");
            }
            (Err(error), Err(part)) => {
                let message = chain(&error);
                assert!(message.contains("`admin.token`"), "{message}");
                assert!(message.contains(part), "{message}");
                assert!(!message.contains("planted"), "{message}");
            }
            (result, expect) => panic!("{reference}: {result:?}, not {expect:?}"),
        }
    }
    assert!(parse("").unwrap().settings().admin.is_none());
}
