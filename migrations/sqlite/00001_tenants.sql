-- +goose Up

-- event_seq is the seq of the tenant's newest event: counting it up inside the
-- transaction that writes events makes the order of seq the order of commits.
CREATE TABLE tenants (
    id         TEXT PRIMARY KEY,
    name       TEXT   NOT NULL UNIQUE,
    event_seq  INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL
) STRICT;

-- A revoked key stays, so that "was there ever a key?" has an answer.
CREATE TABLE api_keys (
    id           TEXT PRIMARY KEY,
    tenant_id    TEXT NOT NULL REFERENCES tenants (id),
    name         TEXT   NOT NULL,
    scopes       TEXT   NOT NULL, -- separated by commas
    hash         BLOB  NOT NULL UNIQUE, -- SHA-256 of the key
    created_at   INTEGER NOT NULL,
    last_used_at INTEGER,
    revoked_at   INTEGER
) STRICT;
CREATE INDEX api_keys_list ON api_keys (tenant_id, id);

CREATE TABLE idempotency_keys (
    tenant_id   TEXT NOT NULL REFERENCES tenants (id),
    key         TEXT NOT NULL,
    fingerprint BLOB  NOT NULL,
    reserved_at INTEGER NOT NULL,
    answer      BLOB, -- sealed; NULL while the request is handled
    PRIMARY KEY (tenant_id, key)
) STRICT;
CREATE INDEX idempotency_keys_age ON idempotency_keys (reserved_at);
