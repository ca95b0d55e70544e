package api

import (
	"context"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"oprelay/notifier"
	"oprelay/storage"
	"oprelay/storage/seal"
)

const (
	// defaultMaxInFlight lets one destination take a few hundred messages a
	// second without opening hundreds of connections to it.
	defaultMaxInFlight = 20
	// defaultOverlap is how long a replaced secret signs too, in seconds.
	defaultOverlap = 86400
	maskedValue    = "••••"
)

// CreateDestination makes a destination: POST /v1/destinations.
func (s *Server) CreateDestination(c echo.Context, _ CreateDestinationParams) error {
	r := requestOf(c)
	var body NewDestination
	f := r.decode(&body)
	validate := func() error {
		s.checkDestination(c.Request().Context(), body, f)
		return f.err()
	}
	return s.inTransaction(c, validate, func(ctx context.Context, store *storage.Store) (answer, error) {
		row, secret := newDestination(r.key.TenantID, body)
		made, err := store.CreateDestination(ctx, row)
		shown := s.destinationAnswer(made)
		shown.Secret = orNull(secret) // this once
		return answer{http.StatusCreated, "/v1/destinations/" + made.ID, shown}, err
	})
}

// newDestination is the row for a request, and the signing secret of a webhook.
func newDestination(tenantID string, body NewDestination) (storage.NewDestination, string) {
	row := storage.NewDestination{
		TenantID:    tenantID,
		Kind:        string(body.Type),
		Name:        body.Name,
		URL:         or(body.URL, ""),
		Channel:     or(body.Channel, ""),
		Alerts:      or(body.Alerts, false),
		RateLimit:   or(body.RateLimit, 0),
		MaxInFlight: or(body.MaxInFlight, defaultMaxInFlight),
		Secret: storage.DestinationSecret{
			Headers:  or(body.Headers, nil),
			SlackURL: seal.Secret(or(body.WebhookURL, "")),
			BotToken: seal.Secret(or(body.BotToken, "")),
		},
	}
	if body.Type != DestinationWebhook {
		return row, ""
	}
	secret := or(body.Secret, "")
	if secret == "" {
		secret = notifier.NewSecret()
	}
	row.Secret.Signing = []storage.SigningSecret{{Value: seal.Secret(secret)}}
	return row, secret
}

// ListDestinations shows a page of destinations: GET /v1/destinations.
func (s *Server) ListDestinations(c echo.Context, params ListDestinationsParams) error {
	page, err := pageOf("destination", params.Limit, params.Cursor)
	if err != nil {
		return err
	}
	list, err := s.store.Destinations(c.Request().Context(), requestOf(c).key.TenantID, page)
	if err != nil {
		return err
	}
	return respond(c, DestinationList{
		Data: each(list.Data, s.destinationAnswer), NextCursor: nextCursor(list.Next),
	})
}

// GetDestination shows a destination: GET /v1/destinations/{destination_id}.
func (s *Server) GetDestination(c echo.Context, id DestinationID) error {
	found, err := s.store.Destination(c.Request().Context(), requestOf(c).key.TenantID, id)
	if err != nil {
		return err
	}
	waiting, err := s.store.Waiting(c.Request().Context(), id)
	if err != nil {
		return err
	}
	shown := s.destinationAnswer(found)
	shown.Waiting = &waiting
	return respond(c, shown)
}

// UpdateDestination changes a destination: PATCH /v1/destinations/{destination_id}.
func (s *Server) UpdateDestination(c echo.Context, id DestinationID) error {
	ctx, r := c.Request().Context(), requestOf(c)
	found, err := s.store.Destination(ctx, r.key.TenantID, id)
	if err != nil {
		return err
	}
	var body DestinationPatch
	f := r.decode(&body)
	s.checkPatch(ctx, found, body, f)
	if err := f.err(); err != nil {
		return err
	}
	changed, err := s.store.UpdateDestination(ctx, r.key.TenantID, id, storage.DestinationPatch{
		Name:        body.Name,
		URL:         body.URL,
		Channel:     body.Channel,
		Headers:     (*map[string]string)(body.Headers),
		Alerts:      body.Alerts,
		RateLimit:   body.RateLimit,
		MaxInFlight: body.MaxInFlight,
		SlackURL:    (*seal.Secret)(body.WebhookURL),
		BotToken:    (*seal.Secret)(body.BotToken),
	})
	if err != nil {
		return err
	}
	return respond(c, s.destinationAnswer(changed))
}

