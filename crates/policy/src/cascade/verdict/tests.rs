//! Rows for verdicts, on whole answers and on the beginnings of streams.
//!
//! **Invariant**: each row names one contract, one answer and what becomes of it (test
//! `answers_are_judged`).

use std::time::Duration;

use wire::dialect::Dialect;

use super::{Curve, Ground, HoldBack, Need, Rules, Verdict, judge, judge_prefix};
use crate::cascade::contract::Contract;
use crate::cascade::signals::{Agreement, AnswerSeen, Check, Hearing, Outcome};

const TOOLS: &str = r#""tools":[{"type":"function","function":{"name":"look","parameters":
    {"type":"object","required":["at"],"properties":{"at":{"type":"integer"}}}}}]"#;
const SCHEMA: &str = r#""response_format":{"type":"json_schema","json_schema":{"name":"a",
    "schema":{"type":"object","required":["city"]}}}"#;

fn contract(members: &str) -> Contract {
    Contract::read(Dialect::OpenAiChat, format!("{{{members}}}").as_bytes())
}

fn said(content: &str) -> String {
    let text = serde_json::to_string(content).expect("a string");
    format!(r#"{{"choices":[{{"finish_reason":"stop","message":{{"content":{text}}}}}]}}"#)
}

fn called(name: &str, arguments: &str) -> String {
    let arguments = serde_json::to_string(arguments).expect("a string");
    format!(
        r#"{{"choices":[{{"finish_reason":"tool_calls","message":{{"content":null,"tool_calls":
        [{{"id":"1","type":"function","function":{{"name":"{name}","arguments":{arguments}}}}}]}}}}]}}"#
    )
}

fn shown(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Accept(Ground::Verified) => "accept verified".to_owned(),
        Verdict::Accept(Ground::Likely(likely)) => format!("accept {likely:.2}"),
        Verdict::Escalate(doubt) => doubt.name().to_owned(),
        Verdict::NeedMore(Need::More) => "more".to_owned(),
        Verdict::NeedMore(Need::Verifier(name)) => format!("ask {name}"),
        Verdict::NeedMore(Need::Agreement) => "ask others".to_owned(),
    }
}

