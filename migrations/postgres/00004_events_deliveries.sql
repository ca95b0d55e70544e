-- +goose Up

CREATE TABLE events (
    id         TEXT COLLATE "C" PRIMARY KEY,
    tenant_id  TEXT COLLATE "C" NOT NULL REFERENCES tenants (id),
    seq        BIGINT NOT NULL, -- in order of commit, see tenants.event_seq
    type       TEXT   NOT NULL,
    watch_id   TEXT COLLATE "C" REFERENCES watches (id),
    created_at BIGINT NOT NULL,
    body       BYTEA  NOT NULL, -- the exact bytes that are sent
    UNIQUE (tenant_id, seq)
);

-- created_at is the event's: both are written by one transaction.
CREATE TABLE deliveries (
    id              TEXT COLLATE "C" PRIMARY KEY,
    tenant_id       TEXT COLLATE "C" NOT NULL REFERENCES tenants (id),
    event_id        TEXT COLLATE "C" NOT NULL REFERENCES events (id),
    event_type      TEXT   NOT NULL,
    watch_id        TEXT COLLATE "C" REFERENCES watches (id),
    destination_id  TEXT COLLATE "C" NOT NULL REFERENCES destinations (id),
    status          TEXT   NOT NULL CHECK (status IN ('pending', 'held', 'succeeded', 'failed', 'canceled')),
    step            BIGINT NOT NULL DEFAULT 0, -- attempts since the schedule last began
    attempts_made   BIGINT NOT NULL DEFAULT 0,
    next_attempt_at BIGINT,
    created_at      BIGINT NOT NULL,
    finished_at     BIGINT
);
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
    delivery_id   TEXT COLLATE "C" NOT NULL REFERENCES deliveries (id),
    number        BIGINT NOT NULL,
    started_at    BIGINT NOT NULL,
    duration      BIGINT NOT NULL, -- microseconds
    status_code   BIGINT NOT NULL, -- 0 when there was no answer
    error         TEXT   NOT NULL,
    response_body BYTEA  NOT NULL,
    PRIMARY KEY (delivery_id, number)
);

-- The one message per watch and bot destination. It is behind when
-- shown_revision is less than revision; due_at is then when to update it.
CREATE TABLE slack_messages (
    watch_id       TEXT COLLATE "C" NOT NULL REFERENCES watches (id),
    destination_id TEXT COLLATE "C" NOT NULL REFERENCES destinations (id),
    channel        TEXT   NOT NULL DEFAULT '',
    ts             TEXT   NOT NULL DEFAULT '',
    revision       BIGINT NOT NULL,
    shown_revision BIGINT NOT NULL,
    due_at         BIGINT,
    PRIMARY KEY (watch_id, destination_id)
);
CREATE INDEX slack_messages_due ON slack_messages (destination_id, due_at) WHERE due_at IS NOT NULL;
