//! Where the admin API's requests are done: the store, the gateway that follows it, the moment.
//!
//! **Invariant**: every change is written down, and holds in this process before it is answered
//! (tests `every_endpoint_answers` and `a_change_holds_at_once` in `tests/it`).

use policy::admit::book::report::Usage;
use policy::key::{SECRET_BYTES, issue, terms};
use policy::moment::Moment;
use policy::ports::{AuditEntry, Fault, KeyRecord, Keys, Stop};
use policy::refusal::{Reason, Refusal};
use serde_json::{Value, json};

use super::fields::{Fields, Given, Parameters, bad, shown as repeated};
use super::route::{Change, Deed, Look};
use super::{refresh_locked, shown};
use crate::Gateway;

/// Who makes the changes that this API writes down.
const ACTOR: &str = "admin api";

/// 24 h, as the command line's `keys rotate`: every service is redeployed within a day.
const GRACE_MS: u64 = 86_400_000;

/// 20 changes: what a person looks at.
const AUDIT_ROWS: u32 = 20;

/// 1000 changes: an answer of some 200 KB.
const AUDIT_ROWS_MAX: u32 = 1_000;

/// 10 000 rows of usage: an answer of some 4 MB; who has more payers asks for one of them.
const USAGE_ROWS_MAX: usize = 10_000;

/// 256 bytes: tasks are named in a header, which takes no more.
const TASK_BYTES_MAX: usize = 256;

/// What a key is made or assigned with.
const TERMS: [&str; 5] = ["organisation", "team", "user", "tags", "models"];

/// What a key is made with.
const NEW_KEY: [&str; 8] = [
    "name",
    "organisation",
    "team",
    "user",
    "tags",
    "models",
    "expires_at_ms",
    "expires_in_ms",
];

/// One request, about to be done. It may block.
pub(super) struct Desk<'a> {
    pub(super) gateway: &'a Gateway,
    pub(super) keys: &'a dyn Keys,
    pub(super) now: Moment,
}

