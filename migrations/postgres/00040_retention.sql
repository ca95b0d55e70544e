-- +goose Up

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
    tenant_id  TEXT COLLATE "C" PRIMARY KEY,
    seq        BIGINT NOT NULL,
    event_id   TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL
);
