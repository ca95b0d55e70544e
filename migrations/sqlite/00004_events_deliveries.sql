-- +goose Up

CREATE TABLE events (
    id         TEXT PRIMARY KEY,
    tenant_id  TEXT NOT NULL REFERENCES tenants (id),
    seq        INTEGER NOT NULL, -- in order of commit, see tenants.event_seq
    type       TEXT   NOT NULL,
    watch_id   TEXT REFERENCES watches (id),
    created_at INTEGER NOT NULL,
    body       BLOB  NOT NULL, -- the exact bytes that are sent
    UNIQUE (tenant_id, seq)
) STRICT;

-- created_at is the event's: both are written by one transaction.
CREATE TABLE deliveries (
    id              TEXT PRIMARY KEY,
    tenant_id       TEXT NOT NULL REFERENCES tenants (id),
    event_id        TEXT NOT NULL REFERENCES events (id),
    event_type      TEXT   NOT NULL,
    watch_id        TEXT REFERENCES watches (id),
    destination_id  TEXT NOT NULL REFERENCES destinations (id),
    status          TEXT   NOT NULL CHECK (status IN ('pending', 'held', 'succeeded', 'failed', 'canceled')),
    step            INTEGER NOT NULL DEFAULT 0, -- attempts since the schedule last began
    attempts_made   INTEGER NOT NULL DEFAULT 0,
    next_attempt_at INTEGER,
    created_at      INTEGER NOT NULL,
    finished_at     INTEGER
) STRICT;
CREATE INDEX deliveries_due_first ON deliveries (destination_id, next_attempt_at) WHERE status = 'pending' AND step = 0;
CREATE INDEX deliveries_due_again ON deliveries (destination_id, next_attempt_at) WHERE status = 'pending' AND step > 0;
CREATE INDEX deliveries_held ON deliveries (destination_id) WHERE status = 'held';
CREATE INDEX deliveries_since ON deliveries (destination_id, created_at);
CREATE INDEX deliveries_list ON deliveries (tenant_id, id);
CREATE INDEX deliveries_status ON deliveries (tenant_id, status, id);
CREATE INDEX deliveries_watch ON deliveries (watch_id, id);
CREATE INDEX deliveries_destination ON deliveries (destination_id, id);
CREATE INDEX deliveries_event ON deliveries (event_id, id);

CREATE TABLE attempts (
    delivery_id   TEXT NOT NULL REFERENCES deliveries (id),
    number        INTEGER NOT NULL,
    started_at    INTEGER NOT NULL,
    duration      INTEGER NOT NULL, -- microseconds
    status_code   INTEGER NOT NULL, -- 0 when there was no answer
    error         TEXT   NOT NULL,
    response_body BLOB  NOT NULL,
    PRIMARY KEY (delivery_id, number)
) STRICT, WITHOUT ROWID;

-- The one message per watch and bot destination. It is behind when
-- shown_revision is less than revision; due_at is then when to update it.
CREATE TABLE slack_messages (
    watch_id       TEXT NOT NULL REFERENCES watches (id),
    destination_id TEXT NOT NULL REFERENCES destinations (id),
    channel        TEXT   NOT NULL DEFAULT '',
    ts             TEXT   NOT NULL DEFAULT '',
    revision       INTEGER NOT NULL,
    shown_revision INTEGER NOT NULL,
    due_at         INTEGER,
    PRIMARY KEY (watch_id, destination_id)
) STRICT;
CREATE INDEX slack_messages_due ON slack_messages (destination_id, due_at) WHERE due_at IS NOT NULL;
