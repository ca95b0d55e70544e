-- +goose Up

-- Who has signed in to the console. A session of a revoked key opens nothing.
CREATE TABLE sessions (
    hash    BYTEA  PRIMARY KEY, -- SHA-256 of the token in the cookie
    key_id  TEXT COLLATE "C" NOT NULL REFERENCES api_keys (id),
    ends_at BIGINT NOT NULL
);
CREATE INDEX sessions_age ON sessions (ends_at);
