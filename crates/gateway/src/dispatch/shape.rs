//! Shape: asks the levers what to do with a call, and turns it into declared edits.
//!
//! **Invariant**: with the cache lever off or observing and usage not asked for, there is no edit at
//! all (test `levers_off_is_byte_identical`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::{HeaderMap, HeaderName, HeaderValue};
use policy::admit::degrade::Due;
use policy::moment::Moment;
use policy::ports::End;
use policy::shape::cache::decide::decide;
use policy::shape::cache::memory::Memory;
use policy::shape::cache::rules::WAIT_MAX_MS;
use policy::shape::cache::{Decision, Lead, Mode, Sight, Terms};
use policy::shape::context::classes::Classes;
use policy::shape::context::tools::shares;
use policy::shape::trim::prune::chains_as_sent;
use sim::cache::Sent;
use sim::metering::mode_of;
use sim::shadow::{Elsewhere, Seen, Shadow};
use tokio::sync::watch;
use wire::dialect::request::{ClientCache, Request};
use wire::prompt::Chain;
use wire::provider::CacheKey;
use wire::splice::Splice;
use wire::usage::{Tokens, Usage};
use xxhash_rust::xxh3::xxh3_64;

use crate::Gateway;
use crate::dispatch::context::seen_as_media;
use crate::dispatch::degrade::{self, Degraded};
use crate::dispatch::notes::Notes;
use crate::dispatch::think::{ThinkNotes, think};
use crate::dispatch::trim::Trimming;
use crate::life::Service;
use crate::receive::Call;
use crate::route::Plan;
use crate::route::place::Placed;
use crate::setup::{AskUsage, LeverMode, Setup};

/// 4 bytes a token, to find the context tier before anything was counted.
const BYTES_PER_TOKEN: u64 = 4;

/// What the cache lever remembers of live traffic.
#[derive(Default)]
pub struct CacheLever {
    pub(super) memory: Mutex<Memory>,
    shadow: Mutex<Shadow>,
    /// Prefixes that a call is writing right now; its sender drops at the first byte.
    writing: Mutex<HashMap<(u64, Chain), watch::Receiver<()>>>,
}

/// What is to be sent instead of the client's own bytes and headers.
#[derive(Debug)]
pub struct Shaped {
    /// Edits of the body.
    pub splice: Splice,
    /// Headers to add.
    pub headers: HeaderMap,
    /// The session, named or recognised.
    pub session: Option<String>,
    /// How hard it is asked to think, and why.
    pub think: Option<ThinkNotes>,
    /// What a limit has done to it.
    pub degraded: Option<Degraded>,
    /// What its agent was asked on account of a limit.
    pub wrap_up: Option<Degraded>,
    /// What settles the cache lever's account.
    pub ticket: Option<Box<Ticket>>,
    /// Another call writes this prefix now: worth waiting for its first byte.
    pub wait: Option<watch::Receiver<()>>,
}

impl Shaped {
    /// Only these edits.
    pub fn edited(splice: Splice) -> Self {
        Self {
            splice,
            headers: HeaderMap::new(),
            session: None,
            think: None,
            degraded: None,
            wrap_up: None,
            ticket: None,
            wait: None,
        }
    }
}

/// Decides on one leg of a call, and declares its edits.
pub fn shape(
    service: &Service<'_>,
    request: &Request<'_>,
    plan: &Plan,
    placed: &Placed,
    due: Option<&Due>,
) -> Shaped {
    let setup = service.setup;
    let mut splice = Splice::default();
    request.rename_model(&plan.model, &mut splice);
    if let Some(trimming) = &placed.trimming {
        trimming.declare(&mut splice);
    }
    if setup.ask_usage == AskUsage::Always && plan.upstream.asks_usage && request.stream {
        request.ask_usage(&mut splice);
    }
    let (conversation, rules) = (placed.conversation, placed.think);
    let degraded = degrade::lower(service, request, plan, conversation, due, &mut splice);
    let think = match degraded {
        // Its limit has decided, and one conversation has one effort.
        Some(_) => None,
        None => think(service, request, plan, conversation, rules, &mut splice),
    };
    let mut shaped = Shaped {
        think,
        degraded,
        ..Shaped::edited(splice)
    };
    if setup.cache != LeverMode::Off {
        shape_cache(service, request, plan, placed, &mut shaped);
    }
    shaped
}

