package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"oprelay/storage"
)

// defaultTimeout is how long a watch watches, in seconds.
const defaultTimeout = 86400

// CreateWatch registers a watch: POST /v1/watches.
func (s *Server) CreateWatch(c echo.Context, _ CreateWatchParams) error {
	r := requestOf(c)
	var body NewWatch
	check := func(ctx context.Context) error {
		f := r.decode(&body)
		return s.checkWatches(ctx, r.key.TenantID, []placedWatch{{"", body}}, f)
	}
	return s.once(c, check, func(ctx context.Context, store *storage.Store) (answer, error) {
		made, err := createWatches(ctx, store, r.key.TenantID, []NewWatch{body})
		if err != nil {
			return answer{}, err
		}
		return answer{http.StatusCreated, "/v1/watches/" + made[0].ID, watchAnswer(made[0])}, nil
	})
}

// CreateWatches registers many watches, all or none: POST /v1/watches/batch.
func (s *Server) CreateWatches(c echo.Context, _ CreateWatchesParams) error {
	r := requestOf(c)
	var body NewWatches
	check := func(ctx context.Context) error {
		f := r.decode(&body)
		placed := make([]placedWatch, 0, len(body.Watches))
		for i, watch := range body.Watches {
			placed = append(placed, placedWatch{at("watches", i), watch})
		}
		return s.checkWatches(ctx, r.key.TenantID, placed, f)
	}
	return s.once(c, check, func(ctx context.Context, store *storage.Store) (answer, error) {
		made, err := createWatches(ctx, store, r.key.TenantID, body.Watches)
		if err != nil {
			return answer{}, err
		}
		return answer{status: http.StatusCreated, body: Watches{Data: each(made, watchAnswer)}}, nil
	})
}

func createWatches(ctx context.Context, store *storage.Store, tenantID string, bodies []NewWatch) ([]storage.Watch, error) {
	traceparent := traceparentOf(ctx)
	rows := make([]storage.NewWatch, 0, len(bodies))
	for _, body := range bodies {
		rows = append(rows, storage.NewWatch{
			TenantID:       tenantID,
			AccountID:      body.AccountID,
			OperationID:    body.OperationID,
			CredentialID:   body.CredentialID,
			DestinationIDs: body.DestinationIds,
			Events:         eventNames(or(body.Events, allEvents())),
			Timeout:        time.Duration(or(body.TimeoutSeconds, defaultTimeout)) * time.Second,
			Metadata:       or(body.Metadata, nil),
			Traceparent:    traceparent,
		})
	}
	made, err := store.CreateWatches(ctx, rows)
	if errors.Is(err, storage.ErrNotFound) { // they were there when the request was checked
		return nil, errGone
	}
	return made, err
}

func allEvents() []OperationEventType {
	return []OperationEventType{OperationCompleted, OperationFailed, OperationExpired, OperationUnobservable}
}

func eventNames(events []OperationEventType) []string {
	return each(events, func(event OperationEventType) string { return string(event) })
}

// ListWatches shows a page of watches: GET /v1/watches.
func (s *Server) ListWatches(c echo.Context, params ListWatchesParams) error {
	page, err := pageOf("watch", params.Limit, params.Cursor)
	if err != nil {
		return err
	}
	list, err := s.store.Watches(c.Request().Context(), storage.WatchFilter{
		TenantID:    requestOf(c).key.TenantID,
		Status:      string(or(params.Status, "")),
		OperationID: or(params.OperationID, ""),
		AccountID:   or(params.AccountID, ""),
	}, page)
	if err != nil {
		return err
	}
	return respond(c, WatchList{Data: each(list.Data, watchAnswer), NextCursor: nextCursor(list.Next)})
}

// GetWatch shows a watch, or waits for its end: GET /v1/watches/{watch_id}.
func (s *Server) GetWatch(c echo.Context, id WatchID, params GetWatchParams) error {
	wait, err := waitOf(params.Wait)
	if err != nil {
		return err
	}
	found, err := s.waitForEnd(c.Request().Context(), requestOf(c).key, id, wait)
	if err != nil {
		return err
	}
	return respond(c, watchAnswer(found))
}

// CancelWatch cancels a watch: DELETE /v1/watches/{watch_id}.
func (s *Server) CancelWatch(c echo.Context, id WatchID) error {
	ended, err := s.store.CancelWatch(c.Request().Context(), requestOf(c).key.TenantID, id)
	if err != nil {
		return err
	}
	return respond(c, watchAnswer(ended))
}

func watchAnswer(row storage.Watch) Watch {
	metadata := Metadata(row.Metadata)
	if metadata == nil {
		metadata = Metadata{}
	}
	return Watch{
		ID:     row.ID,
		Status: WatchStatus(row.Status),
		Operation: Operation{
			Source:      row.Operation.Source,
			AccountID:   row.Operation.AccountID,
			ID:          row.Operation.ID,
			Status:      orNull(OperationStatus(row.Operation.Status)),
			Error:       orNull(row.Operation.Error),
			CompletedAt: timeOrNull(row.Operation.CompletedAt),
		},
		CredentialID:   row.CredentialID,
		DestinationIds: each(row.DestinationIDs, func(id string) DestinationID { return id }),
		Events:         each(row.Events, func(event string) OperationEventType { return OperationEventType(event) }),
		Metadata:       metadata,
		Polls:          row.Polls,
		LastPolledAt:   timeOrNull(row.LastPolledAt),
		NextPollAt:     timeOrNull(row.NextPollAt),
		LastPollError:  orNull(row.LastPollError),
		ExpiresAt:      row.ExpiresAt,
		CreatedAt:      row.CreatedAt,
		FinishedAt:     timeOrNull(row.FinishedAt),
		EventID:        orNull(row.EventID),
	}
}
