-- Schema 4. The target of a call's latest leg, as `provider/model`: what a call that a crash cuts off
-- is charged to besides its payers. NULL in rows of earlier builds.
ALTER TABLE calls ADD COLUMN target TEXT;
