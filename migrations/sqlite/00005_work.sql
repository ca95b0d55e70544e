-- +goose Up

-- due_at is never later than the due time of any of the group's rows, or than not_before if that is later.
CREATE TABLE work_groups (
    kind         TEXT NOT NULL CHECK (kind IN ('poll', 'deliver')),
    id           TEXT NOT NULL, -- of a budget or a destination
    due_at       INTEGER, -- NULL when nothing waits
    owner        TEXT    NOT NULL DEFAULT '',
    leased_until INTEGER  NOT NULL DEFAULT 0,
    not_before   INTEGER  NOT NULL DEFAULT 0, -- due_at is never earlier: a limit said so
    PRIMARY KEY (kind, id)
) STRICT;
CREATE INDEX work_groups_due ON work_groups (due_at) WHERE due_at IS NOT NULL;

CREATE TABLE budgets (
    id             TEXT PRIMARY KEY,
    slots          TEXT   NOT NULL DEFAULT '', -- START:COUNT,... of the slots charged of late
    parked_until   INTEGER NOT NULL DEFAULT 0,
    hint_remaining INTEGER NOT NULL DEFAULT 0, -- the upstream's own count, true until hint_until
    hint_until     INTEGER NOT NULL DEFAULT 0
) STRICT;
