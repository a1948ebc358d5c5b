//! Focus on live calls: of the documents that a question comes with, those that it needs least are left
//! out before anything else looks at the call.
//!
//! Nothing counts as saved by it: what was left out is in the notes, and what that would have cost is not
//! estimated.
//!
//! **Invariant**: a message is sent as the same bytes in every call of its conversation, and an observing
//! lever changes none (test `documents_that_earn_no_place_are_left_out` in `tests/it/focus.rs`).

use bytes::Bytes;
use http::HeaderValue;
use policy::shape::focus::documents::{Pick, focus};
use serde::Serialize;
use wire::dialect::request::Request;

use crate::dispatch::trim::Counted;
use crate::life::Service;
use crate::route::place::Placed;

/// What is written down of a call's documents.
#[derive(Clone, Debug, Serialize)]
pub struct FocusNotes {
    /// Whether the call was sent without them.
    sent: bool,
    /// Tokens that were left out, or would be.
    tokens: u64,
    messages: Vec<PickNote>,
}

#[derive(Clone, Debug, Serialize)]
struct PickNote {
    message: u32,
    documents: usize,
    kept: usize,
    tokens: u64,
}

impl PickNote {
    const fn of(pick: &Pick) -> Self {
        Self {
            message: pick.message,
            documents: pick.documents,
            kept: pick.kept,
            tokens: pick.omitted.0,
        }
    }
}

impl FocusNotes {
    /// What the client is told of a call that was changed.
    pub fn header(&self) -> Option<HeaderValue> {
        let documents: usize = self.messages.iter().map(|it| it.documents).sum();
        let kept: usize = self.messages.iter().map(|it| it.kept).sum();
        let text = format!(
            "kind=focused; documents={documents}; kept={kept}; tokens={}",
            self.tokens
        );
        HeaderValue::from_str(&text).ok().filter(|_| self.sent)
    }
}

/// Focuses a call whose route asks for it; gives the body that is sent instead of the client's.
pub fn focused(service: &Service<'_>, request: &Request<'_>, placed: &mut Placed) -> Option<Bytes> {
    let budget = placed.decided.looked_at().focus?;
    let mut counted = Counted(&service.gateway.trimming);
    let focused = focus(request, budget, &mut counted);
    if focused.picks.is_empty() {
        return None;
    }
    let sent = placed.decided.sent.focus.is_some();
    placed.focused = Some(Box::new(FocusNotes {
        sent,
        tokens: focused.picks.iter().map(|pick| pick.omitted.0).sum(),
        messages: focused.picks.iter().map(PickNote::of).collect(),
    }));
    sent.then(|| focused.splice.apply(request.body).into())
}
