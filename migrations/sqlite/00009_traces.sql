-- +goose Up

-- The W3C traceparent of the registration, for what comes of it hours later in
-- other processes; NULL if it is part of no trace.
ALTER TABLE operations ADD COLUMN traceparent TEXT; -- of the watch that began the polls
ALTER TABLE watches ADD COLUMN traceparent TEXT;
ALTER TABLE events ADD COLUMN traceparent TEXT; -- of its watch
