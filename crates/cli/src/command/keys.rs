//! `tokenwise keys`: makes, changes and shows the keys that clients call with.
//!
//! **Invariant**: a secret is printed once, when it is made, and stored nowhere; every change is
//! written down (tests `keys_and_reports_work_on_a_fresh_store` and `every_change_is_audited` in
//! `tests/it`).

mod shown;
mod terms;

use std::process::ExitCode;

use gateway::admin::shown::{entry, key, with_secret};
use policy::key::terms::{described, until};
use policy::key::{SECRET_BYTES, issue};
use policy::moment::Moment;
use policy::ports::{AuditEntry, KeyRecord, Keys};

use super::{now, random};
use crate::env::Environment;
use crate::ledger::LedgerSource;
use crate::print::failure::UsageError;
use crate::print::{self, Format, time};
use shown::hindrance;
use terms::{Part, Terms};

/// Who makes the changes that this command writes down.
const ACTOR: &str = "command line";

/// 24 h: every service is restarted or redeployed within a day, so that nothing breaks by a
/// rotation; a secret that leaked is rotated with `--grace 0`.
const GRACE: &str = "24h";

/// Make, change and list the keys that clients call with.
///
/// A running gateway takes changes over within a second.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

/// What every action takes: which ledger, and how to answer.
#[derive(Debug, clap::Args)]
struct Setting {
    #[command(flatten)]
    ledger: LedgerSource,
    #[command(flatten)]
    format: Format,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Make a key. Its secret is shown once and stored nowhere.
    Create {
        /// A name for people: the service or person that calls with it.
        name: String,
        #[command(flatten)]
        terms: Terms,
        /// How long it works, as `30d`; forever if not said.
        #[arg(long, value_name = "TIME")]
        expires: Option<String>,
        #[command(flatten)]
        setting: Setting,
    },
    /// List all keys, without their secrets.
    List {
        #[command(flatten)]
        setting: Setting,
    },
    /// Show one key, without its secret.
    Show {
        /// The key's id, as `keys list` shows it.
        id: String,
        #[command(flatten)]
        setting: Setting,
    },
    /// Give a key a new secret, which is shown once. The one before works a while longer; the one
    /// before that stops at once.
    Rotate {
        /// The key's id, as `keys list` shows it.
        id: String,
        /// How long the secret before still works, as `30m`; `0` if it must stop at once.
        #[arg(long, value_name = "TIME", default_value = GRACE)]
        grace: String,
        #[command(flatten)]
        setting: Setting,
    },
    /// Disable a key until it is enabled again; its calls stay in the ledger.
    Disable {
        /// The key's id, as `keys list` shows it.
        id: String,
        #[command(flatten)]
        setting: Setting,
    },
    /// Let a disabled key work again.
    Enable {
        /// The key's id, as `keys list` shows it.
        id: String,
        #[command(flatten)]
        setting: Setting,
    },
    /// Say when a key stops working: at once, if no time is given. A later time lets an expired key
    /// work again.
    Expire {
        /// The key's id, as `keys list` shows it.
        id: String,
        /// After a while, as `30d`.
        #[arg(long = "in", value_name = "TIME", conflicts_with = "at")]
        after: Option<String>,
        /// At the beginning of a day (UTC), as `2027-01-31`.
        #[arg(long, value_name = "DAY")]
        at: Option<String>,
        #[command(flatten)]
        setting: Setting,
    },
    /// Change who pays for a key's calls and which models it may call. What is given replaces what
    /// was there; what is not given stays.
    Assign {
        /// The key's id, as `keys list` shows it.
        id: String,
        #[command(flatten)]
        terms: Terms,
        /// Take away what was there.
        #[arg(long, value_enum, value_name = "WHAT", value_delimiter = ',')]
        clear: Vec<Part>,
        #[command(flatten)]
        setting: Setting,
    },
    /// List who changed what, the latest first.
    Audit {
        /// How many changes.
        #[arg(long, value_name = "COUNT", default_value_t = 20)]
        #[arg(value_parser = clap::value_parser!(u32).range(1..))]
        last: u32,
        #[command(flatten)]
        setting: Setting,
    },
}

