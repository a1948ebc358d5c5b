//! What the data path needs remembered: the ledger's rows and the ports that stores implement.
//!
//! **Invariant**: a call is settled exactly once, and the sums over its legs equal its own figures
//! (store conformance, `settled_exactly_once`).

pub mod outcomes;
pub mod read;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use wire::usage::{Tokens, Usage};

use crate::moment::Moment;
use crate::money::PicoUsd;

/// Identifies a call in headers, logs and the ledger: `call_` and 26 characters that sort by time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CallId(pub String);

/// A system that can save (or lose) money on a call; savings are booked by lever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lever {
    /// Provider prompt caching: markers, keys, lifetimes.
    Cache,
    /// Results of tools that say the same in fewer tokens.
    Trim,
    /// Another target than the client's: a route's own, or a cheaper one.
    Route,
    /// A cheaper target that is asked first.
    Cascade,
    /// Less thinking.
    Think,
}

impl Lever {
    /// Every lever, in the order in which reports show them.
    pub const ALL: [Self; 5] = [
        Self::Cache,
        Self::Trim,
        Self::Route,
        Self::Cascade,
        Self::Think,
    ];

    /// The name in configuration, reports and rows.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cache => "cache",
            Self::Trim => "trim",
            Self::Route => "route",
            Self::Cascade => "cascade",
            Self::Think => "think",
        }
    }

    /// Whether its savings are estimated from other calls, and not worked out from what the call itself
    /// has used.
    pub const fn is_estimated(self) -> bool {
        matches!(self, Self::Think)
    }
}

/// How a call or a leg ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// The upstream's answer arrived whole.
    Answered,
    /// The upstream answered with an error.
    UpstreamError,
    /// The upstream could not be reached, stalled or broke off.
    UpstreamBroke,
    /// The client went away.
    ClientGone,
    /// The gateway refused; nothing more was sent.
    Refused,
    /// A limit, a loop or its own size kept it from being sent at all.
    TurnedAway,
    /// An operator stopped it.
    Stopped,
    /// Another leg of the same call was enough, so that this one was given up.
    CalledOff,
    /// The process ended before the call did; found at the next start.
    Recovered,
}

impl End {
    /// Every end.
    pub const ALL: [Self; 9] = [
        Self::Answered,
        Self::UpstreamError,
        Self::UpstreamBroke,
        Self::ClientGone,
        Self::Refused,
        Self::TurnedAway,
        Self::Stopped,
        Self::CalledOff,
        Self::Recovered,
    ];

    /// Whether a call that ended so counts against limits: not if nothing was sent, nor if nobody
    /// knows what became of it.
    pub const fn counts(self) -> bool {
        !matches!(self, Self::Recovered | Self::TurnedAway)
    }

    /// The name in rows and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::UpstreamError => "upstream_error",
            Self::UpstreamBroke => "upstream_broke",
            Self::ClientGone => "client_gone",
            Self::Refused => "refused",
            Self::TurnedAway => "turned_away",
            Self::Stopped => "stopped",
            Self::CalledOff => "called_off",
            Self::Recovered => "recovered",
        }
    }
}

/// Who pays for a call besides its key, session, task and model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Payers {
    /// The organisation of the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organisation: Option<String>,
    /// The team of the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
    /// The person or service that the client names, else the owner of the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Labels of the key and of the client, sorted, each once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// The tasks that the call's task is part of, the nearest first; none of a key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<String>,
}

/// What is held for a call while it is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Held {
    /// The most that its legs so far can cost together; `None` if none of them has a known price.
    pub usd: Option<PicoUsd>,
    /// The most tokens that it can use.
    pub tokens: Tokens,
    /// When the hold is let go, if the call was not settled by then.
    pub until: Moment,
}

/// A call that has begun: written before the client sees a byte of the answer, so that a crash
/// leaves a trace of everything that may have been billed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallOpened {
    /// Which call.
    pub call: CallId,
    /// When it was received.
    pub at: Moment,
    /// The key that it came with, by public id; `anonymous` where no keys are configured.
    pub key: String,
    /// The session that it belongs to, as recognised or named.
    pub session: Option<String>,
    /// The task that it belongs to, if the client named one.
    pub task: Option<String>,
    /// The path that was called, for instance `/v1/messages`.
    pub endpoint: String,
    /// The model that the client asked for.
    pub model: String,
    /// The target's provider.
    pub provider: String,
    /// The target of its latest leg, as `provider/model`; `None` in rows of earlier builds.
    #[serde(default)]
    pub target: Option<String>,
    /// Estimated input, for recovery when no usage ever arrives.
    pub input_estimate: Tokens,
    /// Who pays, besides.
    #[serde(default)]
    pub payers: Payers,
    /// What is held for it; `None` where nothing is limited.
    #[serde(default)]
    pub held: Option<Held>,
}

