-- +goose Up

-- When the destination got another address, or was enabled: what was under way then says
-- nothing of what it is now.
ALTER TABLE destinations ADD COLUMN changed_at INTEGER;
