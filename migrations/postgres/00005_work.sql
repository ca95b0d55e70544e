-- +goose Up

-- due_at is never later than the due time of any of the group's rows, or than not_before if that is later.
CREATE TABLE work_groups (
    kind         TEXT COLLATE "C" NOT NULL CHECK (kind IN ('poll', 'deliver')),
    id           TEXT COLLATE "C" NOT NULL, -- of a budget or a destination
    due_at       BIGINT, -- NULL when nothing waits
    owner        TEXT    NOT NULL DEFAULT '',
    leased_until BIGINT  NOT NULL DEFAULT 0,
    not_before   BIGINT  NOT NULL DEFAULT 0, -- due_at is never earlier: a limit said so
    PRIMARY KEY (kind, id)
);
CREATE INDEX work_groups_due ON work_groups (due_at) WHERE due_at IS NOT NULL;

CREATE TABLE budgets (
    id             TEXT COLLATE "C" PRIMARY KEY,
    slots          TEXT   NOT NULL DEFAULT '', -- START:COUNT,... of the slots charged of late
    parked_until   BIGINT NOT NULL DEFAULT 0,
    hint_remaining BIGINT NOT NULL DEFAULT 0, -- the upstream's own count, true until hint_until
    hint_until     BIGINT NOT NULL DEFAULT 0
);
