-- +goose Up

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
    tenant_id  TEXT PRIMARY KEY,
    seq        INTEGER NOT NULL,
    event_id   TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

-- Without an index on watch_id these references would have each watch that is deleted read the
-- tables. PostgreSQL has none of them, see 00008. https://www.sqlite.org/lang_altertable.html#otheralter
PRAGMA writable_schema = ON;
UPDATE sqlite_schema SET sql = replace(sql, ' REFERENCES watches (id)', '')
    WHERE type = 'table' AND name IN ('events', 'deliveries', 'open_watches', 'uncompleted_watches');
PRAGMA writable_schema = RESET;
