//! The ledger read back: calls as stored, and their sums.
//!
//! **Invariant**: sums are exact, and the sum over any breakdown equals the totals (store
//! conformance, `sums_are_exact`).

use std::collections::BTreeMap;

use wire::usage::{Tokens, Ttl, Usage};

use crate::moment::Moment;
use crate::money::PicoUsd;
use crate::ports::{CallId, CallOpened, CallSettled, End, Fault, Lever, Payers};

/// What a call says where its opening row never arrived: nothing of it is known.
pub const UNKNOWN: &str = "unknown";

/// A call as it stands in the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredCall {
    /// How it began.
    pub opened: CallOpened,
    /// How it ended; `None` while it runs.
    pub settled: Option<CallSettled>,
}

impl StoredCall {
    /// Whether any of its figures is our estimate rather than the upstream's word.
    pub fn is_estimated(&self) -> bool {
        self.settled.as_ref().is_some_and(is_estimated)
    }
}

/// Whether any figure of a settled call is our estimate: a leg's, or a whole recovered call.
pub fn is_estimated(settled: &CallSettled) -> bool {
    settled.end == End::Recovered || settled.legs.iter().any(|leg| leg.estimated)
}

/// An opening for a call that was settled without one: the legs tell what they can.
pub fn opening_of(settled: &CallSettled) -> CallOpened {
    let leg = settled.legs.first();
    let unknown = || UNKNOWN.to_owned();
    CallOpened {
        call: settled.call.clone(),
        at: leg.map_or(settled.at, |leg| leg.sent_at),
        key: unknown(),
        session: None,
        task: None,
        endpoint: unknown(),
        model: leg.map_or_else(unknown, |leg| leg.model.clone()),
        provider: leg.map_or_else(unknown, |leg| leg.provider.clone()),
        target: leg.map(|leg| format!("{}/{}", leg.provider, leg.model)),
        input_estimate: leg.map(|leg| leg.usage.input()).unwrap_or_default(),
        payers: Payers::default(),
        held: None,
    }
}

/// The settling of a call that the process did not live to settle: cost unknown, nothing metered.
pub fn recovery_of(call: CallId, now: Moment) -> CallSettled {
    CallSettled {
        call,
        at: now,
        end: End::Recovered,
        status: 0,
        legs: Vec::new(),
        cost: None,
        untouched: None,
        savings: BTreeMap::new(),
        prices: String::new(),
        notes: "{}".to_owned(),
    }
}

/// Which calls to look at; every field that is set must match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Received at or after this moment.
    pub since: Option<Moment>,
    /// Received before this moment.
    pub until: Option<Moment>,
    /// With this key, by public id.
    pub key: Option<String>,
    /// Of this session.
    pub session: Option<String>,
    /// Of this task.
    pub task: Option<String>,
    /// Asking for this model.
    pub model: Option<String>,
}

impl Filter {
    /// Whether a call belongs to it.
    pub fn admits(&self, opened: &CallOpened) -> bool {
        let same = |wanted: &Option<String>, given: Option<&String>| {
            wanted.is_none() || wanted.as_ref() == given
        };
        self.since.is_none_or(|since| opened.at >= since)
            && self.until.is_none_or(|until| opened.at < until)
            && same(&self.key, Some(&opened.key))
            && same(&self.session, opened.session.as_ref())
            && same(&self.task, opened.task.as_ref())
            && same(&self.model, Some(&opened.model))
    }
}

/// What to break totals down by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum By {
    /// The day (UTC) on which the call was received, as `2026-01-31`.
    Day,
    /// The model that the client asked for.
    Model,
    /// The provider of the call's target.
    Provider,
    /// The organisation that pays.
    Organisation,
    /// The team that pays.
    Team,
    /// The user that the client named.
    User,
    /// The key, by public id.
    Key,
    /// The session.
    Session,
    /// The task.
    Task,
}

impl By {
    /// Every breakdown.
    pub const ALL: [Self; 9] = [
        Self::Day,
        Self::Model,
        Self::Provider,
        Self::Organisation,
        Self::Team,
        Self::User,
        Self::Key,
        Self::Session,
        Self::Task,
    ];
}

