-- +goose Up

-- The gap (in microseconds) that is still to be left out of the graces of operations
-- and watches, 0 for none: of those that had begun at gap_end, and whose ids come
-- after gap_done. See storage/grace.go.
ALTER TABLE steady_clock ADD COLUMN gap BIGINT NOT NULL DEFAULT 0;
ALTER TABLE steady_clock ADD COLUMN gap_end BIGINT NOT NULL DEFAULT 0;
ALTER TABLE steady_clock ADD COLUMN gap_done TEXT NOT NULL DEFAULT '';

-- What watches wait for after their deadline: few, and none at most times.
CREATE INDEX watches_graces ON watches (id) WHERE status = 'watching' AND expire_at > 0;
