-- +goose Up

-- version counts the changes of the secret: what was asked with the one before says
-- nothing of this one. last_error is the upstream's words of the last refusal.
ALTER TABLE credentials ADD COLUMN version INTEGER NOT NULL DEFAULT 0;
ALTER TABLE credentials ADD COLUMN last_error TEXT NOT NULL DEFAULT '';

-- last_error says why the last failed attempt failed; a success leaves it.
-- last_success_at is wall time, and true to the second.
ALTER TABLE destinations ADD COLUMN last_error TEXT NOT NULL DEFAULT '';
ALTER TABLE destinations ADD COLUMN last_success_at INTEGER;

ALTER TABLE watches ADD COLUMN name TEXT; -- NULL for none
