//! Decisions over the calls of sessions.
//!
//! **Invariant**: a session keeps its effort (test `a_session_keeps_its_effort`).

use policy::think::capability::Table;
use policy::think::decide::{Held, History, Opted, Policy, Question, Tools, Why, decide};
use policy::think::effort::Effort;
use proptest::prelude::{any, prop, prop_assert_eq, proptest};
use wire::dialect::effort::Asked;

const EASY: &str = "Translate to German: good morning";
const HARD: &str = "Prove that the sum of two odd integers is even.";

/// One decision for a first call: the effort, and why.
struct Case {
    model: &'static str,
    text: &'static str,
    tools: Tools,
    asked: Asked,
    failures: u32,
    policy: Policy,
}

const fn case(model: &'static str, text: &'static str) -> Case {
    Case {
        model,
        text,
        tools: Tools::None,
        asked: Asked {
            given: false,
            effort: None,
            thinking: None,
            budget_tokens: None,
            enabled: None,
            sampling: false,
            forced_tool: false,
            schema_fields: 0,
        },
        failures: 0,
        policy: Policy {
            floor: Effort::Low,
            tools: Opted::Out,
            unverified: Opted::Out,
            beyond_default: Opted::Out,
        },
    }
}

fn check(case: &Case, expect: Option<Effort>, why: &str) {
    let (provider, model) = case.model.split_once('/').unwrap();
    let question = Question {
        text: case.text,
        tools: case.tools,
        asked: &case.asked,
    };
    let capability = Table::built_in().find(provider, model);
    let failures = case.failures;
    let decision = decide(
        &question,
        capability,
        None,
        History { failures },
        case.policy,
    );
    assert_eq!(decision.effort, expect, "{}: {}", case.model, case.text);
    assert!(decision.why.to_string().contains(why), "{}", decision.why);
}

#[test]
fn decisions_and_their_reasons() {
    assert_eq!(case("", "").policy, Policy::default());
    let low = Some(Effort::Low);
    check(&case("openai/gpt-5", EASY), low, "seldom gains");
    check(&case("openai/gpt-5", HARD), None, "maths may need");
    check(&case("openai/gpt-5", "hm"), None, "unknown may need");
    check(&case("openai/gpt-5.4", EASY), None, "no lower level");
    check(&case("openai/gpt-4o", EASY), None, "not known");
    check(&case("qwen/qwen3.8-max", EASY), None, "not verified");
    check(&case("anthropic/claude-opus-5", EASY), low, "seldom gains");
    let tools = Case {
        tools: Tools::Defined,
        ..case("openai/gpt-5", EASY)
    };
    check(&tools, None, "calls with tools");
    let mut opted = tools;
    opted.policy.tools = Opted::In;
    check(&opted, low, "seldom gains");
    let mut client = case("openai/gpt-5", EASY);
    client.asked.given = true;
    check(&client, None, "the client says");
    let mut schema = case("openai/gpt-5", EASY);
    schema.asked.schema_fields = 40;
    check(&schema, None, "many fields");
    let failed = |text| Case {
        failures: 1,
        ..case("openai/gpt-5", text)
    };
    check(&failed(EASY), Some(Effort::Medium), "failed its check");
    check(&failed(HARD), None, "failed its check");
    let mut beyond = failed(HARD);
    beyond.policy.beyond_default = Opted::In;
    check(&beyond, Some(Effort::High), "failed its check");
    let mut refused = Case {
        failures: 1,
        ..case("openai/gpt-5.4", HARD)
    };
    check(&refused, None, "failed its check");
    refused.policy.beyond_default = Opted::In;
    check(&refused, low, "failed its check");
    refused.asked.sampling = true;
    check(&refused, None, "failed its check");
}

proptest! {
    #[test]
    fn a_session_keeps_its_effort(
        texts in prop::collection::vec(prop::sample::select(vec![EASY, HARD, "hm"]), 20),
        model in prop::sample::select(vec!["o3", "gpt-5", "gpt-5.4", "gpt-5.6-sol", "gpt-4o"]),
        failures in prop::collection::vec(0..3_u32, 20),
        tools in any::<bool>(),
    ) {
        let capability = Table::built_in().find("openai", model);
        let tools = if tools { Tools::Defined } else { Tools::None };
        let mut held: Option<Held> = None;
        let mut sent = Vec::new();
        for (turn, (text, failures)) in texts.iter().zip(failures).enumerate() {
            let asked = Asked::default();
            let question = Question { text, tools, asked: &asked };
            let failures = if turn == 0 { 0 } else { failures };
            let history = History { failures };
            let policy = Policy::default();
            let decision = decide(&question, capability, held.as_ref(), history, policy);
            held.get_or_insert_with(|| decision.held(model, tools));
            sent.push(decision.effort);
        }
        sent.dedup();
        prop_assert_eq!(sent.len(), 1);
    }
}

#[test]
fn tools_that_appear_end_a_lowered_session() {
    let capability = Table::built_in().find("openai", "gpt-5");
    let asked = Asked::default();
    let question = |tools| Question {
        text: EASY,
        tools,
        asked: &asked,
    };
    let decide = |tools, held| {
        let history = History::default();
        decide(
            &question(tools),
            capability,
            held,
            history,
            Policy::default(),
        )
    };
    let first = decide(Tools::None, None);
    let held = first.held("openai/gpt-5", Tools::None);
    assert_eq!(decide(Tools::None, Some(&held)).why, Why::Session);
    let with_tools = decide(Tools::Defined, Some(&held));
    assert_eq!((with_tools.effort, with_tools.why), (None, Why::Tools));
}
