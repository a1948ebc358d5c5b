//! Replays calls on virtual time: untouched, with the policy, and under an ideal cache.
//!
//! It runs the code that production runs: the body is read, decided on, spliced and read again, and
//! only what the spliced body says reaches the simulated provider.
//!
//! **Invariant**: undoing the edits gives every body back, and the rendered prompt is the same with
//! and without them, or the replay fails (test `replays_repeat` in `tests/it/bodies.rs`).

use std::collections::{BTreeMap, HashMap};

use policy::moment::Moment;
use policy::money::PicoUsd;
use policy::ports::Lever;
use policy::prices::bill::{Bill, Unpriced};
use policy::prices::model::Model;
use policy::shape::cache::decide::decide;
use policy::shape::cache::memory::Memory;
use policy::shape::cache::{Decision, Grain, Lead, Mode, Sight, Terms, rules};
use wire::dialect::Dialect;
use wire::dialect::fields::ReadError;
use wire::dialect::request::{ClientCache, Request};
use wire::prompt::{Chain, Prompt};
use wire::splice::Splice;
use wire::usage::{Tokens, Usage};

use crate::bill::Sum;
use crate::binding::Bindings;
use crate::cache::{InputSplit, ProviderCache, Sent};
use crate::ideal;
use crate::metering::mode_of;

/// From a request to the first byte of its answer: a usual figure for hosted models.
pub const FIRST_TOKEN_MS: u64 = 1_000;

/// Counts the tokens of each segment, as exactly as it can.
pub trait Sizes {
    /// One count for each segment.
    fn sizes(&mut self, prompt: &Prompt, body: &[u8]) -> Vec<Tokens>;
}

/// What is replayed of one call.
#[derive(Clone, Debug)]
pub enum Input<'a> {
    /// A request body.
    Body {
        /// How it is written.
        dialect: Dialect,
        /// The bytes.
        bytes: &'a [u8],
    },
    /// Only the shape of a prompt, as serving traces have it.
    Shape {
        /// Segments with chains.
        prompt: Prompt,
        /// Their sizes.
        sizes: Vec<Tokens>,
        /// Input that belongs to no segment.
        rest: Tokens,
    },
}

/// One call of the recorded traffic.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    /// The task that it belongs to; none if sessions, as recognised, count as tasks.
    pub task: Option<&'a str>,
    /// When it was sent.
    pub at: Moment,
    /// What was sent.
    pub input: Input<'a>,
    /// Tokens of the answer.
    pub output: Tokens,
    /// The session, if the traffic names it.
    pub session: Option<&'a str>,
}

/// Whether the cache lever is pulled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Switch {
    /// It is.
    #[default]
    On,
    /// Everything goes through as it came.
    Off,
}

/// Why a replay cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The body is not a request.
    #[error("call {call} cannot be read: {source}")]
    Read {
        /// Which call, counted from 1.
        call: u64,
        /// Why.
        source: ReadError,
    },
    /// The model has no price for it.
    #[error("call {call} has no price: {source}")]
    Unpriced {
        /// Which call, counted from 1.
        call: u64,
        /// Why.
        source: Unpriced,
    },
    /// Our edits changed more than they may.
    #[error("the edits of call {call} changed what the model sees; please report this body")]
    Altered {
        /// Which call, counted from 1.
        call: u64,
    },
}

/// One call's figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Usage as the client sent it.
    pub untouched: Usage,
    /// Its cost.
    pub untouched_cost: PicoUsd,
    /// Usage with the policy.
    pub policy: Usage,
    /// Its cost.
    pub policy_cost: PicoUsd,
    /// What each lever saved; adds up to the difference.
    pub savings: BTreeMap<Lever, PicoUsd>,
    /// When it was sent, after any waiting for another call's first byte.
    pub sent_at: Moment,
    /// The decision; none with the lever off.
    pub decision: Option<Decision>,
}

/// One task's figures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskSum {
    /// The task's name.
    pub id: String,
    /// Calls.
    pub calls: u64,
    /// Cost as the client sent them.
    pub untouched: PicoUsd,
    /// Cost with the policy.
    pub policy: PicoUsd,
}

/// A replay in progress.
pub struct Replay<'a> {
    model: &'a Model,
    terms: Terms,
    target: String,
    priced_at: Moment,
    switch: Switch,
    memory: Memory,
    untouched: ProviderCache,
    policy: ProviderCache,
    /// First bytes of the calls that wrote prefixes.
    began: HashMap<Chain, Moment>,
    sent: Vec<(Sent, Tokens)>,
    bindings: Bindings,
    tasks: HashMap<String, usize>,
    sums: Sums,
}

/// Totals of a replay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Calls.
    pub calls: u64,
    /// As the client sent them.
    pub untouched: Sum,
    /// With the policy.
    pub policy: Sum,
    /// Under an ideal cache that writes only what is read later.
    pub ideal: Sum,
    /// Under an ideal cache that writes everything new.
    pub ideal_all_written: Sum,
    /// Saved, by lever; adds up to the difference.
    pub levers: BTreeMap<Lever, PicoUsd>,
    /// Thinking blocks that were sent behind another prefix than before; a model that binds them
    /// refuses the call.
    pub unbound: u64,
    /// By task.
    pub tasks: Vec<TaskSum>,
}

