-- +goose Up

-- Who uses the relay.

-- event_seq is the seq of the tenant's newest event: counting it up inside the
-- transaction that writes events makes the order of seq the order of commits.
CREATE TABLE tenants (
    id         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       TEXT COLLATE "C" NOT NULL UNIQUE,
    event_seq  BIGINT NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL
);

-- A revoked key stays, so that "was there ever a key?" has an answer.
CREATE TABLE api_keys (
    id           UUID PRIMARY KEY,
    tenant_id    BIGINT NOT NULL REFERENCES tenants (id),
    name         TEXT   NOT NULL,
    scopes       TEXT   NOT NULL, -- separated by commas
    hash         BYTEA  NOT NULL UNIQUE, -- SHA-256 of the key
    created_at   BIGINT NOT NULL,
    last_used_at BIGINT,
    revoked_at   BIGINT
);
CREATE INDEX api_keys_list ON api_keys (tenant_id, id);

-- Who has signed in to the console. A session of a revoked key opens nothing.
CREATE TABLE sessions (
    hash    BYTEA  PRIMARY KEY, -- SHA-256 of the token in the cookie
    key_id  UUID NOT NULL REFERENCES api_keys (id),
    ends_at BIGINT NOT NULL
);
CREATE INDEX sessions_age ON sessions (ends_at);

CREATE TABLE idempotency_keys (
    tenant_id   BIGINT NOT NULL,
    key         TEXT COLLATE "C" NOT NULL,
    fingerprint BYTEA  NOT NULL,
    reserved_at BIGINT NOT NULL,
    answer      BYTEA, -- sealed; NULL while the request is handled
    PRIMARY KEY (tenant_id, key)
);
CREATE INDEX idempotency_keys_age ON idempotency_keys (reserved_at);

-- What the relay asks with, and whom it tells. Deleted rows stay for the watches that name
-- them, without their secret.

CREATE TABLE credentials (
    id            UUID PRIMARY KEY,
    tenant_id     BIGINT NOT NULL REFERENCES tenants (id),
    name          TEXT   NOT NULL,
    upstream      TEXT   NOT NULL,
    auth          TEXT   NOT NULL
        CHECK (auth IN ('api_token', 'api_key', 'basic', 'oauth2_client', 'google_service_account', 'none')),
    secret        BYTEA  NOT NULL, -- sealed
    version       BIGINT NOT NULL DEFAULT 0, -- of the secret: what was asked with the one before says nothing of this one
    status        TEXT   NOT NULL CHECK (status IN ('active', 'rejected')),
    budget_id     TEXT COLLATE "C" NOT NULL,
    refused_since BIGINT,
    refused_at    BIGINT, -- the last refusal
    last_error    TEXT   NOT NULL DEFAULT '', -- the upstream's words of it
    created_at    BIGINT NOT NULL,
    deleted_at    BIGINT
);
CREATE INDEX credentials_list ON credentials (tenant_id, id) WHERE deleted_at IS NULL;

CREATE TABLE budgets (
    id             TEXT COLLATE "C" PRIMARY KEY,
    slots          TEXT   NOT NULL DEFAULT '', -- START:COUNT,... of the slots charged of late
    parked_until   BIGINT NOT NULL DEFAULT 0,
    hint_remaining BIGINT NOT NULL DEFAULT 0, -- the upstream's own count, true until hint_until
    hint_until     BIGINT NOT NULL DEFAULT 0,
    -- How its operations are polled so that it lasts, see storage/budget_plan.go.
    growth         REAL   NOT NULL DEFAULT 0, -- of the intervals; 0: each has its own
    longest        BIGINT NOT NULL DEFAULT 0, -- interval, in microseconds
    -- Operations that are registered until first_polls_at are not polled at once, but within first_wait.
    first_polls_at BIGINT NOT NULL DEFAULT 0,
    first_wait     BIGINT NOT NULL DEFAULT 0, -- in microseconds
    planned_at     BIGINT NOT NULL DEFAULT 0,
    short_said_at  BIGINT NOT NULL DEFAULT 0 -- that more than twice of it is asked for
);

