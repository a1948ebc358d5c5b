//! Opening: what is known of a call before money can be spent on it.
//!
//! **Invariant**: an opening sends nothing and owes nothing; only [`Receipt::open`] writes it down
//! (property `every_exit_settles_exactly_once`).
//!
//! [`Receipt::open`]: crate::settle::receipt::Receipt::open

use std::sync::Arc;

use policy::admit::tally::Notice;
use policy::ports::{CallOpened, Held};
use policy::route::sessions::Kind;
use wire::usage::Tokens;

use crate::admit::holds::Holds;
use crate::admit::stops::Live;
use crate::admit::told::told;
use crate::dispatch::context::ContextNotes;
use crate::dispatch::degrade::Degraded;
use crate::dispatch::focus::FocusNotes;
use crate::dispatch::loops::LoopNotes;
use crate::dispatch::shape::Shaped;
use crate::dispatch::trim::TrimNotes;
use crate::dispatch::turn::Turn;
use crate::receive::Call;
use crate::route::Plan;
use crate::route::cascade::CascadeNotes;
use crate::route::notes::RouteNotes;
use crate::settle::flight::Flight;
use crate::settle::receipt::BYTES_PER_TOKEN;

/// What is known of a call when its receipt is opened.
#[derive(Debug)]
pub struct Opening {
    pub(super) row: CallOpened,
    pub(super) flight: Flight,
    pub(super) turn: Option<Turn>,
    pub(super) holds: Option<Holds>,
    pub(super) notices: Vec<String>,
    pub(super) placed: Box<Placement>,
    pub(super) degraded: Vec<Degraded>,
    pub(super) live: Arc<Live>,
}

/// What the route lever has to do with a call.
#[derive(Debug, Default)]
pub struct Placement {
    /// What kind of conversation it belongs to; none of calls that are no conversation.
    pub kind: Option<Kind>,
    /// The size of its body.
    pub bytes: u64,
    /// Where it would have gone, had no lever moved it.
    pub instead_of: Option<Plan>,
    /// Why it goes where it goes.
    pub notes: Option<RouteNotes>,
    /// Input tokens that were not sent because they were trimmed.
    pub trimmed: Tokens,
    /// Why, and what was trimmed.
    pub trim: Option<TrimNotes>,
    /// What became of its documents.
    pub focused: Option<Box<FocusNotes>>,
    /// What its sender should know of its context.
    pub context: Option<ContextNotes>,
    /// What its route's cascade comes to.
    pub cascade: Option<CascadeNotes>,
    /// What tells its tools and instructions.
    pub head: Option<u64>,
    /// The loop that its agent is in.
    pub looping: Option<LoopNotes>,
}

impl Opening {
    /// Of this call to this target, with a body of so many bytes.
    pub fn of(call: &Call, asked: &str, plan: &Plan, body_bytes: usize) -> Self {
        let row = CallOpened {
            call: call.id.clone(),
            at: call.at,
            key: call.key.clone(),
            session: call.session.clone(),
            task: call.task.clone(),
            endpoint: call.path.clone(),
            model: asked.to_owned(),
            provider: plan.upstream.id.clone(),
            target: Some(plan.name()),
            input_estimate: Tokens(body_bytes as u64 / BYTES_PER_TOKEN),
            payers: call.payers.clone(),
            held: None,
        };
        Self {
            row,
            flight: Flight::to(plan),
            turn: None,
            holds: None,
            notices: Vec::new(),
            placed: Box::default(),
            degraded: Vec::new(),
            live: Arc::clone(&call.live),
        }
    }

    /// Placed by a route.
    #[must_use]
    pub fn placed(mut self, placed: Placement) -> Self {
        self.placed = Box::new(placed);
        self
    }

    /// At a lesser target on account of a limit: not as a lever's doing, so that nothing counts as
    /// saved.
    #[must_use]
    pub fn degraded(mut self, degraded: Option<&Degraded>) -> Self {
        if let Some(degraded) = degraded {
            self.degraded.push(degraded.clone());
            self.placed.instead_of = None;
        }
        self
    }

    /// On behalf of this user, unless the key or a header names one.
    #[must_use]
    pub fn of_user(mut self, user: Option<&str>) -> Self {
        let payers = &mut self.row.payers;
        payers.user = payers.user.take().or_else(|| user.map(str::to_owned));
        self
    }

    /// With what the levers know of it.
    #[must_use]
    pub fn shaped(mut self, shaped: &mut Shaped) -> Self {
        self.row.session = self.row.session.or(shaped.session.take());
        self.flight.shaped(shaped);
        self.degraded.extend(shaped.degraded.take());
        self.degraded.extend(shaped.wrap_up.take());
        if let Some(ticket) = &self.flight.ticket {
            self.row.input_estimate = ticket.input_estimate();
        }
        self
    }

    /// With the leg that it begins on.
    #[must_use]
    pub fn on(mut self, turn: Turn) -> Self {
        self.turn = Some(turn);
        self
    }

    /// With what is held for it.
    #[must_use]
    pub fn holding(mut self, holds: Holds, held: Held, notices: &[Notice]) -> Self {
        self.holds = Some(holds);
        self.notices = notices.iter().map(told).collect();
        self.row.held = Some(held);
        self
    }

    /// The row of a call that is not opened.
    pub fn into_row(self) -> CallOpened {
        self.row
    }

    /// The row as it will be written.
    pub fn row(&self) -> &CallOpened {
        &self.row
    }
}
