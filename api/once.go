package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"oprelay/storage"
)

const (
	headerIdempotencyKey      = "Idempotency-Key"
	headerIdempotencyReplayed = "Idempotency-Replayed"
	// dropTimeout bounds giving up a reservation, which must happen also when
	// the client is gone.
	dropTimeout = 5 * time.Second
	// While the database is away giving up is repeated, until the reservation
	// has run out by itself: at most so many reservations at once.
	dropEvery = time.Second
	dropTries = 12
	dropsMost = 256
)

// answer is what a POST that succeeded says.
type answer struct {
	status   int
	location string // "" for none
	body     any
}

// work does what a POST asks for, on the store that it is given.
type work func(ctx context.Context, store *storage.Store) (answer, error)

// transact does what a POST asks for in a transaction, and hands the answer to
// finish in it, which may run again. If it takes several, it calls goOn in each but the
// last.
type transact func(ctx context.Context, r reserved) error

// reserved is what a request that is handled once does in its transactions.
type reserved struct {
	finish func(tx *storage.Store, a answer) error
	goOn   func(tx *storage.Store) error
}

// once is onceIn a transaction of its own.
func (s *Server) once(c echo.Context, check func(context.Context) error, do work) error {
	return s.onceIn(c, check, func(ctx context.Context, r reserved) error {
		return s.store.Atomically(ctx, func(tx *storage.Store) error {
			a, err := do(ctx, tx)
			if err != nil {
				return err
			}
			return r.finish(tx, a)
		})
	})
}

// onceIn answers a POST. If it carries an Idempotency-Key, the work is done at
// most once: the first success is kept in the transaction of the work itself,
// and given again to whoever repeats the request. So a crash leaves both or
// neither, and what failed may be tried again.
//
// check runs outside the transaction, after the kept answer was looked for: a
// repeated request gets its answer also when, say, its credential is deleted
// by now. It may be nil.
func (s *Server) onceIn(c echo.Context, check func(context.Context) error, do transact) error {
	ctx := c.Request().Context()
	key, ok := idempotencyKey(c)
	if !ok {
		return s.answer(c, check, do)
	}
	kept, err := s.store.ReserveAnswer(ctx, key)
	if err != nil {
		return err
	}
	if kept != nil {
		c.Response().Header().Set(headerIdempotencyReplayed, "true")
		return write(c, *kept)
	}
	finished := false
	defer func() {
		if !finished { // also after a panic
			s.drop(ctx, key)
		}
	}()
	if check != nil {
		if err := check(ctx); err != nil {
			return err
		}
	}
	var rendered storage.Answer
	err = do(ctx, reserved{
		finish: func(tx *storage.Store, a answer) (err error) {
			if rendered, err = render(a); err != nil {
				return err
			}
			return tx.KeepAnswer(ctx, key, rendered)
		},
		goOn: func(tx *storage.Store) error { return tx.RenewReservation(ctx, key) },
	})
	if err != nil {
		return err
	}
	finished = true
	return write(c, rendered)
}

// answer is onceIn without a key.
func (s *Server) answer(c echo.Context, check func(context.Context) error, do transact) error {
	ctx := c.Request().Context()
	if check != nil {
		if err := check(ctx); err != nil {
			return err
		}
	}
	var done answer
	err := do(ctx, reserved{
		finish: func(_ *storage.Store, a answer) error {
			done = a
			return nil
		},
		goOn: func(*storage.Store) error { return nil },
	})
	if err != nil {
		return err
	}
	rendered, err := render(done)
	if err != nil {
		return err
	}
	return write(c, rendered)
}

// drop gives the reservation up, so that the request can be repeated: now, or when
// the database is back. Failing that, the reservation runs out by itself.
func (s *Server) drop(ctx context.Context, key storage.IdempotencyKey) {
	ctx = context.WithoutCancel(ctx)
	if s.tryDrop(ctx, key) {
		return
	}
	select {
	case s.dropping <- struct{}{}:
	default:
		return
	}
	go func() {
		defer func() { <-s.dropping }()
		again := time.NewTicker(dropEvery)
		defer again.Stop()
		for range dropTries {
			select {
			case <-again.C:
			case <-s.draining:
				return
			}
			if s.tryDrop(ctx, key) {
				return
			}
		}
	}()
}

func (s *Server) tryDrop(ctx context.Context, key storage.IdempotencyKey) bool {
	ctx, cancel := context.WithTimeout(ctx, dropTimeout)
	defer cancel()
	return s.store.DropReservation(ctx, key) == nil
}

// idempotencyKey is the key that the request carries, with the request's
// fingerprint; false if it carries none. Its form has been checked by admit.
func idempotencyKey(c echo.Context) (storage.IdempotencyKey, bool) {
	value := c.Request().Header.Get(headerIdempotencyKey)
	if value == "" {
		return storage.IdempotencyKey{}, false
	}
	r := requestOf(c)
	digest := sha256.New()
	fmt.Fprintf(digest, "%s\n%s\n", c.Request().Method, c.Request().URL.EscapedPath())
	digest.Write(r.body)
	return storage.IdempotencyKey{TenantID: r.key.TenantID, Key: value, Fingerprint: digest.Sum(nil)}, true
}

func render(a answer) (storage.Answer, error) {
	body, err := marshal(a.body)
	return storage.Answer{Status: a.status, ContentType: contentTypeJSON, Location: a.location, Body: body}, err
}

func write(c echo.Context, a storage.Answer) error {
	if a.Location != "" {
		c.Response().Header().Set(echo.HeaderLocation, a.Location)
	}
	return c.Blob(a.Status, a.ContentType, a.Body)
}

// marshal is JSON for programs: &, < and > stay as they are.
func marshal(value any) ([]byte, error) {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	err := e.Encode(value)
	return out.Bytes(), err
}

// respond writes a success that need not be kept: 200.
func respond(c echo.Context, value any) error {
	body, err := marshal(value)
	if err != nil {
		return err
	}
	return c.Blob(http.StatusOK, contentTypeJSON, body)
}
