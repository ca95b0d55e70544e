-- +goose Up

-- Every delivery is entered twice into each index of its table that is not partial:
-- when it is made, and when it is done. A watch has one event, by which its
-- deliveries are found.
DROP INDEX deliveries_watch;

-- What is pending or held has indexes of its own, so Recover needs this one for the
-- rest alone: most deliveries never come into it. To make it, the table is read once
-- and kept from writers meanwhile: about a second for a million rows.
DROP INDEX deliveries_since;
CREATE INDEX deliveries_since ON deliveries (destination_id, created_at) WHERE status IN ('failed', 'canceled');
