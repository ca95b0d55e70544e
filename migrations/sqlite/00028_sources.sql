-- +goose Up

-- Whose secret it is, and all ways to authenticate.
ALTER TABLE credentials ADD COLUMN upstream TEXT NOT NULL DEFAULT 'cloudflare';
ALTER TABLE credentials ADD COLUMN way TEXT NOT NULL DEFAULT 'api_token'
    CHECK (way IN ('api_token', 'api_key', 'basic', 'oauth2_client', 'google_service_account', 'none'));
UPDATE credentials SET way = auth;
ALTER TABLE credentials DROP COLUMN auth;
ALTER TABLE credentials RENAME COLUMN way TO auth;

-- What a source asks for beside the operation's id, as a JSON object.
ALTER TABLE operations ADD COLUMN params TEXT NOT NULL DEFAULT '{}';
UPDATE operations SET params = '{"account_id":"' || account_id || '"}';
-- The upstream's own word for the status.
ALTER TABLE operations ADD COLUMN upstream_status TEXT NOT NULL DEFAULT '';
UPDATE operations SET upstream_status = status;
-- A hash of source, params and operation_id, which may be too long for an index. Operations of
-- before share their polls with no new watch.
ALTER TABLE operations ADD COLUMN identity TEXT NOT NULL DEFAULT '';
UPDATE operations SET identity = id;
DROP INDEX operations_active;
CREATE UNIQUE INDEX operations_active ON operations (credential_id, identity) WHERE active;
ALTER TABLE operations DROP COLUMN account_id;
