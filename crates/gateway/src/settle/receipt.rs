//! The receipt of a call: opened before money can be spent, settled exactly once on every exit.
//!
//! **Invariant**: dropping an unsettled receipt settles it as `client_gone` (property
//! `every_exit_settles_exactly_once`).

use std::collections::BTreeMap;
use std::sync::Arc;

use policy::moment::Moment;
use policy::money::PicoUsd;
use policy::ports::{CallOpened, CallSettled, End, Leg, Lever};
use tokio::sync::oneshot;
use wire::usage::{Tokens, Usage};

use crate::Gateway;
use crate::dispatch::shape::Ticket;
use crate::receive::Call;
use crate::route::Plan;
use crate::setup::Setup;

/// 499: what proxies write down for a client that went away before its answer was over.
pub const CLIENT_GONE: u16 = 499;

/// 4 bytes a token: the estimate of output whose usage was never reported. Within a third of the
/// truth for text and code in most languages; such rows are marked as estimated.
const BYTES_PER_TOKEN: u64 = 4;

/// What is known of a call when its receipt is opened.
#[derive(Debug)]
pub struct Opening {
    row: CallOpened,
    prices: String,
    model: String,
    ticket: Option<Ticket>,
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
            input_estimate: Tokens(body_bytes as u64 / BYTES_PER_TOKEN),
        };
        let prices = plan.upstream.prices.clone();
        Self {
            row,
            prices,
            model: plan.model.clone(),
            ticket: None,
        }
    }

    /// With what the cache lever knows of it.
    #[must_use]
    pub fn shaped(mut self, session: Option<String>, ticket: Option<Ticket>) -> Self {
        self.row.session = self.row.session.or(session);
        if let Some(ticket) = &ticket {
            self.row.input_estimate = ticket.input_estimate();
        }
        self.ticket = ticket;
        self
    }
}

/// How a leg came out.
#[derive(Debug)]
pub struct Outcome {
    /// How it ended.
    pub end: End,
    /// The status for the client.
    pub status: u16,
    /// What the upstream reported.
    pub reported: Reported,
}

/// What is known of the tokens that a leg used.
#[derive(Debug)]
pub enum Reported {
    /// The upstream's own figures.
    Usage(Usage),
    /// The upstream's figures so far, of a stream that did not come to its end: its input is what
    /// was used, its output is not all of it.
    SoFar {
        /// What was reported until then.
        usage: Usage,
        /// Bytes of text, arguments and thinking that were seen.
        output_bytes: u64,
    },
    /// Nothing was used: errors before any output, and endpoints that are free.
    Nothing,
    /// The upstream said nothing; this many bytes of output were seen.
    Seen {
        /// Bytes of text, arguments and thinking.
        output_bytes: u64,
    },
    /// The answer cannot be read for usage: the cost is unknown.
    Unreadable,
}

/// A call's account while it is open.
pub struct Receipt {
    gateway: Arc<Gateway>,
    setup: Arc<Setup>,
    row: CallOpened,
    prices: String,
    model: String,
    ticket: Option<Ticket>,
    leg: LegClock,
    settled: Option<Settled>,
}

/// When the leg did what.
#[derive(Clone, Copy, Debug, Default)]
struct LegClock {
    sent_at: Option<Moment>,
    first_byte_at: Option<Moment>,
    status: Option<u16>,
}

/// What settling found.
struct Settled {
    committed: Option<oneshot::Receiver<()>>,
    cost: Option<PicoUsd>,
    saved: PicoUsd,
}

impl std::fmt::Debug for Receipt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receipt")
            .field("call", &self.row.call)
            .finish_non_exhaustive()
    }
}

impl Receipt {
    /// Opens the account; from here on the call is in the ledger.
    pub fn open(gateway: &Arc<Gateway>, setup: &Arc<Setup>, opening: Opening) -> Self {
        let Opening {
            row,
            prices,
            model,
            ticket,
        } = opening;
        gateway.ledger.open(row.clone());
        gateway.metrics.opened();
        Self {
            gateway: Arc::clone(gateway),
            setup: Arc::clone(setup),
            row,
            prices,
            model,
            ticket,
            leg: LegClock::default(),
            settled: None,
        }
    }

    /// The call's id.
    pub fn id(&self) -> &str {
        &self.row.call.0
    }

    /// The target's provider.
    pub fn provider(&self) -> &str {
        &self.row.provider
    }

    /// The target, as headers name it.
    pub fn target(&self) -> String {
        format!("{}/{}", self.row.provider, self.model)
    }

    /// The status of the upstream's answer; 200 before there is one.
    pub fn upstream_status(&self) -> u16 {
        self.leg.status.unwrap_or(200)
    }

    /// The leg has left.
    pub fn sent(&mut self) {
        self.leg.sent_at = Some(self.gateway.clock.now());
    }

    /// The head of the upstream's answer is here: its cache entries are readable from now on.
    pub fn answered(&mut self, status: u16) {
        let now = self.gateway.clock.now();
        self.leg.first_byte_at = Some(now);
        self.leg.status = Some(status);
        let taken = (200..300).contains(&status);
        if let Some(ticket) = self.ticket.as_mut().filter(|_| taken) {
            ticket.first_byte(now);
        }
    }

