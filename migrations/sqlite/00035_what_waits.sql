-- +goose NO TRANSACTION
-- +goose Up
PRAGMA foreign_keys = OFF; -- tables are replaced that others refer to
BEGIN;

-- What waits, apart from what was: operations that are polled and watches that are open have
-- small tables, from which they go when they end; what has ended is written once.

-- An operation that is being polled, in the order of its ids the period of observation. It goes
-- into operations when it is over; a later watch on the same one starts a new row. It stays
-- here while some of its watches have still to be ended: then its budget_id is '' and its
-- identity its id, so that nothing polls it, and no new watch shares it.
CREATE TABLE open_operations (
    id                 TEXT PRIMARY KEY,
    tenant_id          TEXT NOT NULL REFERENCES tenants (id),
    credential_id      TEXT NOT NULL REFERENCES credentials (id),
    budget_id          TEXT NOT NULL, -- the credential's, for the index on what is due
    identity           TEXT NOT NULL, -- a hash of source, params and operation_id, which may be too long for an index
    source             TEXT NOT NULL,
    params             TEXT NOT NULL, -- a JSON object
    operation_id       TEXT NOT NULL,
    due_at             INTEGER NOT NULL, -- of the next poll
    held               INTEGER NOT NULL DEFAULT FALSE, -- for its budget, it is later than the operation's own interval
    polls              INTEGER NOT NULL DEFAULT 0,
    last_polled_at     INTEGER,
    last_poll_asked_at INTEGER, -- since when a last poll is asked for, because the deadline of a watch has passed
    status             TEXT NOT NULL DEFAULT '' CHECK (status IN ('', 'pending', 'running', 'completed', 'failed')),
    upstream_status    TEXT NOT NULL DEFAULT '', -- the upstream's own word
    error              TEXT NOT NULL DEFAULT '',
    completed_at       INTEGER,
    problem            TEXT NOT NULL DEFAULT '', -- of the last poll
    refused_since      INTEGER,
    refused_reason     TEXT NOT NULL DEFAULT '',
    created_at         INTEGER NOT NULL,
    traceparent        TEXT, -- of the watch that began the polls
    watches            INTEGER NOT NULL -- how many refer to it
) STRICT, WITHOUT ROWID;
INSERT INTO open_operations (id, tenant_id, credential_id, budget_id, identity, source, params, operation_id, due_at, held,
        polls, last_polled_at, last_poll_asked_at, status, upstream_status, error, completed_at, problem,
        refused_since, refused_reason, created_at, traceparent, watches)
    SELECT id, tenant_id, credential_id, CASE WHEN active THEN budget_id ELSE '' END,
        CASE WHEN active THEN identity ELSE id END, source, params, operation_id, due_at, held,
        polls, last_polled_at, last_poll_asked_at, status, upstream_status, error, completed_at, problem,
        refused_since, refused_reason, created_at, traceparent,
        (SELECT COUNT(*) FROM watches w WHERE w.operation_ref = operations.id)
    FROM operations WHERE active OR EXISTS (SELECT 1 FROM watches w WHERE w.operation_ref = operations.id AND w.status = 'watching');
CREATE UNIQUE INDEX open_operations_identity ON open_operations (credential_id, identity);
CREATE INDEX open_operations_due ON open_operations (budget_id, due_at);
-- What waits for the poll that follows its registration.
CREATE INDEX open_operations_fresh ON open_operations (budget_id, created_at)
    WHERE last_polled_at IS NULL AND due_at = created_at;

-- An operation that is over: what its watches show of it.
CREATE TABLE ended_operations (
    id              TEXT PRIMARY KEY,
    source          TEXT NOT NULL,
    params          TEXT NOT NULL, -- a JSON object
    operation_id    TEXT NOT NULL,
    polls           INTEGER NOT NULL,
    last_polled_at  INTEGER,
    status          TEXT NOT NULL CHECK (status IN ('', 'pending', 'running', 'completed', 'failed')),
    upstream_status TEXT NOT NULL,
    error           TEXT NOT NULL,
    completed_at    INTEGER,
    problem         TEXT NOT NULL, -- of the last poll
    refused_reason  TEXT NOT NULL,
    watches         INTEGER NOT NULL -- how many refer to it: who deletes the last deletes it
) STRICT, WITHOUT ROWID;
INSERT INTO ended_operations (id, source, params, operation_id, polls, last_polled_at, status, upstream_status, error,
        completed_at, problem, refused_reason, watches)
    SELECT id, source, params, operation_id, polls, last_polled_at, status, upstream_status, error,
        completed_at, problem, refused_reason, (SELECT COUNT(*) FROM watches w WHERE w.operation_ref = operations.id)
    FROM operations WHERE NOT active;