/// The cache lever's part.
fn shape_cache(
    service: &Service<'_>,
    request: &Request<'_>,
    plan: &Plan,
    placed: &Placed,
    shaped: &mut Shaped,
) {
    let Service {
        gateway,
        setup,
        call,
    } = *service;
    let at = gateway.clock.now();
    let Some(terms) = terms(setup, plan, request.body, at) else {
        return;
    };
    let target = plan.name();
    let lever = &gateway.cache;
    let mut memory = lock(&lever.memory);
    let whole = memory.sizes(&call.key, &target, &request.prompt, request.body);
    // The levers of before have decided what is sent; the cache lever marks that.
    let trimming = placed.trimming.as_ref().filter(|it| it.saved > Tokens(0));
    let sizes = trimming.map_or_else(|| whole.clone(), |it| it.sizes(request, &whole));
    let whole = trimming.map_or(whole, |it| it.put_back(request, &sizes));
    let session = call.session.as_deref().or_else(|| named_session(request));
    let sight = Sight {
        at,
        tenant: &call.key,
        target: &target,
        terms,
        prompt: &request.prompt,
        sizes: &sizes,
        rest: Tokens(0),
        body: request.body,
        session,
        client: &client_cache(request, call, plan),
    };
    let decision = decide(&mut memory, &sight);
    if setup.cache == LeverMode::Observe {
        // What it would have written is not there for later calls to read.
        memory.failed(&decision.ticket);
    }
    drop(memory);
    let place = xxh3_64(target.as_bytes());
    let instead_of = placed.instead_of(plan);
    let elsewhere = instead_of.and_then(|plan| elsewhere(setup, request, plan, &whole, at));
    let untouched = untouched(place, request, &whole, plan);
    let mut sent = untouched.clone();
    trim_pieces(&mut sent, request, &sizes, trimming.map(|it| &**it));
    if setup.cache == LeverMode::On {
        apply(&decision, request, plan, shaped, &mut sent);
    }
    let leading = match decision.lead {
        Lead::First(chain) => Some(lever.lead((place, chain))),
        Lead::Wait(chain) => {
            shaped.wait = lock(&lever.writing).get(&(place, chain)).cloned();
            None
        }
        Lead::Alone => None,
    };
    shaped.session = Some(decision.session.clone());
    let sizes = seen_as_media(request, sizes);
    let input = (Classes::of(request, &sizes), shares(request, &sizes));
    shaped.ticket = Some(Box::new(Ticket {
        gateway: Arc::clone(gateway),
        mode: setup.cache,
        notes: Notes::of(setup.cache, &decision, request, &shaped.splice, input),
        trimmed: trimming.map(|it| (whole, it.saved)),
        edits: trimming.is_some_and(|it| it.edits),
        terms,
        at,
        first_byte_at: None,
        untouched,
        elsewhere,
        sent,
        decision,
        leading,
        is_settled: false,
    }));
}

/// Puts what the trim lever does into the simulated request.
fn trim_pieces(
    sent: &mut Sent,
    request: &Request<'_>,
    sizes: &[Tokens],
    trimming: Option<&Trimming>,
) {
    for (piece, size) in sent.pieces.iter_mut().zip(sizes) {
        piece.tokens = *size;
    }
    // A cache holds what was sent, not what the client has.
    if let Some(trimming) = trimming.filter(|it| !it.pruned.is_empty()) {
        let chains = chains_as_sent(&request.prompt, &trimming.pruned);
        for (piece, chain) in sent.pieces.iter_mut().zip(chains) {
            piece.chain = chain;
        }
    }
}

/// The model's cache and prices, where both are known.
fn terms(setup: &Setup, plan: &Plan, body: &[u8], at: Moment) -> Option<Terms> {
    let model = setup.prices.find(&plan.upstream.prices, &plan.model)?;
    let input = Tokens(body.len() as u64 / BYTES_PER_TOKEN);
    let rates = model.rates(at, input, None).ok()?;
    Some(Terms::of(model, rates))
}

/// Declares a decision's edits, and puts the same into the simulated request.
fn apply(
    decision: &Decision,
    request: &Request<'_>,
    plan: &Plan,
    shaped: &mut Shaped,
    sent: &mut Sent,
) {
    for mark in &decision.marks {
        let marked = request
            .mark(mark.segment, mark.ttl, &mut shaped.splice)
            .is_ok();
        if let Some(piece) = sent.pieces.get_mut(mark.segment).filter(|_| marked) {
            piece.marker = Some(mark.ttl);
        }
    }
    if decision.mode == Mode::Explicit && !request.cache.options_given {
        request.set_cache_explicit(&mut shaped.splice);
        sent.mode = Mode::Explicit;
    }
    let Some(key) = &decision.cache_key else {
        return;
    };
    match plan.upstream.cache_key {
        CacheKey::None => return,
        CacheKey::BodyField => request.set_cache_key(key, &mut shaped.splice),
        CacheKey::Header(name) => {
            let Ok(value) = HeaderValue::from_str(key) else {
                return;
            };
            shaped.headers.insert(HeaderName::from_static(name), value);
        }
    }
    sent.key = Some(xxh3_64(key.as_bytes()));
}

