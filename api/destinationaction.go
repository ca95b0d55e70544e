package api

import (
	"context"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"oprelay/notifier"
	"oprelay/storage"
)

// defaultOverlap is how long a replaced secret signs too, in seconds.
const defaultOverlap = 86400

// TestDestination sends a test event: POST /v1/destinations/{destination_id}/test.
func (s *Server) TestDestination(c echo.Context, id DestinationID, _ TestDestinationParams) error {
	r := requestOf(c)
	return s.once(c, r.checkEmpty, func(ctx context.Context, store *storage.Store) (answer, error) {
		sent, err := store.TestDestination(ctx, r.key.TenantID, id)
		return answer{status: http.StatusAccepted, body: deliveryAnswer(sent)}, err
	})
}

// RotateSecret gives a webhook a new signing secret:
// POST /v1/destinations/{destination_id}/rotate-secret.
func (s *Server) RotateSecret(c echo.Context, id DestinationID, _ RotateSecretParams) error {
	r := requestOf(c)
	var body SecretRotation
	check := func(ctx context.Context) error {
		found, err := s.store.Destination(ctx, r.key.TenantID, id)
		if err != nil {
			return err
		}
		f := r.decode(&body)
		f.refuse(found.Kind != storage.KindWebhook, "", "a slack destination has no signing secret")
		return f.err()
	}
	secret := notifier.NewSecret()
	return s.once(c, check, func(ctx context.Context, store *storage.Store) (answer, error) {
		overlap := time.Duration(or(body.OverlapSeconds, defaultOverlap)) * time.Second
		if err := store.RotateSecret(ctx, r.key.TenantID, id, storage.Secret(secret), overlap); err != nil {
			return answer{}, err
		}
		found, err := store.Destination(ctx, r.key.TenantID, id)
		shown := destinationAnswer(found)
		shown.Secret = &secret // this once
		return answer{status: http.StatusOK, body: shown}, err
	})
}

// DisableDestination stops sending: POST /v1/destinations/{destination_id}/disable.
func (s *Server) DisableDestination(c echo.Context, id DestinationID, _ DisableDestinationParams) error {
	r := requestOf(c)
	return s.once(c, r.checkEmpty, func(ctx context.Context, store *storage.Store) (answer, error) {
		changed, err := store.DisableDestination(ctx, r.key.TenantID, id, storage.DisabledByUser)
		return answer{status: http.StatusOK, body: destinationAnswer(changed)}, err
	})
}

// EnableDestination sends again: POST /v1/destinations/{destination_id}/enable.
func (s *Server) EnableDestination(c echo.Context, id DestinationID, _ EnableDestinationParams) error {
	r := requestOf(c)
	return s.once(c, r.checkEmpty, func(ctx context.Context, store *storage.Store) (answer, error) {
		changed, err := store.EnableDestination(ctx, r.key.TenantID, id)
		return answer{status: http.StatusOK, body: destinationAnswer(changed)}, err
	})
}

// RecoverDestination redelivers what was not accepted:
// POST /v1/destinations/{destination_id}/recover. That takes many transactions, the
// last of which keeps the answer: a crash before it leaves some redelivered, and the
// request may be repeated.
func (s *Server) RecoverDestination(c echo.Context, id DestinationID, _ RecoverDestinationParams) error {
	r := requestOf(c)
	var body Recovery
	check := func(context.Context) error {
		f := r.decode(&body)
		f.refuse(body.Until != nil && body.Until.Before(body.Since), "/until", "must not be before since")
		return f.err()
	}
	return s.onceIn(c, check, func(ctx context.Context, once reserved) error {
		recovery := storage.Recovery{
			TenantID: r.key.TenantID, DestinationID: id, Since: body.Since, Until: or(body.Until, time.Time{}),
		}
		_, err := s.store.Recover(ctx, recovery, func(tx *storage.Store, count int, last bool) error {
			if !last {
				return once.goOn(tx)
			}
			return once.finish(tx, answer{status: http.StatusAccepted, body: Recovered{Count: count}})
		})
		return err
	})
}
