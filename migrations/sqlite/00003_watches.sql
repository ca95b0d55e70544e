-- +goose Up

-- A row is one period of observation: once it is not active it never changes
-- again, and a later watch on the same operation starts a new row.
CREATE TABLE operations (
    id             TEXT PRIMARY KEY,
    tenant_id      TEXT NOT NULL REFERENCES tenants (id),
    credential_id  TEXT NOT NULL REFERENCES credentials (id),
    budget_id      TEXT NOT NULL, -- the credential's, for the index on what is due
    source         TEXT NOT NULL,
    account_id     TEXT NOT NULL,
    operation_id   TEXT NOT NULL,
    active         INTEGER NOT NULL,
    due_at         INTEGER  NOT NULL, -- of the next poll
    polls          INTEGER  NOT NULL DEFAULT 0,
    last_polled_at INTEGER,
    status         TEXT    NOT NULL DEFAULT '' CHECK (status IN ('', 'pending', 'running', 'completed', 'failed')),
    error          TEXT    NOT NULL DEFAULT '',
    completed_at   INTEGER,
    problem        TEXT    NOT NULL DEFAULT '', -- of the last poll
    refused_since  INTEGER,
    refused_reason TEXT    NOT NULL DEFAULT '',
    created_at     INTEGER  NOT NULL
) STRICT;
CREATE UNIQUE INDEX operations_active ON operations (credential_id, source, account_id, operation_id) WHERE active;
CREATE INDEX operations_due ON operations (budget_id, due_at) WHERE active;

CREATE TABLE watches (
    id            TEXT PRIMARY KEY,
    tenant_id     TEXT NOT NULL REFERENCES tenants (id),
    operation_ref TEXT NOT NULL REFERENCES operations (id),
    credential_id TEXT NOT NULL REFERENCES credentials (id),
    account_id    TEXT NOT NULL, -- the operation's, for the lists
    operation_id  TEXT NOT NULL, -- the operation's, for the lists
    status        TEXT   NOT NULL
        CHECK (status IN ('watching', 'completed', 'failed', 'expired', 'unobservable', 'canceled')),
    events        TEXT   NOT NULL, -- a JSON array
    metadata      TEXT   NOT NULL, -- a JSON object
    expires_at    INTEGER NOT NULL,
    created_at    INTEGER NOT NULL,
    finished_at   INTEGER,
    event_id      TEXT,
    CHECK ((status = 'watching') = (finished_at IS NULL))
) STRICT;
CREATE INDEX watches_list ON watches (tenant_id, id);
CREATE INDEX watches_status ON watches (tenant_id, status, id);
CREATE INDEX watches_operation ON watches (tenant_id, operation_id, id);
CREATE INDEX watches_account ON watches (tenant_id, account_id, id);
-- Not partial, like the primary keys: what is looked up by key asks for
-- finished_at IS NULL, so that no planner with old statistics takes one of the
-- partial indexes below for short, and reads all of it.
CREATE INDEX watches_of_operation ON watches (operation_ref);
CREATE INDEX watches_of_credential ON watches (credential_id, id) WHERE status = 'watching';
CREATE INDEX watches_deadline ON watches (expires_at) WHERE status = 'watching';

CREATE TABLE watch_destinations (
    watch_id       TEXT NOT NULL REFERENCES watches (id),
    destination_id TEXT NOT NULL REFERENCES destinations (id),
    position       INTEGER NOT NULL, -- in the request
    PRIMARY KEY (watch_id, destination_id)
) STRICT;