impl By {
    /// The label of the part that a call belongs to.
    pub fn label(self, opened: &CallOpened) -> Option<String> {
        match self {
            Self::Day => Some(day(opened.at)),
            Self::Model => Some(opened.model.clone()),
            Self::Provider => Some(opened.provider.clone()),
            Self::Organisation => opened.payers.organisation.clone(),
            Self::Team => opened.payers.team.clone(),
            Self::User => opened.payers.user.clone(),
            Self::Key => Some(opened.key.clone()),
            Self::Session => opened.session.clone(),
            Self::Task => opened.task.clone(),
        }
    }
}

/// The UTC date of a moment, by counting in 400-year cycles of 146 097 days that start in March,
/// so that the leap day comes last.
fn day(at: Moment) -> String {
    let days = at.0 / 86_400_000 + 719_468;
    let (cycle, day_of_cycle) = (days / 146_097, days % 146_097);
    let year_of_cycle = (day_of_cycle - day_of_cycle / 1_460 + day_of_cycle / 36_524
        - day_of_cycle / 146_096)
        / 365;
    let day_of_year =
        day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let months_since_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * months_since_march + 2) / 5 + 1;
    let month = if months_since_march < 10 {
        months_since_march + 3
    } else {
        months_since_march - 9
    };
    let year = 400 * cycle + year_of_cycle + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// One part of a breakdown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Which part; `None` gathers the calls that have none, for instance no session.
    pub label: Option<String>,
    /// Its sums.
    pub totals: Totals,
}

/// Exact sums over calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Calls that are settled and were let in; the other figures are of these.
    pub calls: u64,
    /// Calls that are opened and not settled yet.
    pub running: u64,
    /// Calls that a crash left open and a later start closed.
    pub recovered: u64,
    /// Calls that were turned away before anything was sent; they cost nothing.
    pub turned_away: u64,
    /// Calls with an estimated figure, the recovered ones included.
    pub estimated: u64,
    /// Calls whose cost is unknown; they are missing from `cost`.
    pub unpriced: u64,
    /// Attempts at upstreams.
    pub legs: u64,
    /// Tokens by class over all legs; its `tier` is always `None`.
    pub usage: Usage,
    /// The cost of the calls that have a known one.
    pub cost: PicoUsd,
    /// The part of `cost` that has an untouched figure to compare with.
    pub cost_compared: PicoUsd,
    /// What those calls would have cost untouched: `untouched − cost_compared` is the sum of
    /// `savings`.
    pub untouched: PicoUsd,
    /// Savings by lever; negative where a lever lost money.
    pub savings: BTreeMap<Lever, PicoUsd>,
}

impl Totals {
    /// Adds one call.
    pub fn count(&mut self, call: &StoredCall) {
        let Some(settled) = &call.settled else {
            self.running += 1;
            return;
        };
        if settled.end == End::TurnedAway {
            self.turned_away += 1;
            return;
        }
        self.calls += 1;
        self.recovered += u64::from(settled.end == End::Recovered);
        self.estimated += u64::from(call.is_estimated());
        self.unpriced += u64::from(settled.cost.is_none());
        for leg in &settled.legs {
            self.legs += 1;
            add_usage(&mut self.usage, &leg.usage);
        }
        if let Some(cost) = settled.cost {
            self.cost = add(self.cost, cost);
            if let Some(untouched) = settled.untouched {
                self.cost_compared = add(self.cost_compared, cost);
                self.untouched = add(self.untouched, untouched);
            }
        }
        for (lever, saved) in &settled.savings {
            let sum = self.savings.entry(*lever).or_default();
            *sum = add(*sum, *saved);
        }
    }

    /// All levers together.
    pub fn saved(&self) -> PicoUsd {
        self.savings.values().copied().fold(PicoUsd::default(), add)
    }
}

/// A row holds less than 2⁶³ pico-USD, so an `i128` has room for 2⁶⁴ rows.
fn add(left: PicoUsd, right: PicoUsd) -> PicoUsd {
    PicoUsd(left.0.saturating_add(right.0))
}

fn add_usage(sum: &mut Usage, usage: &Usage) {
    sum.uncached += usage.uncached;
    sum.cache_read += usage.cache_read;
    for ttl in Ttl::ALL {
        *sum.cache_write.of_mut(ttl) += usage.cache_write.of(ttl);
    }
    sum.audio_input += usage.audio_input;
    sum.output += usage.output;
    sum.reasoning += usage.reasoning;
    sum.audio_output += usage.audio_output;
    sum.web_searches = sum.web_searches.saturating_add(usage.web_searches);
}