impl Desk<'_> {
    /// Does what is asked, and answers.
    pub(super) fn serve(
        &self,
        deed: &Deed,
        body: &[u8],
        parameters: &Parameters,
    ) -> Result<Value, Refusal> {
        match deed {
            Deed::Look(look) => self.look(look, parameters),
            Deed::Change(change) => {
                // One change after another, so that none undoes another that it has not seen.
                let _order = self.gateway.admin.order();
                let changed = self.change(change, body);
                // Also after a failure, before which something may have been changed.
                let seen = refresh_locked(self.gateway, self.keys).map_err(unanswered);
                let answer = changed?;
                seen.map(|_| answer)
            }
        }
    }

    fn look(&self, look: &Look, parameters: &Parameters) -> Result<Value, Refusal> {
        match look {
            Look::Keys => {
                let records = self.keys.list().map_err(unanswered)?;
                let keys = records.iter().map(|record| shown::key(record, self.now));
                Ok(json!({"keys": keys.collect::<Vec<_>>()}))
            }
            Look::Key(id) => self.record(id).map(|record| shown::key(&record, self.now)),
            Look::Budgets => self.budgets(parameters),
            Look::Stops => {
                let stops = self.keys.stops().map_err(unanswered)?;
                let stops = stops.iter().map(|(stop, at)| shown::stop(stop, *at));
                Ok(json!({"stops": stops.collect::<Vec<_>>()}))
            }
            Look::Audit => {
                let count = parameters.count("last", AUDIT_ROWS, AUDIT_ROWS_MAX)?;
                let entries = self.keys.audits(count).map_err(unanswered)?;
                let entries = entries.iter().map(shown::entry);
                Ok(json!({"audit": entries.collect::<Vec<_>>()}))
            }
        }
    }

    fn change(&self, change: &Change, body: &[u8]) -> Result<Value, Refusal> {
        match change {
            Change::Create => self.create(Fields::read(body, &NEW_KEY)?),
            Change::Assign(id) => self.assign(id, Fields::read(body, &TERMS)?),
            Change::Rotate(id) => self.rotate(id, Fields::read(body, &["grace_ms"])?),
            Change::Expire(id) => self.expire(id, Fields::read(body, &["at_ms", "in_ms"])?),
            Change::Disable(id) => {
                Fields::read(body, &[])?;
                let record = found(id, self.keys.disable(id, self.now).map_err(unanswered)?)?;
                self.write_down("disable", &record.id, String::new())?;
                Ok(shown::key(&record, self.now))
            }
            Change::Enable(id) => {
                Fields::read(body, &[])?;
                let record = found(id, self.keys.enable(id).map_err(unanswered)?)?;
                self.write_down("enable", &record.id, String::new())?;
                Ok(shown::key(&record, self.now))
            }
            Change::Stop => self.stop(Fields::read(body, &["kind", "id"])?),
            Change::Resume(stop) => {
                let changed = self.keys.resume(stop).map_err(unanswered)?;
                self.stopped(stop, "resume", changed)
            }
        }
    }

    fn create(&self, mut fields: Fields) -> Result<Value, Refusal> {
        let name = fields.name("name")?.value().ok_or_else(|| {
            bad(
                "name",
                "`name` is missing; say who or what calls with the key".to_owned(),
            )
        })?;
        let expires_at = fields.moment("expires_at_ms", "expires_in_ms", self.now)?;
        if let Some(at) = expires_at.filter(|at| *at <= self.now) {
            let (at, now) = (at.0, self.now.0);
            let message = format!("the key would have expired at {at}; give a time after {now}");
            return Err(bad("expires_at_ms", message));
        }
        let terms = Terms::read(&mut fields)?;
        let (secret, mut record) = issue(&name, random()?, self.now, expires_at);
        terms.apply(&mut record);
        self.keys.create(&record).map_err(unanswered)?;
        let (until, terms) = (terms::until(expires_at), terms::described(&record));
        let detail = format!("`{name}`, {until}, for {terms}");
        self.write_down("create", &record.id, detail)?;
        Ok(shown::with_secret(&record, self.now, secret))
    }

    fn assign(&self, id: &str, mut fields: Fields) -> Result<Value, Refusal> {
        let terms = Terms::read(&mut fields)?;
        if terms.change_nothing() {
            let message = format!("nothing to change; give one of {}", TERMS.join(", "));
            return Err(Refusal::new(Reason::BadRequest, message));
        }
        let mut record = self.record(id)?;
        terms.apply(&mut record);
        let assigned = self.keys.assign(id, &record.payers, &record.models);
        let record = found(id, assigned.map_err(unanswered)?)?;
        let detail = format!("is for {}", terms::described(&record));
        self.write_down("assign", &record.id, detail)?;
        Ok(shown::key(&record, self.now))
    }

    fn rotate(&self, id: &str, mut fields: Fields) -> Result<Value, Refusal> {
        let grace_ms = fields.millis("grace_ms")?.unwrap_or(GRACE_MS);
        let name = self.record(id)?.name;
        let (secret, made) = issue(&name, random()?, self.now, None);
        let until = self.now.after(grace_ms);
        let rotated = self.keys.rotate(id, &made.hash, until);
        let record = found(id, rotated.map_err(unanswered)?)?;
        let detail = if grace_ms == 0 {
            "the secret before works no longer".to_owned()
        } else {
            format!("the secret before works {}", terms::until(Some(until)))
        };
        self.write_down("rotate", &record.id, detail)?;
        Ok(shown::with_secret(&record, self.now, secret))
    }

    fn expire(&self, id: &str, mut fields: Fields) -> Result<Value, Refusal> {
        let at = fields
            .moment("at_ms", "in_ms", self.now)?
            .unwrap_or(self.now);
        let record = found(id, self.keys.expire(id, at).map_err(unanswered)?)?;
        let detail = if at <= self.now {
            "at once".to_owned()
        } else {
            format!("works {}", terms::until(Some(at)))
        };
        self.write_down("expire", &record.id, detail)?;
        Ok(shown::key(&record, self.now))
    }

    fn stop(&self, mut fields: Fields) -> Result<Value, Refusal> {
        let kind = fields.text("kind")?.value();
        let id = fields.text("id")?.value();
        let stop = match (kind.as_deref(), id) {
            (Some("everything"), None) => Stop::Everything,
            (Some("everything"), Some(_)) => {
                let message = "everything is stopped as a whole; leave out `id`".to_owned();
                return Err(bad("id", message));
            }
            (Some("key"), Some(id)) => Stop::Key(self.record(&id)?.id),
            (Some("task"), Some(id)) => task(id)?,
            (Some("key" | "task"), None) => {
                return Err(bad(
                    "id",
                    "`id` is missing; say which key or task".to_owned(),
                ));
            }
            (given, _) => {
                let given = given.map_or("missing".to_owned(), |kind| {
                    format!("is {}", repeated(kind))
                });
                let message = format!("`kind` {given}; allowed: `everything`, `key`, `task`");
                return Err(bad("kind", message));
            }
        };
        let changed = self.keys.stop(&stop, self.now).map_err(unanswered)?;
        self.stopped(&stop, "stop", changed)
    }

    fn stopped(&self, stop: &Stop, action: &str, changed: bool) -> Result<Value, Refusal> {
        if changed {
            self.write_down(action, &stop.to_string(), String::new())?;
        }
        Ok(json!({
            "kind": stop.kind(),
            "id": stop.id(),
            "stopped": action == "stop",
            "changed": changed,
        }))
    }

    fn budgets(&self, parameters: &Parameters) -> Result<Value, Refusal> {
        let setup = self.gateway.setup.load();
        let limits = &setup.budgets.limits;
        if let Some(id) = parameters.find("limit")
            && limits.iter().all(|limit| *limit.id != *id)
        {
            let message = format!(
                "no limit is called {}; without `limit`, all show",
                repeated(id)
            );
            return Err(bad("limit", message));
        }
        let wanted = |usage: &Usage| {
            let is = |name, value: &str| parameters.find(name).is_none_or(|given| given == value);
            is("limit", &usage.limit.id)
                && is("kind", usage.scope.kind.name())
                && is("id", &usage.scope.id)
        };
        let mut report = self.gateway.accounts.report(self.now);
        report.retain(wanted);
        let usage: Vec<Value> = report
            .iter()
            .take(USAGE_ROWS_MAX)
            .map(shown::usage)
            .collect();
        Ok(json!({
            "limits": limits.iter().map(shown::limit).collect::<Vec<_>>(),
            "left_out": report.len() - usage.len(),
            "usage": usage,
        }))
    }

    fn record(&self, id: &str) -> Result<KeyRecord, Refusal> {
        let records = self.keys.list().map_err(unanswered)?;
        found(id, records.into_iter().find(|record| record.id == id))
    }

    fn write_down(&self, action: &str, subject: &str, detail: String) -> Result<(), Refusal> {
        tracing::info!(
            actor = ACTOR,
            action,
            subject,
            "a key or a stop was changed"
        );
        let entry = AuditEntry {
            at: self.now,
            actor: ACTOR.to_owned(),
            action: action.to_owned(),
            subject: subject.to_owned(),
            detail,
        };
        self.keys.audit(&entry).map_err(unanswered)
    }
}