impl Action {
    const fn setting(&self) -> &Setting {
        match self {
            Self::Create { setting, .. }
            | Self::List { setting }
            | Self::Show { setting, .. }
            | Self::Rotate { setting, .. }
            | Self::Disable { setting, .. }
            | Self::Enable { setting, .. }
            | Self::Expire { setting, .. }
            | Self::Assign { setting, .. }
            | Self::Audit { setting, .. } => setting,
        }
    }
}

/// Does what is asked.
pub(crate) fn run(arguments: &Arguments, environment: &Environment) -> anyhow::Result<ExitCode> {
    let setting = arguments.action.setting();
    let desk = Desk {
        keys: &setting.ledger.keys(environment)?,
        format: setting.format,
        now: now(),
    };
    match &arguments.action {
        Action::Create {
            name,
            terms,
            expires,
            ..
        } => desk.create(name, terms, expires.as_deref()),
        Action::List { .. } => desk.list(),
        Action::Show { id, .. } => desk.show(id),
        Action::Rotate { id, grace, .. } => desk.rotate(id, grace),
        Action::Disable { id, .. } => desk.disable(id),
        Action::Enable { id, .. } => desk.enable(id),
        Action::Expire { id, after, at, .. } => desk.expire(id, after.as_deref(), at.as_deref()),
        Action::Assign {
            id, terms, clear, ..
        } => desk.assign(id, terms, clear),
        Action::Audit { last, .. } => desk.audit(*last),
    }?;
    Ok(ExitCode::SUCCESS)
}

/// Where keys are handed out: the store, the moment, and how to answer.
///
/// A change is written down before it is made, so that none is missing, even if the disk fails in
/// between.
struct Desk<'a> {
    keys: &'a dyn Keys,
    format: Format,
    now: Moment,
}

