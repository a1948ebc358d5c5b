//! Which calls a command looks at.
//!
//! **Invariant**: a time that cannot be read is refused, never taken for none (test
//! `failures_have_their_codes` in `tests/it`).

use policy::ports::read::Filter;

use super::now;
use crate::print::time;

/// Calls by when they came, and whose they are.
#[derive(Debug, clap::Args)]
pub(crate) struct Which {
    /// Only calls since then: a day as `2026-11-24` (UTC), or how long ago as `7d`.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only calls before then.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Only calls with this key, by its id.
    #[arg(long, value_name = "ID")]
    key: Option<String>,
    /// Only calls of this session.
    #[arg(long, value_name = "NAME")]
    session: Option<String>,
    /// Only calls of this task.
    #[arg(long, value_name = "NAME")]
    task: Option<String>,
    /// Only calls that asked for this model.
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
}

impl Which {
    /// The same for the ledger.
    pub(crate) fn filter(&self) -> anyhow::Result<Filter> {
        let moment = |text: &Option<String>| {
            text.as_deref()
                .map(|text| time::moment(text, now()))
                .transpose()
        };
        Ok(Filter {
            since: moment(&self.since)?,
            until: moment(&self.until)?,
            key: self.key.clone(),
            session: self.session.clone(),
            task: self.task.clone(),
            model: self.model.clone(),
        })
    }
}