/// A further leg of a call under way: written before the leg is sent, so that a crash leaves a trace
/// of all that is held, and of where the call was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallRaised {
    /// Which call.
    pub call: CallId,
    /// The leg's target, as `provider/model`.
    pub target: String,
    /// What is held for the call from now on, its earlier legs included.
    pub held: Held,
}

impl Held {
    /// This and what is held for a further leg.
    #[must_use]
    pub fn with(self, more: Self) -> Self {
        let usd = [self.usd, more.usd];
        let usd = usd.into_iter().flatten().reduce(|one, other| one + other);
        Self {
            usd,
            tokens: self.tokens + more.tokens,
            until: self.until.max(more.until),
        }
    }
}

/// One attempt at an upstream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leg {
    /// The target's provider.
    pub provider: String,
    /// The target's model, as the upstream knows it.
    pub model: String,
    /// When it was sent.
    pub sent_at: Moment,
    /// When the first byte of the answer arrived.
    pub first_byte_at: Option<Moment>,
    /// When it was over.
    pub ended_at: Moment,
    /// The upstream's status code, if it answered.
    pub status: Option<u16>,
    /// How it ended.
    pub end: End,
    /// What it used; zero if nothing was metered.
    pub usage: Usage,
    /// The usage was estimated by us, not reported by the upstream.
    pub estimated: bool,
    /// What it cost; `None` is *unknown*, never zero.
    pub cost: Option<PicoUsd>,
}

/// A call that is over. Immutable from here on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallSettled {
    /// Which call.
    pub call: CallId,
    /// When the last byte was ready for the client.
    pub at: Moment,
    /// How it ended.
    pub end: End,
    /// The status that the client got.
    pub status: u16,
    /// Attempts, in order.
    pub legs: Vec<Leg>,
    /// The sum of the legs; `None` if one of them is unknown.
    pub cost: Option<PicoUsd>,
    /// What the call would have cost untouched.
    pub untouched: Option<PicoUsd>,
    /// `untouched − cost`, split over the levers; adds up exactly.
    pub savings: BTreeMap<Lever, PicoUsd>,
    /// The price book that priced it.
    pub prices: String,
    /// Why things were done: a JSON object that `explain` prints.
    pub notes: String,
}

/// Called once when a settled call is safe from a crash of the process.
pub type Acknowledge = Box<dyn FnOnce() + Send>;

/// Where calls are written down.
pub trait Ledger: Send + Sync {
    /// Takes the opening row. Never waits for a commit; a store may write a journal.
    fn open(&self, call: CallOpened);

    /// Takes what is held for a further leg of an opened call. Ignored once the call is settled.
    fn raise(&self, raised: CallRaised);

    /// Takes the settling of an opened call and its legs, which become rows in one transaction.
    /// `acknowledge` runs when no crash of the process can lose it any more, perhaps within this
    /// call. A second settling of the same call is ignored and counted.
    fn settle(&self, settled: CallSettled, acknowledge: Acknowledge);

    /// How the writing goes, for metrics, readiness and admission.
    fn health(&self) -> LedgerHealth {
        LedgerHealth::default()
    }
}

/// How a ledger's writing goes; counts start with the process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LedgerHealth {
    /// Rows that wait to be written.
    pub queued: u64,
    /// The most rows that ever waited at once.
    pub queued_most: u64,
    /// The queue is past its bound: new calls should be refused until it is not. What is under way
    /// is still taken, so that nothing that may have been billed is ever dropped.
    pub behind: bool,
    /// Calls that were settled and committed.
    pub settled: u64,
    /// Openings or settlings of calls that were there already; they changed nothing.
    pub repeated: u64,
    /// Openings or settlings with an amount beyond what a row holds (±9.2 M USD); written as *unknown*.
    pub unrepresentable: u64,
    /// Commits, each of everything that waited.
    pub commits: u64,
    /// Commits that failed and were tried again.
    pub failures: u64,
    /// Why the last commit failed; `None` once one has succeeded again.
    pub failing: Option<String>,
}

/// Why a store could not answer, in the store's own words.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Fault(pub Box<dyn std::error::Error + Send + Sync>);

/// What a key may do, as stored; the secret itself is never stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    /// Public id, safe to print and log: `key_` and 12 characters.
    pub id: String,
    /// A name for people.
    pub name: String,
    /// BLAKE3 of the secret.
    pub hash: [u8; 32],
    /// When it was made.
    pub created_at: Moment,
    /// When it stops working, if ever.
    pub expires_at: Option<Moment>,
    /// When it was disabled, if it was.
    pub disabled_at: Option<Moment>,
    /// Who pays for its calls.
    pub payers: Payers,
    /// Globs of the models that it may call, as clients name them; empty for all.
    pub models: Vec<String>,
    /// The secret before the last rotation, while it still works.
    pub previous: Option<Previous>,
}

