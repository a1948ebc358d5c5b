//! The accounts of a gateway that starts: what its budgets have seen in windows that are not over.
//!
//! **Invariant**: a restart neither forgets what was spent nor what may have been (test
//! `budgets_survive_a_restart` in `tests/it`).

use anyhow::Context as _;
use gateway::Gateway;
use gateway::admit::{Accounts, Sum};
use gateway::setup::Setup;
use policy::moment::Moment;
use policy::ports::Fault;
use policy::ports::read::{LedgerReader, SpentBy};
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
        restore_from(&reader, &gateway.accounts, since, now)?;
        gateway.accounts.restore_holds(&reader.cut_off(now)?, now);
        anyhow::Ok(())
    };
    read().context("cannot read from the ledger what the budgets have seen")
}

/// Takes another setup over, and from the ledger what its limits begin to count. What of the past
/// cannot be read is not counted.
pub(crate) fn adopt(gateway: &Gateway, setup: Setup, place: &Place) {
    let gaps = gateway.adopt(setup);
    let (Place::File(path), Some(missing)) = (place, gaps.missing()) else {
        return;
    };
    let now = gateway.clock.now();
    let fill = |sum: Sum<'_>| gateway.accounts.fill(&gaps, sum, now);
    let filled = SqliteReader::open(path)
        .map_err(Fault::from)
        .and_then(|reader| {
            reader.spending(&missing, &mut |it| fill(Sum::Calls(&it)))?;
            reader.spending_at(&missing, &mut |it| fill(Sum::Legs(&it)))
        });
    if let Err(error) = filled {
        tracing::error!(%error, "of changed limits, not all is known that was used before");
    }
}

/// Brings into accounts what calls since a moment have spent, row by row.
pub(crate) fn restore_from(
    reader: &dyn LedgerReader,
    accounts: &Accounts,
    since: Moment,
    now: Moment,
) -> Result<(), Fault> {
    let of = SpentBy::since(since);
    let take = |sum: Sum<'_>| accounts.restore(sum, now);
    reader.spending(&of, &mut |it| take(Sum::Calls(&it)))?;
    reader.spending_at(&of, &mut |it| take(Sum::Legs(&it)))
}