CREATE TABLE destinations (
    id                   UUID PRIMARY KEY,
    tenant_id            BIGINT NOT NULL REFERENCES tenants (id),
    kind                 TEXT    NOT NULL CHECK (kind IN ('webhook', 'slack')),
    name                 TEXT    NOT NULL,
    url                  TEXT    NOT NULL,
    channel              TEXT    NOT NULL,
    header_names         TEXT    NOT NULL, -- a JSON array
    bot                  BOOLEAN NOT NULL,
    alerts               BOOLEAN NOT NULL,
    rate_limit           BIGINT  NOT NULL, -- per second, 0 for none
    max_in_flight        BIGINT  NOT NULL,
    status               TEXT    NOT NULL CHECK (status IN ('enabled', 'disabled')),
    disabled_reason      TEXT    NOT NULL DEFAULT '',
    secret               BYTEA   NOT NULL, -- sealed
    changed_at           BIGINT, -- when it got another address, or was enabled: what was under way then says nothing of what it is now
    paused_until         BIGINT, -- when it may be sent to again (steady); NULL if it has not asked for a pause since it was enabled
    failing_since        BIGINT,
    consecutive_failures BIGINT  NOT NULL DEFAULT 0,
    last_error           TEXT    NOT NULL DEFAULT '', -- of the last failed attempt; a success leaves it
    last_success_at      BIGINT, -- wall time, true to the second
    -- Deliveries that have failed for good and that no event has told of yet: how many, when
    -- the oldest was made, and when the last event told of others.
    failed_untold        BIGINT  NOT NULL DEFAULT 0,
    failed_since         BIGINT,
    failed_told_at       BIGINT,
    created_at           BIGINT  NOT NULL,
    deleted_at           BIGINT
);
CREATE INDEX destinations_list ON destinations (tenant_id, id) WHERE deleted_at IS NULL;
CREATE INDEX destinations_untold ON destinations (failed_told_at) WHERE failed_untold > 0;

-- What is watched. Each kind of work that waits has a small table, whose rows go when it ends;
-- what was is written once, so that each index is entered once, however long it is kept.

-- An operation that is polled, for one period of observation: a later watch on the same one
-- starts a new row. When it is over it goes into operations. It stays here while some of its
-- watches have still to be ended: then its budget_id is '' and its identity its id, so that
-- nothing polls it, and no new watch shares it.
CREATE TABLE open_operations (
    id                 UUID PRIMARY KEY,
    tenant_id          BIGINT NOT NULL,
    credential_id      UUID NOT NULL,
    budget_id          TEXT COLLATE "C" NOT NULL, -- the credential's, for the index on what is due
    identity           UUID NOT NULL, -- a hash of source, params and operation_id, which may be too long for an index
    source             TEXT COLLATE "C" NOT NULL,
    params             TEXT NOT NULL, -- a JSON object
    operation_id       TEXT COLLATE "C" NOT NULL,
    due_at             BIGINT NOT NULL, -- of the next poll
    held               BOOLEAN NOT NULL DEFAULT FALSE, -- for its budget, it is later than the operation's own interval
    polls              BIGINT NOT NULL DEFAULT 0,
    last_polled_at     BIGINT,
    last_poll_asked_at BIGINT, -- since when a last poll is asked for, because the deadline of a watch has passed
    status             TEXT NOT NULL DEFAULT '' CHECK (status IN ('', 'pending', 'running', 'completed', 'failed')),
    upstream_status    TEXT NOT NULL DEFAULT '', -- the upstream's own word
    error              TEXT NOT NULL DEFAULT '',
    completed_at       BIGINT,
    problem            TEXT NOT NULL DEFAULT '', -- of the last poll
    refused_since      BIGINT,
    refused_reason     TEXT NOT NULL DEFAULT '',
    created_at         BIGINT NOT NULL,
    traceparent        TEXT, -- the W3C traceparent of the registration that began the polls
    watches            BIGINT NOT NULL -- how many refer to it
);
CREATE UNIQUE INDEX open_operations_identity ON open_operations (credential_id, identity);
CREATE INDEX open_operations_due ON open_operations (budget_id, due_at);
-- What waits for the poll that follows its registration.
CREATE INDEX open_operations_fresh ON open_operations (budget_id, created_at)
    WHERE last_polled_at IS NULL AND due_at = created_at;

-- An operation that is over: what its watches show of it.
CREATE TABLE operations (
    id              UUID PRIMARY KEY,
    polls           BIGINT NOT NULL,
    last_polled_at  BIGINT,
    completed_at    BIGINT,
    watches         BIGINT NOT NULL, -- how many refer to it: who deletes the last deletes it
    source          TEXT COLLATE "C" NOT NULL,
    params          TEXT NOT NULL, -- a JSON object
    operation_id    TEXT COLLATE "C" NOT NULL,
    status          TEXT NOT NULL CHECK (status IN ('', 'pending', 'running', 'completed', 'failed')),
    upstream_status TEXT NOT NULL,
    error           TEXT NOT NULL,
    problem         TEXT NOT NULL, -- of the last poll
    refused_reason  TEXT NOT NULL
);

