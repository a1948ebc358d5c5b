//! The context of a live call: what it is made of, what of it its route allows, and what its sender
//! should know of it.
//!
//! **Invariant**: looking changes no byte of the call, and what is refused costs nothing (tests
//! `warnings_change_no_byte` and `a_context_over_its_budget_is_refused` in `tests/it/context.rs`).

use std::sync::PoisonError;

use http::{HeaderName, HeaderValue, Response};
use policy::refusal::{Reason, Refusal};
use policy::shape::context::budget::{Excess, exceeded};
use policy::shape::context::classes::Classes;
use policy::shape::context::warn::{Warning, warnings};
use serde::Serialize;
use wire::dialect::request::Request;
use wire::prompt::Kind;
use wire::usage::{Tokens, Usage};

use crate::dispatch::hold::image_tokens;
use crate::life::Service;
use crate::relay::reply::ReplyBody;
use crate::route::Plan;
use crate::route::place::Placed;
use crate::setup::LeverMode;

/// What the client is told of its context, one header for each thing.
pub const CONTEXT_HEADER: HeaderName = HeaderName::from_static("x-tokenwise-context");

/// What is written down of a call's context.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ContextNotes {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<WarningNote>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    over: Vec<OverNote>,
}

#[derive(Clone, Debug, Serialize)]
struct WarningNote {
    kind: &'static str,
    why: String,
}

#[derive(Clone, Debug, Serialize)]
struct OverNote {
    class: &'static str,
    tokens: u64,
    allowed: u64,
}

/// What was seen of a call's context.
#[derive(Debug, Default)]
pub struct Context {
    headers: Vec<HeaderValue>,
}

/// Looks at a call as it will be sent to its first target, and refuses it if its route says so. Nobody
/// looks where the cache lever is off and the route has no budgets.
pub fn look(
    service: &Service<'_>,
    request: &Request<'_>,
    placed: &mut Placed,
) -> Result<Context, Refusal> {
    let focused = placed.focused.as_ref().and_then(|notes| notes.header());
    let mut context = Context {
        headers: focused.into_iter().collect(),
    };
    let Some(plan) = placed.route.first() else {
        return Ok(context);
    };
    if service.setup.cache == LeverMode::Off && placed.budgets.is_empty() {
        return Ok(context);
    }
    let sizes = sizes(service, request, placed, plan);
    let over = if placed.budgets.is_empty() {
        Vec::new()
    } else {
        exceeded(&placed.budgets, &counted(request, placed, &sizes))
    };
    if let Some(excess) = over.iter().find(|it| it.refuses) {
        let route = placed.notes.as_ref().map_or("", |notes| notes.name());
        let message = excess.wording(route);
        return Err(Refusal::new(Reason::ContextTooLarge, message));
    }
    let warned = warned(service, request, plan, &sizes);
    if warned.is_empty() && over.is_empty() {
        return Ok(context);
    }
    let told = warned.iter().map(|it| (it.name(), it.figures()));
    let told = told.chain(over.iter().map(|it| ("over_budget", it.figures())));
    let headers = told.filter_map(|(kind, figures)| {
        HeaderValue::from_str(&format!("kind={kind}; {figures}")).ok()
    });
    context.headers.extend(headers);
    placed.context = Some(ContextNotes {
        warnings: warned.iter().map(WarningNote::of).collect(),
        over: over.iter().map(OverNote::of).collect(),
    });
    Ok(context)
}

/// What the call is made of. What the trim lever has counted, it has counted as every replica does.
fn counted(request: &Request<'_>, placed: &Placed, sizes: &[Tokens]) -> Classes {
    let mut classes = Classes::of(request, sizes);
    let results = placed.trimming.as_ref().and_then(|it| it.results);
    classes.tool_results = results.map_or(classes.tool_results, |results| results.0);
    classes
}

/// The sizes of the segments as they will be sent.
fn sizes(
    service: &Service<'_>,
    request: &Request<'_>,
    placed: &Placed,
    plan: &Plan,
) -> Vec<Tokens> {
    let Service { gateway, call, .. } = *service;
    let sizes = {
        let memory = gateway.cache.memory.lock();
        let memory = memory.unwrap_or_else(PoisonError::into_inner);
        memory.sizes(&call.key, &plan.name(), &request.prompt, request.body)
    };
    let sizes = match &placed.trimming {
        Some(trimming) => trimming.sizes(request, &sizes),
        None => sizes,
    };
    seen_as_media(request, sizes)
}

/// Sizes in which an image, a document or a sound is as large as an image at most: the bytes of encoded
/// data say nothing of its tokens.
pub fn seen_as_media(request: &Request<'_>, mut sizes: Vec<Tokens>) -> Vec<Tokens> {
    let most = image_tokens(request.dialect);
    for (segment, size) in request.prompt.segments.iter().zip(&mut sizes) {
        if segment.kind == Kind::Media {
            *size = (*size).min(most);
        }
    }
    sizes
}

fn warned(
    service: &Service<'_>,
    request: &Request<'_>,
    plan: &Plan,
    sizes: &[Tokens],
) -> Vec<Warning> {
    let Service { gateway, setup, .. } = *service;
    let usage = Usage {
        uncached: sizes.iter().copied().sum(),
        tier: request.tier.clone(),
        ..Usage::default()
    };
    let model = setup.prices.find(&plan.upstream.prices, &plan.model);
    let window = model.and_then(|model| model.context);
    let cliff = model.and_then(|model| model.cliff_near(&usage, gateway.clock.now()));
    warnings(&request.prompt, sizes, window, cliff)
}

impl WarningNote {
    fn of(warning: &Warning) -> Self {
        Self {
            kind: warning.name(),
            why: warning.to_string(),
        }
    }
}

impl OverNote {
    const fn of(excess: &Excess) -> Self {
        Self {
            class: excess.class.name(),
            tokens: excess.given.0,
            allowed: excess.allowed.0,
        }
    }
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
