-- +goose Up

-- Deleted rows stay for the watches that name them, without their secret.
CREATE TABLE credentials (
    id            TEXT PRIMARY KEY,
    tenant_id     TEXT NOT NULL REFERENCES tenants (id),
    name          TEXT   NOT NULL,
    auth          TEXT   NOT NULL CHECK (auth IN ('api_token', 'api_key')),
    status        TEXT   NOT NULL CHECK (status IN ('active', 'rejected')),
    budget_id     TEXT NOT NULL,
    secret        BLOB  NOT NULL, -- sealed
    refused_since INTEGER,
    created_at    INTEGER NOT NULL,
    deleted_at    INTEGER
) STRICT;
CREATE INDEX credentials_list ON credentials (tenant_id, id) WHERE deleted_at IS NULL;

CREATE TABLE destinations (
    id                   TEXT PRIMARY KEY,
    tenant_id            TEXT NOT NULL REFERENCES tenants (id),
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
    failing_since        INTEGER,
    consecutive_failures INTEGER  NOT NULL DEFAULT 0,
    created_at           INTEGER  NOT NULL,
    deleted_at           INTEGER
) STRICT;
CREATE INDEX destinations_list ON destinations (tenant_id, id) WHERE deleted_at IS NULL;
