-- Schema 1. Money is integer pico-USD (10^-12 USD), time is milliseconds since 1970 (UTC).
-- An amount that is NULL is unknown, never zero.

-- A call: opened when it is received, settled once when it is over.
CREATE TABLE calls (
    id                 INTEGER PRIMARY KEY,
    call               TEXT NOT NULL UNIQUE,
    opened_at_ms       INTEGER NOT NULL,
    key                TEXT NOT NULL,
    session            TEXT,
    task               TEXT,
    endpoint           TEXT NOT NULL,
    model              TEXT NOT NULL,
    provider           TEXT NOT NULL,
    input_estimate     INTEGER NOT NULL,
    -- From here on NULL until the call is settled.
    settled_at_ms      INTEGER,
    ending             TEXT,
    status             INTEGER,
    estimated          INTEGER,
    cost_pico_usd      INTEGER,
    untouched_pico_usd INTEGER,
    prices             TEXT,
    notes              TEXT
) STRICT;

CREATE INDEX calls_by_time ON calls (opened_at_ms);

-- Few rows: a start after a crash finds what was open without reading the whole table.
CREATE INDEX calls_open ON calls (id) WHERE settled_at_ms IS NULL;

-- The attempts of a call at upstreams, in order from 0.
CREATE TABLE legs (
    call_id         INTEGER NOT NULL REFERENCES calls (id),
    position        INTEGER NOT NULL,
    provider        TEXT NOT NULL,
    model           TEXT NOT NULL,
    sent_at_ms      INTEGER NOT NULL,
    first_byte_at_ms INTEGER,
    ended_at_ms     INTEGER NOT NULL,
    status          INTEGER,
    ending          TEXT NOT NULL,
    estimated       INTEGER NOT NULL,
    uncached        INTEGER NOT NULL,
    cache_read      INTEGER NOT NULL,
    cache_write_5m  INTEGER NOT NULL,
    cache_write_30m INTEGER NOT NULL,
    cache_write_1h  INTEGER NOT NULL,
    cache_write_12h INTEGER NOT NULL,
    audio_input     INTEGER NOT NULL,
    output          INTEGER NOT NULL,
    reasoning       INTEGER NOT NULL,
    audio_output    INTEGER NOT NULL,
    web_searches    INTEGER NOT NULL,
    tier            TEXT,
    cost_pico_usd   INTEGER,
    PRIMARY KEY (call_id, position)
) STRICT, WITHOUT ROWID;

-- What each lever saved on a call: a row a lever, so that `GROUP BY lever` is the report and a new
-- lever needs no new column. Negative where it lost.
CREATE TABLE savings (
    call_id  INTEGER NOT NULL REFERENCES calls (id),
    lever    TEXT NOT NULL,
    pico_usd INTEGER NOT NULL,
    PRIMARY KEY (call_id, lever)
) STRICT, WITHOUT ROWID;

-- Keys; `hash` is BLAKE3 of the secret, which is stored nowhere.
CREATE TABLE keys (
    id             TEXT PRIMARY KEY,
    name           TEXT NOT NULL,
    hash           BLOB NOT NULL UNIQUE,
    created_at_ms  INTEGER NOT NULL,
    expires_at_ms  INTEGER,
    disabled_at_ms INTEGER
) STRICT;

-- One row: how often any key changed, so that a running gateway notices.
CREATE TABLE keys_version (changes INTEGER NOT NULL) STRICT;
INSERT INTO keys_version VALUES (0);

CREATE TRIGGER key_was_made AFTER INSERT ON keys
BEGIN UPDATE keys_version SET changes = changes + 1; END;

CREATE TRIGGER key_was_changed AFTER UPDATE ON keys
BEGIN UPDATE keys_version SET changes = changes + 1; END;

CREATE TRIGGER keys_are_kept BEFORE DELETE ON keys
BEGIN SELECT RAISE(ABORT, 'keys are never deleted; disable them'); END;

-- What is settled stays as it is.
CREATE TRIGGER settled_calls_stay BEFORE UPDATE ON calls WHEN OLD.settled_at_ms IS NOT NULL
BEGIN SELECT RAISE(ABORT, 'a settled call never changes'); END;

CREATE TRIGGER calls_are_kept BEFORE DELETE ON calls
BEGIN SELECT RAISE(ABORT, 'calls are never deleted'); END;

CREATE TRIGGER legs_join_open_calls BEFORE INSERT ON legs
WHEN NOT EXISTS (SELECT 1 FROM calls WHERE id = NEW.call_id AND settled_at_ms IS NULL)
BEGIN SELECT RAISE(ABORT, 'legs are added only while their call is open'); END;

CREATE TRIGGER legs_stay BEFORE UPDATE ON legs
BEGIN SELECT RAISE(ABORT, 'legs never change'); END;

CREATE TRIGGER legs_are_kept BEFORE DELETE ON legs
BEGIN SELECT RAISE(ABORT, 'legs are never deleted'); END;

CREATE TRIGGER savings_join_open_calls BEFORE INSERT ON savings
WHEN NOT EXISTS (SELECT 1 FROM calls WHERE id = NEW.call_id AND settled_at_ms IS NULL)
BEGIN SELECT RAISE(ABORT, 'savings are added only while their call is open'); END;

CREATE TRIGGER savings_stay BEFORE UPDATE ON savings
BEGIN SELECT RAISE(ABORT, 'savings never change'); END;

CREATE TRIGGER savings_are_kept BEFORE DELETE ON savings
BEGIN SELECT RAISE(ABORT, 'savings are never deleted'); END;
