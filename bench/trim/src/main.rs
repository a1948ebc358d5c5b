//! What trimming adds to a call, and what ranking a long context takes.
//!
//! `trim [SESSIONS [BODIES]]`: agents' conversations that grow to 200 kB by results of tools of some 4 kB (files
//! with line numbers, logs, searches, JSON), every fourth of them said before. `growing` are the calls
//! with bodies of 160 kB and more, each one result longer than the call before; `restarted` are bodies of
//! 200 kB of which the process has never seen a text; `observed` is the lever that only looks; `budgeted` are the growing calls
//! on a route that folds, prunes and would refuse beyond budgets, warnings included, and `budgeted_anew`
//! such a body that the process has never seen. `recorded` and `recorded_budgeted` are the same with the
//! bodies of a file, one a line, as `recorded_bodies.py` writes them. `focus` ranks the lines of 200 kB for
//! a question. Prints one JSON object in nanoseconds.
//!
//! **Invariant**: the answer is checked: every body of 160 kB that is made up is made smaller, and what is
//! kept fits.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use gateway::Gateway;
use gateway::clock::Clock;
use gateway::dispatch::context::look;
use gateway::dispatch::trim::{Counter, decided, trimming};
use gateway::life::{Service, conversation};
use gateway::receive::keyring::Keyring;
use gateway::receive::names::Names;
use gateway::receive::supposed;
use gateway::route::place::place;
use gateway::setup::loops::Loops;
use gateway::setup::{
    Access, AskUsage, Budgets, Credential, LeverMode, Limits, Rule, Setup, Think, Trim, Upstream,
};
use policy::dispatch::{breaker, retry};
use policy::moment::Moment;
use policy::prices::PriceBook;
use policy::route::rules::When;
use policy::shape::context::budget::{Budget, Class, Step};
use policy::shape::focus::{Chunk, keep, rank};
use policy::shape::trim::Level;
use policy::shape::vocabulary::{Pieces, Vocabulary};
use store::memory::Memory;
use wire::dialect::Dialect;
use wire::provider::{Auth, CacheKey};
use wire::usage::Tokens;

/// 2026-11-24, 10:00 UTC.
const NOW: Moment = Moment(1_795_514_400_000);

/// The size of a body to which the target speaks.
const BODY_BYTES: usize = 200_000;

/// From here on a body counts as one of 200 kB.
const COUNTED_BYTES: usize = 160_000;

struct Standing;

impl Clock for Standing {
    fn now(&self) -> Moment {
        NOW
    }
}

fn gateway(mode: LeverMode, context: &[Budget]) -> Arc<Gateway> {
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
    let rule = Rule {
        name: "agents".into(),
        when: When::default(),
        to: None,
        as_good: Vec::new(),
        cheaper: Vec::new(),
        quality: 0.97,
        explore: 0.0,
        first_token_ms_max: None,
        mode: LeverMode::Off,
        cascade: None,
        think: Think::OFF,
        loops: Loops::OFF.into(),
        trim: Trim {
            mode,
            level: Some(Level::Folded),
            focus: None,
        },
        context: context.into(),
    };
    let setup = Setup {
        upstreams: vec![upstream.into()],
        routes: BTreeMap::new(),
        rules: vec![rule],
        router: None,
        retry: retry::Policy::default(),
        breaker: breaker::Rules::default(),
        budgets: Budgets::default(),
        cache: if context.is_empty() {
            LeverMode::Off
        } else {
            LeverMode::Observe
        },
        think: Think::OFF,
        loops: Loops::OFF.into(),
        ask_usage: AskUsage::Never,
        access: Access::Open,
        names: Names::default(),
        admin: None,
        limits: Limits::default(),
        prices: PriceBook::built_in().clone(),
    };
    let gateway = Gateway::new(
        setup,
        Keyring::new([]),
        Arc::new(Standing),
        Arc::new(Memory::default()),
    );
    gateway.trimming.count_with(COUNTER);
    gateway
}

struct O200k;

impl Vocabulary for O200k {
    fn first_piece(&self, text: &str) -> usize {
        let pattern = bpe_openai::o200k_base().pre.as_ref();
        let first = pattern.and_then(|pattern| pattern.split(text).next());
        first.map_or(text.len(), str::len)
    }

    fn piece_tokens(&self, piece: &str) -> u64 {
        bpe_openai::o200k_base().bpe.count(piece.as_bytes()) as u64
    }
}