-- A watch, as it was registered.
CREATE TABLE watches (
    id             UUID PRIMARY KEY,
    tenant_id      BIGINT NOT NULL,
    operation_ref  UUID NOT NULL, -- in open_operations, or in operations
    credential_id  UUID NOT NULL,
    operation_hash BIGINT NOT NULL, -- of the tenant and the operation's id, for the lists
    account_hash   BIGINT NOT NULL, -- of the tenant and the operation's account, for the lists
    expires_at     BIGINT NOT NULL, -- what was promised for open_watches.deadline
    created_at     BIGINT NOT NULL,
    name           TEXT, -- NULL for none
    events         TEXT NOT NULL, -- their types, without "operation.", separated by commas; or all
    metadata       TEXT NOT NULL, -- a JSON object
    traceparent    TEXT -- of the registration; NULL if it is part of no trace
);
CREATE INDEX watches_list ON watches (tenant_id, id);
CREATE INDEX watches_operation ON watches (operation_hash, id);
CREATE INDEX watches_account ON watches (account_hash, id);

CREATE TABLE watch_destinations (
    watch_id       UUID NOT NULL,
    destination_id UUID NOT NULL,
    position       BIGINT NOT NULL, -- in the request
    PRIMARY KEY (watch_id, destination_id)
);

-- A watch that has not ended.
CREATE TABLE open_watches (
    operation_ref UUID NOT NULL,
    watch_id      UUID NOT NULL,
    tenant_id     BIGINT NOT NULL,
    deadline      BIGINT NOT NULL, -- steady, see storage/clock.go
    expire_at     BIGINT NOT NULL DEFAULT 0, -- steady: when to end it, 0 until its deadline has passed and was noticed
    PRIMARY KEY (operation_ref, watch_id)
);
CREATE INDEX open_watches_list ON open_watches (tenant_id, watch_id);
CREATE INDEX open_watches_deadline ON open_watches (expire_at, deadline);

-- How a watch has ended: the row that makes this happen once.
CREATE TABLE watch_ends (
    watch_id    UUID PRIMARY KEY,
    status      TEXT NOT NULL CHECK (status IN ('completed', 'failed', 'expired', 'unobservable', 'canceled')),
    finished_at BIGINT NOT NULL,
    event_id    UUID -- NULL if it was canceled
);

-- The few that have ended otherwise than most, for lists.
CREATE TABLE uncompleted_watches (
    tenant_id BIGINT NOT NULL,
    status    TEXT COLLATE "C" NOT NULL,
    watch_id  UUID NOT NULL,
    PRIMARY KEY (tenant_id, status, watch_id)
);

-- What is told of it.

CREATE TABLE events (
    id          UUID PRIMARY KEY,
    tenant_id   BIGINT NOT NULL,
    seq         BIGINT NOT NULL, -- in order of commit, see tenants.event_seq
    created_at  BIGINT NOT NULL,
    watch_id    UUID,
    type        TEXT COLLATE "C" NOT NULL,
    body        BYTEA NOT NULL, -- the exact bytes that are sent
    traceparent TEXT, -- of its watch
    UNIQUE (tenant_id, seq)
);
CREATE INDEX events_type ON events (tenant_id, type, seq);

-- An event and a destination: of what, and since when, its event says. A delivery is in
-- waiting_deliveries (pending or held), in unaccepted_deliveries (failed or
-- canceled), or in neither: then its last attempt was accepted.
CREATE TABLE deliveries (
    id             UUID PRIMARY KEY,
    tenant_id      BIGINT NOT NULL,
    event_id       UUID NOT NULL,
    destination_id UUID NOT NULL
);
CREATE INDEX deliveries_list ON deliveries (tenant_id, id);
CREATE INDEX deliveries_destination ON deliveries (destination_id, id);
CREATE INDEX deliveries_event ON deliveries (event_id);

