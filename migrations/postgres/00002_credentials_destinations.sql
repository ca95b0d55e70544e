-- +goose Up

-- Deleted rows stay for the watches that name them, without their secret.
CREATE TABLE credentials (
    id            TEXT COLLATE "C" PRIMARY KEY,
    tenant_id     TEXT COLLATE "C" NOT NULL REFERENCES tenants (id),
    name          TEXT   NOT NULL,
    auth          TEXT   NOT NULL CHECK (auth IN ('api_token', 'api_key')),
    status        TEXT   NOT NULL CHECK (status IN ('active', 'rejected')),
    budget_id     TEXT COLLATE "C" NOT NULL,
    secret        BYTEA  NOT NULL, -- sealed
    refused_since BIGINT,
    created_at    BIGINT NOT NULL,
    deleted_at    BIGINT
);
CREATE INDEX credentials_list ON credentials (tenant_id, id) WHERE deleted_at IS NULL;

CREATE TABLE destinations (
    id                   TEXT COLLATE "C" PRIMARY KEY,
    tenant_id            TEXT COLLATE "C" NOT NULL REFERENCES tenants (id),
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
    failing_since        BIGINT,
    consecutive_failures BIGINT  NOT NULL DEFAULT 0,
    created_at           BIGINT  NOT NULL,
    deleted_at           BIGINT
);
CREATE INDEX destinations_list ON destinations (tenant_id, id) WHERE deleted_at IS NULL;
