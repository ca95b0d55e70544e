-- +goose Up

-- What waits of the deliveries: a row is made with the delivery, or when it is to go out again,
-- and goes when it ends. What a claim reads is here, so that it needs no other table.
CREATE TABLE waiting_deliveries (
    id              TEXT PRIMARY KEY REFERENCES deliveries (id),
    tenant_id       TEXT NOT NULL,
    event_id        TEXT NOT NULL,
    event_type      TEXT   NOT NULL,
    watch_id        TEXT,
    destination_id  TEXT NOT NULL,
    created_at      INTEGER NOT NULL, -- the event's
    turn            TEXT   NOT NULL CHECK (turn IN ('first', 'again', 'held')), -- a first attempt, a retry, or neither: the destination is disabled
    attempts_made   INTEGER NOT NULL,
    step            INTEGER NOT NULL DEFAULT 0, -- attempts since the schedule last began
    postponed       INTEGER NOT NULL DEFAULT 0, -- microseconds for which attempts have cost no step since then, see jobs/deliver/pause.go
    next_attempt_at INTEGER,
    CHECK ((turn = 'held') = (next_attempt_at IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX waiting_deliveries_due ON waiting_deliveries (destination_id, turn, next_attempt_at);
CREATE INDEX waiting_deliveries_list ON waiting_deliveries (tenant_id, turn, id);
-- What is more urgent in a Slack channel than that an operation completed is found behind any number of those.
CREATE INDEX waiting_deliveries_urgent ON waiting_deliveries (destination_id, next_attempt_at)
    WHERE event_type <> 'operation.completed';
INSERT INTO waiting_deliveries SELECT id, tenant_id, event_id, event_type, watch_id, destination_id, created_at,
    CASE WHEN status = 'held' THEN 'held' WHEN step > 0 THEN 'again' ELSE 'first' END, attempts_made, step, postponed, next_attempt_at
    FROM deliveries WHERE status IN ('pending', 'held');

-- Deliveries that have ended and were not accepted: few, mostly.
CREATE TABLE unaccepted_deliveries (
    id             TEXT PRIMARY KEY REFERENCES deliveries (id),
    tenant_id      TEXT NOT NULL,
    event_id       TEXT NOT NULL,
    event_type     TEXT   NOT NULL,
    watch_id       TEXT,
    destination_id TEXT NOT NULL,
    created_at     INTEGER NOT NULL, -- the event's
    status         TEXT   NOT NULL CHECK (status IN ('failed', 'canceled')),
    finished_at    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX unaccepted_deliveries_list ON unaccepted_deliveries (tenant_id, status, id);
CREATE INDEX unaccepted_deliveries_since ON unaccepted_deliveries (destination_id, created_at);
INSERT INTO unaccepted_deliveries SELECT id, tenant_id, event_id, event_type, watch_id, destination_id, created_at, status, finished_at
    FROM deliveries WHERE status IN ('failed', 'canceled');

-- A delivery is written once. One that has a row in neither of these was accepted, by its last
-- attempt: so what ends well, which is nearly all, changes no row and no index here.
DROP INDEX deliveries_due_first;
DROP INDEX deliveries_due_again;
DROP INDEX deliveries_due_urgent;
DROP INDEX deliveries_held;
DROP INDEX deliveries_since;
DROP INDEX deliveries_status;
DROP INDEX deliveries_event;
ALTER TABLE deliveries DROP COLUMN status;
ALTER TABLE deliveries DROP COLUMN step;
ALTER TABLE deliveries DROP COLUMN postponed;
ALTER TABLE deliveries DROP COLUMN attempts_made;
ALTER TABLE deliveries DROP COLUMN next_attempt_at;
ALTER TABLE deliveries DROP COLUMN finished_at;
CREATE INDEX deliveries_event ON deliveries (event_id);
