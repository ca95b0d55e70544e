-- +goose Up

-- Deliveries that have failed for good and that no event has told of yet: how many, when the
-- oldest was made, and when the last event told of others.
ALTER TABLE destinations ADD COLUMN failed_untold BIGINT NOT NULL DEFAULT 0;
ALTER TABLE destinations ADD COLUMN failed_since BIGINT;
ALTER TABLE destinations ADD COLUMN failed_told_at BIGINT;
CREATE INDEX destinations_untold ON destinations (failed_told_at) WHERE failed_untold > 0;
