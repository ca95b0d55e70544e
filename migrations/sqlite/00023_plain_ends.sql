-- +goose Up

-- A refusal long after the last poll begins its grace anew, so nothing has to be moved
-- after a time without the relay.
DROP INDEX operations_graces;
DROP INDEX watches_graces;
ALTER TABLE steady_clock DROP COLUMN gap;
ALTER TABLE steady_clock DROP COLUMN gap_end;
ALTER TABLE steady_clock DROP COLUMN gap_done;

-- Whether the operation is over and some of its watches have still to be ended.
ALTER TABLE operations ADD COLUMN ending INTEGER NOT NULL DEFAULT FALSE;
UPDATE operations SET ending = TRUE WHERE ended_to IS NOT NULL;
DROP INDEX operations_ending;
ALTER TABLE operations DROP COLUMN ended_to;
CREATE INDEX operations_ending ON operations (id) WHERE ending;
