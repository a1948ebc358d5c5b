//! Rehearse: what would be decided about a call, by the code that decides, without making it.
//!
//! **Invariant**: a rehearsed call goes where the same call goes when it is made to a gateway that has
//! just started (test `a_call_goes_where_its_rehearsal_says` in `tests/it/routes.rs`).

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use policy::ports::KeyRecord;
use policy::refusal::{Reason, Refusal};
use policy::route::language::{Language, detect};
use policy::route::rules::Unmet;
use serde::Serialize;
use wire::dialect::Dialect;
use wire::splice::Splice;

use crate::Gateway;
use crate::dispatch::think::{ThinkNotes, think};
use crate::life::{Service, conversation, unreadable};
use crate::receive::endpoint::Endpoint;
use crate::receive::{Call, supposed};
use crate::route::Plan;
use crate::route::cascade::CascadeNotes;
use crate::route::notes::RouteNotes;
use crate::route::place::{place, seen};

/// What would be decided.
#[derive(Debug)]
pub struct Rehearsal {
    /// What the conditions of routes look at.
    pub seen: Seen,
    /// The routes of the configuration, in their order.
    pub routes: Vec<Looked>,
    /// Where the call would go, the first choice first.
    pub targets: Vec<String>,
    /// The cheap target that would be asked before them.
    pub asked_first: Option<String>,
    /// Whether its answer would be judged.
    pub is_judged: bool,
    /// What would be written down.
    pub notes: Notes,
}

/// What can be seen of a call.
#[derive(Clone, Debug, Serialize)]
pub struct Seen {
    /// The model as the client names it.
    pub model: String,
    /// The public id of the key.
    pub key: String,
    /// The labels.
    pub tags: Vec<String>,
    /// The path.
    pub path: String,
    /// What it is written in.
    pub dialect: &'static str,
    /// Whether it defines tools.
    pub tools: bool,
    /// Whether it carries images, documents or sound.
    pub media: bool,
    /// The input, as estimated.
    pub input_tokens: u64,
    /// The language of what the user wrote last; none where there is too little to tell.
    pub language: Option<&'static str>,
}

/// A route, held against a call.
#[derive(Clone, Debug)]
pub struct Looked {
    /// Its id.
    pub name: String,
    /// The first of its conditions that does not hold.
    pub unmet: Option<Unmet>,
    /// Whether it takes the call: the first without an unmet condition does, unless the path names a
    /// provider.
    pub takes: bool,
}

/// What would be written down, in the form of a call's notes.
#[derive(Clone, Debug, Serialize)]
pub struct Notes {
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<RouteNotes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cascade: Option<CascadeNotes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    think: Option<ThinkNotes>,
}

/// Decides about a call and forgets it.
pub fn rehearse(
    gateway: &Arc<Gateway>,
    head: Parts,
    key: Option<&KeyRecord>,
    body: Bytes,
) -> Result<Rehearsal, Refusal> {
    let call = supposed(gateway, head, key, body)?;
    let Endpoint::Generate { dialect, pinned } = &call.endpoint else {
        let message = format!(
            "`{}` asks for no answer to a conversation, and only such calls take routes; try \
             `/v1/chat/completions` or `/v1/messages`",
            call.path
        );
        return Err(Refusal::new(Reason::BadRequest, message));
    };
    decide(gateway, &call, *dialect, pinned.as_deref())
}

fn decide(
    gateway: &Arc<Gateway>,
    call: &Call,
    dialect: Dialect,
    pinned: Option<&str>,
) -> Result<Rehearsal, Refusal> {
    let request = dialect
        .read(call.body.bytes())
        .map_err(|error| unreadable(error.problem()))?;
    let setup = &gateway.setup.load_full();
    let asked = request.asked();
    let (seen, mut routes) = seen(call, &request, &asked, |sight| {
        let seen = Seen {
            model: sight.model.to_owned(),
            key: sight.key.to_owned(),
            tags: sight.tags.to_vec(),
            path: sight.path.to_owned(),
            dialect: sight.dialect.id(),
            tools: sight.tools,
            media: sight.media,
            input_tokens: sight.input.0,
            language: detect(sight.text).map(Language::code),
        };
        let looked = setup.rules.iter().map(|rule| Looked {
            name: rule.name.clone(),
            unmet: rule.when.unmet(sight),
            takes: false,
        });
        (seen, looked.collect::<Vec<_>>())
    });
    let taken = routes.iter_mut().find(|route| route.unmet.is_none());
    if let Some(route) = taken.filter(|_| pinned.is_none()) {
        route.takes = true;
    }
    let service = Service {
        gateway,
        setup,
        call,
    };
    let conversation = conversation(call, &request);
    let placed = place(&service, &request, pinned, conversation)?;
    let is_judged = placed
        .first()
        .is_some_and(|first| first.foreseen.vouched.is_none());
    let first = placed.first().map(|first| &first.plan);
    let goes = first.or_else(|| placed.route.first());
    let think = goes.and_then(|plan| {
        let mut edits = Splice::default();
        think(
            &service,
            &request,
            plan,
            conversation,
            placed.think,
            &mut edits,
        )
    });
    let asked_first = first.map(Plan::name);
    let placement = placed.placement();
    Ok(Rehearsal {
        seen,
        routes,
        targets: placed.route.plans.iter().map(Plan::name).collect(),
        asked_first,
        is_judged,
        notes: Notes {
            route: placement.notes,
            cascade: placement.cascade,
            think,
        },
    })
}
