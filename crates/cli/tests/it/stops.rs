//! What operators do to a running gateway: stop it for some, and limit what it may spend.
//!
//! **Invariant**: every wait is for an answer of the gateway's own; nothing sleeps.

use crate::home::Home;
use crate::serve::{CALL, Served};

/// More calls than a gateway can answer between two looks at what is stopped.
const ANSWERS_MAX: usize = 100_000;

/// A simulated provider, and its address.
fn provider(home: &Home) -> (Served, String) {
    let simulated = Served::start(home.command(&["simulate"]));
    let address = format!("http://{}/v1", simulated.address);
    (simulated, address)
}

/// Calls until the answer begins so, and returns it.
fn until(served: &Served, beginning: &str) -> String {
    for _ in 0..ANSWERS_MAX {
        let answer = served.call("POST", "/v1/chat/completions", "", CALL);
        if answer.starts_with(beginning) {
            return answer;
        }
    }
    panic!("no answer begins with {beginning}");
}

#[test]
fn a_stop_reaches_a_running_gateway() {
    let home = Home::new();
    let (simulated, provider) = provider(&home);
    let config = home.before(&provider, "");
    let served = Served::start(home.command(&["serve", "--config", &config]));
    until(&served, "HTTP/1.1 200");
    let said = home.prints(&["stop", "everything", "--config", &config]);
    assert_eq!(said, "everything is stopped\n");
    let refused = until(&served, "HTTP/1.1 403");
    assert!(
        refused.contains("every call was stopped by an operator"),
        "{refused}"
    );
    let listed = home.prints(&["stop", "list", "--config", &config]);
    assert!(listed.starts_with("everything since "), "{listed}");
    let again = home.prints(&["stop", "everything", "--config", &config]);
    assert_eq!(again, "everything was stopped already\n");
    let said = home.prints(&["resume", "everything", "--config", &config]);
    assert_eq!(said, "everything may go on\n");
    until(&served, "HTTP/1.1 200");
    let audit = home.json(&["keys", "audit", "--json", "--config", &config]);
    assert_eq!(audit[0]["action"], "resume");
    assert_eq!(audit[1]["action"], "stop");
    assert_eq!(audit.as_array().unwrap().len(), 2);
    drop((served, simulated));
}

#[test]
fn budgets_survive_a_restart() {
    let home = Home::new();
    let (simulated, provider) = provider(&home);
    let limits =
        "[[budgets]]\nid = \"few\"\napplies_to = \"key\"\nrequests = 2\nper = \"lifetime\"\n";
    let config = home.before(&provider, limits);
    let serve = || Served::start(home.command(&["serve", "--config", &config]));
    let ask = |served: &Served| served.call("POST", "/v1/chat/completions", "", CALL);
    let mut served = serve();
    for expect in ["HTTP/1.1 200", "HTTP/1.1 200", "HTTP/1.1 429"] {
        let answer = ask(&served);
        assert!(answer.starts_with(expect), "{answer}");
    }
    served.kill();
    let served = serve();
    let refused = ask(&served);
    assert!(refused.starts_with("HTTP/1.1 429"), "{refused}");
    assert!(
        refused.contains("limit `few` of key `anonymous` has no room"),
        "{refused}"
    );
    drop((served, simulated));
}