/// Who pays for a key's calls and which models it may call; `null` takes away what was there.
struct Terms {
    organisation: Given<String>,
    team: Given<String>,
    user: Given<String>,
    tags: Given<Vec<String>>,
    models: Given<Vec<String>>,
}

impl Terms {
    fn read(fields: &mut Fields) -> Result<Self, Refusal> {
        Ok(Self {
            organisation: fields.name("organisation")?,
            team: fields.name("team")?,
            user: fields.name("user")?,
            tags: fields.names("tags", terms::TAGS_MAX)?,
            models: fields.names("models", terms::MODELS_MAX)?,
        })
    }

    fn change_nothing(&self) -> bool {
        let names = [&self.organisation, &self.team, &self.user];
        names.into_iter().all(|given| *given == Given::Absent)
            && [&self.tags, &self.models]
                .into_iter()
                .all(|given| *given == Given::Absent)
    }

    fn apply(self, record: &mut KeyRecord) {
        let payers = &mut record.payers;
        for (given, place) in [
            (self.organisation, &mut payers.organisation),
            (self.team, &mut payers.team),
            (self.user, &mut payers.user),
        ] {
            if given != Given::Absent {
                *place = given.value();
            }
        }
        for (given, place) in [
            (self.tags, &mut payers.tags),
            (self.models, &mut record.models),
        ] {
            if given != Given::Absent {
                *place = given.value().unwrap_or_default();
            }
        }
    }
}

fn task(name: String) -> Result<Stop, Refusal> {
    let visible = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
    if (1..=TASK_BYTES_MAX).contains(&name.len()) && name.bytes().all(visible) {
        return Ok(Stop::Task(name));
    }
    let message = format!(
        "a task's name has 1 to {TASK_BYTES_MAX} visible ASCII characters, as in the header \
         `x-tokenwise-task`"
    );
    Err(bad("id", message))
}

fn found(id: &str, record: Option<KeyRecord>) -> Result<KeyRecord, Refusal> {
    record.ok_or_else(|| {
        let message = format!(
            "no key has the id {}; `GET /admin/v1/keys` lists all",
            repeated(id)
        );
        Refusal::new(Reason::NotFound, message)
    })
}

fn random() -> Result<[u8; SECRET_BYTES], Refusal> {
    let mut random = [0; SECRET_BYTES];
    getrandom::getrandom(&mut random).map_err(|error| {
        let message = format!("the system gives no random bytes: {error}; try again");
        Refusal::new(Reason::Internal, message)
    })?;
    Ok(random)
}

/// The store's words for an operator, who may read them.
#[expect(clippy::needless_pass_by_value, reason = "stands in `map_err`")]
fn unanswered(fault: Fault) -> Refusal {
    let message =
        format!("the store could not answer: {fault}; look what holds now before trying again");
    Refusal::new(Reason::Internal, message)
}
