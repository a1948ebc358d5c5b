//! What routing adds to a call: the route, the router's opinion, beliefs from outcomes, forecasts, the
//! cascade and the effort, all of them on.
//!
//! `decide ROUTER [CALLS]`: a file that `tokenwise learn` wrote for `openai/gpt-5.4` and
//! `openai/gpt-5.4-mini` (`outcomes.py` makes rows to train it on). Each call is a new conversation with
//! a text of its own, of 200 B, 2 kB and 20 kB in turn. Prints one JSON object: nanoseconds of a
//! decision at each size, and the memory that the router and its beliefs take.
//!
//! **Invariant**: the answer is checked: every call is taken by the route and weighed against the
//! cheaper target, and what was written down says so.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use gateway::Gateway;
use gateway::clock::Clock;
use gateway::dispatch::think::think;
use gateway::life::{Service, conversation};
use gateway::receive::keyring::Keyring;
use gateway::receive::names::Names;
use gateway::receive::supposed;
use gateway::route::place::place;
use gateway::setup::cascade::Cascade;
use gateway::setup::loops::Loops;
use gateway::setup::{
    Access, AskUsage, Budgets, Credential, LeverMode, Limits, Rule, Setup, Target, Think, Trim, Upstream,
};
use policy::cascade::verdict::HoldBack;
use policy::dispatch::{breaker, retry};
use policy::moment::Moment;
use policy::ports::CallId;
use policy::ports::outcomes::Outcome;
use policy::prices::PriceBook;
use policy::route::predictor::{Predictor, format};
use policy::route::rules::When;
use store::memory::Memory;
use wire::dialect::Dialect;
use wire::provider::{Auth, CacheKey};
use wire::splice::Splice;

/// 2026-11-24, 10:00 UTC.
const NOW: Moment = Moment(1_795_514_400_000);

/// 20 000: as many as a gateway reads when it starts.
const OUTCOMES: u64 = 20_000;

/// What users write, in bytes.
const SIZES: [usize; 3] = [200, 2_000, 20_000];

struct Standing;

impl Clock for Standing {
    fn now(&self) -> Moment {
        NOW
    }
}

fn target(model: &str) -> Target {
    Target {
        provider: "openai".into(),
        model: model.into(),
    }
}

fn setup(router: Option<Predictor>) -> Setup {
    let upstream = Upstream {
        id: "openai".into(),
        prices: "openai".into(),
        dialect: Dialect::OpenAiChat,
        base: "http://127.0.0.1:1".parse().expect("an address"),
        auth: Auth::Bearer,
        credential: Credential::Nothing,
        models: vec!["*".into()],
        cache_key: CacheKey::None,
        asks_usage: false,
    };
    let think = Think {
        mode: LeverMode::On,
        with_tools: true,
    };
    let rule = Rule {
        name: "support".into(),
        when: When::default(),
        to: None,
        as_good: Vec::new(),
        cheaper: vec![target("gpt-5.4-mini")],
        quality: 0.97,
        explore: 0.02,
        first_token_ms_max: None,
        mode: LeverMode::On,
        cascade: Some(Arc::new(Cascade {
            target: target("gpt-5.4-nano"),
            mode: LeverMode::On,
            quality: None,
            trust: 0.0,
            accept_from: None,
            verifiers: Vec::new(),
            agree: None,
            hold_back: HoldBack::default(),
        })),
        think,
        loops: Loops::OFF.into(),
        trim: Trim::OFF,
        context: Arc::default(),
    };
    Setup {
        upstreams: vec![upstream.into()],
        routes: BTreeMap::new(),
        rules: vec![rule],
        router: router.map(Arc::new),
        retry: retry::Policy::default(),
        breaker: breaker::Rules::default(),
        budgets: Budgets::default(),
        cache: LeverMode::On,
        think,
        loops: Loops::OFF.into(),
        ask_usage: AskUsage::Never,
        access: Access::Open,
        names: Names::default(),
        admin: None,
        limits: Limits::default(),
        prices: PriceBook::built_in().clone(),
    }
}

fn gateway(router: Option<Predictor>) -> Arc<Gateway> {
    Gateway::new(
        setup(router),
        Keyring::new([]),
        Arc::new(Standing),
        Arc::new(Memory::default()),
    )
}

