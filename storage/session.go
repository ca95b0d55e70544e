package storage

import (
	"context"
	"crypto/rand"
	"time"

	"oprelay/storage/seal"
	"oprelay/storage/sqldb"
)

// SessionTime is how long a session lasts at most.
const SessionTime = 12 * time.Hour

// CreateSession begins a session with the API key that was presented, and returns the token
// that opens it. Only the token's hash is kept. ErrNotFound if the key does not exist or is
// revoked.
func (s *Store) CreateSession(ctx context.Context, presented string) (_ seal.Secret, err error) {
	defer wrapf(&err, "create session")
	token := rand.Text() + rand.Text() // 260 bits
	err = s.write(ctx, func(tx *transaction) error {
		id, err := sqldb.One(ctx, tx, prefixKey.read,
			`SELECT id FROM api_keys WHERE hash = $1 AND revoked_at IS NULL`, hashKey(presented))
		if err != nil {
			return err
		}
		return tx.Later(`INSERT INTO sessions (hash, key_id, ends_at) VALUES ($1, $2, $3)`,
			hashKey(token), prefixKey.arg(id), tx.db.now().Add(SessionTime).UnixMicro())
	})
	return seal.Secret(token), err
}

// SessionKey returns the key of the session that the token opens. ErrNotFound if there is no
// such session, its time is up, or its key is revoked.
func (s *Store) SessionKey(ctx context.Context, token string) (_ Key, err error) {
	defer wrapf(&err, "open session")
	key, err := sqldb.One(ctx, s.reader(), scanKey, selectKey+`JOIN sessions s ON s.key_id = k.id
		WHERE s.hash = $1 AND s.ends_at > $2 AND k.revoked_at IS NULL`, hashKey(token), s.db.now().UnixMicro())
	if err != nil {
		return Key{}, err
	}
	return s.used(ctx, key), nil
}

// EndSession ends the session that the token opens, if there is one.
func (s *Store) EndSession(ctx context.Context, token string) (err error) {
	defer wrapf(&err, "end session")
	return s.write(ctx, func(tx *transaction) error {
		return tx.Later(`DELETE FROM sessions WHERE hash = $1`, hashKey(token))
	})
}

// SweepSessions deletes up to limit sessions whose time is up, and says how many.
func (s *Store) SweepSessions(ctx context.Context, limit int) (n int, err error) {
	defer wrapf(&err, "sweep sessions")
	err = s.write(ctx, func(tx *transaction) error {
		n, err = sqldb.ExecCount(ctx, tx, `DELETE FROM sessions WHERE hash IN
			(SELECT hash FROM sessions WHERE ends_at <= $1 ORDER BY ends_at LIMIT $2)`, tx.db.now().UnixMicro(), limit)
		return err
	})
	return n, err
}