thread_local! {
    static PIECES: RefCell<Pieces> = RefCell::default();
}

/// Counts as `serve` does.
const COUNTER: Counter = Counter {
    tokens: |text| PIECES.with_borrow_mut(|pieces| pieces.tokens(text, &O200k).0),
    more: |text, edited| PIECES.with_borrow_mut(|pieces| pieces.more(text, edited, &O200k)),
};

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

    fn word(&mut self) -> String {
        let mut word = String::new();
        for _ in 0..=self.below(3) {
            word.push(char::from(b"bcdfghjklmnprstv"[self.below(16) as usize]));
            word.push(char::from(b"aeiou"[self.below(5) as usize]));
        }
        word
    }

    /// What a tool says.
    fn result(&mut self) -> String {
        let kind = self.below(4);
        let (name, first) = (self.word(), self.below(900));
        let mut text = String::new();
        let mut line = first;
        while text.len() < 4_000 {
            line += 1;
            let (one, other) = (self.word(), self.word());
            text.push_str(&match kind {
                0 => format!("{line}\t    let {one} = self.{name}.{other}({line})?;\n"),
                1 => format!("Step {line}/9999, loss: 0.{}\n", self.below(9_999)),
                2 => format!("/repo/source/{name}/module/{one}.rs:{line}: fn {other}()\n"),
                _ => format!("{{\"id\": {line}, \"name\": \"{one}\", \"of\": \"{other}\"}}, "),
            });
        }
        match kind {
            3 => format!("[{}]", text.trim_end_matches(", ")),
            _ => text,
        }
    }
}

fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"");
    text.replace('\n', "\\n").replace('\t', "\\t")
}

/// The bodies of a conversation's calls.
fn bodies(draws: &mut Draws) -> Vec<String> {
    let question = draws.word();
    let mut messages = format!(
        r#"{{"role":"user","content":"find {question} {}"}}"#,
        draws.below(1 << 40)
    );
    let (mut results, mut bodies) = (Vec::<String>::new(), Vec::new());
    while messages.len() < BODY_BYTES {
        let said = results.len() as u64;
        let result = match said {
            4.. if said % 4 == 0 => results[draws.below(said) as usize].clone(),
            _ => draws.result(),
        };
        messages.push_str(&format!(
            r#",{{"role":"assistant","content":[{{"type":"tool_use","id":"t{said}","name":"read","input":{{"path":"{question}"}}}}]}},{{"role":"user","content":[{{"type":"tool_result","tool_use_id":"t{said}","content":"{}"}}]}}"#,
            escaped(&result)
        ));
        results.push(result);
        bodies.push(format!(
            r#"{{"model":"claude-sonnet-4-6","max_tokens":64,"messages":[{messages}]}}"#
        ));
    }
    bodies
}

/// How long a made-up call is looked at.
fn timed(gateway: &Arc<Gateway>, body: &str) -> u64 {
    let (nanos, saved) = looked_at(gateway, body);
    assert!(saved.is_none_or(|saved| body.len() < COUNTED_BYTES || saved > Tokens(0)));
    nanos
}

/// How long a call is looked at, and what that saves where the lever is on.
fn looked_at(gateway: &Arc<Gateway>, body: &str) -> (u64, Option<Tokens>) {
    let head = http::Request::post("/v1/messages").body(());
    let (head, ()) = head.expect("a path").into_parts();
    let call = supposed(gateway, head, None, Bytes::from(body.to_owned())).expect("a call");
    let request = Dialect::AnthropicMessages
        .read(call.body.bytes())
        .expect("a request");
    let setup = gateway.setup.load_full();
    let service = Service {
        gateway,
        setup: &setup,
        call: &call,
    };
    let conversation = conversation(&call, &request);
    let mut placed = place(&service, &request, None, conversation).expect("a place");
    let begun = Instant::now();
    placed.decided = decided(&service, &request, &placed);
    placed.trimming = trimming(&service, &request, &placed).map(Box::new);
    let seen = look(&service, &request, &mut placed);
    let nanos = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
    assert!(seen.is_ok());
    let trimmed = placed.trimming.as_ref().expect("the route trims");
    let is_on = placed.trim.mode == LeverMode::On;
    (nanos, is_on.then_some(trimmed.saved))
}

