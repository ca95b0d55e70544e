-- +goose Up

-- The youngest of a budget's operations, for when not all that is due can be polled.
CREATE INDEX operations_young ON operations (budget_id, created_at, due_at) WHERE active;

-- What a grace runs for, which a gap without any process is left out of.
CREATE INDEX operations_graces ON operations (id)
    WHERE active AND (refused_since IS NOT NULL OR last_poll_asked_at IS NOT NULL);

-- Whether an expired watch still waits for a last poll is looked up once, not at
-- every tick: expire_at is NULL until then, and when to end the watch (steady, 0 for
-- at once) from then on.
ALTER TABLE watches ADD COLUMN expire_at INTEGER;
DROP INDEX watches_deadline;
CREATE INDEX watches_deadline ON watches (deadline) WHERE status = 'watching' AND expire_at IS NULL;
CREATE INDEX watches_expire ON watches (expire_at) WHERE status = 'watching' AND expire_at IS NOT NULL;

-- For Recover alone, which leaves out what was accepted: mostly all.
DROP INDEX deliveries_since;
CREATE INDEX deliveries_since ON deliveries (destination_id, created_at) WHERE status <> 'succeeded';

-- The references that PostgreSQL drops here stay: a look-up in the same process.
