//! Rows of calls on their way into the tables, by statements that a whole batch shares.
//!
//! **Invariant**: what is read back equals what was written (store conformance,
//! `calls_come_back_as_they_were`).
//!
//! A statement that may *abort* undoes itself alone, and SQLite keeps a journal of 64 KiB for each
//! time that it runs. A batch is written whole or not at all, so that these *roll back*.

use policy::money::PicoUsd;
use policy::ports::read::is_estimated;
use policy::ports::{CallOpened, CallRaised, CallSettled, Leg, Lever};
use rusqlite::{CachedStatement, Connection, OptionalExtension, params};

use super::rows::{list, money, whole};

const OPEN: &str = "INSERT OR ROLLBACK INTO calls (call, opened_at_ms, key, session, task, endpoint, \
     model, provider, input_estimate, organisation, team, user, tags, held_pico_usd, held_tokens, \
     held_until_ms, target, parents) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, \
     ?13, ?14, ?15, ?16, ?17, ?18) ON CONFLICT (call) DO NOTHING";

const RAISE: &str = "UPDATE OR ROLLBACK calls SET held_pico_usd = ?2, held_tokens = ?3, \
     held_until_ms = ?4, target = ?5 WHERE call = ?1 AND settled_at_ms IS NULL";

const FIND: &str = "SELECT id, settled_at_ms IS NULL FROM calls WHERE call = ?1";

const LEG: &str = "INSERT OR ROLLBACK INTO legs (call_id, position, provider, model, sent_at_ms, \
     first_byte_at_ms, ended_at_ms, status, ending, estimated, uncached, cache_read, \
     cache_write_5m, cache_write_30m, cache_write_1h, cache_write_12h, audio_input, output, \
     reasoning, audio_output, web_searches, tier, cost_pico_usd) VALUES (?1, ?2, ?3, ?4, ?5, ?6, \
     ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23)";

const SAVING: &str =
    "INSERT OR ROLLBACK INTO savings (call_id, lever, pico_usd) VALUES (?1, ?2, ?3)";

const CLOSE: &str = "UPDATE OR ROLLBACK calls SET settled_at_ms = ?2, ending = ?3, status = ?4, \
     estimated = ?5, cost_pico_usd = ?6, untouched_pico_usd = ?7, prices = ?8, notes = ?9 \
     WHERE id = ?1 AND settled_at_ms IS NULL";

/// The statements, compiled.
pub(super) struct Writing<'c> {
    connection: &'c Connection,
    open: CachedStatement<'c>,
    raise: CachedStatement<'c>,
    find: CachedStatement<'c>,
    leg: CachedStatement<'c>,
    saving: CachedStatement<'c>,
    close: CachedStatement<'c>,
}

impl<'c> Writing<'c> {
    pub(super) fn on(connection: &'c Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            connection,
            open: connection.prepare_cached(OPEN)?,
            raise: connection.prepare_cached(RAISE)?,
            find: connection.prepare_cached(FIND)?,
            leg: connection.prepare_cached(LEG)?,
            saving: connection.prepare_cached(SAVING)?,
            close: connection.prepare_cached(CLOSE)?,
        })
    }

    /// Adds an open call and returns its row's id; `None` if the call is there already.
    pub(super) fn open(&mut self, call: &CallOpened) -> rusqlite::Result<Option<i64>> {
        let added = self.open.execute(params![
            call.call.0,
            whole(call.at.0),
            call.key,
            call.session,
            call.task,
            call.endpoint,
            call.model,
            call.provider,
            whole(call.input_estimate.0),
            call.payers.organisation,
            call.payers.team,
            call.payers.user,
            list(&call.payers.tags),
            call.held.and_then(|held| money(held.usd)),
            call.held.map(|held| whole(held.tokens.0)),
            call.held.map(|held| whole(held.until.0)),
            call.target,
            list(&call.payers.parents),
        ])?;
        Ok((added == 1).then(|| self.connection.last_insert_rowid()))
    }

    /// Replaces what is held for an open call, and where it is; does nothing to others.
    pub(super) fn raise(&mut self, raised: &CallRaised) -> rusqlite::Result<()> {
        self.raise.execute(params![
            raised.call.0,
            money(raised.held.usd),
            whole(raised.held.tokens.0),
            whole(raised.held.until.0),
            raised.target,
        ])?;
        Ok(())
    }

    /// A call's row, and whether it is open.
    pub(super) fn find(&mut self, call: &str) -> rusqlite::Result<Option<(i64, bool)>> {
        let found = self
            .find
            .query_row([call], |row| Ok((row.get(0)?, row.get(1)?)));
        found.optional()
    }

    /// Adds one attempt of an open call.
    pub(super) fn leg(&mut self, call_id: i64, position: i64, leg: &Leg) -> rusqlite::Result<()> {
        let usage = &leg.usage;
        self.leg.execute(params![
            call_id,
            position,
            leg.provider,
            leg.model,
            whole(leg.sent_at.0),
            leg.first_byte_at.map(|at| whole(at.0)),
            whole(leg.ended_at.0),
            leg.status,
            leg.end.name(),
            leg.estimated,
            whole(usage.uncached.0),
            whole(usage.cache_read.0),
            whole(usage.cache_write.minutes_5.0),
            whole(usage.cache_write.minutes_30.0),
            whole(usage.cache_write.hour_1.0),
            whole(usage.cache_write.hours_12.0),
            whole(usage.audio_input.0),
            whole(usage.output.0),
            whole(usage.reasoning.0),
            whole(usage.audio_output.0),
            whole(usage.web_searches),
            usage.tier,
            money(leg.cost),
        ])?;
        Ok(())
    }

    /// Adds what a lever saved on an open call.
    pub(super) fn saving(
        &mut self,
        call_id: i64,
        lever: Lever,
        saved: PicoUsd,
    ) -> rusqlite::Result<()> {
        let saved = money(Some(saved));
        self.saving.execute(params![call_id, lever.name(), saved])?;
        Ok(())
    }

    /// Settles an open call; its legs and savings are there already.
    pub(super) fn close(&mut self, call_id: i64, settled: &CallSettled) -> rusqlite::Result<()> {
        self.close.execute(params![
            call_id,
            whole(settled.at.0),
            settled.end.name(),
            (settled.status != 0).then_some(settled.status),
            is_estimated(settled),
            money(settled.cost),
            money(settled.untouched),
            settled.prices,
            settled.notes,
        ])?;
        Ok(())
    }
}
