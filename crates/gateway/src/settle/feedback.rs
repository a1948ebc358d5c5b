//! Feedback: what a client says of the answer to a settled call.
//!
//! **Invariant**: a key judges its own calls, each once, and what was judged is kept before it is
//! learned from (test `a_call_is_judged_by_its_own_key` in `tests/it/cheaper.rs`).

use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};
use policy::ports::outcomes::{Outcome, Outcomes};
use policy::ports::{CallId, Fault};
use policy::refusal::{Reason, Refusal};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::Gateway;
use crate::receive::Call;
use crate::relay::reply::ReplyBody;
use crate::relay::whole::CALL_HEADER;
use crate::route::notes::kinds_of;

/// What is asked for.
const FIELDS: &str =
    "`call`, the id of the header `x-tokenwise-call`, and `score`, a number from 0 (useless) to 1";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Word {
    call: String,
    score: f64,
}

/// Takes feedback and answers it.
pub async fn take(
    gateway: &Arc<Gateway>,
    call: &Call,
    body: &Bytes,
) -> Result<Response<ReplyBody>, Refusal> {
    let word: Word = serde_json::from_slice(body).map_err(|error| {
        let message = format!("the body is not feedback: {error}; give {FIELDS}");
        Refusal::new(Reason::BadRequest, message)
    })?;
    if !(0.0..=1.0).contains(&word.score) {
        let mut refusal = Refusal::new(
            Reason::BadRequest,
            format!("`score` is {}; give {FIELDS}", word.score),
        );
        refusal.param = Some("score".to_owned());
        return Err(refusal);
    }
    let store = gateway
        .learned
        .store()
        .cloned()
        .ok_or_else(|| Refusal::new(Reason::Internal, "this gateway keeps no outcomes"))?;
    let judging = Judging {
        gateway: Arc::clone(gateway),
        store,
        key: call.key.clone(),
        word,
    };
    let answer = tokio::task::spawn_blocking(move || judging.judge()).await;
    let answer = answer.map_err(|_| Refusal::new(Reason::Internal, "feedback was cut off"))??;
    let mut response = Response::new(ReplyBody::whole(answer.to_string().into_bytes()));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    if let Ok(id) = HeaderValue::from_str(&call.id.0) {
        response.headers_mut().insert(CALL_HEADER, id);
    }
    Ok(response)
}

/// A word that is about to be kept. It may block.
struct Judging {
    gateway: Arc<Gateway>,
    store: Arc<dyn Outcomes>,
    key: String,
    word: Word,
}

impl Judging {
    fn judge(self) -> Result<Value, Refusal> {
        let Self {
            gateway,
            store,
            key,
            word,
        } = self;
        let id = CallId(word.call);
        let settled = store.settled(&id).map_err(unkept)?;
        // Another key's call is as unknown as one that never was.
        let judged = settled.filter(|judged| judged.key == key).ok_or_else(|| {
            let mut refusal = Refusal::new(
                Reason::NotFound,
                format!(
                    "no settled call `{}` of this key; give the id of the header \
                     `x-tokenwise-call` of one of its answers, a moment after its end",
                    id.0
                ),
            );
            refusal.param = Some("call".to_owned());
            refusal
        })?;
        let outcome = Outcome {
            call: id,
            at: gateway.clock.now(),
            score: word.score,
            target: format!("{}/{}", judged.provider, judged.model),
            kinds: kinds_of(&judged.notes),
        };
        let is_kept = store.judge(&outcome).map_err(unkept)?;
        if is_kept {
            gateway.learned.learn(&outcome);
        }
        Ok(json!({
            "call": outcome.call.0,
            "target": outcome.target,
            "kept": is_kept,
            "learned": is_kept && !outcome.kinds.is_empty(),
        }))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` gives it")]
fn unkept(fault: Fault) -> Refusal {
    tracing::error!(error = %fault, "feedback is not kept");
    Refusal::new(
        Reason::Internal,
        "the store does not keep feedback at the moment; try again, or see `tokenwise doctor`",
    )
}
