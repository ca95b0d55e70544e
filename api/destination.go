package api

import (
	"context"
	"net/http"

	"github.com/labstack/echo/v4"

	"oprelay/notifier"
	"oprelay/storage"
)

const (
	// defaultMaxInFlight lets one destination take a few hundred messages a
	// second without opening hundreds of connections to it.
	defaultMaxInFlight = 20
	maskedValue        = "••••"
)

// CreateDestination makes a destination: POST /v1/destinations.
func (s *Server) CreateDestination(c echo.Context, _ CreateDestinationParams) error {
	r := requestOf(c)
	var body NewDestination
	check := func(ctx context.Context) error {
		f := r.decode(&body)
		s.checkDestination(ctx, body, f)
		return f.err()
	}
	return s.once(c, check, func(ctx context.Context, store *storage.Store) (answer, error) {
		row, secret := newDestination(r.key.TenantID, body)
		made, err := store.CreateDestination(ctx, row)
		shown := destinationAnswer(made)
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
			SlackURL: storage.Secret(or(body.WebhookURL, "")),
			BotToken: storage.Secret(or(body.BotToken, "")),
		},
	}
	if body.Type != DestinationWebhook {
		return row, ""
	}
	secret := or(body.Secret, "")
	if secret == "" {
		secret = notifier.NewSecret()
	}
	row.Secret.Signing = []storage.SigningSecret{{Value: storage.Secret(secret)}}
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
		Data: each(list.Data, destinationAnswer), NextCursor: nextCursor(list.Next),
	})
}

// GetDestination shows a destination: GET /v1/destinations/{destination_id}.
func (s *Server) GetDestination(c echo.Context, id DestinationID) error {
	found, err := s.store.Destination(c.Request().Context(), requestOf(c).key.TenantID, id)
	if err != nil {
		return err
	}
	return respond(c, destinationAnswer(found))
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
		SlackURL:    (*storage.Secret)(body.WebhookURL),
		BotToken:    (*storage.Secret)(body.BotToken),
	})
	if err != nil {
		return err
	}
	return respond(c, destinationAnswer(changed))
}

// DeleteDestination deletes a destination: DELETE /v1/destinations/{destination_id}.
func (s *Server) DeleteDestination(c echo.Context, id DestinationID) error {
	if err := s.store.DeleteDestination(c.Request().Context(), requestOf(c).key.TenantID, id); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

func destinationAnswer(row storage.Destination) Destination {
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
