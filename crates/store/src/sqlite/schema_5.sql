-- Schema 5. The tasks that a call's task is part of, the nearest first: a JSON array of texts, NULL
-- without any.
ALTER TABLE calls ADD COLUMN parents TEXT;
