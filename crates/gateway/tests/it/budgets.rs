//! Budgets under load: many clients at once, some of whom leave, on limits that are far too small.
//!
//! **Invariant**: hard limits are never exceeded, soft ones by no more than their stated bound, and
//! at rest nothing is held (`hard_budgets_are_never_exceeded`,
//! `soft_budgets_stay_below_their_bound`). This is one process; a fleet's shared counters are not.

use std::sync::{Arc, Mutex};

use gateway::receive::keyring::Keyring;
use gateway::setup::{Budgets, Setup};
use policy::admit::book::hold::UnknownPrice;
use policy::admit::book::report::Usage;
use policy::admit::limit::{Limit, Measure, Mode, Quota, Then, Units, Which};
use policy::admit::scope::Kind;
use policy::admit::window::{Period, Window, Zone};
use policy::key;
use policy::moment::Moment;
use policy::money::PicoUsd;
use policy::ports::read::StoredCall;
use policy::ports::{KeyRecord, Payers};
use serde_json::Value;
use sim::provider::Provider;
use sim::provider::meter::{Uncached, quarter_of_bytes};
use testkit::client::{Client, Response};
use testkit::http1::Piece;
use testkit::upstream::Upstream;
use tokio::task::JoinSet;
use wire::dialect::Dialect;

use crate::stage::{Books, CLIENT_ID, CLIENT_KEY, SPOKEN, Stage, TODAY, plain};

/// Clients that call at once.
pub(crate) const CLIENTS: usize = 1_000;

/// Different mixes of clients.
const SEEDS: u64 = 20;

/// Calls that a refused client makes in all: each time it is told that it may.
const ATTEMPTS: u32 = 4;

/// A daily limit in USD for each payer of a kind.
pub(crate) fn usd(kind: Kind, amount: &str, mode: Mode) -> Limit {
    let window = Window::new(Period::Day, Zone::UTC);
    limit(kind, Quota::Usd(amount.parse().unwrap(), window), mode)
}

/// A limit for each payer of a kind, named after what it limits.
pub(crate) fn limit(kind: Kind, quota: Quota, mode: Mode) -> Limit {
    Limit {
        id: format!("{}-{}-{}", kind.name(), quota.measure().name(), mode.name()).into(),
        kind,
        which: Which::Each,
        quota,
        mode,
        then: Then::Refuse,
    }
}

/// The plain setup with these limits.
pub(crate) fn budgeted(url: &str, limits: Vec<Limit>) -> Setup {
    Setup {
        budgets: Budgets {
            limits,
            unknown_price: UnknownPrice::Block,
            ..Budgets::default()
        },
        ..plain(url)
    }
}

/// A stage whose client's key belongs to a team of an organisation.
pub(crate) async fn staged(setup: Setup) -> Stage {
    let stage = Stage::with(setup).await;
    let record = KeyRecord {
        id: CLIENT_ID.to_owned(),
        name: "client".to_owned(),
        hash: key::hash(CLIENT_KEY),
        created_at: Moment(0),
        expires_at: None,
        disabled_at: None,
        payers: Payers {
            organisation: Some("acme".to_owned()),
            team: Some("blue".to_owned()),
            ..Payers::default()
        },
        models: Vec::new(),
        previous: None,
    };
    stage
        .gateway
        .keyring
        .store(Arc::new(Keyring::new([record])));
    stage
}

/// The simulated provider, which reports the usage that a real one would.
pub(crate) async fn simulated() -> Upstream {
    let provider = Provider::new(quarter_of_bytes, Box::new(Uncached));
    Upstream::simulated(provider, || TODAY).await
}

/// Checks that a refusal is one of a budget, worded for the client's library.
pub(crate) fn check_refusal(dialect: Dialect, response: &Response) {
    assert_eq!(response.status, 429, "{}", response.text());
    let error: Value = serde_json::from_slice(&response.body).unwrap();
    let code = match dialect {
        Dialect::OpenAiChat => error["error"]["code"].as_str().unwrap(),
        Dialect::AnthropicMessages => {
            assert_eq!(error["type"], "error");
            error["error"]["type"].as_str().unwrap()
        }
    };
    let known = ["budget_exceeded", "rate_limit_exceeded", "rate_limit_error"];
    assert!(known.contains(&code), "{error}");
    assert!(response.text().contains("has no room"), "{error}");
    let retry_after = response.header("retry-after");
    let seconds = retry_after.map(|value| value.parse::<u64>().unwrap());
    match response.header("x-should-retry") {
        // What a minute does not mend is not tried again by itself.
        Some(word) => {
            assert_eq!(word, "false");
            assert!(seconds.is_none_or(|seconds| seconds > 60), "{seconds:?}");
        }
        None => assert!((1..=60).contains(&seconds.unwrap()), "{seconds:?}"),
    }
}

/// Numbers that look random and are the same each time.
pub(crate) struct Draws(u64);

impl Draws {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end
    }
}

