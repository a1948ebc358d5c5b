-- Schema 3. How good the answers to calls were, as clients say: one row a call, which stays.
-- `kinds` is a JSON array of 16-digit hexadecimal numbers: the kinds of traffic that the router
-- counts the outcome for.
CREATE TABLE outcomes (
    id     INTEGER PRIMARY KEY,
    call   TEXT NOT NULL UNIQUE,
    at_ms  INTEGER NOT NULL,
    score  REAL NOT NULL,
    target TEXT NOT NULL,
    kinds  TEXT NOT NULL
) STRICT;

CREATE TRIGGER outcome_stays BEFORE UPDATE ON outcomes
BEGIN SELECT RAISE(ABORT, 'an outcome never changes'); END;

CREATE TRIGGER outcome_is_kept BEFORE DELETE ON outcomes
BEGIN SELECT RAISE(ABORT, 'an outcome is never deleted'); END;