/// Draws numbers (splitmix64): the same for every run.
struct Draws(u64);

impl Draws {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % most
    }
}

/// Words as `outcomes.py` makes them, the frequent ones short.
fn text(draws: &mut Draws, bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 16);
    while text.len() < bytes {
        let most = 1 << draws.below(15);
        let mut word = draws.below(most);
        loop {
            let (consonant, vowel) = ((word % 16) as usize, (word / 16 % 5) as usize);
            text.push(char::from(b"bcdfghjklmnprstv"[consonant]));
            text.push(char::from(b"aeiou"[vowel]));
            word /= 80;
            if word == 0 {
                break;
            }
        }
        text.push(' ');
    }
    text
}

/// The pages of memory that are in use, in bytes; none where the system does not say.
fn resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    Some(pages * 4_096)
}

fn decision(gateway: &Arc<Gateway>, text: &str) -> (u64, String) {
    let body = format!(
        r#"{{"model":"gpt-5.4","messages":[{{"role":"system","content":"You help customers."}},{{"role":"user","content":"{text}"}}]}}"#
    );
    let head = http::Request::post("/v1/chat/completions").body(());
    let (head, ()) = head.expect("a path").into_parts();
    let call = supposed(gateway, head, None, Bytes::from(body)).expect("a call");
    let request = Dialect::OpenAiChat
        .read(call.body.bytes())
        .expect("a request");
    let setup = gateway.setup.load_full();
    let service = Service {
        gateway,
        setup: &setup,
        call: &call,
    };
    let begun = Instant::now();
    let conversation = conversation(&call, &request);
    let placed = place(&service, &request, None, conversation).expect("a place");
    let plan = placed.route.first().expect("a target").clone();
    let mut splice = Splice::default();
    let effort = think(
        &service,
        &request,
        &plan,
        conversation,
        placed.think,
        &mut splice,
    );
    let nanos = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
    assert!(effort.is_some() && placed.notes.is_some() && placed.cascade.is_some());
    (nanos, plan.model)
}

fn shown(bytes: usize, mut all: Vec<u64>) -> String {
    all.sort_unstable();
    let at = |permille: usize| all[(all.len() - 1) * permille / 1_000];
    format!(
        r#"{{"text_bytes":{bytes},"decisions":{},"p50_ns":{},"p99_ns":{},"p999_ns":{},"max_ns":{}}}"#,
        all.len(),
        at(500),
        at(990),
        at(999),
        at(1_000)
    )
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().expect("the router's file");
    let calls: u64 = arguments
        .next()
        .map_or(10_000, |word| word.parse().expect("a number"));
    let bare = gateway(None);
    let before = resident();
    let bytes = std::fs::read(file).expect("the router's file");
    let gateway = gateway(Some(format::read(&bytes).expect("a router")));
    let mut draws = Draws(1);
    for number in 0..OUTCOMES {
        let kind = draws.below(200);
        gateway.learned.learn(&Outcome {
            call: CallId(number.to_string()),
            at: NOW,
            score: if draws.below(10) < 9 { 1.0 } else { 0.0 },
            target: ["openai/gpt-5.4", "openai/gpt-5.4-mini"][(number % 2) as usize].into(),
            kinds: vec![1, 2 + kind / 10, 100 + kind],
        });
    }
    let after = resident();
    let mut times: Vec<Vec<u64>> = vec![Vec::new(); SIZES.len()];
    let mut moved = 0_u64;
    for _ in 0..calls {
        for (size, times) in SIZES.iter().zip(&mut times) {
            let (nanos, model) = decision(&gateway, &text(&mut draws, *size));
            times.push(nanos);
            moved += u64::from(model != "gpt-5.4");
        }
    }
    drop(bare);
    let grown = before.zip(after).map(|(from, to)| to.saturating_sub(from));
    let grown = grown.map_or("null".to_owned(), |bytes| bytes.to_string());
    let sizes: Vec<String> = SIZES.iter().zip(times).map(|(size, all)| shown(*size, all)).collect();
    println!(
        r#"{{"sizes":[{}],"moved":{moved},"router_file_bytes":{},"memory_bytes":{grown},"outcomes":{OUTCOMES}}}"#,
        sizes.join(","),
        bytes.len(),
    );
}
