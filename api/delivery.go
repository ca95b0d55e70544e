package api

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"oprelay/storage"
)

// ListDeliveries shows a page of deliveries: GET /v1/deliveries.
func (s *Server) ListDeliveries(c echo.Context, params ListDeliveriesParams) error {
	page, err := pageOf("delivery", params.Limit, params.Cursor)
	if err != nil {
		return err
	}
	list, err := s.store.Deliveries(c.Request().Context(), storage.DeliveryFilter{
		TenantID:      requestOf(c).key.TenantID,
		WatchID:       or(params.WatchID, ""),
		DestinationID: or(params.DestinationID, ""),
		EventID:       or(params.EventID, ""),
		EventType:     string(or(params.EventType, "")),
		Status:        string(or(params.Status, "")),
		CreatedAfter:  or(params.CreatedAfter, time.Time{}),
		CreatedBefore: or(params.CreatedBefore, time.Time{}),
	}, page)
	if err != nil {
		return err
	}
	return respond(c, DeliveryList{
		Data: each(list.Data, deliveryAnswer), NextCursor: nextCursor(list.Next),
	})
}

// GetDelivery shows a delivery and its attempts: GET /v1/deliveries/{delivery_id}.
func (s *Server) GetDelivery(c echo.Context, id DeliveryID) error {
	found, attempts, err := s.store.Delivery(c.Request().Context(), requestOf(c).key.TenantID, id)
	if err != nil {
		return err
	}
	shown := deliveryAnswer(found)
	tries := each(attempts, attemptAnswer)
	shown.Attempts = &tries
	return respond(c, shown)
}

// Redeliver sends a delivery again: POST /v1/deliveries/{delivery_id}/redeliver.
func (s *Server) Redeliver(c echo.Context, id DeliveryID, _ RedeliverParams) error {
	r := requestOf(c)
	return s.inTransaction(c, r.faults.err, func(ctx context.Context, store *storage.Store) (answer, error) {
		again, err := store.Redeliver(ctx, r.key.TenantID, id)
		return answer{status: http.StatusAccepted, body: deliveryAnswer(again)}, err
	})
}

func deliveryAnswer(row storage.Delivery) Delivery {
	return Delivery{
		ID:            row.ID,
		EventID:       row.EventID,
		EventType:     EventType(row.EventType),
		WatchID:       orNull(row.WatchID),
		DestinationID: row.DestinationID,
		Status:        DeliveryStatus(row.Status),
		AttemptsMade:  row.AttemptsMade,
		NextAttemptAt: timeOrNull(row.NextAttemptAt),
		CreatedAt:     row.CreatedAt,
		FinishedAt:    timeOrNull(row.FinishedAt),
	}
}

func attemptAnswer(row storage.Attempt) Attempt {
	return Attempt{
		Number:       row.Number,
		StartedAt:    row.StartedAt,
		DurationMs:   row.Duration.Milliseconds(),
		StatusCode:   orNull(row.StatusCode),
		Error:        orNull(row.Error),
		ResponseBody: strings.ToValidUTF8(string(row.ResponseBody), "\uFFFD"),
	}
}
