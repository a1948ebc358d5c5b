//! What budgets add to a call: the worst case is worked out, held in every counter, and settled.
//!
//! Two threads make calls at a steady rate, each charged to eight payers with four limits each, while
//! each keeps fifty calls open. Prints one JSON object: nanoseconds of each step and of the sum.
//!
//! `admit [CALLS_PER_SECOND [CALLS]]`; without a rate, 2 000 a second; with a rate of 0, as fast as it goes.
//!
//! **Invariant**: the answer is checked: everything that was settled is booked, to the last
//! pico-dollar, and nothing is held at the end.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use gateway::admit::Accounts;
use gateway::dispatch::hold::{Bound, need};
use gateway::receive::names::Names;
use gateway::route::Plan;
use gateway::setup::loops::Loops;
use gateway::setup::{
    Access, AskUsage, Budgets, Credential, LeverMode, Limits, Setup, Think, Upstream,
};
use policy::admit::book::hold::UnknownPrice;
use policy::admit::limit::{Limit, Measure, Mode, Quota, Then, Units, Which};
use policy::admit::scope::Kind;
use policy::admit::window::{Period, Window, Zone};
use policy::dispatch::{breaker, retry};
use policy::moment::Moment;
use policy::money::PicoUsd;
use policy::ports::{CallId, CallOpened, End, Leg, Payers};
use policy::prices::PriceBook;
use wire::dialect::Dialect;
use wire::provider::{Auth, CacheKey};
use wire::usage::{Tokens, Usage};

const THREADS: u64 = 2;

/// Calls that one thread keeps open.
const OPEN: usize = 50;

/// Sessions, and so tasks; users are a tenth, keys a hundredth of them.
const SESSIONS: u64 = 10_000;

/// 2026-11-24, 10:00 UTC.
const NOW: Moment = Moment(1_795_514_400_000);

const COST: PicoUsd = PicoUsd(700_000_000);

fn limits() -> Vec<Limit> {
    let berlin = Zone::named("Europe/Berlin").expect("a zone");
    let window = |period| Window::new(period, berlin.clone());
    let most = PicoUsd(i128::from(i64::MAX));
    let mut limits = Vec::new();
    for kind in Kind::ALL {
        for quota in [
            Quota::Usd(most, window(Period::Day)),
            Quota::Usd(most, window(Period::Month)),
            Quota::Tokens(Tokens(u64::MAX), window(Period::Minute)),
            Quota::Concurrency(u64::MAX),
        ] {
            limits.push(Limit {
                id: format!("{}-{}", kind.name(), limits.len()).into(),
                kind,
                which: Which::Each,
                quota,
                mode: Mode::Hard,
                then: Then::Refuse,
            });
        }
    }
    limits
}

fn setup() -> Setup {
    let upstream = Upstream {
        id: "anthropic".into(),
        prices: "anthropic".into(),
        dialect: Dialect::AnthropicMessages,
        base: "http://127.0.0.1:1".parse().expect("an address"),
        auth: Auth::Bearer,
        credential: Credential::Nothing,
        models: vec!["*".into()],
        cache_key: CacheKey::None,
        asks_usage: false,
    };
    Setup {
        upstreams: vec![upstream.into()],
        routes: BTreeMap::new(),
        rules: Vec::new(),
        router: None,
        retry: retry::Policy::default(),
        breaker: breaker::Rules::default(),
        budgets: Budgets {
            limits: limits(),
            unknown_price: UnknownPrice::Block,
            ..Budgets::default()
        },
        cache: LeverMode::Off,
        think: Think::OFF,
        loops: Loops::OFF.into(),
        ask_usage: AskUsage::Never,
        access: Access::Open,
        names: Names::default(),
        admin: None,
        limits: Limits::default(),
        prices: PriceBook::built_in().clone(),
    }
}

fn opened(number: u64) -> CallOpened {
    let number = number.wrapping_mul(7_919) % SESSIONS;
    CallOpened {
        call: CallId(String::new()),
        at: NOW,
        key: format!("key_{:012}", number % (SESSIONS / 100)),
        session: Some(format!("session-{number:020}")),
        task: Some(format!("task-{number:020}")),
        endpoint: "/v1/messages".into(),
        model: "claude-haiku-4-5".into(),
        provider: "anthropic".into(),
        target: Some("anthropic/claude-haiku-4-5".into()),
        input_estimate: Tokens(1_000),
        payers: Payers {
            organisation: Some("acme".into()),
            team: Some(format!("team-{}", number % 10)),
            user: Some(format!("user-{:012}", number % (SESSIONS / 10))),
            tags: vec!["prod".into()],
            parents: Vec::new(),
        },
        held: None,
    }
}

