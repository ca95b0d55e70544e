-- +goose Up

-- For PostgreSQL alone: SQLite changes an entry where it is.
