-- +goose Up

-- How the operations of a budget are polled so that it lasts, see storage/poll_plan.go.
ALTER TABLE budgets ADD COLUMN growth REAL NOT NULL DEFAULT 0; -- of the intervals; 0: each has its own
ALTER TABLE budgets ADD COLUMN longest INTEGER NOT NULL DEFAULT 0; -- interval, in microseconds
ALTER TABLE budgets ADD COLUMN planned_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE budgets ADD COLUMN short_said_at INTEGER NOT NULL DEFAULT 0; -- that more than twice of it is asked for

-- Whether the next poll is later than the operation's own interval, for its budget.
ALTER TABLE operations ADD COLUMN held INTEGER NOT NULL DEFAULT FALSE;

-- What waits for the poll that follows its registration. With a plan, no other
-- operation that is due is preferred for being young.
DROP INDEX operations_young;
CREATE INDEX operations_fresh ON operations (budget_id, created_at)
    WHERE active AND last_polled_at IS NULL AND due_at = created_at;

-- The last refusal: while a credential is refused, one of its operations asks for all.
ALTER TABLE credentials ADD COLUMN refused_at INTEGER;