impl<'a> Replay<'a> {
    /// A replay of one model's calls, at the prices of `priced_at`.
    pub fn new(
        model: &'a Model,
        priced_at: Moment,
        switch: Switch,
        grain: Grain,
    ) -> Result<Self, Unpriced> {
        let rates = model.rates(priced_at, Tokens(0), None)?;
        let mut terms = Terms {
            grain,
            ..Terms::of(model, rates)
        };
        if grain == Grain::Segments {
            // The yardstick has no minimum either.
            terms.minimum = Tokens(1);
        }
        let cache = || ProviderCache::with_grain(terms.family, terms.minimum, grain);
        Ok(Self {
            model,
            terms,
            target: format!("{}/{}", model.provider, model.id),
            priced_at,
            switch,
            memory: Memory::default(),
            untouched: cache(),
            policy: cache(),
            began: HashMap::new(),
            sent: Vec::new(),
            bindings: Bindings::default(),
            tasks: HashMap::new(),
            sums: Sums::default(),
        })
    }

    /// Replays one call. Calls come in the order of their times.
    pub fn call(&mut self, call: &Call<'_>, sizes: &mut dyn Sizes) -> Result<Outcome, ReplayError> {
        self.sums.calls += 1;
        let nth = self.sums.calls;
        let read = |source| ReplayError::Read { call: nth, source };
        match &call.input {
            Input::Body { dialect, bytes } => {
                let request = dialect.read(bytes).map_err(read)?;
                let counted = sizes.sizes(&request.prompt, bytes);
                let key = request.client.prompt_cache_key.as_deref().map(number);
                let untouched = Sent {
                    automatic: request.cache.automatic,
                    mode: mode_of(&request),
                    key,
                    ..Sent::of(1, &request.prompt, &counted)
                };
                // What the lever adds to the body changes no prefix, or the replay fails below.
                self.sums.unbound += self.bindings.broken(&request);
                let decision = self.decide(call, &request.prompt, &request.cache, bytes, None);
                let policy = match &decision {
                    Some(decision) => {
                        let spliced = spliced(&request, decision)
                            .ok_or(ReplayError::Altered { call: nth })?;
                        let marked = dialect.read(&spliced).map_err(read)?;
                        if !same_prompt(&request.prompt, &marked.prompt) {
                            return Err(ReplayError::Altered { call: nth });
                        }
                        let sent = Sent::of(1, &marked.prompt, &counted);
                        shaped(sent, &untouched, decision)
                    }
                    None => untouched.clone(),
                };
                self.serve(call, untouched, &policy, decision)
            }
            Input::Shape {
                prompt,
                sizes,
                rest,
            } => {
                let untouched = Sent {
                    rest: *rest,
                    ..Sent::of(1, prompt, sizes)
                };
                let known = Some((sizes.as_slice(), *rest));
                let decision = self.decide(call, prompt, &ClientCache::default(), &[], known);
                let policy = decision.as_ref().map_or_else(
                    || untouched.clone(),
                    |decision| {
                        let mut sent = untouched.clone();
                        for mark in &decision.marks {
                            if let Some(piece) = sent.pieces.get_mut(mark.segment) {
                                piece.marker = Some(mark.ttl);
                            }
                        }
                        shaped(sent, &untouched, decision)
                    },
                );
                self.serve(call, untouched, &policy, decision)
            }
        }
    }

    fn decide(
        &mut self,
        call: &Call<'_>,
        prompt: &Prompt,
        client: &ClientCache,
        body: &[u8],
        known: Option<(&[Tokens], Tokens)>,
    ) -> Option<Decision> {
        if self.switch == Switch::Off {
            return None;
        }
        let estimated;
        let (sizes, rest) = if let Some(known) = known {
            known
        } else {
            estimated = self.memory.sizes(TENANT, &self.target, prompt, body);
            (estimated.as_slice(), Tokens(0))
        };
        let sight = Sight {
            at: call.at,
            tenant: TENANT,
            target: &self.target,
            terms: self.terms,
            prompt,
            sizes,
            rest,
            body,
            session: call.session,
            client,
        };
        Some(decide(&mut self.memory, &sight))
    }