    /// Settles; a second call does nothing.
    pub fn settle(&mut self, outcome: Outcome) {
        if self.settled.is_some() {
            return;
        }
        let Outcome {
            end,
            status,
            reported,
        } = outcome;
        let now = self.gateway.clock.now();
        let estimated = match &reported {
            Reported::SoFar { .. } | Reported::Seen { .. } | Reported::Unreadable => true,
            Reported::Usage(_) | Reported::Nothing => false,
        };
        let usage = self.usage(reported);
        let cost = usage.as_ref().and_then(|usage| self.cost(usage));
        let account = self
            .ticket
            .take()
            .map(|ticket| ticket.settle(usage.as_ref(), end));
        let (untouched_usage, notes) = account.unwrap_or_else(|| (None, "{}".to_owned()));
        let untouched = untouched_usage.map_or(cost, |usage| self.cost(&usage));
        let saved = untouched
            .zip(cost)
            .map_or(PicoUsd::ZERO, |(untouched, cost)| untouched - cost);
        let leg = self.leg.sent_at.map(|sent_at| Leg {
            provider: self.row.provider.clone(),
            model: self.model.clone(),
            sent_at,
            first_byte_at: self.leg.first_byte_at,
            ended_at: now,
            status: self.leg.status,
            end,
            usage: usage.unwrap_or_default(),
            estimated,
            cost,
        });
        let row = CallSettled {
            call: self.row.call.clone(),
            at: now,
            end,
            status,
            legs: leg.into_iter().collect(),
            cost,
            untouched,
            savings: BTreeMap::from([(Lever::Cache, saved)]),
            prices: self.setup.prices.version().to_owned(),
            notes,
        };
        self.log(&row, saved);
        self.gateway
            .metrics
            .settled(&self.row.provider, end, cost, saved);
        let (commit, committed) = oneshot::channel();
        let acknowledge = Box::new(move || {
            // An error means that the client is gone, and nobody waits.
            commit.send(()).unwrap_or_default();
        });
        self.gateway.ledger.settle(row, acknowledge);
        self.settled = Some(Settled {
            committed: Some(committed),
            cost,
            saved,
        });
    }

    /// Completes when the settled row is safe; `None` before settling or when taken already.
    pub fn settlement(&mut self) -> Option<oneshot::Receiver<()>> {
        self.settled
            .as_mut()
            .and_then(|settled| settled.committed.take())
    }

    /// The cost as the header shows it.
    pub fn cost_text(&self) -> String {
        let cost = self.settled.as_ref().and_then(|settled| settled.cost);
        cost.map_or_else(|| "unknown".to_owned(), PicoUsd::exact)
    }

    /// The savings as the header shows them.
    pub fn saved_text(&self) -> String {
        self.settled
            .as_ref()
            .map_or(PicoUsd::ZERO, |settled| settled.saved)
            .exact()
    }

    /// The leg's usage, estimated where nothing was reported; `None` if it cannot be known.
    fn usage(&self, reported: Reported) -> Option<Usage> {
        match reported {
            Reported::Usage(usage) => Some(usage),
            Reported::SoFar {
                mut usage,
                output_bytes,
            } => {
                let seen = Tokens(output_bytes.div_ceil(BYTES_PER_TOKEN));
                usage.output = usage.output.max(seen);
                Some(usage)
            }
            Reported::Nothing => Some(Usage::default()),
            Reported::Unreadable => None,
            Reported::Seen { .. } if self.leg.sent_at.is_none() => Some(Usage::default()),
            Reported::Seen { output_bytes } => {
                let estimate = self.row.input_estimate;
                let input = self.ticket.as_ref().map(Ticket::expected_usage);
                let mut usage = input.unwrap_or_else(|| Usage {
                    uncached: estimate,
                    ..Usage::default()
                });
                usage.output = Tokens(output_bytes.div_ceil(BYTES_PER_TOKEN));
                Some(usage)
            }
        }
    }

    fn cost(&self, usage: &Usage) -> Option<PicoUsd> {
        if *usage == Usage::default() {
            return Some(PicoUsd::ZERO);
        }
        // Prices are those of the moment at which the call was sent.
        let at = self.leg.sent_at.unwrap_or(self.row.at);
        self.setup
            .prices
            .cost(&self.prices, &self.model, usage, at)
            .ok()
            .map(|bill| bill.total())
    }

    /// One wide event per call.
    fn log(&self, row: &CallSettled, saved: PicoUsd) {
        let usage = row.legs.first().map(|leg| &leg.usage);
        tracing::info!(
            call = self.row.call.0,
            key = self.row.key,
            session = self.row.session,
            task = self.row.task,
            endpoint = self.row.endpoint,
            target = self.target(),
            end = row.end.name(),
            status = row.status,
            millis = row.at.since(self.row.at),
            input = usage.map(|usage| usage.input().0),
            cache_read = usage.map(|usage| usage.cache_read.0),
            cache_write = usage.map(|usage| usage.cache_write.total().0),
            output = usage.map(|usage| usage.output.0),
            cost_usd = row.cost.map(PicoUsd::exact),
            saved_usd = saved.exact(),
            "call settled"
        );
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        let reported = Reported::Seen { output_bytes: 0 };
        self.settle(Outcome {
            end: End::ClientGone,
            status: CLIENT_GONE,
            reported,
        });
    }
}
