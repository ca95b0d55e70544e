-- +goose Up

-- event_seq is the seq of the tenant's newest event: counting it up inside the
-- transaction that writes events makes the order of seq the order of commits.
CREATE TABLE tenants (
    id         TEXT COLLATE "C" PRIMARY KEY,
    name       TEXT   NOT NULL UNIQUE,
    event_seq  BIGINT NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL
);

-- A revoked key stays, so that "was there ever a key?" has an answer.
CREATE TABLE api_keys (
    id           TEXT COLLATE "C" PRIMARY KEY,
    tenant_id    TEXT COLLATE "C" NOT NULL REFERENCES tenants (id),
    name         TEXT   NOT NULL,
    scopes       TEXT   NOT NULL, -- separated by commas
    hash         BYTEA  NOT NULL UNIQUE, -- SHA-256 of the key
    created_at   BIGINT NOT NULL,
    last_used_at BIGINT,
    revoked_at   BIGINT
);
CREATE INDEX api_keys_list ON api_keys (tenant_id, id);

CREATE TABLE idempotency_keys (
    tenant_id   TEXT COLLATE "C" NOT NULL REFERENCES tenants (id),
    key         TEXT COLLATE "C" NOT NULL,
    fingerprint BYTEA  NOT NULL,
    reserved_at BIGINT NOT NULL,
    answer      BYTEA, -- sealed; NULL while the request is handled
    PRIMARY KEY (tenant_id, key)
);
CREATE INDEX idempotency_keys_age ON idempotency_keys (reserved_at);
