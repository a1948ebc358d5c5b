//! The context of a live call: what it is made of, and what its sender should know of it.
//!
//! **Invariant**: looking changes no byte of the call (test `warnings_change_no_byte` in
//! `tests/it/context.rs`).

use std::sync::PoisonError;

use http::{HeaderName, HeaderValue, Response};
use policy::shape::context::warn::{Warning, warnings};
use serde::Serialize;
use wire::dialect::request::Request;
use wire::usage::{Tokens, Usage};

use crate::life::Service;
use crate::relay::reply::ReplyBody;
use crate::route::place::Placed;
use crate::setup::LeverMode;

/// What the client is told of its context, one header for each warning.
pub const CONTEXT_HEADER: HeaderName = HeaderName::from_static("x-tokenwise-context");

/// What is written down of a call's context.
#[derive(Clone, Debug, Serialize)]
pub struct ContextNotes {
    warnings: Vec<WarningNote>,
}

#[derive(Clone, Debug, Serialize)]
struct WarningNote {
    kind: &'static str,
    why: String,
}

/// What was seen of a call's context.
#[derive(Debug, Default)]
pub struct Context {
    headers: Vec<HeaderValue>,
}

/// Looks at a call as it will be sent to its first target; not where the cache lever, which measures
/// prompts, is off.
pub fn look(service: &Service<'_>, request: &Request<'_>, placed: &mut Placed) -> Context {
    let found = warned(service, request, placed).unwrap_or_default();
    if found.is_empty() {
        return Context::default();
    }
    let notes = found.iter().map(|warning| WarningNote {
        kind: warning.name(),
        why: warning.to_string(),
    });
    placed.context = Some(ContextNotes {
        warnings: notes.collect(),
    });
    let headers = found.iter().filter_map(|warning| {
        let text = format!("kind={}; {}", warning.name(), warning.figures());
        HeaderValue::from_str(&text).ok()
    });
    Context {
        headers: headers.collect(),
    }
}

fn warned(service: &Service<'_>, request: &Request<'_>, placed: &Placed) -> Option<Vec<Warning>> {
    let Service {
        gateway,
        setup,
        call,
    } = *service;
    if setup.cache == LeverMode::Off {
        return None;
    }
    let plan = placed.route.first()?;
    let sizes = {
        let memory = gateway.cache.memory.lock();
        let memory = memory.unwrap_or_else(PoisonError::into_inner);
        memory.sizes(&call.key, &plan.name(), &request.prompt, request.body)
    };
    let sizes = match &placed.trimming {
        Some(trimming) => trimming.sizes(request, &sizes),
        None => sizes,
    };
    let usage = Usage {
        uncached: sizes.iter().copied().sum::<Tokens>(),
        tier: request.tier.clone(),
        ..Usage::default()
    };
    let model = setup.prices.find(&plan.upstream.prices, &plan.model);
    let window = model.and_then(|model| model.context);
    let cliff = model.and_then(|model| model.cliff_near(&usage, gateway.clock.now()));
    Some(warnings(&request.prompt, &sizes, window, cliff))
}

impl Context {
    /// Tells the client.
    pub fn tell(self, mut response: Response<ReplyBody>) -> Response<ReplyBody> {
        for value in self.headers {
            response.headers_mut().append(CONTEXT_HEADER, value);
        }
        response
    }
}