-- What a claim reads is here, so that it needs no other table.
CREATE TABLE waiting_deliveries (
    id              UUID PRIMARY KEY,
    tenant_id       BIGINT NOT NULL,
    event_id        UUID NOT NULL,
    event_type      TEXT   NOT NULL,
    watch_id        UUID,
    destination_id  UUID NOT NULL,
    created_at      BIGINT NOT NULL, -- the event's
    turn            TEXT COLLATE "C" NOT NULL CHECK (turn IN ('first', 'again', 'held')), -- a first attempt, a retry, or neither: the destination is disabled
    attempts_made   BIGINT NOT NULL,
    step            BIGINT NOT NULL DEFAULT 0, -- attempts since the schedule last began
    postponed       BIGINT NOT NULL DEFAULT 0, -- microseconds for which attempts have cost no step since then, see jobs/deliver/pause.go
    next_attempt_at BIGINT,
    CHECK ((turn = 'held') = (next_attempt_at IS NULL))
);
CREATE INDEX waiting_deliveries_due ON waiting_deliveries (destination_id, turn, next_attempt_at);
CREATE INDEX waiting_deliveries_list ON waiting_deliveries (tenant_id, turn, id);
-- What is more urgent in a Slack channel than that an operation completed is found behind any number of those.
CREATE INDEX waiting_deliveries_urgent ON waiting_deliveries (destination_id, next_attempt_at)
    WHERE event_type <> 'operation.completed';

CREATE TABLE unaccepted_deliveries (
    id             UUID PRIMARY KEY,
    tenant_id      BIGINT NOT NULL,
    event_id       UUID NOT NULL,
    event_type     TEXT   NOT NULL,
    watch_id       UUID,
    destination_id UUID NOT NULL,
    created_at     BIGINT NOT NULL, -- the event's
    status         TEXT COLLATE "C" NOT NULL CHECK (status IN ('failed', 'canceled')),
    finished_at    BIGINT NOT NULL
);
CREATE INDEX unaccepted_deliveries_list ON unaccepted_deliveries (tenant_id, status, id);
CREATE INDEX unaccepted_deliveries_since ON unaccepted_deliveries (destination_id, created_at);

CREATE TABLE attempts (
    delivery_id   UUID NOT NULL,
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
    watch_id       UUID NOT NULL,
    destination_id UUID NOT NULL REFERENCES destinations (id),
    channel        TEXT   NOT NULL DEFAULT '',
    ts             TEXT   NOT NULL DEFAULT '',
    revision       BIGINT NOT NULL,
    shown_revision BIGINT NOT NULL,
    due_at         BIGINT,
    PRIMARY KEY (watch_id, destination_id)
);
CREATE INDEX slack_messages_due ON slack_messages (destination_id, due_at) WHERE due_at IS NOT NULL;

-- Who works on what, and when.

-- due_at is never later than the due time of any of the group's rows, or than not_before if that is later.
CREATE TABLE work_groups (
    kind         TEXT COLLATE "C" NOT NULL CHECK (kind IN ('poll', 'deliver')),
    id           TEXT COLLATE "C" NOT NULL, -- of a budget or a destination
    due_at       BIGINT, -- NULL when nothing waits
    owner        TEXT    NOT NULL DEFAULT '',
    leased_until BIGINT  NOT NULL DEFAULT 0,
    not_before   BIGINT  NOT NULL DEFAULT 0, -- due_at is never earlier: a limit said so
    PRIMARY KEY (kind, id)
);
CREATE INDEX work_groups_due ON work_groups (kind, due_at) WHERE due_at IS NOT NULL;

-- The time that all work waits by, see storage/clock.go: one row, raised about once
-- a second by every process. wall is what the wall clock of that process showed.
CREATE TABLE steady_clock (
    id     BIGINT PRIMARY KEY CHECK (id = 1),
    steady BIGINT NOT NULL,
    wall   BIGINT NOT NULL
);

-- How far the walk through what is old has come, see storage/retention.go: one row.
CREATE TABLE retention (
    id        BIGINT PRIMARY KEY CHECK (id = 1),
    walked_to TEXT COLLATE "C" NOT NULL DEFAULT '', -- an id; '' between two walks
    began     BIGINT NOT NULL DEFAULT 0, -- what ended before, this walk is to delete
    ended_at  BIGINT NOT NULL DEFAULT 0, -- when the last walk did
    done      BIGINT -- what ended before and does not wait, the last walk has deleted; NULL before the first
);
INSERT INTO retention (id) VALUES (1);

-- Where the feed of a tenant begins: after this event, the last in it that was deleted. It is
-- no column of tenants, whose rows whoever publishes locks.
CREATE TABLE feed_starts (
    tenant_id  BIGINT PRIMARY KEY,
    seq        BIGINT NOT NULL,
    event_id   UUID NOT NULL,
    created_at BIGINT NOT NULL
);
