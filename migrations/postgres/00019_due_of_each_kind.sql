-- +goose Up

-- What is due is looked for by kind: of each there may be more than is woken at a time.
DROP INDEX work_groups_due;
CREATE INDEX work_groups_due ON work_groups (kind, due_at) WHERE due_at IS NOT NULL;