/// Calls one after the other, in the order in which they were opened.
pub type Calls<'reader> = Box<dyn Iterator<Item = Result<StoredCall, Fault>> + 'reader>;

/// Where calls are read back. Works beside a running gateway; each method may do IO.
pub trait LedgerReader: Send + Sync {
    /// One call, with its legs, savings and notes.
    fn call(&self, call: &CallId) -> Result<Option<StoredCall>, Fault>;

    /// The newest calls, newest first, at most `count`.
    fn latest(&self, count: u32) -> Result<Vec<StoredCall>, Fault>;

    /// Sums over the calls that the filter admits.
    fn totals(&self, filter: &Filter) -> Result<Totals, Fault>;

    /// Sums by day, model, …, ordered by label; together they equal [`LedgerReader::totals`].
    fn breakdown(&self, filter: &Filter, by: By) -> Result<Vec<Slice>, Fault>;

    /// Every call that the filter admits, running ones included, in constant memory.
    fn calls(&self, filter: &Filter) -> Calls<'_>;

    /// What calls used, summed by payers and minute: what budgets are restored from. A cost that is
    /// unknown counts as what was held; running calls, and those that were
    /// recovered or turned away, are left out. Handed over one by one, for there may be millions.
    fn spending(&self, of: &SpentBy, take: &mut dyn FnMut(Spending)) -> Result<(), Fault>;

    /// What the legs of the same calls used, summed by target, model asked for and minute. A leg of
    /// unknown cost counts as what was held for its call.
    fn spending_at(&self, of: &SpentBy, take: &mut dyn FnMut(SpendingAt)) -> Result<(), Fault>;

    /// The recovered calls whose hold lasts beyond `now`: what became of them nobody knows.
    fn cut_off(&self, now: Moment) -> Result<Vec<CallOpened>, Fault>;

    /// The calls that are not settled and whose hold lasts beyond `now`.
    fn under_way(&self, now: Moment) -> Result<Vec<CallOpened>, Fault>;
}

/// Calls whose spending is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpentBy {
    /// Received at or after this moment.
    pub since: Moment,
    /// Settled at or before this moment, if there is one.
    pub settled_by: Option<Moment>,
    /// None of these.
    pub except: Vec<CallId>,
}

impl SpentBy {
    /// Every call that was received at or after a moment.
    pub fn since(since: Moment) -> Self {
        Self {
            since,
            ..Self::default()
        }
    }

    /// Whether a settled call belongs to it.
    pub fn admits(&self, opened: &CallOpened, settled: &CallSettled) -> bool {
        opened.at >= self.since
            && self.settled_by.is_none_or(|by| settled.at <= by)
            && !self.except.contains(&opened.call)
    }
}

/// What some calls with the same payers, received within the same minute, used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spending {
    /// The key, by public id.
    pub key: String,
    /// The session.
    pub session: Option<String>,
    /// The task.
    pub task: Option<String>,
    /// The model that the client asked for.
    pub model: String,
    /// Who pays, besides.
    pub payers: Payers,
    /// When the first of them was received.
    pub at: Moment,
    /// What they cost.
    pub cost: PicoUsd,
    /// Their tokens, input and output.
    pub tokens: Tokens,
    /// How many they are.
    pub calls: u64,
}

/// What some legs to the same target, of calls received within the same minute, used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpendingAt {
    /// The model that the client asked for.
    pub asked: String,
    /// The target's provider.
    pub provider: String,
    /// The target's model, as the upstream knows it.
    pub model: String,
    /// When the first of the calls was received.
    pub at: Moment,
    /// What the legs cost.
    pub cost: PicoUsd,
    /// Their tokens, input and output.
    pub tokens: Tokens,
    /// How many they are.
    pub legs: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_follow_the_calendar() {
        for (second, expect) in [
            (0, "1970-01-01"),
            (86_399, "1970-01-01"),
            (951_782_399, "2000-02-28"),
            (951_782_400, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (1_767_225_599, "2025-12-31"),
            (1_767_225_600, "2026-01-01"),
            (4_107_542_400, "2100-03-01"),
        ] {
            assert_eq!(day(Moment(second * 1000)), expect, "second {second}");
        }
    }
}
