-- Schema 6. The triggers that each call meets roll back: for a statement that may abort, a journal of
-- its own is kept, 64 KiB each time.
DROP TRIGGER settled_calls_stay;
CREATE TRIGGER settled_calls_stay BEFORE UPDATE ON calls WHEN OLD.settled_at_ms IS NOT NULL
BEGIN SELECT RAISE(ROLLBACK, 'a settled call never changes'); END;

DROP TRIGGER legs_join_open_calls;
CREATE TRIGGER legs_join_open_calls BEFORE INSERT ON legs
WHEN NOT EXISTS (SELECT 1 FROM calls WHERE id = NEW.call_id AND settled_at_ms IS NULL)
BEGIN SELECT RAISE(ROLLBACK, 'legs are added only while their call is open'); END;

DROP TRIGGER savings_join_open_calls;
CREATE TRIGGER savings_join_open_calls BEFORE INSERT ON savings
WHEN NOT EXISTS (SELECT 1 FROM calls WHERE id = NEW.call_id AND settled_at_ms IS NULL)
BEGIN SELECT RAISE(ROLLBACK, 'savings are added only while their call is open'); END;
