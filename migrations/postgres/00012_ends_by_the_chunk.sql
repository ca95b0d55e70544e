-- +goose Up

-- Up to which of its watches, in the order of their ids, an operation that is over
-- has ended them; NULL if it has ended all, or is not over. See storage/watchrest.go.
ALTER TABLE operations ADD COLUMN ended_to TEXT COLLATE "C";
CREATE INDEX operations_ending ON operations (ended_to) WHERE ended_to IS NOT NULL;