/// Lines of text and how long ranking them takes.
fn focused(draws: &mut Draws) -> u64 {
    let mut lines = Vec::new();
    let mut bytes = 0;
    while bytes < BODY_BYTES {
        let line: Vec<String> = (0..12).map(|_| draws.word()).collect();
        bytes += line.iter().map(|word| word.len() + 1).sum::<usize>();
        lines.push(line.join(" "));
    }
    let chunk = |(at, text): (usize, &'_ String)| (at / 50, text.len() as u64 / 4);
    let chunks: Vec<Chunk<'_>> = lines
        .iter()
        .enumerate()
        .map(|(at, text)| {
            let (group, tokens) = chunk((at, text));
            Chunk {
                text,
                speaker: ["Ann", "Bob"][at % 2],
                date: "7 May 2023",
                group: group as u32,
                tokens: Tokens(tokens),
            }
        })
        .collect();
    let question = format!(
        "When did Ann {} the {} of {} in May?",
        draws.word(),
        draws.word(),
        draws.word()
    );
    let begun = Instant::now();
    let kept = keep(&rank(&question, &chunks), &chunks, Tokens(5_000));
    let nanos = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
    let kept = chunks.iter().zip(kept).filter(|(_, is_kept)| *is_kept);
    let tokens: u64 = kept.map(|(chunk, _)| chunk.tokens.0).sum();
    assert!(tokens > 0 && tokens <= 5_000);
    nanos
}

fn shown(name: &str, mut all: Vec<u64>) -> String {
    all.sort_unstable();
    let at = |permille: usize| all[(all.len() - 1) * permille / 1_000];
    format!(
        r#""{name}":{{"count":{},"p50_ns":{},"p99_ns":{},"max_ns":{}}}"#,
        all.len(),
        at(500),
        at(990),
        at(1_000)
    )
}

fn main() {
    let sessions: u64 = std::env::args()
        .nth(1)
        .map_or(100, |word| word.parse().expect("a number"));
    let recorded = std::env::args().nth(2).map_or(String::new(), |path| {
        std::fs::read_to_string(path).expect("a file of bodies")
    });
    let mut draws = Draws(1);
    let (on, observing) = (
        gateway(LeverMode::On, &[]),
        gateway(LeverMode::Observe, &[]),
    );
    let budget = |class, tokens_max, over: &[Step]| Budget {
        class,
        tokens_max: Tokens(tokens_max),
        over: over.to_vec(),
    };
    let budgets = [
        budget(Class::ToolResults, 10_000, &[Step::Compress, Step::Prune]),
        budget(Class::Input, 1_000_000, &[Step::Refuse]),
    ];
    let limited = gateway(LeverMode::On, &budgets);
    let [mut growing, mut restarted, mut observed, mut focus] = [const { Vec::new() }; 4];
    let [mut budgeted, mut budgeted_anew] = [const { Vec::new() }; 2];
    // The vocabulary is unpacked once for each process.
    bpe_openai::o200k_base().count("begin");
    for _ in 0..sessions {
        let bodies = bodies(&mut draws);
        for body in &bodies {
            let (one, other) = (timed(&on, body), timed(&observing, body));
            let limited = timed(&limited, body);
            if body.len() >= COUNTED_BYTES {
                budgeted.push(limited);
                growing.push(one);
                observed.push(other);
            }
        }
        // Other texts than those above: the process has not seen them either.
        let mut anew = |context: &[Budget]| {
            let bodies = self::bodies(&mut draws);
            let last = bodies.last().expect("a conversation has calls");
            timed(&gateway(LeverMode::On, context), last)
        };
        restarted.push(anew(&[]));
        budgeted_anew.push(anew(&budgets));
        focus.push(focused(&mut draws));
    }
    let anew = |context: &[Budget]| -> Vec<u64> {
        let bodies = recorded.lines();
        let bodies = bodies.map(|body| looked_at(&gateway(LeverMode::On, context), body));
        bodies.map(|(nanos, _)| nanos).collect()
    };
    let (recorded, recorded_budgeted) = (anew(&[]), anew(&budgets));
    let mut parts = vec![
        shown("growing", growing),
        shown("observed", observed),
        shown("restarted", restarted),
        shown("budgeted", budgeted),
        shown("budgeted_anew", budgeted_anew),
        shown("focus", focus),
    ];
    if !recorded.is_empty() {
        parts.push(shown("recorded", recorded));
        parts.push(shown("recorded_budgeted", recorded_budgeted));
    }
    println!("{{{}}}", parts.join(","));
}