DROP TABLE operations;
ALTER TABLE ended_operations RENAME TO operations;

-- A watch, as it was registered. It never changes: how it ended is in watch_ends, so it is
-- entered into each index once.
CREATE TABLE registered_watches (
    id            TEXT PRIMARY KEY,
    tenant_id     TEXT NOT NULL REFERENCES tenants (id),
    operation_ref TEXT NOT NULL, -- in open_operations, or in operations
    credential_id TEXT NOT NULL REFERENCES credentials (id),
    account_id    TEXT NOT NULL, -- the operation's, for the lists
    operation_id  TEXT NOT NULL, -- the operation's, for the lists
    name          TEXT, -- NULL for none
    events        TEXT NOT NULL, -- a JSON array
    metadata      TEXT NOT NULL, -- a JSON object
    expires_at    INTEGER NOT NULL, -- what was promised for open_watches.deadline
    created_at    INTEGER NOT NULL,
    traceparent   TEXT
) STRICT, WITHOUT ROWID;
INSERT INTO registered_watches (id, tenant_id, operation_ref, credential_id, account_id, operation_id, name, events, metadata,
        expires_at, created_at, traceparent)
    SELECT id, tenant_id, operation_ref, credential_id, account_id, operation_id, name, events, metadata,
        expires_at, created_at, traceparent FROM watches;

-- A watch that has not ended.
CREATE TABLE open_watches (
    operation_ref TEXT NOT NULL REFERENCES open_operations (id),
    watch_id      TEXT NOT NULL REFERENCES watches (id),
    tenant_id     TEXT NOT NULL REFERENCES tenants (id),
    deadline      INTEGER NOT NULL, -- steady
    expire_at     INTEGER NOT NULL DEFAULT 0, -- steady: when to end it, 0 until its deadline has passed and was noticed
    PRIMARY KEY (operation_ref, watch_id)
) STRICT, WITHOUT ROWID;
INSERT INTO open_watches (operation_ref, watch_id, tenant_id, deadline, expire_at)
    SELECT operation_ref, id, tenant_id, deadline, COALESCE(expire_at, 0) FROM watches WHERE status = 'watching';
CREATE INDEX open_watches_list ON open_watches (tenant_id, watch_id);
CREATE INDEX open_watches_deadline ON open_watches (expire_at, deadline);

-- How a watch has ended: the row that makes this happen once.
CREATE TABLE watch_ends (
    watch_id    TEXT PRIMARY KEY REFERENCES watches (id),
    status      TEXT NOT NULL CHECK (status IN ('completed', 'failed', 'expired', 'unobservable', 'canceled')),
    finished_at INTEGER NOT NULL,
    event_id    TEXT -- NULL if it was canceled
) STRICT, WITHOUT ROWID;
INSERT INTO watch_ends (watch_id, status, finished_at, event_id)
    SELECT id, status, finished_at, event_id FROM watches WHERE status <> 'watching';

-- The few that have ended otherwise than most, for lists.
CREATE TABLE uncompleted_watches (
    tenant_id TEXT NOT NULL REFERENCES tenants (id),
    status    TEXT NOT NULL,
    watch_id  TEXT NOT NULL REFERENCES watches (id),
    PRIMARY KEY (tenant_id, status, watch_id)
) STRICT, WITHOUT ROWID;
INSERT INTO uncompleted_watches (tenant_id, status, watch_id)
    SELECT tenant_id, status, id FROM watches WHERE status NOT IN ('watching', 'completed');
DROP TABLE watches;
ALTER TABLE registered_watches RENAME TO watches;
CREATE INDEX watches_list ON watches (tenant_id, id);
CREATE INDEX watches_operation ON watches (tenant_id, operation_id, id);
CREATE INDEX watches_account ON watches (tenant_id, account_id, id);

CREATE TABLE their_destinations (
    watch_id       TEXT NOT NULL REFERENCES watches (id),
    destination_id TEXT NOT NULL REFERENCES destinations (id),
    position       INTEGER NOT NULL, -- in the request
    PRIMARY KEY (watch_id, destination_id)
) STRICT, WITHOUT ROWID;
INSERT INTO their_destinations (watch_id, destination_id, position) SELECT watch_id, destination_id, position FROM watch_destinations;
DROP TABLE watch_destinations;
ALTER TABLE their_destinations RENAME TO watch_destinations;
COMMIT;
PRAGMA foreign_keys = ON;
