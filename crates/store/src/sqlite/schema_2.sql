-- Schema 2. One row: up to which record of which segment the journal beside this file has been
-- brought into the tables.
CREATE TABLE journal (
    segment INTEGER NOT NULL,
    offset  INTEGER NOT NULL
) STRICT;
INSERT INTO journal VALUES (0, 0);