/// A secret that was replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Previous {
    /// BLAKE3 of it.
    pub hash: [u8; 32],
    /// When it stops working.
    pub until: Moment,
}

impl KeyRecord {
    /// Whether the key works at `now`: neither disabled nor expired by then.
    pub fn is_active(&self, now: Moment) -> bool {
        self.disabled_at.is_none_or(|at| now < at) && self.expires_at.is_none_or(|at| now < at)
    }
}

/// Where keys are kept. Rows are never deleted, so that the ledger can always name a key.
pub trait Keys: Send + Sync {
    /// Adds a key; an id or hash that is already there is an error.
    fn create(&self, key: &KeyRecord) -> Result<(), Fault>;

    /// Every key, oldest first.
    fn list(&self) -> Result<Vec<KeyRecord>, Fault>;

    /// The key with this hash, be it the secret's or the previous one's, whether it works or not.
    fn find(&self, hash: &[u8; 32]) -> Result<Option<KeyRecord>, Fault>;

    /// Disables a key from `at` on and returns it; a disabled key keeps its earlier moment. `None`
    /// if there is no such key.
    fn disable(&self, id: &str, at: Moment) -> Result<Option<KeyRecord>, Fault>;

    /// Lets a disabled key work again and returns it; `None` if there is no such key.
    fn enable(&self, id: &str) -> Result<Option<KeyRecord>, Fault>;

    /// Lets a key stop working at `at` and returns it; `None` if there is no such key.
    fn expire(&self, id: &str, at: Moment) -> Result<Option<KeyRecord>, Fault>;

    /// Gives a key a new secret; the one before works until `until`, and the one before that no
    /// more. `None` if there is no such key; a hash that is already there is an error.
    fn rotate(&self, id: &str, hash: &[u8; 32], until: Moment) -> Result<Option<KeyRecord>, Fault>;

    /// Replaces who pays for a key's calls and which models it may call, and returns it; `None` if
    /// there is no such key.
    fn assign(
        &self,
        id: &str,
        payers: &Payers,
        models: &[String],
    ) -> Result<Option<KeyRecord>, Fault>;

    /// Writes down who changed what. Rows are never changed or deleted.
    fn audit(&self, entry: &AuditEntry) -> Result<(), Fault>;

    /// The latest changes, newest first.
    fn audits(&self, count: u32) -> Result<Vec<AuditEntry>, Fault>;

    /// The keys that work at `now`, for the gateway's snapshot. Those that expire later are in it,
    /// so whoever keeps a snapshot still asks [`KeyRecord::is_active`].
    fn active(&self, now: Moment) -> Result<Vec<KeyRecord>, Fault>;

    /// Stops what is named, until it is let go on. True if it was not stopped before.
    fn stop(&self, what: &Stop, at: Moment) -> Result<bool, Fault>;

    /// Lets go on what is named. True if it was stopped.
    fn resume(&self, what: &Stop) -> Result<bool, Fault>;

    /// Everything that is stopped, the earliest first, with the moment of it.
    fn stops(&self) -> Result<Vec<(Stop, Moment)>, Fault>;

    /// Grows with every change of any key or stop, by any process: cheap enough to be asked each
    /// second.
    fn version(&self) -> Result<u64, Fault>;
}

/// What an operator can stop.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stop {
    /// Every call.
    Everything,
    /// The calls of a key, by its public id.
    Key(String),
    /// The calls of a task, as clients name it.
    Task(String),
}

impl Stop {
    /// The kind, as stores and people write it.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Everything => "everything",
            Self::Key(_) => "key",
            Self::Task(_) => "task",
        }
    }

    /// Which one of its kind; empty for everything.
    pub fn id(&self) -> &str {
        match self {
            Self::Everything => "",
            Self::Key(id) | Self::Task(id) => id,
        }
    }

    /// What a store has written down.
    pub fn read(kind: &str, id: &str) -> Option<Self> {
        match kind {
            "everything" => Some(Self::Everything),
            "key" => Some(Self::Key(id.to_owned())),
            "task" => Some(Self::Task(id.to_owned())),
            _ => None,
        }
    }
}

impl fmt::Display for Stop {
    /// For people: ``key `key_1` ``.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everything => f.write_str(self.kind()),
            Self::Key(id) | Self::Task(id) => write!(f, "{} `{id}`", self.kind()),
        }
    }
}

/// One change that somebody made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// When.
    pub at: Moment,
    /// Who: `command line` or `admin api`.
    pub actor: String,
    /// What was done, as a verb: `create`, `rotate`, `disable`.
    pub action: String,
    /// To what: a key's public id, or `everything`.
    pub subject: String,
    /// What else is worth knowing; never a secret.
    pub detail: String,
}
