-- +goose Up

-- Who has signed in to the console. A session of a revoked key opens nothing.
CREATE TABLE sessions (
    hash    BLOB PRIMARY KEY, -- SHA-256 of the token in the cookie
    key_id  TEXT NOT NULL REFERENCES api_keys (id),
    ends_at INTEGER NOT NULL
) STRICT;
CREATE INDEX sessions_age ON sessions (ends_at);
