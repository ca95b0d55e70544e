package storage

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"oprelay/storage/sqldb"
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
	// reservationStale is when a request without an answer counts as dead. A request that
	// takes longer renews its reservation, see RenewReservation.
	reservationStale = sqldb.AnswerTime + 2*time.Second
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

func scanReservation(row sqldb.Row) (reservation, error) {
	var r reservation
	err := row.Scan(&r.fingerprint, sqldb.Time(&r.reservedAt), &r.answer)
	return r, err
}

// ReserveAnswer reserves a key for a request and returns nil, or returns the answer if the
// request has one already. ErrIdempotencyMismatch if the key is another request's,
// ErrIdempotencyRunning while the request is being handled. After twelve seconds its process
// counts as dead, and the reservation is taken over.
func (s *Store) ReserveAnswer(ctx context.Context, key IdempotencyKey) (answer *Answer, err error) {
	defer wrapf(&err, "reserve an answer")
	unflushed := s.unflushed() // the commit of the work takes the reservation to the disk with it
	err = s.write(ctx, func(tx *transaction) error {
		answer = nil
		now := tx.db.steady()
		var args sqldb.Args
		row := tx.Values(&args, [][]any{{prefixTenant.arg(key.TenantID), key.Key, key.Fingerprint, now.UnixMicro()}})
		n, err := sqldb.ExecCount(ctx, tx, `INSERT INTO idempotency_keys (tenant_id, key, fingerprint, reserved_at)
			SELECT column1, column2, column3, column4 FROM `+row+` WHERE TRUE`+unflushed+`
			ON CONFLICT (tenant_id, key) DO NOTHING`, args...)
		if err != nil || n > 0 {
			return err
		}
		known, err := sqldb.One(ctx, tx, scanReservation, `SELECT fingerprint, reserved_at, answer FROM idempotency_keys
			WHERE tenant_id = $1 AND key = $2`+tx.ForUpdate, prefixTenant.arg(key.TenantID), key.Key)
		if errors.Is(err, ErrNotFound) {
			return ErrIdempotencyRunning // dropped between the two statements: the client may try again
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
		return sqldb.Exec(ctx, tx, `UPDATE idempotency_keys SET fingerprint = $1, reserved_at = $2, answer = NULL
			WHERE tenant_id = $3 AND key = $4`, key.Fingerprint, now.UnixMicro(), prefixTenant.arg(key.TenantID), key.Key)
	})
	return answer, err
}

// answerSeal names the place of an answer, see credentialSecret.
func answerSeal(key IdempotencyKey) string {
	return "idempotency_keys/answer/" + key.TenantID + "/" + key.Key
}

// KeepAnswer keeps the answer to a request whose key is reserved. Call it in the transaction
// of the work (see Atomically). That is ErrIdempotencyRunning, and keeps nothing, if another
// request took the reservation over.
func (s *Store) KeepAnswer(ctx context.Context, key IdempotencyKey, answer Answer) (err error) {
	defer wrapf(&err, "keep an answer")
	sealed, err := s.db.seal(answerSeal(key), answer)
	if err != nil {
		return err
	}
	return s.write(ctx, func(tx *transaction) error {
		tx.answers = append(tx.answers, keptAnswer{key, sealed})
		return nil
	})
}

// keptAnswer is a sealed answer that is to be kept.
type keptAnswer struct {
	key    IdempotencyKey
	sealed []byte
}

// keepAnswers writes what KeepAnswer was given in one round trip, for registrations share a
// transaction.
func (tx *transaction) keepAnswers(ctx context.Context) error {
	slices.SortFunc(tx.answers, func(a, b keptAnswer) int {
		return cmp.Or(strings.Compare(a.key.TenantID, b.key.TenantID), strings.Compare(a.key.Key, b.key.Key))
	})
	kept := 0
	count := func(sqldb.Row) error { kept++; return nil }
	for i, a := range tx.answers {
		const keep = `UPDATE idempotency_keys SET answer = $4` + whileReserved + ` RETURNING key`
		var err error
		if i < len(tx.answers)-1 {
			err = tx.LaterScan(count, keep, a.key.args(a.sealed)...)
		} else {
			_, err = tx.Query(ctx, count, keep, a.key.args(a.sealed)...)
		}
		if err != nil {
			return err
		}
	}
	if kept < len(tx.answers) {
		return fmt.Errorf("keep an answer: %w", ErrIdempotencyRunning)
	}
	return nil
}

// RenewReservation says that a request is still being handled, in a transaction of its work.
// ErrIdempotencyRunning as for [Store.KeepAnswer].
func (s *Store) RenewReservation(ctx context.Context, key IdempotencyKey) (err error) {
	defer wrapf(&err, "renew a reservation")
	return s.write(ctx, func(tx *transaction) error {
		err := sqldb.Exec(ctx, tx, `UPDATE idempotency_keys SET reserved_at = $4`+whileReserved, key.args(tx.db.steady().UnixMicro())...)
		if errors.Is(err, ErrNotFound) {
			return ErrIdempotencyRunning
		}
		return err
	})
}

// DropReservation frees the key of a request that failed.
func (s *Store) DropReservation(ctx context.Context, key IdempotencyKey) (err error) {
	defer wrapf(&err, "drop a reservation")
	return s.write(ctx, func(tx *transaction) error {
		return tx.Later(`DELETE FROM idempotency_keys`+whileReserved, key.args()...)
	})
}

// whileReserved is which row is the key's, unless it has an answer; its parameters are args.
const whileReserved = ` WHERE tenant_id = $1 AND key = $2 AND fingerprint = $3 AND answer IS NULL`

func (k IdempotencyKey) args(more ...any) []any {
	return append([]any{prefixTenant.arg(k.TenantID), k.Key, k.Fingerprint}, more...)
}

// Sweep deletes up to limit idempotency keys that are older than 24 hours, and says how many.
func (s *Store) Sweep(ctx context.Context, limit int) (n int, err error) {
	defer wrapf(&err, "sweep")
	err = s.write(ctx, func(tx *transaction) error {
		n, err = sqldb.ExecCount(ctx, tx, `DELETE FROM idempotency_keys WHERE (tenant_id, key) IN
			(SELECT tenant_id, key FROM idempotency_keys WHERE reserved_at <= $1 ORDER BY reserved_at LIMIT $2)`,
			tx.db.steady().Add(-answersKept).UnixMicro(), limit)
		return err
	})
	return n, err
}