#[test]
fn answers_are_judged() {
    let check = |members: &str, answer: &str, expect: &str| {
        let seen = AnswerSeen::read(Dialect::OpenAiChat, answer.as_bytes());
        let verdict = judge(&contract(members), &seen, &Rules::default());
        assert_eq!(shown(&verdict), expect, "{answer} for {members}");
    };
    check("", &said("Bern."), "accept 1.00");
    check("", &said("  "), "empty");
    check("", &said("I can't help with that."), "refused");
    check("", "<html>", "broken");
    check("", r#"{"error":{"message":"no"}}"#, "broken");
    for (reason, expect) in [("length", "truncated"), ("content_filter", "filtered")] {
        let answer = said("Be").replace("stop", reason);
        check("", &answer, expect);
    }
    let refusal =
        r#"{"choices":[{"finish_reason":"stop","message":{"content":null,"refusal":"No."}}]}"#;
    check(SCHEMA, refusal, "refused");
    check(SCHEMA, &said(r#"{"city":"Bern"}"#), "accept 1.00");
    check(SCHEMA, &said(r#"{"town":"Bern"}"#), "form");
    check(SCHEMA, &said("```json\n{\"city\":\"Bern\"}\n```"), "form");
    check(
        r#""response_format":{"type":"json_object"}"#,
        &said("[1]"),
        "form",
    );
    check(TOOLS, &said("At Bern."), "accept 1.00");
    check(TOOLS, &called("look", r#"{"at":1}"#), "accept 1.00");
    check(TOOLS, &called("look", r#"{"at":"1"}"#), "arguments");
    check(TOOLS, &called("look", r#"{"at":1"#), "arguments");
    check(TOOLS, &called("look", ""), "arguments");
    check(TOOLS, &called("find", "{}"), "tool_unknown");
    check("", &called("look", "{}"), "tool_unknown");
    let with = |choice: &str| format!(r#"{TOOLS},"tool_choice":{choice}"#);
    check(&with(r#""required""#), &said("At Bern."), "tool_missing");
    check(
        &with(r#""none""#),
        &called("look", r#"{"at":1}"#),
        "tool_unknown",
    );
    let named = with(r#"{"type":"function","function":{"name":"look"}}"#);
    check(&named, &called("look", r#"{"at":1}"#), "accept 1.00");
    check(&named, &said("At Bern."), "tool_missing");
}

/// −2 is as good as a coin; −0 is good.
fn sureness() -> Option<Curve> {
    Curve::new(vec![(-2.0, 0.5), (0.0, 0.9)])
}

#[test]
fn evidence_comes_in_order() {
    let answer = said("Bern.").replace(
        r#""message""#,
        r#""logprobs":{"content":[{"token":"Bern","logprob":-1.0}]},"message""#,
    );
    let seen = AnswerSeen::read(Dialect::OpenAiChat, answer.as_bytes());
    let rules = Rules {
        accept_from: 0.75,
        prior: 0.8,
        ..Rules::default()
    };
    let sure = Rules {
        sureness: sureness(),
        ..rules.clone()
    };
    let agreeing = Rules {
        agreement: Curve::new(vec![(0.0, 0.2), (1.0, 1.0)]),
        ..sure.clone()
    };
    let verified = Rules {
        verifiers: vec!["test".to_owned()],
        ..sure.clone()
    };
    let only = Rules {
        sureness: None,
        ..verified.clone()
    };
    let all = Rules {
        agreement: agreeing.agreement.clone(),
        ..only.clone()
    };
    let both = Rules {
        verifiers: vec!["test".to_owned(), "other".to_owned()],
        ..only.clone()
    };
    let checked = |outcome| AnswerSeen {
        checks: vec![Check {
            name: "test".to_owned(),
            outcome,
        }],
        ..seen.clone()
    };
    let agreed = |same| AnswerSeen {
        agreement: Some(Agreement { same, asked: 4 }),
        ..seen.clone()
    };
    let check = |name: &str, outcome| Check {
        name: name.to_owned(),
        outcome,
    };
    let half = AnswerSeen {
        checks: vec![
            check("test", Outcome::Passed),
            check("other", Outcome::Unknown),
        ],
        ..seen.clone()
    };
    let learned = AnswerSeen {
        adequate: Some(0.99),
        ..seen.clone()
    };
    for (seen, rules, expect) in [
        (&seen, &rules, "accept 0.80"),
        (&seen, &sure, "unsure"),
        (&learned, &sure, "accept 0.99"),
        (&seen, &agreeing, "ask others"),
        (&agreed(3), &agreeing, "accept 0.80"),
        (&agreed(2), &agreeing, "unsure"),
        (&seen, &verified, "ask test"),
        (&checked(Outcome::Passed), &verified, "accept verified"),
        (&checked(Outcome::Failed), &verified, "verifier"),
        (&checked(Outcome::Unknown), &verified, "unsure"),
        (&checked(Outcome::Unknown), &only, "unjudged"),
        (&checked(Outcome::Passed), &only, "accept verified"),
        (&half, &both, "unjudged"),
        // Who must agree is asked although a verifier was content.
        (&checked(Outcome::Passed), &all, "ask others"),
        (&half, &only, "unjudged"),
    ] {
        assert_eq!(shown(&judge(&Contract::default(), seen, rules)), expect);
    }
}

#[test]
fn curves_are_straight_between_points() {
    let curve = sureness().expect("a curve");
    for (value, expect) in [
        (-9.0, 0.5),
        (-2.0, 0.5),
        (-1.0, 0.7),
        (0.0, 0.9),
        (1.0, 0.9),
    ] {
        let found = curve.at(value).expect("a probability");
        assert!((found - expect).abs() < 1e-12, "{value}: {found}");
    }
    for points in [vec![], vec![(0.0, 1.1)], vec![(1.0, 0.1), (0.0, 0.2)]] {
        assert_eq!(Curve::new(points), None);
    }
}

/// Streams `words` one by one and says after which the verdict fell, and which.
fn streamed(members: &str, words: &[&str], logprob: f64, rules: &Rules) -> (usize, String) {
    let (contract, hold_back) = (contract(members), HoldBack::default());
    let mut hearing = Hearing::new(Dialect::OpenAiChat);
    for (at, word) in words.iter().enumerate() {
        let word = serde_json::to_string(word).expect("a string");
        let event = format!(
            "data: {{\"choices\":[{{\"delta\":{{\"content\":{word}}},\"logprobs\":{{\"content\":[{{\"logprob\":{logprob}}}]}}}}]}}\n\n"
        );
        hearing.push(event.as_bytes());
        // A word takes ten milliseconds.
        let held = Duration::from_millis(10) * u32::try_from(at).expect("few words");
        let so_far = (hearing.bytes(), held);
        let verdict = judge_prefix(&contract, hearing.so_far(), rules, so_far, hold_back);
        if verdict != Verdict::NeedMore(Need::More) {
            return (at + 1, shown(&verdict));
        }
    }
    hearing.push(
        b"data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n",
    );
    (
        words.len(),
        shown(&judge(&contract, &hearing.finish(), rules)),
    )
}

#[test]
fn a_stream_is_committed_once_it_convinces() {
    let rules = Rules {
        accept_from: 0.75,
        prior: 0.8,
        ..Rules::default()
    };
    let sure = Rules {
        sureness: sureness(),
        ..rules.clone()
    };
    let text = ["eight by "; 100];
    let short = ["eight by "; 10];
    let endless = ["eight by "; 1_000];
    let mut refusal = vec!["I can't help with this. "];
    refusal.extend(["eight by "; 30]);
    let mut apology = vec!["I can't help with this. "];
    apology.extend(["eight by "; 200]);
    for (members, words, logprob, rules, expect) in [
        // 18 words are the opening's 160 bytes.
        ("", &text[..], -0.1, &rules, (18, "accept 0.80")),
        ("", &text[..], -0.1, &sure, (18, "accept 0.88")),
        // Unsure, it is held to the end, and escalated.
        ("", &text[..], -1.9, &sure, (100, "unsure")),
        ("", &short[..], -0.1, &rules, (10, "accept 0.80")),
        ("", &refusal[..], -0.1, &rules, (31, "refused")),
        // Long texts that begin so go on to answer.
        ("", &apology[..], -0.1, &rules, (132, "accept 0.80")),
        // What may call tools, or has a form, waits for its end, but not for ever.
        (TOOLS, &text[..], -0.1, &rules, (100, "accept 0.80")),
        (SCHEMA, &text[..], -0.1, &rules, (100, "form")),
        (TOOLS, &endless[..], -0.1, &rules, (401, "held_too_long")),
        ("", &endless[..], -1.9, &sure, (401, "held_too_long")),
    ] {
        let (at, verdict) = streamed(members, words, logprob, rules);
        assert_eq!(
            (at, verdict.as_str()),
            expect,
            "{members} {:?}",
            words.first()
        );
    }
}

#[test]
fn what_is_held_back_is_bounded() {
    let hold_back = HoldBack {
        bytes_max: 100,
        time_max: Duration::from_secs(1),
    };
    let (contract, rules, seen) = (contract(TOOLS), Rules::default(), AnswerSeen::default());
    for (bytes, millis, expect) in [
        (99, 999, "more"),
        (100, 0, "held_too_long"),
        (0, 1_000, "held_too_long"),
    ] {
        let held = (bytes, Duration::from_millis(millis));
        let verdict = judge_prefix(&contract, &seen, &rules, held, hold_back);
        assert_eq!(shown(&verdict), expect, "{bytes} B, {millis} ms");
    }
}
