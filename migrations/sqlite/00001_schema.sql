-- +goose Up

-- Who uses the relay.

-- event_seq is the seq of the tenant's newest event: counting it up inside the
-- transaction that writes events makes the order of seq the order of commits.
CREATE TABLE tenants (
    id         INTEGER PRIMARY KEY,
    name       TEXT   NOT NULL UNIQUE,
    event_seq  INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL
) STRICT;

-- A revoked key stays, so that "was there ever a key?" has an answer.
CREATE TABLE api_keys (
    id           BLOB PRIMARY KEY,
    tenant_id    INTEGER NOT NULL REFERENCES tenants (id),
    name         TEXT   NOT NULL,
    scopes       TEXT   NOT NULL, -- separated by commas
    hash         BLOB  NOT NULL UNIQUE, -- SHA-256 of the key
    created_at   INTEGER NOT NULL,
    last_used_at INTEGER,
    revoked_at   INTEGER
) STRICT;
CREATE INDEX api_keys_list ON api_keys (tenant_id, id);

-- Who has signed in to the console. A session of a revoked key opens nothing.
CREATE TABLE sessions (
    hash    BLOB  PRIMARY KEY, -- SHA-256 of the token in the cookie
    key_id  BLOB NOT NULL REFERENCES api_keys (id),
    ends_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_age ON sessions (ends_at);

CREATE TABLE idempotency_keys (
    tenant_id   INTEGER NOT NULL REFERENCES tenants (id),
    key         TEXT NOT NULL,
    fingerprint BLOB  NOT NULL,
    reserved_at INTEGER NOT NULL,
    answer      BLOB, -- sealed; NULL while the request is handled
    PRIMARY KEY (tenant_id, key)
) STRICT;
CREATE INDEX idempotency_keys_age ON idempotency_keys (reserved_at);

-- What the relay asks with, and whom it tells. Deleted rows stay for the watches that name
-- them, without their secret.

CREATE TABLE credentials (
    id            BLOB PRIMARY KEY,
    tenant_id     INTEGER NOT NULL REFERENCES tenants (id),
    name          TEXT   NOT NULL,
    upstream      TEXT   NOT NULL,
    auth          TEXT   NOT NULL
        CHECK (auth IN ('api_token', 'api_key', 'basic', 'oauth2_client', 'google_service_account', 'none')),
    secret        BLOB  NOT NULL, -- sealed
    version       INTEGER NOT NULL DEFAULT 0, -- of the secret: what was asked with the one before says nothing of this one
    status        TEXT   NOT NULL CHECK (status IN ('active', 'rejected')),
    budget_id     TEXT NOT NULL,
    refused_since INTEGER,
    refused_at    INTEGER, -- the last refusal
    last_error    TEXT   NOT NULL DEFAULT '', -- the upstream's words of it
    created_at    INTEGER NOT NULL,
    deleted_at    INTEGER
) STRICT;
CREATE INDEX credentials_list ON credentials (tenant_id, id) WHERE deleted_at IS NULL;

CREATE TABLE budgets (
    id             TEXT PRIMARY KEY,
    slots          TEXT   NOT NULL DEFAULT '', -- START:COUNT,... of the slots charged of late
    parked_until   INTEGER NOT NULL DEFAULT 0,
    hint_remaining INTEGER NOT NULL DEFAULT 0, -- the upstream's own count, true until hint_until
    hint_until     INTEGER NOT NULL DEFAULT 0,
    -- How its operations are polled so that it lasts, see storage/budget_plan.go.
    growth         REAL   NOT NULL DEFAULT 0, -- of the intervals; 0: each has its own
    longest        INTEGER NOT NULL DEFAULT 0, -- interval, in microseconds
    -- Operations that are registered until first_polls_at are not polled at once, but within first_wait.
    first_polls_at INTEGER NOT NULL DEFAULT 0,
    first_wait     INTEGER NOT NULL DEFAULT 0, -- in microseconds
    planned_at     INTEGER NOT NULL DEFAULT 0,
    short_said_at  INTEGER NOT NULL DEFAULT 0 -- that more than twice of it is asked for
) STRICT;

CREATE TABLE destinations (
    id                   BLOB PRIMARY KEY,
    tenant_id            INTEGER NOT NULL REFERENCES tenants (id),
    kind                 TEXT    NOT NULL CHECK (kind IN ('webhook', 'slack')),
    name                 TEXT    NOT NULL,
    url                  TEXT    NOT NULL,
    channel              TEXT    NOT NULL,
    header_names         TEXT    NOT NULL, -- a JSON array
    bot                  INTEGER NOT NULL,
    alerts               INTEGER NOT NULL,
    rate_limit           INTEGER  NOT NULL, -- per second, 0 for none
    max_in_flight        INTEGER  NOT NULL,
    status               TEXT    NOT NULL CHECK (status IN ('enabled', 'disabled')),
    disabled_reason      TEXT    NOT NULL DEFAULT '',
    secret               BLOB   NOT NULL, -- sealed
    changed_at           INTEGER, -- when it got another address, or was enabled: what was under way then says nothing of what it is now
    paused_until         INTEGER, -- when it may be sent to again (steady); NULL if it has not asked for a pause since it was enabled
    failing_since        INTEGER,
    consecutive_failures INTEGER  NOT NULL DEFAULT 0,
    last_error           TEXT    NOT NULL DEFAULT '', -- of the last failed attempt; a success leaves it
    last_success_at      INTEGER, -- wall time, true to the second
    -- Deliveries that have failed for good and that no event has told of yet: how many, when
    -- the oldest was made, and when the last event told of others.
    failed_untold        INTEGER  NOT NULL DEFAULT 0,
    failed_since         INTEGER,
    failed_told_at       INTEGER,
    created_at           INTEGER  NOT NULL,
    deleted_at           INTEGER
) STRICT;
CREATE INDEX destinations_list ON destinations (tenant_id, id) WHERE deleted_at IS NULL;
CREATE INDEX destinations_untold ON destinations (failed_told_at) WHERE failed_untold > 0;

-- What is watched. Each kind of work that waits has a small table, whose rows go when it ends;
-- what was is written once, so that each index is entered once, however long it is kept.

-- An operation that is polled, for one period of observation: a later watch on the same one
-- starts a new row. When it is over it goes into operations. It stays here while some of its
-- watches have still to be ended: then its budget_id is '' and its identity its id, so that
-- nothing polls it, and no new watch shares it.
CREATE TABLE open_operations (
    id                 BLOB PRIMARY KEY,
    tenant_id          INTEGER NOT NULL REFERENCES tenants (id),
    credential_id      BLOB NOT NULL REFERENCES credentials (id),
    budget_id          TEXT NOT NULL, -- the credential's, for the index on what is due
    identity           BLOB NOT NULL, -- a hash of source, params and operation_id, which may be too long for an index
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
    traceparent        TEXT, -- the W3C traceparent of the registration that began the polls
    watches            INTEGER NOT NULL -- how many refer to it
) STRICT; -- with row ids, so that what is due at the same time comes in the order in which it was registered
CREATE UNIQUE INDEX open_operations_identity ON open_operations (credential_id, identity);
CREATE INDEX open_operations_due ON open_operations (budget_id, due_at);
-- What waits for the poll that follows its registration.
CREATE INDEX open_operations_fresh ON open_operations (budget_id, created_at)
    WHERE last_polled_at IS NULL AND due_at = created_at;

-- An operation that is over: what its watches show of it.
CREATE TABLE operations (
    id              BLOB PRIMARY KEY,
    polls           INTEGER NOT NULL,
    last_polled_at  INTEGER,
    completed_at    INTEGER,
    watches         INTEGER NOT NULL, -- how many refer to it: who deletes the last deletes it
    source          TEXT NOT NULL,
    params          TEXT NOT NULL, -- a JSON object
    operation_id    TEXT NOT NULL,
    status          TEXT NOT NULL CHECK (status IN ('', 'pending', 'running', 'completed', 'failed')),
    upstream_status TEXT NOT NULL,
    error           TEXT NOT NULL,
    problem         TEXT NOT NULL, -- of the last poll
    refused_reason  TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- A watch, as it was registered.
CREATE TABLE watches (
    id             BLOB PRIMARY KEY,
    tenant_id      INTEGER NOT NULL REFERENCES tenants (id),
    operation_ref  BLOB NOT NULL, -- in open_operations, or in operations
    credential_id  BLOB NOT NULL REFERENCES credentials (id),
    operation_hash INTEGER NOT NULL, -- of the tenant and the operation's id, for the lists
    account_hash   INTEGER NOT NULL, -- of the tenant and the operation's account, for the lists
    expires_at     INTEGER NOT NULL, -- what was promised for open_watches.deadline
    created_at     INTEGER NOT NULL,
    name           TEXT, -- NULL for none
    events         TEXT NOT NULL, -- their types, without "operation.", separated by commas; or all
    metadata       TEXT NOT NULL, -- a JSON object
    traceparent    TEXT -- of the registration; NULL if it is part of no trace
) STRICT, WITHOUT ROWID;
CREATE INDEX watches_list ON watches (tenant_id, id);
CREATE INDEX watches_operation ON watches (operation_hash, id);
CREATE INDEX watches_account ON watches (account_hash, id);

CREATE TABLE watch_destinations (
    watch_id       BLOB NOT NULL REFERENCES watches (id),
    destination_id BLOB NOT NULL REFERENCES destinations (id),
    position       INTEGER NOT NULL, -- in the request
    PRIMARY KEY (watch_id, destination_id)
) STRICT, WITHOUT ROWID;

-- A watch that has not ended.
CREATE TABLE open_watches (
    operation_ref BLOB NOT NULL REFERENCES open_operations (id),
    watch_id      BLOB NOT NULL,
    tenant_id     INTEGER NOT NULL REFERENCES tenants (id),
    deadline      INTEGER NOT NULL, -- steady, see storage/clock.go
    expire_at     INTEGER NOT NULL DEFAULT 0, -- steady: when to end it, 0 until its deadline has passed and was noticed
    PRIMARY KEY (operation_ref, watch_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX open_watches_list ON open_watches (tenant_id, watch_id);
CREATE INDEX open_watches_deadline ON open_watches (expire_at, deadline);

-- How a watch has ended: the row that makes this happen once.
CREATE TABLE watch_ends (
    watch_id    BLOB PRIMARY KEY REFERENCES watches (id),
    status      TEXT NOT NULL CHECK (status IN ('completed', 'failed', 'expired', 'unobservable', 'canceled')),
    finished_at INTEGER NOT NULL,
    event_id    BLOB -- NULL if it was canceled
) STRICT, WITHOUT ROWID;

-- The few that have ended otherwise than most, for lists.
CREATE TABLE uncompleted_watches (
    tenant_id INTEGER NOT NULL REFERENCES tenants (id),
    status    TEXT NOT NULL,
    watch_id  BLOB NOT NULL,
    PRIMARY KEY (tenant_id, status, watch_id)
) STRICT, WITHOUT ROWID;

-- What is told of it.

CREATE TABLE events (
    id          BLOB PRIMARY KEY,
    tenant_id   INTEGER NOT NULL REFERENCES tenants (id),
    seq         INTEGER NOT NULL, -- in order of commit, see tenants.event_seq
    created_at  INTEGER NOT NULL,
    watch_id    BLOB,
    type        TEXT NOT NULL,
    body        BLOB NOT NULL, -- the exact bytes that are sent
    traceparent TEXT, -- of its watch
    UNIQUE (tenant_id, seq)
) STRICT;
CREATE INDEX events_type ON events (tenant_id, type, seq);

-- An event and a destination: of what, and since when, its event says. A delivery is in
-- waiting_deliveries (pending or held), in unaccepted_deliveries (failed or
-- canceled), or in neither: then its last attempt was accepted.
CREATE TABLE deliveries (
    id             BLOB PRIMARY KEY,
    tenant_id      INTEGER NOT NULL REFERENCES tenants (id),
    event_id       BLOB NOT NULL REFERENCES events (id),
    destination_id BLOB NOT NULL REFERENCES destinations (id)
) STRICT, WITHOUT ROWID;
CREATE INDEX deliveries_list ON deliveries (tenant_id, id);
CREATE INDEX deliveries_destination ON deliveries (destination_id, id);
CREATE INDEX deliveries_event ON deliveries (event_id);

-- What a claim reads is here, so that it needs no other table.
CREATE TABLE waiting_deliveries (
    id              BLOB PRIMARY KEY REFERENCES deliveries (id),
    tenant_id       INTEGER NOT NULL,
    event_id        BLOB NOT NULL,
    event_type      TEXT   NOT NULL,
    watch_id        BLOB,
    destination_id  BLOB NOT NULL,
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

CREATE TABLE unaccepted_deliveries (
    id             BLOB PRIMARY KEY REFERENCES deliveries (id),
    tenant_id      INTEGER NOT NULL,
    event_id       BLOB NOT NULL,
    event_type     TEXT   NOT NULL,
    watch_id       BLOB,
    destination_id BLOB NOT NULL,
    created_at     INTEGER NOT NULL, -- the event's
    status         TEXT   NOT NULL CHECK (status IN ('failed', 'canceled')),
    finished_at    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX unaccepted_deliveries_list ON unaccepted_deliveries (tenant_id, status, id);
CREATE INDEX unaccepted_deliveries_since ON unaccepted_deliveries (destination_id, created_at);

CREATE TABLE attempts (
    delivery_id   BLOB NOT NULL REFERENCES deliveries (id),
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
    watch_id       BLOB NOT NULL REFERENCES watches (id),
    destination_id BLOB NOT NULL REFERENCES destinations (id),
    channel        TEXT   NOT NULL DEFAULT '',
    ts             TEXT   NOT NULL DEFAULT '',
    revision       INTEGER NOT NULL,
    shown_revision INTEGER NOT NULL,
    due_at         INTEGER,
    PRIMARY KEY (watch_id, destination_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX slack_messages_due ON slack_messages (destination_id, due_at) WHERE due_at IS NOT NULL;

-- Who works on what, and when.

-- due_at is never later than the due time of any of the group's rows, or than not_before if that is later.
CREATE TABLE work_groups (
    kind         TEXT NOT NULL CHECK (kind IN ('poll', 'deliver')),
    id           TEXT NOT NULL, -- of a budget or a destination
    due_at       INTEGER, -- NULL when nothing waits
    owner        TEXT    NOT NULL DEFAULT '',
    leased_until INTEGER  NOT NULL DEFAULT 0,
    not_before   INTEGER  NOT NULL DEFAULT 0, -- due_at is never earlier: a limit said so
    PRIMARY KEY (kind, id)
) STRICT;
CREATE INDEX work_groups_due ON work_groups (kind, due_at) WHERE due_at IS NOT NULL;

-- The time that all work waits by, see storage/clock.go: one row, raised about once
-- a second by every process. wall is what the wall clock of that process showed.
CREATE TABLE steady_clock (
    id     INTEGER PRIMARY KEY CHECK (id = 1),
    steady INTEGER NOT NULL,
    wall   INTEGER NOT NULL
) STRICT;

-- How far the walk through what is old has come, see storage/retention.go: one row.
CREATE TABLE retention (
    id        INTEGER PRIMARY KEY CHECK (id = 1),
    walked_to TEXT NOT NULL DEFAULT '', -- an id; '' between two walks
    began     INTEGER NOT NULL DEFAULT 0, -- what ended before, this walk is to delete
    ended_at  INTEGER NOT NULL DEFAULT 0, -- when the last walk did
    done      INTEGER -- what ended before and does not wait, the last walk has deleted; NULL before the first
) STRICT;
INSERT INTO retention (id) VALUES (1);

-- Where the feed of a tenant begins: after this event, the last in it that was deleted. It is
-- no column of tenants, whose rows whoever publishes locks.
CREATE TABLE feed_starts (
    tenant_id  INTEGER PRIMARY KEY,
    seq        INTEGER NOT NULL,
    event_id   BLOB NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
