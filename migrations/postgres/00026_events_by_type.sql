-- +goose Up

-- A rare type is found in a feed of any length. To make it, the table is read once and
-- kept from writers meanwhile.
CREATE INDEX events_type ON events (tenant_id, type, seq);
