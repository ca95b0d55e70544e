-- +goose Up

-- What is more urgent in a Slack channel than that an operation completed: it is found behind any
-- number of those. Most deliveries never come into it.
CREATE INDEX deliveries_due_urgent ON deliveries (destination_id, next_attempt_at)
    WHERE status = 'pending' AND event_type <> 'operation.completed';