/// The call as the client sent it, for the simulator.
fn untouched(place: u64, request: &Request<'_>, sizes: &[Tokens], plan: &Plan) -> Sent {
    let key = match plan.upstream.cache_key {
        CacheKey::BodyField => request.client.prompt_cache_key.as_deref(),
        CacheKey::Header(_) | CacheKey::None => None,
    };
    Sent {
        automatic: request.cache.automatic,
        mode: mode_of(request),
        key: key.map(|key| xxh3_64(key.as_bytes())),
        ..Sent::of(place, &request.prompt, sizes)
    }
}

/// The call as the client would have sent it to another target.
fn elsewhere(
    setup: &Setup,
    request: &Request<'_>,
    plan: &Plan,
    sizes: &[Tokens],
    at: Moment,
) -> Option<(Terms, Sent)> {
    let terms = terms(setup, plan, request.body, at)?;
    let place = xxh3_64(plan.name().as_bytes());
    Some((terms, untouched(place, request, sizes, plan)))
}

/// What the client itself asked of the cache, in the body or in a header.
fn client_cache(request: &Request<'_>, call: &Call, plan: &Plan) -> ClientCache {
    let mut cache = request.cache.clone();
    if let CacheKey::Header(name) = plan.upstream.cache_key {
        cache.key_given = call.headers.contains_key(name);
    }
    cache
}

