-- +goose Up

-- The time that all work waits by, see storage/clock.go: one row, raised about once
-- a second by every process. wall is what the wall clock of that process showed.
CREATE TABLE steady_clock (
    id     BIGINT PRIMARY KEY CHECK (id = 1),
    steady BIGINT NOT NULL,
    wall   BIGINT NOT NULL
);