/// What one client does.
pub(crate) struct Plan {
    dialect: usize,
    /// Further headers.
    pub(crate) fields: Vec<(&'static str, String)>,
    body: String,
    /// Pieces of the answer that it reads before it leaves; all if there are none.
    leaves_after: Option<u64>,
    /// Calls of others that it lets end before it tries again.
    patience: usize,
}

impl Plan {
    fn drawn(draws: &mut Draws) -> Self {
        let dialect = usize::try_from(draws.below(2)).unwrap();
        let model = ["gpt-5.4", "claude-haiku-4-5"][dialect];
        let (words, most) = (draws.below(80), 16 + draws.below(240));
        let streamed = draws.below(2) == 0;
        let padding = "so ".repeat(usize::try_from(draws.below(300)).unwrap());
        let body = format!(
            r#"{{"model":"{model}","max_tokens":{most},"stream":{streamed},"messages":[{{"role":"user","content":"words:{words} {padding}"}}]}}"#
        );
        Self {
            dialect,
            fields: Vec::new(),
            body,
            leaves_after: (draws.below(8) == 0).then(|| draws.below(4)),
            patience: usize::try_from(draws.below(40)).unwrap(),
        }
    }

    /// Calls, and calls again where the refusal says that it may help, once other calls are over. True
    /// if it was served.
    async fn play(self, mut client: Client, books: Arc<Books>) -> bool {
        let spoken = &SPOKEN[self.dialect];
        let own = self
            .fields
            .iter()
            .map(|(name, value)| (*name, value.as_str()));
        let headers: Vec<(&str, &str)> = spoken.headers.iter().copied().chain(own).collect();
        for _ in 0..ATTEMPTS {
            let settled = books.wait_for(|_| true).await.settled;
            client
                .ask("POST", spoken.path, &headers, self.body.as_bytes())
                .await;
            if let Some(pieces) = self.leaves_after {
                leave(client, pieces).await;
                return false;
            }
            let response = client.response().await.unwrap();
            if response.status == 200 {
                return true;
            }
            check_refusal(spoken.dialect, &response);
            if response.header("x-should-retry").is_some() {
                return false;
            }
            books
                .wait_for(|now| now.settled > settled + self.patience || now.settled == now.opened)
                .await;
        }
        false
    }
}

/// Leaves after the head and so many pieces, or without waiting for anything.
async fn leave(mut client: Client, pieces: u64) {
    if pieces > 0 {
        client.head().await.unwrap();
    }
    for _ in 1..pieces {
        if let Piece::End | Piece::Broken = client.piece().await {
            return;
        }
    }
}

/// Lets all these clients call at once, and waits for what each gets. Gives how many were served.
pub(crate) async fn rush(stage: &Stage, plans: Vec<Plan>) -> usize {
    let mut connected = Vec::new();
    for plan in plans {
        connected.push((plan, Client::connect(&stage.url).await));
    }
    let calls = connected
        .into_iter()
        .map(|(plan, client)| plan.play(client, Arc::clone(&stage.books)));
    let served = calls.collect::<JoinSet<bool>>().join_all().await;
    served.into_iter().filter(|served| *served).count()
}

pub(crate) fn drawn(seed: u64, count: usize) -> Vec<Plan> {
    let mut draws = Draws::new(seed);
    (0..count).map(|_| Plan::drawn(&mut draws)).collect()
}

/// All calls, once nothing is under way any more.
pub(crate) async fn rest(stage: &mut Stage) -> Vec<StoredCall> {
    stage.stop().await;
    let calls = stage.books.calls();
    assert!(calls.iter().all(|call| call.settled.is_some()));
    calls
}

/// What the books say was spent. No cost is unknown here.
pub(crate) fn spent(calls: &[StoredCall]) -> PicoUsd {
    let settled = calls.iter().filter_map(|call| call.settled.as_ref());
    settled.map(|settled| settled.cost.unwrap()).sum()
}

/// Nothing is held any more, and the limits know what the books know.
pub(crate) fn check_rest(stage: &Stage, spent: PicoUsd) {
    let accounts = &stage.gateway.accounts;
    assert_eq!(accounts.open_holds(), 0);
    for usage in accounts.report(TODAY) {
        assert_eq!(usage.tally.held_worst, Units(0), "{usage:?}");
        assert_eq!(usage.tally.held_expected, Units(0), "{usage:?}");
        if usage.limit.quota.measure() == Measure::Usd && usage.scope.kind != Kind::Model {
            assert_eq!(usage.tally.spent, spent.into(), "{usage:?}");
        }
    }
}

async fn hard_rush(limits: &[Limit], amount: &str, seed: u64) {
    let upstream = simulated().await;
    let mut stage = staged(budgeted(upstream.url(), limits.to_vec())).await;
    let served = rush(&stage, drawn(seed, CLIENTS)).await;
    let calls = rest(&mut stage).await;
    let (spent, amount) = (spent(&calls), amount.parse::<PicoUsd>().unwrap());
    check_rest(&stage, spent);
    assert!(spent <= amount, "seed {seed}: {spent} of {amount}");
    // The limit was felt, and not because nobody was let in.
    assert!((20..900).contains(&served), "seed {seed}: {served} served");
    assert_eq!(alarms(&stage), Vec::<String>::new(), "seed {seed}");
    let let_in = calls.iter().filter(|call| call.opened.held.is_some());
    println!(
        "seed {seed:>2}: {spent} of {amount}, {served} served, {} calls let in",
        let_in.count()
    );
}

/// Lines of the alarm metric that count anything.
pub(crate) fn alarms(stage: &Stage) -> Vec<String> {
    lines(stage, "tokenwise_budget_alarms_total{")
}

/// Lines of the metrics that begin so.
pub(crate) fn lines(stage: &Stage, start: &str) -> Vec<String> {
    let text = stage.counts();
    let found = text.lines().filter(|line| line.starts_with(start));
    found.map(str::to_owned).collect()
}

#[tokio::test]
async fn hard_budgets_are_never_exceeded() {
    for seed in 0..SEEDS {
        let limits = [usd(Kind::Key, "0.05", Mode::Hard)];
        hard_rush(&limits, "0.05", seed).await;
    }
}

#[tokio::test]
async fn three_hard_budgets_at_once_are_never_exceeded() {
    for seed in 0..SEEDS {
        // The narrowest is another one each time.
        let mut amounts = ["0.05", "0.06", "0.07"];
        amounts.rotate_left(usize::try_from(seed % 3).unwrap());
        let kinds = [Kind::Organisation, Kind::Team, Kind::Key];
        let limits = kinds.iter().zip(amounts);
        let limits: Vec<Limit> = limits
            .map(|(kind, amount)| usd(*kind, amount, Mode::Hard))
            .collect();
        hard_rush(&limits, "0.05", 100 + seed).await;
    }
}

/// Calls before a rush, from which the gateway learns what to expect.
const LEARNT_FROM: usize = 400;

/// The most that openings have seen of a soft limit.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// Beyond the amount, should all calls under way turn out as dear as they can.
    overshoot: Units,
    /// The stated bound of it.
    bound: Units,
    /// The dearest worst case of one call, and so of what one is expected to cost.
    dearest: Units,
}

