-- +goose Up

-- When a destination that has asked for a pause may be sent to again (steady time);
-- NULL if it has not asked for one since it was enabled last.
ALTER TABLE destinations ADD COLUMN paused_until INTEGER;

-- How long the receiver has put the delivery off since its schedule began, in
-- microseconds: for so long its attempts have cost no step. See jobs/pause.go.
ALTER TABLE deliveries ADD COLUMN postponed INTEGER NOT NULL DEFAULT 0;