// DeleteDestination deletes a destination: DELETE /v1/destinations/{destination_id}.
func (s *Server) DeleteDestination(c echo.Context, id DestinationID, params DeleteDestinationParams) error {
	remove := s.store.DeleteDestination
	if or(params.Force, false) {
		remove = s.store.ForceDeleteDestination
	}
	if err := remove(c.Request().Context(), requestOf(c).key.TenantID, id); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

func (s *Server) destinationAnswer(row storage.Destination) Destination {
	shown := Destination{
		ID:             row.ID,
		Type:           DestinationType(row.Kind),
		Name:           row.Name,
		URL:            orNull(row.URL),
		Channel:        orNull(row.Channel),
		Alerts:         row.Alerts,
		RateLimit:      row.RateLimit,
		MaxInFlight:    row.MaxInFlight,
		Status:         DestinationStatus(row.Status),
		DisabledReason: orNull(DestinationDisabledReason(row.DisabledReason)),
		FailingSince:   timeOrNull(s.store.Dated(row.FailingSince)),
		LastSuccessAt:  timeOrNull(row.LastSuccessAt),
		LastError:      orNull(row.LastError),
		CreatedAt:      row.CreatedAt,
	}
	if len(row.HeaderNames) > 0 {
		masked := make(map[string]string, len(row.HeaderNames))
		for _, name := range row.HeaderNames {
			masked[name] = maskedValue
		}
		shown.Headers = &masked
	}
	return shown
}

// TestDestination sends a test event: POST /v1/destinations/{destination_id}/test.
func (s *Server) TestDestination(c echo.Context, id DestinationID, _ TestDestinationParams) error {
	r := requestOf(c)
	return s.inTransaction(c, r.faults.err, func(ctx context.Context, store *storage.Store) (answer, error) {
		sent, err := store.TestDestination(ctx, r.key.TenantID, id)
		return answer{status: http.StatusAccepted, body: deliveryAnswer(sent)}, err
	})
}

// RotateSecret gives a webhook a new signing secret:
// POST /v1/destinations/{destination_id}/rotate-secret.
func (s *Server) RotateSecret(c echo.Context, id DestinationID, _ RotateSecretParams) error {
	r := requestOf(c)
	var body SecretRotation
	f := r.decode(&body)
	validate := func() error {
		found, err := s.store.Destination(c.Request().Context(), r.key.TenantID, id)
		if err != nil {
			return err
		}
		f.refuse(found.Kind != storage.KindWebhook, "", "a slack destination has no signing secret")
		return f.err()
	}
	secret := notifier.NewSecret()
	return s.inTransaction(c, validate, func(ctx context.Context, store *storage.Store) (answer, error) {
		overlap := time.Duration(or(body.OverlapSeconds, defaultOverlap)) * time.Second
		if err := store.RotateSecret(ctx, r.key.TenantID, id, seal.Secret(secret), overlap); err != nil {
			return answer{}, err
		}
		found, err := store.Destination(ctx, r.key.TenantID, id)
		shown := s.destinationAnswer(found)
		shown.Secret = &secret // this once
		return answer{status: http.StatusOK, body: shown}, err
	})
}

// DisableDestination stops sending: POST /v1/destinations/{destination_id}/disable.
func (s *Server) DisableDestination(c echo.Context, id DestinationID, _ DisableDestinationParams) error {
	r := requestOf(c)
	return s.inTransaction(c, r.faults.err, func(ctx context.Context, store *storage.Store) (answer, error) {
		changed, err := store.DisableDestination(ctx, r.key.TenantID, id, storage.DisabledByUser)
		return answer{status: http.StatusOK, body: s.destinationAnswer(changed)}, err
	})
}

// EnableDestination sends again: POST /v1/destinations/{destination_id}/enable.
func (s *Server) EnableDestination(c echo.Context, id DestinationID, _ EnableDestinationParams) error {
	r := requestOf(c)
	return s.inTransaction(c, r.faults.err, func(ctx context.Context, store *storage.Store) (answer, error) {
		changed, err := store.EnableDestination(ctx, r.key.TenantID, id)
		return answer{status: http.StatusOK, body: s.destinationAnswer(changed)}, err
	})
}

// RecoverDestination redelivers what was not accepted:
// POST /v1/destinations/{destination_id}/recover. That takes many transactions, the
// last of which keeps the answer: a crash before it leaves some redelivered, and the
// request may be repeated.
func (s *Server) RecoverDestination(c echo.Context, id DestinationID, _ RecoverDestinationParams) error {
	r := requestOf(c)
	var body Recovery
	f := r.decode(&body)
	return s.idempotent(c, func(ctx context.Context, i *idempotency) error {
		f.refuse(body.Until != nil && body.Until.Before(body.Since), "/until", "must not be before since")
		if err := f.err(); err != nil {
			return err
		}
		recovery := storage.Recovery{
			TenantID: r.key.TenantID, DestinationID: id, Since: body.Since, Until: or(body.Until, time.Time{}),
			Types: each(or(body.Types, nil), func(kind EventType) string { return string(kind) }),
		}
		if or(body.DryRun, false) {
			return s.countRecoverable(ctx, recovery, i)
		}
		_, err := s.store.Recover(ctx, recovery, func(tx *storage.Store, count int, last bool) error {
			if !last {
				return i.renew(ctx, tx)
			}
			return i.keep(ctx, tx, answer{status: http.StatusAccepted, body: Recovered{Count: count}})
		})
		return err
	})
}

// countRecoverable answers what a recovery would, and changes nothing.
func (s *Server) countRecoverable(ctx context.Context, recovery storage.Recovery, i *idempotency) error {
	count, err := s.store.Recoverable(ctx, recovery)
	if err != nil {
		return err
	}
	return s.store.Atomically(ctx, func(tx *storage.Store) error {
		return i.keep(ctx, tx, answer{status: http.StatusAccepted, body: Recovered{Count: count}})
	})
}

// checkDestination finds what the document cannot say about a new
// destination: which fields go together, and what may be sent to where.
func (s *Server) checkDestination(ctx context.Context, body NewDestination, f *faults) {
	switch body.Type {
	case DestinationWebhook:
		f.refuse(body.WebhookURL != nil, "/webhook_url", "is of a slack destination; a webhook has url")
		f.refuse(body.BotToken != nil, "/bot_token", "is of a slack destination")
		f.refuse(body.Channel != nil, "/channel", "is of a slack destination")
		f.refuse(body.URL == nil, "/url", "is required for a webhook")
		if body.Secret != nil {
			if err := notifier.CheckSecret(*body.Secret); err != nil {
				f.addf("/secret", "%s", err)
			}
		}
	case DestinationSlack:
		f.refuse(body.URL != nil, "/url", "is of a webhook destination; slack has webhook_url, or bot_token and channel")
		f.refuse(body.Headers != nil, "/headers", "is of a webhook destination")
		f.refuse(body.Secret != nil, "/secret", "is of a webhook destination")
		checkSlackForm(body, f)
	}
	s.checkURL(ctx, "/url", body.URL, f)
	s.checkURL(ctx, "/webhook_url", body.WebhookURL, f)
	checkHeaders(body.Headers, f)
}

// checkSlackForm holds a Slack destination to one of its two forms.
func checkSlackForm(body NewDestination, f *faults) {
	const either = "send either webhook_url, or bot_token and channel"
	switch {
	case body.WebhookURL != nil:
		f.refuse(body.BotToken != nil, "/bot_token", "does not go with webhook_url: "+either)
		f.refuse(body.Channel != nil, "/channel", "does not go with webhook_url: "+either)
	case body.BotToken == nil && body.Channel == nil:
		f.addf("/webhook_url", "is required, unless bot_token and channel are sent")
	default:
		f.refuse(body.BotToken == nil, "/bot_token", "is required with channel")
		f.refuse(body.Channel == nil, "/channel", "is required with bot_token")
	}
}

// checkPatch finds what does not fit the destination that is to be changed:
// its kind stays what it is.
func (s *Server) checkPatch(ctx context.Context, is storage.Destination, body DestinationPatch, f *faults) {
	webhook := is.Kind == storage.KindWebhook
	bot := !webhook && is.Bot
	f.refuse(body.URL != nil && !webhook, "/url", "is of a webhook destination; this is slack")
	f.refuse(body.Headers != nil && !webhook, "/headers", "is of a webhook destination; this is slack")
	f.refuse(body.WebhookURL != nil && (webhook || bot), "/webhook_url",
		"is of a slack destination with an incoming webhook; make a new destination to change the kind")
	f.refuse(body.BotToken != nil && !bot, "/bot_token",
		"is of a slack destination with a bot; make a new destination to change the kind")
	f.refuse(body.Channel != nil && !bot, "/channel",
		"is of a slack destination with a bot; make a new destination to change the kind")
	s.checkURL(ctx, "/url", body.URL, f)
	s.checkURL(ctx, "/webhook_url", body.WebhookURL, f)
	checkHeaders(body.Headers, f)
}

// checkURL asks whether the relay may send there. Where the document has
// found a fault already, it does not look the name up.
func (s *Server) checkURL(ctx context.Context, pointer string, raw *string, f *faults) {
	if raw == nil || f.seen[pointer] {
		return
	}
	if err := s.egress.CheckURL(ctx, *raw); err != nil {
		f.addf(pointer, "%s", err)
	}
}

func checkHeaders(headers *Headers, f *faults) {
	if headers == nil {
		return
	}
	for _, fault := range notifier.CheckHeaders(*headers) {
		f.addf(at("headers", fault.Name), "%s", fault.Detail)
	}
}