impl Seen {
    /// Looks at a limit right after a call was let in.
    fn look(&mut self, usage: &Usage, worst: PicoUsd) {
        let tally = usage.tally;
        self.dearest = self.dearest.max(worst.into());
        let dearer = tally.held_worst - tally.held_expected;
        let bound = dearer + self.dearest.min(tally.held_expected);
        let overshoot = tally.overshoot(usage.limit.quota.amount());
        assert!(overshoot <= bound, "{overshoot:?} beyond {bound:?}");
        self.overshoot = self.overshoot.max(overshoot);
        self.bound = self.bound.max(bound);
    }
}

/// One rush on a soft limit; gives by how much it was exceeded, and how many were served.
async fn soft_rush(seed: u64) -> (PicoUsd, usize) {
    let upstream = simulated().await;
    let limits = |amount: &str| vec![usd(Kind::Key, amount, Mode::Soft)];
    let mut stage = staged(budgeted(upstream.url(), limits("1000"))).await;
    let mut learnt = drawn(seed + 1_000, LEARNT_FROM);
    for plan in &mut learnt {
        plan.leaves_after = None;
    }
    assert_eq!(rush(&stage, learnt).await, LEARNT_FROM);
    let amount = spent(&stage.books.calls()) + "0.03".parse().unwrap();
    let gaps = stage
        .gateway
        .adopt(budgeted(upstream.url(), limits(&amount.exact())));
    assert_eq!(gaps.missing(), None);
    let seen = Arc::new(Mutex::new(Seen::default()));
    let (looked, gateway) = (Arc::clone(&seen), Arc::downgrade(&stage.gateway));
    stage.books.look(move |opened| {
        let gateway = gateway.upgrade().unwrap();
        let usage = gateway.accounts.report(TODAY).remove(0);
        // What is turned away holds nothing.
        if let Some(held) = opened.held {
            looked.lock().unwrap().look(&usage, held.usd.unwrap());
        }
    });
    let served = rush(&stage, drawn(seed, CLIENTS)).await;
    let spent = spent(&rest(&mut stage).await);
    check_rest(&stage, spent);
    let seen = *seen.lock().unwrap();
    assert!(Units::from(spent) <= Units::from(amount) + seen.overshoot);
    println!(
        "seed {seed:>2}: {spent} of {amount}, {served} served; under way at most {} above, by a \
         bound of {}",
        PicoUsd(seen.overshoot.0),
        PicoUsd(seen.bound.0),
    );
    (spent - amount, served)
}

#[tokio::test]
async fn soft_budgets_stay_below_their_bound() {
    let mut exceeded = 0;
    for seed in 0..SEEDS {
        let (beyond, served) = soft_rush(seed).await;
        assert!(served >= 20, "seed {seed}: {served} served");
        exceeded += usize::from(beyond > PicoUsd::ZERO);
    }
    println!("{exceeded} of {SEEDS} were exceeded, within the bound");
}
