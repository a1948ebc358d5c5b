-- Schema 2. One row: up to which record of which segment the journal beside this file has been
-- brought into the tables.
CREATE TABLE journal (
    segment INTEGER NOT NULL,
    offset  INTEGER NOT NULL
) STRICT;
INSERT INTO journal VALUES (0, 0);

-- Who pays for a call besides its key. `tags` is a JSON array of texts, NULL without any.
ALTER TABLE calls ADD COLUMN organisation TEXT;
ALTER TABLE calls ADD COLUMN team TEXT;
ALTER TABLE calls ADD COLUMN user TEXT;
ALTER TABLE calls ADD COLUMN tags TEXT;

-- What is held for a call until it is settled, at most until `held_until_ms`, which is NULL where
-- nothing is held. `held_pico_usd` is NULL where its price is unknown.
ALTER TABLE calls ADD COLUMN held_pico_usd INTEGER;
ALTER TABLE calls ADD COLUMN held_tokens INTEGER;
ALTER TABLE calls ADD COLUMN held_until_ms INTEGER;

-- Few rows: a start finds the holds that crashes have left without reading the whole table.
CREATE INDEX calls_cut_off ON calls (held_until_ms)
WHERE ending = 'recovered' AND held_until_ms IS NOT NULL;

-- Who pays for a key's calls, and which models it may call: globs, a JSON array, NULL for all.
ALTER TABLE keys ADD COLUMN organisation TEXT;
ALTER TABLE keys ADD COLUMN team TEXT;
ALTER TABLE keys ADD COLUMN user TEXT;
ALTER TABLE keys ADD COLUMN tags TEXT;
ALTER TABLE keys ADD COLUMN models TEXT;

-- BLAKE3 of the secret before the last rotation, and when that stops working.
ALTER TABLE keys ADD COLUMN previous_hash BLOB;
ALTER TABLE keys ADD COLUMN previous_until_ms INTEGER;
CREATE UNIQUE INDEX keys_by_previous ON keys (previous_hash) WHERE previous_hash IS NOT NULL;

-- No secret opens two doors, be it the present one or the one before.
CREATE TRIGGER made_secrets_are_new BEFORE INSERT ON keys
WHEN EXISTS (
    SELECT 1 FROM keys
    WHERE hash IN (NEW.hash, NEW.previous_hash) OR previous_hash IN (NEW.hash, NEW.previous_hash)
)
BEGIN SELECT RAISE(ABORT, 'this secret is there already'); END;

CREATE TRIGGER rotated_secrets_are_new BEFORE UPDATE OF hash ON keys
WHEN EXISTS (SELECT 1 FROM keys WHERE hash = NEW.hash OR previous_hash = NEW.hash)
BEGIN SELECT RAISE(ABORT, 'this secret is there already'); END;

-- Who changed what.
CREATE TABLE audit (
    id      INTEGER PRIMARY KEY,
    at_ms   INTEGER NOT NULL,
    actor   TEXT NOT NULL,
    action  TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail  TEXT NOT NULL
) STRICT;

CREATE TRIGGER audit_stays BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'what was audited never changes'); END;

CREATE TRIGGER audit_is_kept BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'what was audited is never deleted'); END;

-- What operators have stopped; `id` is empty for everything.
CREATE TABLE stops (
    kind  TEXT NOT NULL,
    id    TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (kind, id)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER stop_was_made AFTER INSERT ON stops
BEGIN UPDATE keys_version SET changes = changes + 1; END;

CREATE TRIGGER stop_was_lifted AFTER DELETE ON stops
BEGIN UPDATE keys_version SET changes = changes + 1; END;