/// The session that Claude Code names within `metadata.user_id`, as `…_session_ID` or, in later
/// versions, as the member `session_id` of a JSON text.
pub fn named_session<'r>(request: &'r Request<'_>) -> Option<&'r str> {
    let (_, behind) = request.client.user_id.as_deref()?.rsplit_once("session_")?;
    let id = behind.trim_start_matches(r#"id":""#);
    let is_id = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
    let end = id.find(|letter| !is_id(letter)).unwrap_or(id.len());
    id.get(..end).filter(|id| !id.is_empty())
}

impl CacheLever {
    /// Announces that a call is writing a prefix; dropping the lead tells those who wait.
    fn lead(&self, prefix: (u64, Chain)) -> Leading {
        let (sender, receiver) = watch::channel(());
        lock(&self.writing).insert(prefix, receiver);
        Leading {
            prefix,
            _sender: sender,
        }
    }
}

/// Held while a call writes a prefix.
#[derive(Debug)]
struct Leading {
    prefix: (u64, Chain),
    _sender: watch::Sender<()>,
}

/// What a lever expects of a call, until the call is over.
pub struct Ticket {
    gateway: Arc<Gateway>,
    mode: LeverMode,
    notes: Notes,
    terms: Terms,
    at: Moment,
    first_byte_at: Option<Moment>,
    untouched: Sent,
    /// The same at the target that a lever has moved it away from.
    elsewhere: Option<(Terms, Sent)>,
    /// The sizes of the untrimmed segments, and how many tokens are not sent.
    trimmed: Option<(Vec<Tokens>, Tokens)>,
    /// Whether history is edited with it, so that less is read than was there.
    edits: bool,
    sent: Sent,
    decision: Decision,
    leading: Option<Leading>,
    is_settled: bool,
}

/// What the lever says of a call that is over.
#[derive(Debug)]
pub struct Account {
    /// The usage that it would have had untouched, if that differs.
    pub untouched: Option<Usage>,
    /// The usage that it would have had untrimmed, if it was trimmed.
    pub untrimmed: Option<Usage>,
    /// The same at the target that a lever has moved it away from.
    pub elsewhere: Option<Usage>,
    /// The notes for `explain`.
    pub notes: String,
}

impl Default for Account {
    fn default() -> Self {
        Self {
            untouched: None,
            untrimmed: None,
            elsewhere: None,
            notes: "{}".to_owned(),
        }
    }
}

impl Ticket {
    /// The whole input, as estimated.
    pub fn input_estimate(&self) -> Tokens {
        self.sent.input()
    }

    /// The usage that the input probably has, where the upstream does not say: what should be read
    /// is read, and the rest is paid in full.
    pub fn expected_usage(&self) -> Usage {
        let read = self
            .decision
            .ticket
            .expected_read
            .0
            .min(self.input_estimate().0);
        let uncached = Tokens(self.input_estimate().0 - read);
        Usage {
            uncached,
            cache_read: Tokens(read),
            ..Usage::default()
        }
    }

    /// What is asked of another target after all is not served there twice.
    pub fn forget_elsewhere(&mut self) {
        self.elsewhere = None;
    }

    /// The answer begins: what the call writes can be read from now on.
    pub fn first_byte(&mut self, at: Moment) {
        self.first_byte_at = Some(at);
        lock(&self.gateway.cache.memory).began(&self.decision.ticket, at);
        self.release();
    }

    /// The call is over. What is estimated of its input teaches nothing.
    pub fn settle(mut self, usage: Option<&Usage>, is_told: bool, end: End) -> Account {
        self.release();
        self.is_settled = true;
        let lever = &self.gateway.cache;
        let answered = matches!(
            end,
            End::Answered | End::UpstreamBroke | End::ClientGone | End::CalledOff
        );
        let (Some(usage), true, Some(first)) = (usage, answered, self.first_byte_at) else {
            lock(&lever.memory).failed(&self.decision.ticket);
            return Account {
                notes: self.notes.text(None),
                ..Account::default()
            };
        };
        let learn = || lock(&lever.memory).settled(&self.decision.ticket, usage);
        let miss = is_told.then(learn).flatten();
        // What an edit made new was not lost by the provider.
        let miss = miss.filter(|_| !self.edits);
        let trimmed = self.trimmed.as_ref();
        let more = trimmed.map_or(Tokens(0), |(_, saved)| *saved);
        let untrimmed = trimmed.map(|(sizes, _)| {
            let mut untrimmed = self.sent.clone();
            let client = self.untouched.pieces.iter().zip(sizes);
            for (piece, (whole, size)) in untrimmed.pieces.iter_mut().zip(client) {
                piece.tokens = *size;
                piece.chain = whole.chain;
            }
            untrimmed
        });
        let seen = Seen {
            terms: &self.terms,
            untouched: &self.untouched,
            sent: &self.sent,
            untrimmed: untrimmed.as_ref(),
            more,
            at: self.at,
            first_token_at: first,
            actual: usage,
        };
        let mut shadow = lock(&lever.shadow);
        let imagined = shadow.observe(&seen);
        let elsewhere = self.elsewhere.as_ref().map(|(terms, untouched)| {
            shadow.imagine(&Elsewhere {
                terms,
                untouched,
                at: self.at,
                first_token_at: first,
                more,
                actual: usage,
            })
        });
        drop(shadow);
        Account {
            untouched: match self.mode {
                LeverMode::On => Some(imagined.untouched),
                LeverMode::Off | LeverMode::Observe => trimmed.map(|_| imagined.untrimmed.clone()),
            },
            untrimmed: trimmed.map(|_| imagined.untrimmed),
            elsewhere,
            notes: self.notes.text(miss.as_ref()),
        }
    }

    /// Lets those go on who wait for this call's first byte.
    fn release(&mut self) {
        if let Some(leading) = self.leading.take() {
            lock(&self.gateway.cache.writing).remove(&leading.prefix);
        }
    }
}

impl Drop for Ticket {
    /// A call that was turned away after it was shaped wrote nothing.
    fn drop(&mut self) {
        self.release();
        if !self.is_settled {
            lock(&self.gateway.cache.memory).failed(&self.decision.ticket);
        }
    }
}

impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ticket")
            .field("session", &self.decision.session)
            .finish_non_exhaustive()
    }
}

/// Waits for the first byte of the call that writes our prefix, but not for long.
pub async fn wait(mut written: watch::Receiver<()>) {
    let most = std::time::Duration::from_millis(WAIT_MAX_MS);
    // The sender is dropped at the first byte; both outcomes mean: go on.
    drop(tokio::time::timeout(most, written.changed()).await);
}

/// The guarded value, also after a panic elsewhere: estimates may be off then, money is not.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use wire::dialect::Dialect;

    use super::*;

    #[test]
    fn sessions_are_found_in_user_ids() {
        for (user_id, expect) in [
            ("user_1_account__session_0b-4a", Some("0b-4a")),
            (
                r#"{\"device_id\":\"d\",\"session_id\":\"0b-4a\"}"#,
                Some("0b-4a"),
            ),
            ("user_1", None),
            ("session_", None),
        ] {
            let body =
                format!(r#"{{"model":"m","messages":[],"metadata":{{"user_id":"{user_id}"}}}}"#);
            let request = Dialect::AnthropicMessages.read(body.as_bytes());
            let request = request.expect("a request");
            assert_eq!(named_session(&request), expect, "{user_id}");
        }
    }
}
