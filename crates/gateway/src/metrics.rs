//! Counters for operators, in the Prometheus text format.
//!
//! **Invariant**: labels have few values: never a key, a session or text of a client.

use std::sync::atomic::AtomicU64;

use policy::money::PicoUsd;
use policy::ports::End;
use policy::refusal::Reason;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

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

/// Every counter of the data path.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    calls: Family<CallLabels, Counter>,
    refusals: Family<RefusalLabels, Counter>,
    unpriced: Family<ProviderLabels, Counter>,
    cost: Family<ProviderLabels, Counter<f64, AtomicU64>>,
    saved: Family<ProviderLabels, Gauge<f64, AtomicU64>>,
    open: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("tokenwise");
        let calls = Family::default();
        let refusals = Family::default();
        let unpriced = Family::default();
        let cost = Family::default();
        let saved = Family::default();
        let open = Gauge::default();
        registry.register("calls", "Settled calls", calls.clone());
        registry.register("refusals", "Calls turned away", refusals.clone());
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
        Self {
            registry,
            calls,
            refusals,
            unpriced,
            cost,
            saved,
            open,
        }
    }
}

impl Metrics {
    /// A call has begun.
    pub fn opened(&self) {
        self.open.inc();
    }

    /// A call is over.
    pub fn settled(&self, provider: &str, end: End, cost: Option<PicoUsd>, saved: PicoUsd) {
        self.open.dec();
        let provider = provider.to_owned();
        let labels = CallLabels {
            provider: provider.clone(),
            end: end.name(),
        };
        self.calls.get_or_create(&labels).inc();
        let labels = ProviderLabels { provider };
        match cost {
            Some(cost) => {
                self.cost.get_or_create(&labels).inc_by(usd(cost));
                self.saved.get_or_create(&labels).inc_by(usd(saved));
            }
            None => {
                self.unpriced.get_or_create(&labels).inc();
            }
        }
    }

    /// A call was turned away.
    pub fn refused(&self, reason: Reason) {
        let labels = RefusalLabels {
            reason: format!("{reason:?}"),
        };
        self.refusals.get_or_create(&labels).inc();
    }

    /// The text that a scraper reads.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string fails only if a label's encoder does; then the text ends early.
        if encode(&mut text, &self.registry).is_err() {
            tracing::error!("metrics could not be encoded");
        }
        text
    }
}

/// Money for a graph; the exact figures are in the ledger.
#[expect(
    clippy::cast_precision_loss,
    reason = "Prometheus knows only floating point"
)]
fn usd(amount: PicoUsd) -> f64 {
    amount.0 as f64 / 1e12
}
