//! `tokenwise keys`: makes, lists and disables the keys that clients call with.
//!
//! **Invariant**: a secret is printed once, when it is made, and stored nowhere (test
//! `keys_and_reports_work_on_a_fresh_store` in `tests/it`).

use std::process::ExitCode;

use policy::key::{SECRET_BYTES, Shut, check, issue};
use policy::moment::Moment;
use policy::ports::{KeyRecord, Keys};
use serde_json::{Value, json};

use super::{now, random};
use crate::env::Environment;
use crate::ledger::LedgerSource;
use crate::print::failure::UsageError;
use crate::print::table::{Set, table};
use crate::print::{self, Format, time};

/// 128 characters: a name is for people.
const NAME_CHARACTERS_MAX: usize = 128;

/// Make, list and disable the keys that clients call with.
///
/// A running gateway takes changes over within a second.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Make a key. Its secret is shown once and stored nowhere.
    Create {
        /// A name for people: the service or person that calls with it.
        name: String,
        /// How long it works, as `30d`; forever if not said.
        #[arg(long, value_name = "TIME")]
        expires: Option<String>,
        #[command(flatten)]
        ledger: LedgerSource,
        #[command(flatten)]
        format: Format,
    },
    /// List all keys, without their secrets.
    List {
        #[command(flatten)]
        ledger: LedgerSource,
        #[command(flatten)]
        format: Format,
    },
    /// Disable a key for good; its calls stay in the ledger.
    Disable {
        /// The key's id, as `keys list` shows it.
        id: String,
        #[command(flatten)]
        ledger: LedgerSource,
        #[command(flatten)]
        format: Format,
    },
}

/// Makes, lists or disables.
pub(crate) fn run(arguments: &Arguments, environment: &Environment) -> anyhow::Result<ExitCode> {
    match &arguments.action {
        Action::Create {
            name,
            expires,
            ledger,
            format,
        } => {
            let keys = ledger.keys(environment)?;
            create(&keys, name, expires.as_deref(), *format)
        }
        Action::List { ledger, format } => list(&ledger.keys(environment)?, *format),
        Action::Disable { id, ledger, format } => disable(&ledger.keys(environment)?, id, *format),
    }?;
    Ok(ExitCode::SUCCESS)
}

fn create(
    keys: &impl Keys,
    name: &str,
    expires: Option<&str>,
    format: Format,
) -> anyhow::Result<()> {
    if name.trim().is_empty() || name.chars().count() > NAME_CHARACTERS_MAX {
        let problem = format!("a key's name has 1 to {NAME_CHARACTERS_MAX} characters");
        return Err(UsageError(problem).into());
    }
    let at = now();
    let expires_at = expires
        .map(time::duration)
        .transpose()?
        .map(|millis| at.after(millis));
    let random = random::<SECRET_BYTES>()?;
    let (secret, record) = issue(name, random, at, expires_at);
    keys.create(&record)?;
    if format.json {
        let mut value = json(&record, at);
        value["secret"] = secret.into();
        return print::json(&value);
    }
    let until = record.expires_at.map_or("for ever".to_owned(), |end| {
        format!("until {} UTC", time::shown(end))
    });
    print::out(&format!(
        "{secret}\n\nThis is the secret of {} (`{name}`); it is not shown again.\n\
         It works {until}. Send it as `authorization: Bearer …` or `x-api-key: …`.\n",
        record.id
    ))
}

fn list(keys: &impl Keys, format: Format) -> anyhow::Result<()> {
    let at = now();
    let records = keys.list()?;
    if format.json {
        return print::json(&records.iter().map(|record| json(record, at)).collect());
    }
    if records.is_empty() {
        return print::out("no keys yet; make one with `tokenwise keys create NAME`\n");
    }
    let day = |moment: Option<Moment>| moment.map_or("–".to_owned(), time::shown);
    let rows: Vec<Vec<String>> = records
        .iter()
        .map(|record| {
            vec![
                record.id.clone(),
                record.name.clone(),
                state(record, at).to_owned(),
                time::shown(record.created_at),
                day(record.expires_at),
            ]
        })
        .collect();
    let heads = [
        ("id", Set::Left),
        ("name", Set::Left),
        ("state", Set::Left),
        ("made (UTC)", Set::Left),
        ("expires (UTC)", Set::Left),
    ];
    print::out(&table(&heads, &rows))
}

fn disable(keys: &impl Keys, id: &str, format: Format) -> anyhow::Result<()> {
    let at = now();
    let record = keys.disable(id, at)?.ok_or_else(|| {
        UsageError(format!(
            "no key has the id `{id}`; `tokenwise keys list` shows all"
        ))
    })?;
    if format.json {
        return print::json(&json(&record, at));
    }
    print::out(&format!("{} (`{}`) is disabled\n", record.id, record.name))
}

fn json(record: &KeyRecord, at: Moment) -> Value {
    json!({
        "id": record.id,
        "name": record.name,
        "state": state(record, at),
        "created_at_ms": record.created_at.0,
        "expires_at_ms": record.expires_at.map(|moment| moment.0),
        "disabled_at_ms": record.disabled_at.map(|moment| moment.0),
    })
}

fn state(record: &KeyRecord, at: Moment) -> &'static str {
    match check(record, at) {
        Ok(()) => "active",
        Err(Shut::Expired) => "expired",
        Err(Shut::Disabled) => "disabled",
    }
}
