-- +goose Up

-- The deadline is steady, see storage/clock.go; expires_at is what was promised for it.
ALTER TABLE watches ADD COLUMN deadline BIGINT NOT NULL DEFAULT 0;
UPDATE watches SET deadline = expires_at;
DROP INDEX watches_deadline;
CREATE INDEX watches_deadline ON watches (deadline) WHERE status = 'watching';

-- Since when a last poll is asked for, because the deadline of a watch has passed.
ALTER TABLE operations ADD COLUMN last_poll_asked_at BIGINT;
