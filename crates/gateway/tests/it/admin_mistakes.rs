//! What an operator can get wrong at the admin API: the whole message of each mistake.
//!
//! **Invariant**: a mistake changes nothing and is not written down (test `mistakes_change_nothing`).

use policy::ports::Keys as _;

use crate::admin_shelf::{NOWHERE, OPEN, Shelf, admin, ask, created, error, json, opened, staged};
use crate::stage::{Stage, plain};

/// One mistake: the request, and its status, code and message.
type Mistake<'a> = (&'a str, &'a str, u16, &'a str, &'a str);

async fn check_mistakes(stage: &Stage, id: &str, mistakes: &[Mistake<'_>]) {
    for (line, body, status, code, message) in mistakes {
        let line = line.replace("KEY", id);
        let (found, answer) = admin(stage, &line, body).await;
        let expect = (*status, (*code, *message));
        assert_eq!((found, error(&answer)), expect, "{line} {body}");
    }
}

/// Paths, methods and queries.
const LINES: [Mistake<'_>; 11] = [
    (
        "GET /admin/v1",
        "",
        404,
        "unknown_route",
        "no route `/admin/v1`; served below /admin/v1: GET, POST /keys; GET, PATCH /keys/ID; POST \
         /keys/ID/{rotate,disable,enable,expire}; GET /budgets; GET, POST /stops; DELETE \
         /stops/{everything,key/ID,task/NAME}; GET /audit",
    ),
    (
        "PUT /admin/v1/keys",
        "",
        405,
        "method_not_allowed",
        "`/admin/v1/keys` takes GET, POST, not PUT",
    ),
    (
        "GET /admin/v1/keys/key_none",
        "",
        404,
        "not_found",
        "no key has the id `key_none`; `GET /admin/v1/keys` lists all",
    ),
    (
        "POST /admin/v1/keys/key_none/rotate",
        "",
        404,
        "not_found",
        "no key has the id `key_none`; `GET /admin/v1/keys` lists all",
    ),
    (
        "POST /admin/v1/keys/key_none/disable",
        "",
        404,
        "not_found",
        "no key has the id `key_none`; `GET /admin/v1/keys` lists all",
    ),
    (
        "POST /admin/v1/keys/key_none/expire",
        "",
        404,
        "not_found",
        "no key has the id `key_none`; `GET /admin/v1/keys` lists all",
    ),
    (
        "GET /admin/v1/keys?all=1",
        "",
        400,
        "invalid_request",
        "parameter `all` is not known here; allowed: none",
    ),
    (
        "GET /admin/v1/audit?last=1001",
        "",
        400,
        "invalid_request",
        "`last` is `1001`; allowed: 1 to 1000",
    ),
    (
        "GET /admin/v1/budgets?limit=team",
        "",
        400,
        "invalid_request",
        "no limit is called `team`; without `limit`, all show",
    ),
    (
        "GET /admin/v1/keys/planted-admin-token-0123456789",
        "",
        400,
        "invalid_request",
        "the method, path or query holds a secret (not shown); name keys by their id, as `key_…`",
    ),
    (
        "GET /admin/v1/keys/%70lanted-admin-token-0123456789/%ff",
        "",
        400,
        "invalid_request",
        "the method, path or query holds a secret (not shown); name keys by their id, as `key_…`",
    ),
];

/// Bodies.
const BODIES: [Mistake<'_>; 13] = [
    (
        "POST /admin/v1/keys",
        "",
        400,
        "invalid_request",
        "`name` is missing; say who or what calls with the key",
    ),
    (
        "POST /admin/v1/keys",
        r#"{"name":"ci","teem":"a"}"#,
        400,
        "invalid_request",
        "field `teem` is not known here; allowed: `name`, `organisation`, `team`, `user`, `tags`, \
         `models`, `expires_at_ms`, `expires_in_ms`",
    ),
    (
        "POST /admin/v1/keys",
        r#"{"name":"ci","expires_at_ms":1}"#,
        400,
        "invalid_request",
        "the key would have expired at 1; give a time after 1795478400000",
    ),
    (
        "POST /admin/v1/keys",
        r#"{"name":"planted-admin-token-0123456789"}"#,
        400,
        "invalid_request",
        "the body holds a secret (not shown); name keys by their id, as `key_…`",
    ),
    (
        "PATCH /admin/v1/keys/KEY",
        "{}",
        400,
        "invalid_request",
        "nothing to change; give one of organisation, team, user, tags, models",
    ),
    (
        "PATCH /admin/v1/keys/KEY",
        r#"{"name":"other"}"#,
        400,
        "invalid_request",
        "field `name` is not known here; allowed: `organisation`, `team`, `user`, `tags`, `models`",
    ),
    (
        "POST /admin/v1/keys/KEY/disable",
        r#"{"at_ms":1}"#,
        400,
        "invalid_request",
        "field `at_ms` is not known here; allowed: none",
    ),
    (
        "POST /admin/v1/keys/KEY/rotate",
        r#"{"grace_ms":"1h"}"#,
        400,
        "invalid_request",
        "`grace_ms` is a text; allowed: a whole number of milliseconds",
    ),
    (
        "POST /admin/v1/stops",
        "{}",
        400,
        "invalid_request",
        "`kind` missing; allowed: `everything`, `key`, `task`",
    ),
    (
        "POST /admin/v1/stops",
        r#"{"kind":"team","id":"a"}"#,
        400,
        "invalid_request",
        "`kind` is `team`; allowed: `everything`, `key`, `task`",
    ),
    (
        "POST /admin/v1/stops",
        r#"{"kind":"task"}"#,
        400,
        "invalid_request",
        "`id` is missing; say which key or task",
    ),
    (
        "POST /admin/v1/stops",
        r#"{"kind":"task","id":"ä"}"#,
        400,
        "invalid_request",
        "a task's name has 1 to 256 visible ASCII characters, as in the header `x-tokenwise-task`",
    ),
    (
        "POST /admin/v1/stops",
        r#"{"kind":"key","id":"key_none"}"#,
        404,
        "not_found",
        "no key has the id `key_none`; `GET /admin/v1/keys` lists all",
    ),
];

#[tokio::test]
async fn mistakes_change_nothing() {
    let (stage, shelf) = staged(opened(plain(NOWHERE))).await;
    let (id, _) = created(&stage, r#"{"name":"ci"}"#).await;
    let before = (shelf.list().unwrap(), shelf.audits(9).unwrap());
    check_mistakes(&stage, &id, &LINES).await;
    check_mistakes(&stage, &id, &BODIES).await;
    check_sizes(&stage, &shelf).await;
    assert_eq!((shelf.list().unwrap(), shelf.audits(9).unwrap()), before);
    let response = ask(&stage, "PUT /admin/v1/keys", &[OPEN], b"").await;
    assert_eq!(response.header("allow"), Some("GET, POST"));
    shelf.break_down();
    for line in [
        "GET /admin/v1/keys",
        "POST /admin/v1/keys",
        "GET /admin/v1/audit",
    ] {
        let (status, answer) = admin(&stage, line, r#"{"name":"ci"}"#).await;
        let message = "the store could not answer: the disk is full; look what holds now before \
                       trying again";
        assert_eq!((status, error(&answer)), (500, ("internal_error", message)));
    }
}

/// Bodies that are too large, encoded or cut short.
async fn check_sizes(stage: &Stage, shelf: &Shelf) {
    let large = format!(r#"{{"name":"{}"}}"#, "x".repeat(64 << 10));
    let (status, answer) = admin(stage, "POST /admin/v1/keys", &large).await;
    let expect = (
        "request_too_large",
        "the body is larger than 65536 bytes; send less",
    );
    assert_eq!((status, error(&answer)), (413, expect));
    let headers = [OPEN, ("content-encoding", "gzip")];
    let response = ask(stage, "POST /admin/v1/keys", &headers, b"x").await;
    let answer = json(&response);
    let expect = "the body is encoded (`content-encoding`); send it plain";
    assert_eq!((response.status, error(&answer).1), (400, expect));
    assert_eq!(shelf.list().unwrap().len(), 1);
}
