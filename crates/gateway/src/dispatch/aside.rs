//! Aside: sends a request of a cascade's own while the cheap answer is held back, and reads what comes.
//!
//! **Invariant**: what an aside costs is held before it is sent, it is over in its time, and nothing of
//! its answer reaches the client (tests `a_judge_decides_and_is_booked` and
//! `a_judge_that_fails_convinces_nobody`).

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use http_body_util::Either;
use policy::cascade::signals::AnswerSeen;
use policy::dispatch::fault::Fault;
use policy::dispatch::read::read_status;
use policy::dispatch::retry::Visible;
use policy::ports::End;
use tokio::time::timeout;
use wire::dialect::Dialect;

use crate::dispatch::hold::Bound;
use crate::dispatch::turn::Turn;
use crate::dispatch::{headers, legs, send};
use crate::life::{Service, main_path, plain};
use crate::relay::whole;
use crate::route::{Plan, in_order};
use crate::settle::receipt::{Receipt, Reported};
use crate::setup::{Credential, Limits};

/// What is asked aside, and of whom.
pub(super) struct Question<'q> {
    /// What for.
    pub(super) role: &'static str,
    /// Who is asked.
    pub(super) plan: &'q Plan,
    /// A request of that target's dialect.
    pub(super) body: Bytes,
    /// How long its whole answer may take.
    pub(super) time_max: Duration,
}

/// The version of the API that a request of Anthropic's dialect must name.
const ANTHROPIC_VERSION: HeaderValue = HeaderValue::from_static("2023-06-01");

/// Asks, and books what it took; `said` puts the answer into a few words for the notes. None if there
/// is no answer that can be read.
pub(super) async fn ask(
    service: &Service<'_>,
    question: Question<'_>,
    receipt: &mut Receipt,
    said: impl FnOnce(&AnswerSeen) -> String,
) -> Option<AnswerSeen> {
    let Service { gateway, setup, .. } = *service;
    let Question {
        role,
        plan,
        body,
        time_max,
    } = question;
    let who = (role, plan);
    let health = gateway.healths.at(gateway.healths.place(&plan.name()));
    if health
        .breaker
        .is_barred(&setup.breaker, gateway.clock.now())
    {
        receipt.not_turned_aside(who, "failing");
        return None;
    }
    // The client's own key is for the provider that it was made for.
    let is_clients = matches!(plan.upstream.credential, Credential::FromClient);
    if is_clients && plan.upstream.id != receipt.provider() {
        receipt.not_turned_aside(who, "no_credential");
        return None;
    }
    let dialect = plan.upstream.dialect;
    let Ok(bound) = dialect.read(&body).map(|it| Bound::of(&it)) else {
        receipt.not_turned_aside(who, "unreadable");
        return None;
    };
    let need = legs::further(service, plan, &bound);
    if let Err(refusal) = receipt.turns_aside(who, body.len(), need.as_ref()) {
        tracing::info!(
            call = service.call.id.0,
            why = refusal.message,
            "nobody asked aside"
        );
        receipt.not_turned_aside(who, "no_budget");
        return None;
    }
    let mut turn = turn(service, plan);
    let answer = timeout(time_max, answer(service, plan, body, receipt)).await;
    // That we did not wait longer says nothing of the target: its turn is dropped.
    if let (Ok(answer), Some(turn)) = (&answer, &mut turn) {
        match answer {
            Ok(_) => turn.finished(),
            Err((fault, _)) => _ = turn.failed(*fault, Visible::More),
        }
    }
    match answer.unwrap_or(Err((Fault::Silent, End::UpstreamBroke))) {
        Ok(bytes) => {
            let usage = dialect.read_answer(&bytes).usage;
            let reported = usage.map_or(Reported::Unreadable, Reported::Usage);
            let seen = AnswerSeen::read(dialect, &bytes);
            receipt.aside_over(End::Answered, reported, said(&seen));
            Some(seen)
        }
        Err((fault, end)) => {
            receipt.aside_failed(fault, end);
            None
        }
    }
}

/// What becomes of the question tells how its target is; nobody else is asked.
fn turn(service: &Service<'_>, plan: &Plan) -> Option<Turn> {
    let Service {
        gateway,
        setup,
        call,
    } = *service;
    let route = in_order(setup, &gateway.healths, vec![plan.clone()])?;
    let need = plain(plan.upstream.dialect);
    Turn::start(gateway, setup, &route.lineup, need, None, &call.id.0)
}

/// Sends the request and reads the whole answer.
async fn answer(
    service: &Service<'_>,
    plan: &Plan,
    body: Bytes,
    receipt: &mut Receipt,
) -> Result<Bytes, (Fault, End)> {
    let Service {
        gateway,
        setup,
        call,
    } = *service;
    let dialect = plan.upstream.dialect;
    let mut fields = headers::alone(&call.headers, &plan.upstream, setup.access);
    fields.extend(own(dialect));
    let path = main_path(dialect);
    let body = Either::Left(body.into());
    let request = send::request(Method::POST, &plan.upstream, path, None, fields, body);
    let broke = |fault: Fault| (fault, End::UpstreamBroke);
    let request = request.ok_or_else(|| broke(Fault::Unconnected))?;
    receipt.aside_sent();
    let patience = setup.limits.first_byte_timeout;
    let response = gateway.http.send(request, &plan.upstream, patience).await;
    let (head, body) = response
        .map_err(|unanswered| broke(unanswered.fault))?
        .into_parts();
    receipt.aside_answered(head.status.as_u16());
    let bytes = whole::collect(body, &Limits { ..setup.limits }).await;
    if head.status != StatusCode::OK {
        let header = |name: &str| head.headers.get(name)?.to_str().ok();
        let words = bytes.as_deref().unwrap_or_default();
        let now = gateway.clock.now();
        let fault = read_status(head.status.as_u16(), header, words, now);
        return Err((fault, End::UpstreamError));
    }
    bytes.map_err(|unread| broke(unread.fault()))
}

/// The headers of a request of ours.
fn own(dialect: Dialect) -> HeaderMap {
    let json = HeaderValue::from_static("application/json");
    let mut fields = HeaderMap::new();
    fields.insert(ACCEPT, json.clone());
    fields.insert(CONTENT_TYPE, json);
    if dialect == Dialect::AnthropicMessages {
        let name = HeaderName::from_static("anthropic-version");
        fields.insert(name, ANTHROPIC_VERSION);
    }
    fields
}