    fn serve(
        &mut self,
        call: &Call<'_>,
        untouched: Sent,
        policy: &Sent,
        decision: Option<Decision>,
    ) -> Result<Outcome, ReplayError> {
        let sent_at = self.sent_at(call.at, decision.as_ref());
        let first_token_at = sent_at.after(FIRST_TOKEN_MS);
        let plain = self
            .untouched
            .serve(&untouched, call.at, call.at.after(FIRST_TOKEN_MS));
        let split = self.policy.serve(policy, sent_at, first_token_at);
        let (untouched_usage, policy_usage) = (plain.usage(call.output), split.usage(call.output));
        if let Some(decision) = &decision {
            self.memory.began(&decision.ticket, first_token_at);
            self.memory.settled(&decision.ticket, &policy_usage);
            if let Lead::First(chain) = decision.lead {
                self.began.insert(chain, first_token_at);
            }
        }
        let (untouched_bill, policy_bill) =
            (self.bill(&untouched_usage)?, self.bill(&policy_usage)?);
        let (untouched_cost, policy_cost) = (untouched_bill.total(), policy_bill.total());
        let saved = untouched_cost - policy_cost;
        let savings = BTreeMap::from([(Lever::Cache, saved)]);
        self.sums.untouched.add(&untouched_usage, &untouched_bill);
        self.sums.policy.add(&policy_usage, &policy_bill);
        for (lever, saved) in &savings {
            let sum = self.sums.levers.entry(*lever).or_default();
            *sum += *saved;
        }
        let session = decision
            .as_ref()
            .map_or("all", |decision| decision.session.as_str());
        let task = self.task(call.task.unwrap_or(session));
        task.calls += 1;
        task.untouched += untouched_cost;
        task.policy += policy_cost;
        self.sent.push((untouched, call.output));
        Ok(Outcome {
            untouched: untouched_usage,
            untouched_cost,
            policy: policy_usage,
            policy_cost,
            savings,
            sent_at,
            decision,
        })
    }

    fn task(&mut self, id: &str) -> &mut TaskSum {
        let tasks = &mut self.sums.tasks;
        let index = *self.tasks.entry(id.to_owned()).or_insert_with(|| {
            tasks.push(TaskSum {
                id: id.to_owned(),
                ..TaskSum::default()
            });
            tasks.len() - 1
        });
        &mut tasks[index]
    }

    /// When the call goes out: at once, or after the first byte of the call that writes its prefix.
    fn sent_at(&self, at: Moment, decision: Option<&Decision>) -> Moment {
        match decision.map(|decision| decision.lead) {
            Some(Lead::Wait(chain)) => {
                let began = self.began.get(&chain).copied().unwrap_or(at);
                began.max(at).min(at.after(rules::WAIT_MAX_MS))
            }
            Some(Lead::Alone | Lead::First(_)) | None => at,
        }
    }

    fn bill(&self, usage: &Usage) -> Result<Bill, ReplayError> {
        let call = self.sums.calls;
        let priced = self.model.cost(usage, self.priced_at);
        priced.map_err(|source| ReplayError::Unpriced { call, source })
    }

    /// Closes the replay: prices the ideal cache, which needs to know all calls.
    pub fn finish(mut self) -> Result<Sums, ReplayError> {
        let (sent, outputs): (Vec<Sent>, Vec<Tokens>) =
            std::mem::take(&mut self.sent).into_iter().unzip();
        for (ideal, output) in ideal::splits(&self.terms, &sent).into_iter().zip(outputs) {
            let add = |sum: &mut Sum, split: InputSplit| {
                let usage = split.usage(output);
                self.bill(&usage).map(|bill| sum.add(&usage, &bill))
            };
            let mut sums = (self.sums.ideal, self.sums.ideal_all_written);
            add(&mut sums.0, ideal.clairvoyant)?;
            add(&mut sums.1, ideal.all_written)?;
            (self.sums.ideal, self.sums.ideal_all_written) = sums;
        }
        Ok(self.sums)
    }
}

/// A replay has one tenant.
const TENANT: &str = "replay";

/// A text as a number, to compare by.
pub fn number(text: &str) -> u64 {
    let fold = |sum: u64, byte: u8| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, fold)
}

/// The body with the decision's edits; none if undoing them does not give the original back.
fn spliced(request: &Request<'_>, decision: &Decision) -> Option<Vec<u8>> {
    let mut splice = Splice::default();
    for mark in &decision.marks {
        request.mark(mark.segment, mark.ttl, &mut splice).ok()?;
    }
    if let Some(key) = &decision.cache_key {
        request.set_cache_key(key, &mut splice);
    }
    if decision.mode == Mode::Explicit {
        request.set_cache_explicit(&mut splice);
    }
    let edited = splice.apply(request.body);
    let mut restored = Vec::with_capacity(request.body.len());
    let mut kept_from = 0;
    for (range, original) in splice.undo(request.body) {
        restored.extend_from_slice(edited.get(kept_from..range.start)?);
        restored.extend_from_slice(original);
        kept_from = range.end;
    }
    restored.extend_from_slice(edited.get(kept_from..)?);
    (restored == request.body).then_some(edited)
}

fn same_prompt(before: &Prompt, after: &Prompt) -> bool {
    before.segments.len() == after.segments.len()
        && before.segments.last().map(|it| it.chain) == after.segments.last().map(|it| it.chain)
}

/// Adds what a decision changes beside markers.
fn shaped(sent: Sent, untouched: &Sent, decision: &Decision) -> Sent {
    Sent {
        rest: untouched.rest,
        automatic: untouched.automatic,
        mode: if decision.mode == Mode::Explicit {
            Mode::Explicit
        } else {
            untouched.mode
        },
        key: untouched.key.or(decision.cache_key.as_deref().map(number)),
        ..sent
    }
}
