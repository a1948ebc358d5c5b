//! Counters for operators, in the Prometheus text format.
//!
//! **Invariant**: labels have few values: never a key, a session or text of a client.

use std::sync::atomic::AtomicU64;

use policy::admit::book::Counts;
use policy::admit::tally::{Notice, Spent};
use policy::dispatch::fault::Fault;
use policy::moment::Moment;
use policy::money::PicoUsd;
use policy::ports::{CallSettled, LedgerHealth, Leg};
use policy::refusal::Reason;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use wire::usage::Tokens;

use crate::admit::told;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    provider: String,
    end: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusalLabels {
    reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProviderLabels {
    provider: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FaultLabels {
    provider: String,
    fault: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CascadeLabels {
    outcome: &'static str,
    why: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HedgeLabels {
    went_on: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LoopLabels {
    kind: &'static str,
    action: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitLabels {
    limit: String,
    measure: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NoticeLabels {
    limit: String,
    event: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AlarmLabels {
    alarm: &'static str,
}

/// What budgets did; the limits' names are the operator's own. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct BudgetCounters {
    refusals: Family<LimitLabels, Counter>,
    notices: Family<NoticeLabels, Counter>,
    alarms: Family<AlarmLabels, Counter>,
}

impl BudgetCounters {
    fn registered(registry: &mut Registry) -> Self {
        let counters = Self::default();
        registry.register(
            "budget_refusals",
            "Calls and attempts for which a limit had no room",
            counters.refusals.clone(),
        );
        registry.register(
            "budget_notices",
            "Shares of limits that were reached, and calls that an observing limit would have refused",
            counters.notices.clone(),
        );
        registry.register(
            "budget_alarms",
            "What an operator of budgets should look at",
            counters.alarms.clone(),
        );
        counters
    }

    /// A limit had no room.
    pub fn refused(&self, spent: &Spent) {
        let labels = LimitLabels {
            limit: spent.limit.to_string(),
            measure: spent.measure.name(),
        };
        self.refusals.get_or_create(&labels).inc();
    }

    /// Limits told something.
    pub fn told(&self, notices: &[Notice]) {
        for notice in notices {
            let labels = NoticeLabels {
                limit: notice.limit.to_string(),
                event: told::event(notice.event),
            };
            self.notices.get_or_create(&labels).inc();
        }
    }

    /// A task spends too fast.
    pub fn runaway(&self) {
        let labels = AlarmLabels { alarm: "runaway" };
        self.alarms.get_or_create(&labels).inc();
    }

    /// The book's own counts have moved.
    pub fn alarmed(&self, before: &Counts, after: &Counts) {
        for (alarm, before, after) in [
            ("unpriced", before.unpriced, after.unpriced),
            ("unknown_cost", before.unknown_costs, after.unknown_costs),
            ("beyond_worst", before.beyond_worst, after.beyond_worst),
            ("expired", before.expired, after.expired),
            ("late", before.late, after.late),
            ("repeated", before.repeated, after.repeated),
            ("forgotten", before.forgotten, after.forgotten),
        ] {
            if after > before {
                tracing::warn!(alarm, "a budget needs a look");
                let labels = AlarmLabels { alarm };
                self.alarms.get_or_create(&labels).inc_by(after - before);
            }
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TokenLabels {
    provider: String,
    class: &'static str,
}

/// Seconds: from a local server's first byte to the ten minutes that a call may wait for one.
const SECONDS: [f64; 13] = [
    0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0,
];

/// What legs used, and how long they and their calls took.
#[derive(Clone, Debug)]
struct Traffic {
    tokens: Family<TokenLabels, Counter>,
    first_byte: Family<ProviderLabels, Histogram, fn() -> Histogram>,
    whole: Family<ProviderLabels, Histogram, fn() -> Histogram>,
}

impl Traffic {
    fn registered(registry: &mut Registry) -> Self {
        let seconds = || Histogram::new(SECONDS);
        let traffic = Self {
            tokens: Family::default(),
            first_byte: Family::new_with_constructor(seconds),
            whole: Family::new_with_constructor(seconds),
        };
        registry.register(
            "tokens",
            "Tokens of attempts, by class; no token is in two of them",
            traffic.tokens.clone(),
        );
        registry.register(
            "first_byte_seconds",
            "From sending an attempt to the first byte of its answer",
            traffic.first_byte.clone(),
        );
        registry.register(
            "call_seconds",
            "From a call's arrival to its end, all attempts included",
            traffic.whole.clone(),
        );
        traffic
    }

    fn leg(&self, leg: &Leg) {
        let usage = &leg.usage;
        for (class, tokens) in [
            ("uncached", usage.uncached),
            ("cache_read", usage.cache_read),
            ("cache_write", usage.cache_write.total()),
            ("audio_input", usage.audio_input),
            ("output", usage.output),
            ("audio_output", usage.audio_output),
        ] {
            if tokens > Tokens(0) {
                let provider = leg.provider.clone();
                let labels = TokenLabels { provider, class };
                self.tokens.get_or_create(&labels).inc_by(tokens.0);
            }
        }
        if let Some(first) = leg.first_byte_at {
            let provider = leg.provider.clone();
            let took = self.first_byte.get_or_create(&ProviderLabels { provider });
            took.observe(seconds(first.since(leg.sent_at)));
        }
    }
}

/// How the ledger's writing goes, as it says when it is asked.
#[derive(Debug, Default)]
struct LedgerGauges {
    waiting: Gauge<u64, AtomicU64>,
    failing: Gauge<u64, AtomicU64>,
}

impl LedgerGauges {
    fn registered(registry: &mut Registry) -> Self {
        let gauges = Self::default();
        registry.register(
            "ledger_rows_waiting",
            "Rows of the ledger that wait to be written to its tables",
            gauges.waiting.clone(),
        );
        registry.register(
            "ledger_failing",
            "1 while the ledger cannot be written (the log has the cause), else 0",
            gauges.failing.clone(),
        );
        gauges
    }

    fn set(&self, health: &LedgerHealth) {
        self.waiting.set(health.queued);
        self.failing.set(u64::from(health.failing.is_some()));
    }
}

/// Every counter of the data path.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    calls: Family<CallLabels, Counter>,
    refusals: Family<RefusalLabels, Counter>,
    failed_legs: Family<FaultLabels, Counter>,
    cascades: Family<CascadeLabels, Counter>,
    hedges: Family<HedgeLabels, Counter>,
    loops: Family<LoopLabels, Counter>,
    unpriced: Family<ProviderLabels, Counter>,
    cost: Family<ProviderLabels, Counter<f64, AtomicU64>>,
    saved: Family<ProviderLabels, Gauge<f64, AtomicU64>>,
    open: Gauge,
    budgets: BudgetCounters,
    traffic: Traffic,
    ledger: LedgerGauges,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("tokenwise");
        let calls = Family::default();
        let refusals = Family::default();
        let failed_legs = Family::default();
        let cascades = Family::default();
        let hedges = Family::default();
        let loops = Family::default();
        let unpriced = Family::default();
        let cost = Family::default();
        let saved = Family::default();
        let open = Gauge::default();
        registry.register("calls", "Settled calls", calls.clone());
        registry.register("refusals", "Calls turned away", refusals.clone());
        registry.register(
            "failed_legs",
            "Attempts at a provider that failed",
            failed_legs.clone(),
        );
        registry.register(
            "cascades",
            "Answers of cascades' cheap targets: accepted, escalated or failed, and why",
            cascades.clone(),
        );
        registry.register(
            "hedges",
            "Calls of which a second target was asked, and with which of the two they went on",
            hedges.clone(),
        );
        registry.register(
            "loops",
            "Calls of agents that go in circles: how, and what was done",
            loops.clone(),
        );
        registry.register(
            "unpriced_calls",
            "Settled calls of unknown cost",
            unpriced.clone(),
        );
        registry.register("cost_usd", "Cost of settled calls, in USD", cost.clone());
        registry.register(
            "saved_usd",
            "Estimated savings of all levers, in USD",
            saved.clone(),
        );
        registry.register("calls_open", "Calls in flight", open.clone());
        let budgets = BudgetCounters::registered(&mut registry);
        let traffic = Traffic::registered(&mut registry);
        let ledger = LedgerGauges::registered(&mut registry);
        Self {
            registry,
            calls,
            refusals,
            failed_legs,
            cascades,
            hedges,
            loops,
            unpriced,
            cost,
            saved,
            open,
            budgets,
            traffic,
            ledger,
        }
    }
}

impl Metrics {
    /// The counters of budgets, for whoever keeps the accounts.
    pub fn budgets(&self) -> BudgetCounters {
        self.budgets.clone()
    }

    /// A call has begun.
    pub fn opened(&self) {
        self.open.inc();
    }

    /// A call that came at `at` is over.
    pub fn settled(&self, provider: &str, at: Moment, row: &CallSettled, saved: PicoUsd) {
        self.open.dec();
        row.legs.iter().for_each(|leg| self.traffic.leg(leg));
        let provider = provider.to_owned();
        let labels = CallLabels {
            provider: provider.clone(),
            end: row.end.name(),
        };
        self.calls.get_or_create(&labels).inc();
        let labels = ProviderLabels { provider };
        let took = self.traffic.whole.get_or_create(&labels);
        took.observe(seconds(row.at.since(at)));
        match row.cost {
            Some(cost) => {
                self.cost.get_or_create(&labels).inc_by(usd(cost));
                self.saved.get_or_create(&labels).inc_by(usd(saved));
            }
            None => {
                self.unpriced.get_or_create(&labels).inc();
            }
        }
    }

    /// A leg failed.
    pub fn leg_failed(&self, provider: &str, fault: Fault) {
        let labels = FaultLabels {
            provider: provider.to_owned(),
            fault: fault.name(),
        };
        self.failed_legs.get_or_create(&labels).inc();
    }

    /// A cascade's cheap target was asked.
    pub fn cascaded(&self, outcome: &'static str, why: &'static str) {
        let labels = CascadeLabels { outcome, why };
        self.cascades.get_or_create(&labels).inc();
    }

    /// A second target was asked.
    pub fn hedged(&self, went_on: &'static str) {
        let labels = HedgeLabels { went_on };
        self.hedges.get_or_create(&labels).inc();
    }

    /// An agent goes in circles.
    pub fn looped(&self, kind: &'static str, action: &'static str) {
        let labels = LoopLabels { kind, action };
        self.loops.get_or_create(&labels).inc();
    }

    /// A call was turned away.
    pub fn refused(&self, reason: Reason) {
        let labels = RefusalLabels {
            reason: format!("{reason:?}"),
        };
        self.refusals.get_or_create(&labels).inc();
    }

    /// The text that a scraper reads; the ledger says itself how it is.
    pub fn text(&self, ledger: &LedgerHealth) -> String {
        self.ledger.set(ledger);
        let mut text = String::new();
        // Writing to a string fails only if a label's encoder does; then the text ends early.
        if encode(&mut text, &self.registry).is_err() {
            tracing::error!("metrics could not be encoded");
        }
        text
    }
}

/// Milliseconds for a graph.
#[expect(
    clippy::cast_precision_loss,
    reason = "Prometheus knows only floating point"
)]
fn seconds(millis: u64) -> f64 {
    millis as f64 / 1e3
}

/// Money for a graph; the exact figures are in the ledger.
#[expect(
    clippy::cast_precision_loss,
    reason = "Prometheus knows only floating point"
)]
fn usd(amount: PicoUsd) -> f64 {
    amount.0 as f64 / 1e12
}