impl Desk<'_> {
    fn create(&self, name: &str, terms: &Terms, expires: Option<&str>) -> anyhow::Result<()> {
        terms::checked("a key's name", name)?;
        terms.check()?;
        let expires_at = expires
            .map(time::duration)
            .transpose()?
            .map(|millis| self.now.after(millis));
        let random = random::<SECRET_BYTES>()?;
        let (secret, mut record) = issue(name, random, self.now, expires_at);
        terms.apply(&mut record);
        let (until, described) = (until(expires_at), described(&record));
        self.write_down("create", &record, format!("`{name}`, {until}; {described}"))?;
        self.keys.create(&record)?;
        if self.format.json {
            return print::json(&with_secret(&record, self.now, secret));
        }
        print::out(&format!(
            "{secret}\n\nThis is the secret of {} (`{name}`); it is not shown again.\n\
             It works {until}. Send it as `authorization: Bearer …` or `x-api-key: …`.\n",
            record.id
        ))
    }

    fn list(&self) -> anyhow::Result<()> {
        let records = self.keys.list()?;
        if self.format.json {
            let values = records.iter().map(|record| key(record, self.now));
            return print::json(&values.collect());
        }
        if records.is_empty() {
            return print::out("no keys yet; make one with `tokenwise keys create NAME`\n");
        }
        print::out(&shown::list(&records, self.now))
    }

    fn show(&self, id: &str) -> anyhow::Result<()> {
        let record = self.record(id)?;
        if self.format.json {
            return print::json(&key(&record, self.now));
        }
        print::out(&shown::one(&record, self.now))
    }

    fn rotate(&self, id: &str, grace: &str) -> anyhow::Result<()> {
        let grace_ms = match grace {
            "0" => 0,
            _ => time::duration(grace)?,
        };
        let until = self.now.after(grace_ms);
        let before = if grace_ms == 0 {
            "the secret before works no longer".to_owned()
        } else {
            format!("the secret before works until {} UTC", time::shown(until))
        };
        let record = self.record(id)?;
        let random = random::<SECRET_BYTES>()?;
        let (secret, made) = issue(&record.name, random, self.now, None);
        self.write_down("rotate", &record, before.clone())?;
        let record = found(id, self.keys.rotate(id, &made.hash, until)?)?;
        if self.format.json {
            return print::json(&with_secret(&record, self.now, secret));
        }
        let (name, hindrance) = (&record.name, hindrance(&record, self.now));
        print::out(&format!(
            "{secret}\n\nThis is the new secret of {id} (`{name}`); it is not shown again.\n\
             From now on {before}.{hindrance}\n"
        ))
    }

    fn disable(&self, id: &str) -> anyhow::Result<()> {
        self.write_down("disable", &self.record(id)?, String::new())?;
        let record = found(id, self.keys.disable(id, self.now)?)?;
        self.answer(&record, "is disabled")
    }

    fn enable(&self, id: &str) -> anyhow::Result<()> {
        self.write_down("enable", &self.record(id)?, String::new())?;
        let record = found(id, self.keys.enable(id)?)?;
        let hindrance = hindrance(&record, self.now);
        self.answer(&record, &format!("is enabled{hindrance}"))
    }

    fn expire(&self, id: &str, after: Option<&str>, day: Option<&str>) -> anyhow::Result<()> {
        let at = match (after, day) {
            (Some(after), _) => self.now.after(time::duration(after)?),
            (None, Some(day)) => time::day(day).ok_or_else(|| {
                UsageError(format!(
                    "`{day}` is no day; write it as `2027-01-31` (UTC), or how long from now with \
                     `--in 30d`"
                ))
            })?,
            (None, None) => self.now,
        };
        let until = until(Some(at));
        self.write_down("expire", &self.record(id)?, until.clone())?;
        let record = found(id, self.keys.expire(id, at)?)?;
        if at <= self.now {
            return self.answer(&record, "has expired");
        }
        let hindrance = hindrance(&record, self.now);
        self.answer(&record, &format!("works {until}{hindrance}"))
    }

    fn assign(&self, id: &str, terms: &Terms, clear: &[Part]) -> anyhow::Result<()> {
        terms.check_change(clear)?;
        let mut record = self.record(id)?;
        for part in clear {
            part.clear(&mut record);
        }
        terms.apply(&mut record);
        let described = described(&record);
        self.write_down("assign", &record, described.clone())?;
        let assigned = self.keys.assign(id, &record.payers, &record.models)?;
        self.answer(&found(id, assigned)?, &format!("has {described}"))
    }

    fn audit(&self, last: u32) -> anyhow::Result<()> {
        let entries = self.keys.audits(last)?;
        if self.format.json {
            return print::json(&entries.iter().map(entry).collect());
        }
        if entries.is_empty() {
            return print::out("no changes yet\n");
        }
        print::out(&shown::entries(&entries))
    }

    fn record(&self, id: &str) -> anyhow::Result<KeyRecord> {
        let records = self.keys.list()?;
        found(id, records.into_iter().find(|record| record.id == id))
    }

    fn write_down(&self, action: &str, record: &KeyRecord, detail: String) -> anyhow::Result<()> {
        self.keys.audit(&AuditEntry {
            at: self.now,
            actor: ACTOR.to_owned(),
            action: action.to_owned(),
            subject: record.id.clone(),
            detail,
        })?;
        Ok(())
    }

    /// Says what has become of a key.
    fn answer(&self, record: &KeyRecord, words: &str) -> anyhow::Result<()> {
        if self.format.json {
            return print::json(&key(record, self.now));
        }
        let (id, name) = (&record.id, &record.name);
        print::out(&format!("{id} (`{name}`) {words}\n"))
    }
}

fn found(id: &str, record: Option<KeyRecord>) -> anyhow::Result<KeyRecord> {
    record.ok_or_else(|| {
        let problem = format!("no key has the id `{id}`; `tokenwise keys list` shows all");
        UsageError(problem).into()
    })
}