fn leg() -> Leg {
    Leg {
        provider: "anthropic".into(),
        model: "claude-haiku-4-5".into(),
        sent_at: NOW,
        first_byte_at: None,
        ended_at: NOW,
        status: Some(200),
        end: End::Answered,
        usage: Usage {
            uncached: Tokens(500),
            output: Tokens(40),
            ..Usage::default()
        },
        estimated: false,
        cost: Some(COST),
    }
}

/// Nanoseconds, as many as there were calls.
#[derive(Default)]
struct Times {
    bound: Vec<u64>,
    reserve: Vec<u64>,
    settle: Vec<u64>,
    sum: Vec<u64>,
}

fn nanos(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// The calls of one thread.
fn drive(accounts: &Accounts, setup: &Setup, thread: u64, calls: u64, pace: Duration) -> Times {
    let body = format!(
        r#"{{"model":"claude-haiku-4-5","max_tokens":1000,"messages":[{{"role":"user","content":"{}"}}]}}"#,
        "word ".repeat(800)
    );
    let request = Dialect::AnthropicMessages
        .read(body.as_bytes())
        .expect("a request");
    let plan = Plan {
        upstream: setup.upstreams[0].clone(),
        model: "claude-haiku-4-5".into(),
    };
    let (leg, mut times, mut open) = (leg(), Times::default(), VecDeque::new());
    let start = Instant::now();
    for number in 0..calls {
        let row = opened(number * THREADS + thread);
        let due = start + pace * u32::try_from(number).expect("fewer calls");
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let now = NOW.after(number / 2);
        let begun = Instant::now();
        let need = need(setup, &plan, &Bound::of(&request), now);
        let bound = nanos(begun);
        let begun = Instant::now();
        let need = accounts.expecting(need, "anthropic", "claude-haiku-4-5");
        let (hold, _) = accounts.reserve(&row, need, now).expect("there is room");
        let reserve = nanos(begun);
        open.push_back(hold);
        if open.len() > OPEN {
            let mut hold = open.pop_front().expect("one is open");
            let begun = Instant::now();
            accounts.saw(&leg);
            hold.leg_used(hold.last(), Some(COST), Tokens(540));
            accounts.settle(hold, Some(COST), Tokens(540), now);
            let settle = nanos(begun);
            times.bound.push(bound);
            times.reserve.push(reserve);
            times.settle.push(settle);
            times.sum.push(bound + reserve + settle);
        }
    }
    for hold in open {
        accounts.settle(hold, Some(COST), Tokens(540), NOW.after(calls / 2));
    }
    times
}

fn shown(name: &str, mut all: Vec<u64>) -> String {
    all.sort_unstable();
    let at = |permille: usize| all[(all.len() - 1) * permille / 1_000];
    format!(
        r#""{name}":{{"p50_ns":{},"p99_ns":{},"p999_ns":{},"max_ns":{}}}"#,
        at(500),
        at(990),
        at(999),
        at(1_000)
    )
}

fn main() {
    let mut arguments = std::env::args()
        .skip(1)
        .map(|word| word.parse::<u64>().expect("a number"));
    let rate = arguments.next().unwrap_or(2_000);
    let calls = arguments.next().unwrap_or(20_000) / THREADS;
    let pace = match rate {
        0 => Duration::ZERO,
        rate => Duration::from_secs(THREADS) / u32::try_from(rate).expect("a rate"),
    };
    let (setup, accounts) = (setup(), Accounts::default());
    accounts.set(&setup.budgets, NOW);
    let ready = Barrier::new(2);
    let begun = Instant::now();
    let all: Vec<Times> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (accounts, setup, ready) = (&accounts, &setup, &ready);
                scope.spawn(move || {
                    ready.wait();
                    drive(accounts, setup, thread, calls, pace)
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("no panic"))
            .collect()
    });
    let seconds = begun.elapsed().as_secs_f64();
    // The answer: one organisation paid for everything, and nothing is held.
    assert_eq!(accounts.open_holds(), 0);
    let made = i128::from(calls * THREADS);
    for usage in accounts.report(NOW.after(calls / 2)) {
        assert_eq!(
            (usage.tally.held_worst, usage.tally.held_expected),
            (Units(0), Units(0))
        );
        if usage.scope.kind == Kind::Organisation && usage.limit.quota.measure() == Measure::Usd {
            assert_eq!(usage.tally.spent, Units(COST.0 * made));
        }
    }
    let mut times = Times::default();
    for one in all {
        times.bound.extend(one.bound);
        times.reserve.extend(one.reserve);
        times.settle.extend(one.settle);
        times.sum.extend(one.sum);
    }
    println!(
        r#"{{"calls":{made},"rate":{:.0},"threads":{THREADS},"payers":8,"limits":{},"open":{},{},{},{},{}}}"#,
        made as f64 / seconds,
        setup.budgets.limits.len(),
        OPEN as u64 * THREADS,
        shown("bound", times.bound),
        shown("reserve", times.reserve),
        shown("settle", times.settle),
        shown("sum", times.sum),
    );
}
