//! Calls as CSV and JSON lines.
//!
//! **Invariant**: expectations are whole lines, so that a changed column shows.

use std::collections::BTreeMap;

use policy::money::PicoUsd;
use policy::ports::read::{StoredCall, recovery_of};
use policy::ports::{CallId, CallOpened, CallSettled, Held, Lever, Payers};
use store::export::{csv_header, csv_line, json_line};
use testkit::conformance::{opening, settling};

fn check(call: &StoredCall, csv: &str, json: &str) {
    let mut line = Vec::new();
    csv_line(call, &mut line).expect("memory takes it");
    assert_eq!(String::from_utf8(line).expect("text"), format!("{csv}\n"));
    let mut line = Vec::new();
    json_line(call, &mut line).expect("memory takes it");
    assert_eq!(String::from_utf8(line).expect("text"), format!("{json}\n"));
}

fn call(number: u64) -> StoredCall {
    let opened = CallOpened {
        call: CallId(format!("call_{number}")),
        ..opening(number)
    };
    let settled = CallSettled {
        call: opened.call.clone(),
        ..settling(number)
    };
    StoredCall {
        opened,
        settled: Some(settled),
    }
}

#[test]
fn lines_say_what_the_ledger_says() {
    let mut header = Vec::new();
    csv_header(&mut header).expect("memory takes it");
    assert_eq!(
        String::from_utf8(header).expect("text"),
        "call,opened_at_ms,settled_at_ms,key,session,task,organisation,team,user,tags,parents,endpoint,\
         model,provider,ending,status,estimated,input_estimate,held_pico_usd,held_tokens,\
         held_until_ms,legs,cost_pico_usd,untouched_pico_usd,prices,\
         saved_cache_pico_usd,saved_trim_pico_usd,saved_route_pico_usd,saved_cascade_pico_usd,saved_think_estimated_pico_usd,uncached,cache_read,cache_write_5m,cache_write_30m,cache_write_1h,\
         cache_write_12h,audio_input,output,reasoning,audio_output,web_searches\n"
    );

    check(
        &call(1),
        "call_1,1767225600001,1767225600051,anonymous,,task,,search,,\
         \"[\"\"batch\"\",\"\"eu, west\"\"]\",\"[\"\"whole\"\"]\",/v1/messages,small,acme,answered,200,0,1,9000000,101,\
         1767226200001,1,2400000,2399999,2026-01-01,-1,,,,,8,0,0,0,0,0,0,1,0,0,0",
        r#"{"call":"call_1","opened_at_ms":1767225600001,"key":"anonymous","session":null,"task":"task","organisation":null,"team":"search","user":null,"tags":["batch","eu, west"],"parents":["whole"],"endpoint":"/v1/messages","model":"small","provider":"acme","input_estimate":1,"held":{"pico_usd":9000000,"tokens":101,"until_ms":1767226200001},"settled":{"at_ms":1767225600051,"ending":"answered","status":200,"cost_pico_usd":2400000,"untouched_pico_usd":2399999,"savings_pico_usd":{"cache":-1},"prices":"2026-01-01","legs":[{"provider":"acme","model":"small-1","sent_at_ms":1767225600001,"first_byte_at_ms":1767225600002,"ended_at_ms":1767225600003,"status":200,"ending":"answered","estimated":false,"tier":null,"usage":{"uncached":8,"cache_read":0,"cache_write_5m":0,"cache_write_30m":0,"cache_write_1h":0,"cache_write_12h":0,"audio_input":0,"output":1,"reasoning":0,"audio_output":0,"web_searches":0},"cost_pico_usd":2400000}]},"estimated":false,"notes":{"cache":"no write pays"}}"#,
    );

    // Running, and nothing limited: what is not known yet is empty.
    let opened = CallOpened {
        payers: Payers::default(),
        held: None,
        ..call(2).opened
    };
    check(
        &StoredCall {
            opened,
            settled: None,
        },
        "call_2,1767225600002,,anonymous,,task,,,,,,/v1/messages,small,acme,,,,2,,,,,,,,,,,,,,,,,,,,,,,",
        r#"{"call":"call_2","opened_at_ms":1767225600002,"key":"anonymous","session":null,"task":"task","organisation":null,"team":null,"user":null,"tags":[],"parents":[],"endpoint":"/v1/messages","model":"small","provider":"acme","input_estimate":2,"held":null,"settled":null}"#,
    );

    // Recovered, of unknown price: an unknown cost is empty, not zero.
    let mut opened = call(3).opened;
    opened.payers = Payers::default();
    opened.held = opened.held.map(|held| Held { usd: None, ..held });
    let settled = Some(recovery_of(opened.call.clone(), opened.at.after(9)));
    check(
        &StoredCall { opened, settled },
        "call_3,1767225600003,1767225600012,anonymous,,task,,,,,,/v1/messages,small,acme,recovered,,1,\
         3,,103,1767226200003,0,,,,,,,,,0,0,0,0,0,0,0,0,0,0,0",
        r#"{"call":"call_3","opened_at_ms":1767225600003,"key":"anonymous","session":null,"task":"task","organisation":null,"team":null,"user":null,"tags":[],"parents":[],"endpoint":"/v1/messages","model":"small","provider":"acme","input_estimate":3,"held":{"pico_usd":null,"tokens":103,"until_ms":1767226200003},"settled":{"at_ms":1767225600012,"ending":"recovered","status":null,"cost_pico_usd":null,"untouched_pico_usd":null,"savings_pico_usd":{},"prices":"","legs":[]},"estimated":true,"notes":{}}"#,
    );
}

#[test]
fn what_clients_name_cannot_break_a_line() {
    for (name, expect) in [
        ("a,b", "\"a,b\""),
        ("say \"hi\"", "\"say \"\"hi\"\"\""),
        ("two\nlines", "\"two\nlines\""),
        ("=HYPERLINK(1)", "\"'=HYPERLINK(1)\""),
        ("-1", "\"'-1\""),
        ("plain", "plain"),
    ] {
        let mut call = call(1);
        call.opened.model = name.to_owned();
        let mut line = Vec::new();
        csv_line(&call, &mut line).expect("memory takes it");
        let line = String::from_utf8(line).expect("text");
        assert!(
            line.contains(&format!(",/v1/messages,{expect},acme,")),
            "{name}: {line}"
        );
    }
}

#[test]
fn notes_that_are_no_json_are_passed_on_as_text() {
    let mut call = call(1);
    if let Some(settled) = &mut call.settled {
        settled.notes = "{broken".to_owned();
        settled.savings = BTreeMap::from([(Lever::Cache, PicoUsd(5))]);
    }
    let mut line = Vec::new();
    json_line(&call, &mut line).expect("memory takes it");
    let line = String::from_utf8(line).expect("text");
    assert!(line.ends_with("\"notes\":\"{broken\"}\n"), "{line}");
}
