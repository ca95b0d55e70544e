package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"
)

var (
	// ErrIdempotencyRunning says that a request with this key is still being handled.
	ErrIdempotencyRunning = errors.New("a request with this idempotency key is still running")
	// ErrIdempotencyMismatch says that the key was used for another request.
	ErrIdempotencyMismatch = errors.New("the idempotency key was used for another request")
)

const (
	// answersKept is for how long a key gives its first answer.
	answersKept = 24 * time.Hour
	// reservationStale is when a request without an answer counts as dead: above
	// answerTime. Who takes longer renews the reservation, see RenewReservation.
	reservationStale = answerTime + 2*time.Second
)

// IdempotencyKey names a request that is to be handled once.
type IdempotencyKey struct {
	TenantID    string
	Key         string
	Fingerprint []byte // SHA-256 of method, path and body
}

// Answer is what a request was answered with.
type Answer struct {
	Status      int    `json:"status"`
	ContentType string `json:"content_type"`
	Location    string `json:"location,omitempty"`
	Body        []byte `json:"body"`
}

// reservation is a key in use.
type reservation struct {
	fingerprint []byte
	reservedAt  time.Time
	answer      []byte // sealed; nil while the request is handled
}

func scanReservation(row scanner) (reservation, error) {
	var r reservation
	err := row.Scan(&r.fingerprint, timeColumn{&r.reservedAt}, &r.answer)
	return r, err
}

// ReserveAnswer reserves a key for the request and returns nil; or the answer,
// if the request has one. ErrIdempotencyMismatch if the key is another
// request's, ErrIdempotencyRunning while this one is handled, for twelve seconds
// at most: then its process counts as dead, and the reservation is taken over.
func (s *Store) ReserveAnswer(ctx context.Context, key IdempotencyKey) (answer *Answer, err error) {
	err = s.write(ctx, func(tx *transaction) error {
		answer = nil
		now := tx.db.steady()
		n, err := execCount(ctx, tx, `INSERT INTO idempotency_keys (tenant_id, key, fingerprint, reserved_at)
			VALUES ($1, $2, $3, $4) ON CONFLICT (tenant_id, key) DO NOTHING`,
			key.TenantID, key.Key, key.Fingerprint, now.UnixMicro())
		if err != nil || n > 0 {
			return err
		}
		known, err := queryOne(ctx, tx, scanReservation, `SELECT fingerprint, reserved_at, answer FROM idempotency_keys
			WHERE tenant_id = $1 AND key = $2`+tx.db.dialect.forUpdate, key.TenantID, key.Key)
		if errors.Is(err, ErrNotFound) {
			return ErrIdempotencyRunning // dropped between the two statements: the client may come again
		}
		if err != nil {
			return err
		}
		age := now.Sub(known.reservedAt)
		switch same := bytes.Equal(known.fingerprint, key.Fingerprint); {
		case age < answersKept && !same:
			return ErrIdempotencyMismatch
		case age < answersKept && known.answer != nil:
			answer = &Answer{}
			return tx.db.unseal(answerSeal(key), known.answer, answer)
		case age < reservationStale:
			return ErrIdempotencyRunning
		}
		return exec(ctx, tx, `UPDATE idempotency_keys SET fingerprint = $1, reserved_at = $2, answer = NULL
			WHERE tenant_id = $3 AND key = $4`, key.Fingerprint, now.UnixMicro(), key.TenantID, key.Key)
	})
	if err != nil {
		return nil, fmt.Errorf("reserve an answer: %w", err)
	}
	return answer, nil
}

// answerSeal is where an answer is kept, for Seal.
func answerSeal(key IdempotencyKey) string {
	return "idempotency_keys/answer/" + key.TenantID + "/" + key.Key
}

// KeepAnswer keeps the answer of a request that was reserved. Call it in the
// transaction of the work (see Atomically): it fails with ErrIdempotencyRunning
// if another took the reservation over, and then the work must not be kept either.
func (s *Store) KeepAnswer(ctx context.Context, key IdempotencyKey, answer Answer) error {
	sealed, err := s.db.seal(answerSeal(key), answer)
	if err != nil {
		return fmt.Errorf("keep an answer: %w", err)
	}
	err = s.write(ctx, func(tx *transaction) error {
		return tx.ofReservation(ctx, key, `UPDATE idempotency_keys SET answer = $4`, sealed)
	})
	if err != nil {
		return fmt.Errorf("keep an answer: %w", err)
	}
	return nil
}

// RenewReservation says that a request is still being handled, in a transaction of its
// work. ErrIdempotencyRunning as of [Store.KeepAnswer].
func (s *Store) RenewReservation(ctx context.Context, key IdempotencyKey) error {
	err := s.write(ctx, func(tx *transaction) error {
		return tx.ofReservation(ctx, key, `UPDATE idempotency_keys SET reserved_at = $4`, tx.db.steady().UnixMicro())
	})
	if err != nil {
		return fmt.Errorf("renew a reservation: %w", err)
	}
	return nil
}

// ofReservation changes a reservation that has no answer yet.
func (tx *transaction) ofReservation(ctx context.Context, key IdempotencyKey, update string, value any) error {
	err := exec(ctx, tx, update+` WHERE tenant_id = $1 AND key = $2 AND fingerprint = $3 AND answer IS NULL`,
		key.TenantID, key.Key, key.Fingerprint, value)
	if errors.Is(err, ErrNotFound) {
		return ErrIdempotencyRunning
	}
	return err
}

// DropReservation frees the key of a request that failed.
func (s *Store) DropReservation(ctx context.Context, key IdempotencyKey) error {
	err := s.write(ctx, func(tx *transaction) error {
		err := tx.later(ctx, `DELETE FROM idempotency_keys
			WHERE tenant_id = $1 AND key = $2 AND fingerprint = $3 AND answer IS NULL`,
			key.TenantID, key.Key, key.Fingerprint)
		return err
	})
	if err != nil {
		return fmt.Errorf("drop a reservation: %w", err)
	}
	return nil
}

// Sweep deletes up to limit rows whose retention is over (idempotency keys
// after 24 hours), and says how many.
func (s *Store) Sweep(ctx context.Context, limit int) (n int, err error) {
	err = s.write(ctx, func(tx *transaction) error {
		n, err = execCount(ctx, tx, `DELETE FROM idempotency_keys WHERE (tenant_id, key) IN
			(SELECT tenant_id, key FROM idempotency_keys WHERE reserved_at <= $1 ORDER BY reserved_at LIMIT $2)`,
			tx.db.steady().Add(-answersKept).UnixMicro(), limit)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("sweep: %w", err)
	}
	return n, nil
}
