package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"oprelay/api/client"
)

const (
	// maxReceived bounds the body of a webhook.
	maxReceived = 1 << 20
	// receiveTimeout bounds how long a sender may take.
	receiveTimeout = 30 * time.Second
	// stopLimit is how long what has arrived may take to be answered when it stops.
	stopLimit = 2 * time.Second
)

// receiver is a receiver of webhooks that prints what verifies.
type receiver struct {
	verifier *standardwebhooks.Webhook
	printed  *eventPrinter
	told     *progress
	broken   context.CancelCauseFunc // ends it, when nothing can be printed
}

// receive serves until ctx ends.
func receive(ctx context.Context, at, secret string, printed *eventPrinter, told *progress) error {
	if err := address(&at)(at); err != nil {
		return fmt.Errorf("--receive %q: %w", at, err)
	}
	if secret == "" {
		return errors.New("--receive needs --secret whsec_..., the destination's signing secret. It was shown when the destination was made; " +
			"POST /v1/destinations/{id}/rotate-secret makes another")
	}
	verifier, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		return fmt.Errorf("--secret: %w", err)
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", at)
	if err != nil {
		return err
	}
	ctx, broken := context.WithCancelCause(ctx)
	defer broken(nil)
	server := &http.Server{
		Handler:     &receiver{verifier: verifier, printed: printed, told: told, broken: broken},
		ReadTimeout: receiveTimeout, WriteTimeout: receiveTimeout, IdleTimeout: 2 * time.Minute,
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-ctx.Done()
		limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopLimit)
		defer cancel()
		if server.Shutdown(limit) != nil {
			_ = server.Close()
		}
	}()
	told.say(fmt.Sprintf("ready: webhooks to http://%s are verified and printed", listener.Addr()))
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	<-stopped
	return context.Cause(ctx)
}

// ServeHTTP answers 204 once a webhook has verified and is printed.
func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	event, status, err := r.read(w, req)
	if err != nil {
		r.told.say(fmt.Sprintf("refused with %d: %s", status, plain(err.Error())))
		http.Error(w, err.Error(), status)
		return
	}
	asJSON, err := oneLine(event)
	if err == nil {
		err = r.printed.print(event, asJSON)
	}
	if err != nil {
		http.Error(w, "it cannot be printed", http.StatusInternalServerError)
		r.broken(err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// read is what was posted as an event, or the status of the refusal and why.
func (r *receiver) read(w http.ResponseWriter, req *http.Request) (event client.Event, status int, err error) {
	if req.Method != http.MethodPost {
		return event, http.StatusMethodNotAllowed, fmt.Errorf("%s is no POST", req.Method)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxReceived))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return event, http.StatusRequestEntityTooLarge, errors.New("the body is over 1 MiB")
	}
	if err != nil {
		return event, http.StatusBadRequest, err
	}
	if err := r.verifier.Verify(body, req.Header); err != nil {
		return event, http.StatusUnauthorized, fmt.Errorf("it does not verify: %w", err)
	}
	var posted struct {
		about

		Timestamp time.Time `json:"timestamp"`
	}
	if err := json.Unmarshal(body, &posted); err != nil {
		return event, http.StatusBadRequest, fmt.Errorf("it verifies, but its body is no event: %w", err)
	}
	return client.Event{
		ID: req.Header.Get("Webhook-Id"), Type: client.EventType(posted.Type), WatchID: posted.Data.WatchID,
		CreatedAt: posted.Timestamp, Body: body,
	}, 0, nil
}
