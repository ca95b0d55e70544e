package api

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/labstack/echo/v4"

	"oprelay/storage"
)

const (
	headerIdempotencyKey      = "Idempotency-Key"
	headerIdempotencyReplayed = "Idempotency-Replayed"
	// releaseTimeout bounds a release, which must happen also when the client is gone.
	releaseTimeout = 5 * time.Second
	// While the database is away a release is tried again, until the reservation has run out by itself: at most
	// maxReleasing at once.
	releaseEvery = time.Second
	releaseTries = 12
	maxReleasing = 256
)

// answer is what a POST that succeeded says.
type answer struct {
	status   int
	location string // "" for none
	body     any
}

// idempotency is the Idempotency-Key of a POST under way, which may have none, and its answer.
type idempotency struct {
	key    storage.IdempotencyKey // its Key is "" if there is none
	answer storage.Answer
}

// keep keeps the answer, in the transaction of the work, which may run again. Work that takes several calls it
// in the last.
func (i *idempotency) keep(ctx context.Context, tx *storage.Store, a answer) error {
	body, err := marshal(a.body)
	i.answer = storage.Answer{Status: a.status, ContentType: contentTypeJSON, Location: a.location, Body: body}
	if err != nil || i.key.Key == "" {
		return err
	}
	return tx.KeepAnswer(ctx, i.key, i.answer)
}

// renew keeps the key reserved, in each transaction before the last.
func (i *idempotency) renew(ctx context.Context, tx *storage.Store) error {
	if i.key.Key == "" {
		return nil
	}
	return tx.RenewReservation(ctx, i.key)
}

// idempotent answers a POST. If it carries an Idempotency-Key, its work is done at most once: the first success
// is kept in the transaction of the work itself, so a crash leaves both or neither, and is given again to
// whoever repeats the request. What failed may be tried again.
//
// Values are checked by the work too: a repeated request gets its answer also when, say, its credential is
// deleted by now.
func (s *Server) idempotent(c echo.Context, work func(context.Context, *idempotency) error) error {
	ctx, r := c.Request().Context(), requestOf(c)
	i := &idempotency{key: storage.IdempotencyKey{TenantID: r.key.TenantID, Key: c.Request().Header.Get(headerIdempotencyKey)}}
	if i.key.Key != "" {
		sent := fmt.Appendf(nil, "%s\n%s\n", c.Request().Method, c.Request().URL.EscapedPath())
		fingerprint := sha256.Sum256(append(sent, r.body...))
		i.key.Fingerprint = fingerprint[:]
		kept, err := s.store.ReserveAnswer(ctx, i.key)
		if err != nil {
			return err
		}
		if kept != nil {
			c.Response().Header().Set(headerIdempotencyReplayed, "true")
			return write(c, *kept)
		}
	}
	done := false
	defer func() {
		if !done && i.key.Key != "" { // also after a panic
			s.release(ctx, i.key)
		}
	}()
	if err := work(ctx, i); err != nil {
		return err
	}
	done = true
	return write(c, i.answer)
}

// inTransaction is idempotent for work of one transaction. What validate checks is checked before it: that may
// resolve a host's name, and SQLite has one writer.
func (s *Server) inTransaction(
	c echo.Context, validate func() error, work func(context.Context, *storage.Store) (answer, error),
) error {
	return s.idempotent(c, func(ctx context.Context, i *idempotency) error {
		if err := validate(); err != nil {
			return err
		}
		return s.store.Atomically(ctx, func(tx *storage.Store) error {
			a, err := work(ctx, tx)
			if err != nil {
				return err
			}
			return i.keep(ctx, tx, a)
		})
	})
}

// release gives the key up, so that the request can be repeated: now, or when the database is back. Failing
// that, the reservation runs out by itself.
func (s *Server) release(ctx context.Context, key storage.IdempotencyKey) {
	ctx = context.WithoutCancel(ctx)
	try := func() bool {
		ctx, cancel := context.WithTimeout(ctx, releaseTimeout)
		defer cancel()
		return s.store.DropReservation(ctx, key) == nil
	}
	if try() {
		return
	}
	select {
	case s.releasing <- struct{}{}:
	default:
		return
	}
	go func() {
		defer func() { <-s.releasing }()
		again := time.NewTicker(releaseEvery)
		defer again.Stop()
		for range releaseTries {
			select {
			case <-again.C:
			case <-s.draining:
				return
			}
			if try() {
				return
			}
		}
	}()
}
