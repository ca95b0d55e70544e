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
	decode := func(r *request) ([]placedWatch, *faults) {
		var body NewWatch
		f := r.decode(&body)
		return []placedWatch{{"", body}}, f
	}
	return s.register(c, decode, func(made []storage.Watch) answer {
		return answer{http.StatusCreated, "/v1/watches/" + made[0].ID, watchAnswer(made[0])}
	})
}

// CreateWatches registers many watches, all or none: POST /v1/watches/batch.
func (s *Server) CreateWatches(c echo.Context, _ CreateWatchesParams) error {
	decode := func(r *request) ([]placedWatch, *faults) {
		var body NewWatches
		f := r.decode(&body)
		placed := make([]placedWatch, 0, len(body.Watches))
		for i, watch := range body.Watches {
			placed = append(placed, placedWatch{at("watches", i), watch})
		}
		return placed, f
	}
	return s.register(c, decode, func(made []storage.Watch) answer {
		return answer{status: http.StatusCreated, body: Watches{Data: each(made, watchAnswer)}}
	})
}

// register answers a POST that makes the watches that decode finds in it.
func (s *Server) register(
	c echo.Context, decode func(*request) ([]placedWatch, *faults), answered func([]storage.Watch) answer,
) error {
	r := requestOf(c)
	var wanted []placedWatch
	check := func(ctx context.Context) error {
		placed, f := decode(r)
		wanted = placed
		return s.checkWatches(ctx, r.key.TenantID, wanted, f)
	}
	return s.onceIn(c, check, func(ctx context.Context, once reserved) error {
		keep := func(tx *storage.Store, made []storage.Watch) error { return once.finish(tx, answered(made)) }
		_, err := s.store.Register(ctx, newWatches(ctx, r.key.TenantID, wanted), keep)
		if errors.Is(err, storage.ErrNotFound) {
			return s.explainMissing(ctx, r.key.TenantID, wanted)
		}
		return err
	})
}

func newWatches(ctx context.Context, tenantID string, placed []placedWatch) []storage.NewWatch {
	traceparent := traceparentOf(ctx)
	return each(placed, func(w placedWatch) storage.NewWatch {
		return storage.NewWatch{
			TenantID:       tenantID,
			AccountID:      w.body.AccountID,
			OperationID:    w.body.OperationID,
			CredentialID:   w.body.CredentialID,
			DestinationIDs: w.body.DestinationIds,
			Events:         eventNames(or(w.body.Events, allEvents())),
			Timeout:        time.Duration(or(w.body.TimeoutSeconds, defaultTimeout)) * time.Second,
			Metadata:       or(w.body.Metadata, nil),
			Traceparent:    traceparent,
		}
	})
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
