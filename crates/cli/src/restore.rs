//! The accounts of a gateway that starts: what its budgets have seen in windows that are not over.
//!
//! **Invariant**: a restart neither forgets what was spent nor what may have been (test
//! `budgets_survive_a_restart` in `tests/it`).

use anyhow::Context as _;
use gateway::Gateway;
use gateway::setup::Setup;
use policy::moment::Moment;
use policy::ports::Fault;
use policy::ports::read::{LedgerReader as _, SpentBy};
use store::sqlite::reader::SqliteReader;

use crate::config::build::Place;

/// Takes in what the ledger knows. Costs one query over the longest window.
pub(crate) fn restore(gateway: &Gateway, place: &Place, now: Moment) -> anyhow::Result<()> {
    let setup = gateway.setup.load();
    let starts = setup.budgets.limits.iter();
    let starts = starts.map(|limit| limit.quota.window().span(now).start);
    let (Place::File(path), Some(since)) = (place, starts.min()) else {
        return Ok(());
    };
    let read = || {
        let reader = SqliteReader::open(path)?;
        let of = SpentBy::since(since);
        let (spent, at) = (reader.spending(&of)?, reader.spending_at(&of)?);
        let cut_off = reader.cut_off(now)?;
        gateway.accounts.restore(&spent, &at, &cut_off, now);
        anyhow::Ok(())
    };
    read().context("cannot read from the ledger what the budgets have seen")
}

/// Takes another setup over, and from the ledger what its limits begin to count. Limits whose past
/// cannot be read count from now on.
pub(crate) fn adopt(gateway: &Gateway, setup: Setup, place: &Place) {
    let gaps = gateway.adopt(setup);
    let (Place::File(path), Some(missing)) = (place, gaps.missing()) else {
        return;
    };
    let spent = SqliteReader::open(path)
        .map_err(Fault::from)
        .and_then(|reader| Ok((reader.spending(&missing)?, reader.spending_at(&missing)?)));
    match spent {
        Ok((spent, at)) => {
            let now = gateway.clock.now();
            gateway.accounts.fill(&gaps, &spent, &at, now);
        }
        Err(error) => tracing::error!(%error, "changed limits count from now on"),
    }
}
