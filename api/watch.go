package api

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/labstack/echo/v4"

	"oprelay/storage"
)

const (
	defaultTimeout = 86400   // how long a watch watches, in seconds
	maxMetadata    = 8 << 10 // bytes of keys and values
	maxMetadataKey = 255     // characters
	maxWait        = time.Minute
	// lookEvery is how often a waiting request looks at its watch: a row by its primary key is cheap, and it works
	// across processes.
	lookEvery = 250 * time.Millisecond
	// maxWaiters bounds the requests of one key that wait at once: 64 of them ask the store 256 times a second.
	maxWaiters = 64
)

// registration is a request for one watch, or for a batch of them.
type registration struct {
	watches []NewWatch
	batch   bool
	faults  *faults
	answer  func(made []storage.Watch) answer
}

// pointer is the place of a watch in the body.
func (r registration) pointer(i int) string {
	if r.batch {
		return at("watches", strconv.Itoa(i))
	}
	return ""
}

// CreateWatch registers a watch: POST /v1/watches.
func (s *Server) CreateWatch(c echo.Context, _ CreateWatchParams) error {
	var body NewWatch
	f := requestOf(c).decode(&body)
	return s.register(c, registration{watches: []NewWatch{body}, faults: f, answer: func(made []storage.Watch) answer {
		return answer{http.StatusCreated, "/v1/watches/" + made[0].ID, watchAnswer(made[0])}
	}})
}

// CreateWatches registers many watches, all or none: POST /v1/watches/batch.
func (s *Server) CreateWatches(c echo.Context, _ CreateWatchesParams) error {
	var body NewWatches
	f := requestOf(c).decode(&body)
	return s.register(c, registration{watches: body.Watches, batch: true, faults: f, answer: func(made []storage.Watch) answer {
		return answer{status: http.StatusCreated, body: Watches{Data: each(made, watchAnswer)}}
	}})
}

// register answers a POST that makes watches. Whether their credentials and destinations exist is found out by
// the transaction that stores them. They are looked for only when the request is refused, to name every fault.
func (s *Server) register(c echo.Context, r registration) error {
	return s.idempotent(c, func(ctx context.Context, i *idempotency) error {
		tenantID := requestOf(c).key.TenantID
		requested := s.newWatches(ctx, tenantID, r)
		if r.faults.err() == nil {
			_, err := s.store.Register(ctx, requested, func(tx *storage.Store, made []storage.Watch) error {
				return i.keep(ctx, tx, r.answer(made))
			})
			if !errors.Is(err, storage.ErrNotFound) && !errors.Is(err, storage.ErrOtherUpstream) {
				return err
			}
		}
		return s.explainMissing(ctx, tenantID, requested, r)
	})
}

// newWatches checks what the document cannot, and makes of the watches what is stored.
func (s *Server) newWatches(ctx context.Context, tenantID string, r registration) []storage.NewWatch {
	traceparent := traceparentOf(ctx)
	all := []OperationEventType{OperationCompleted, OperationFailed, OperationExpired, OperationUnobservable}
	made := make([]storage.NewWatch, len(r.watches))
	for i, w := range r.watches {
		checkMetadata(r.pointer(i), or(w.Metadata, nil), r.faults)
		source, params := s.checkSource(r.pointer(i), w, r.faults)
		made[i] = storage.NewWatch{
			TenantID:       tenantID,
			Source:         source.Name,
			Upstream:       source.Upstream,
			Params:         params,
			OperationID:    w.OperationID,
			CredentialID:   w.CredentialID,
			DestinationIDs: w.DestinationIds,
			Events:         each(or(w.Events, all), func(event OperationEventType) string { return string(event) }),
			Timeout:        time.Duration(or(w.TimeoutSeconds, defaultTimeout)) * time.Second,
			Name:           or(w.Name, ""),
			Metadata:       or(w.Metadata, nil),
			Traceparent:    traceparent,
		}
	}
	return made
}

// explainMissing adds the credentials and destinations that the tenant does not have to the faults, and returns
// them as an error. One of another tenant does not exist here.
func (s *Server) explainMissing(ctx context.Context, tenantID string, requested []storage.NewWatch, r registration) error {
	var credentials, destinations []string
	for _, w := range r.watches {
		credentials = append(credentials, w.CredentialID)
		destinations = append(destinations, w.DestinationIds...)
	}
	upstreams, err := s.store.CredentialUpstreams(ctx, tenantID, unique(credentials))
	if err != nil {
		return err
	}
	knownDestinations, err := s.store.KnownDestinations(ctx, tenantID, unique(destinations))
	if err != nil {
		return err
	}
	for n, w := range r.watches {
		upstream, known := upstreams[w.CredentialID]
		r.faults.refuse(w.CredentialID != "" && !known, r.pointer(n)+at("credential_id"), "there is no such credential")
		r.faults.refuse(known && requested[n].Upstream != "" && upstream != requested[n].Upstream, r.pointer(n)+at("credential_id"),
			"is a credential for "+upstream+", and the source asks "+requested[n].Upstream)
		for i, id := range w.DestinationIds {
			r.faults.refuse(!knownDestinations[id], r.pointer(n)+at("destination_ids", strconv.Itoa(i)), "there is no such destination")
		}
	}
	return cmp.Or(r.faults.err(), errGone) // without a fault, what was missing is there again
}

func checkMetadata(pointer string, metadata Metadata, f *faults) {
	total := 0
	for _, key := range sortedKeys(metadata) {
		total += len(key) + len(metadata[key])
		f.refuse(key == "" || utf8.RuneCountInString(key) > maxMetadataKey, pointer+at("metadata", key),
			"must have a key of 1 to 255 characters")
	}
	f.refuse(total > maxMetadata, pointer+at("metadata"), "must not hold more than 8 KiB, keys and values together")
}

// checkMetadataFilter refuses keys that no watch can have.
func checkMetadataFilter(metadata map[string]string) error {
	var f faults
	for _, key := range sortedKeys(metadata) {
		f.refuse(utf8.RuneCountInString(key) > maxMetadataKey || !utf8.ValidString(key) || strings.ContainsFunc(key, unicode.IsControl),
			"?"+shorten("metadata["+key+"]"), "must have a key of 1 to 255 characters, none of them a control character")
	}
	return f.err()
}

// unique is the values that could be asked for, each once.
func unique(ids []string) []string {
	seen := make(map[string]bool, len(ids))
	var once []string
	for _, id := range ids {
		if id != "" && !seen[id] && !strings.ContainsRune(id, 0) {
			seen[id] = true
			once = append(once, id)
		}
	}
	return once
}

// ListWatches shows a page of watches: GET /v1/watches.
func (s *Server) ListWatches(c echo.Context, params ListWatchesParams) error {
	page, err := pageOf("watch", params.Limit, params.Cursor)
	if err != nil {
		return err
	}
	if err := checkMetadataFilter(or(params.Metadata, nil)); err != nil {
		return err
	}
	list, err := s.store.Watches(c.Request().Context(), storage.WatchFilter{
		TenantID:      requestOf(c).key.TenantID,
		Statuses:      unique(each(or(params.Status, nil), func(status WatchStatus) string { return string(status) })),
		Source:        or(params.Source, ""),
		OperationID:   or(params.OperationID, ""),
		AccountID:     or(params.AccountID, ""),
		DestinationID: or(params.DestinationID, ""),
		Metadata:      or(params.Metadata, nil),
		CreatedAfter:  or(params.CreatedAfter, time.Time{}),
		CreatedBefore: or(params.CreatedBefore, time.Time{}),
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
			Source:    row.Operation.Source,
			AccountID: orNull(row.Operation.AccountID()),
			Params:    row.Operation.Params,
			ID:        row.Operation.ID,

			UpstreamStatus: orNull(row.Operation.UpstreamStatus),
			Status:         orNull(OperationStatus(row.Operation.Status)),
			Error:          orNull(row.Operation.Error),
			CompletedAt:    timeOrNull(row.Operation.CompletedAt),
		},
		CredentialID:   row.CredentialID,
		DestinationIds: each(row.DestinationIDs, func(id string) DestinationID { return id }),
		Events:         each(row.Events, func(event string) OperationEventType { return OperationEventType(event) }),
		Name:           orNull(row.Name),
		Metadata:       metadata,
		Polls:          row.Polls,
		LastPolledAt:   timeOrNull(row.LastPolledAt),
		NextPollAt:     timeOrNull(row.NextPollAt),
		HeldBy:         orNull(HeldBy(row.HeldBy)),
		LastPollError:  orNull(row.LastPollError),
		ExpiresAt:      row.ExpiresAt,
		CreatedAt:      row.CreatedAt,
		FinishedAt:     timeOrNull(row.FinishedAt),
		EventID:        orNull(row.EventID),
	}
}

// waitOf reads ?wait: a Go duration, or plain seconds. Zero, and none, is not
// to wait.
func waitOf(text *string) (time.Duration, error) {
	if text == nil {
		return 0, nil
	}
	wait, err := time.ParseDuration(*text)
	if err != nil {
		seconds, notSeconds := strconv.ParseFloat(*text, 64)
		if notSeconds != nil {
			return 0, invalid("?wait", "must be a time such as 30s, 1m, 500ms or 30 (seconds), at most 60s")
		}
		wait = time.Duration(min(seconds, 2*maxWait.Seconds()) * float64(time.Second))
	}
	if wait < 0 || wait > maxWait {
		return 0, invalid("?wait", "must be from 0 to 60s")
	}
	return wait, nil
}

// waitForEnd returns the watch when it has left watching, when the time is up,
// or when the server drains, whichever is first. A key that has too many waiting
// already gets errTooManyWaiting: were it answered at once, a client that asks
// again for as long as the watch is watching would spin.
func (s *Server) waitForEnd(ctx context.Context, key storage.Key, id string, wait time.Duration) (storage.Watch, error) {
	found, err := s.store.Watch(ctx, key.TenantID, id)
	if err != nil || wait == 0 || found.Status != storage.WatchWatching {
		return found, err
	}
	if !s.waiters.enter(key.ID) {
		return storage.Watch{}, errTooManyWaiting
	}
	defer s.waiters.leave(key.ID)
	up := time.NewTimer(wait)
	defer up.Stop()
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for last := false; !last && found.Status == storage.WatchWatching; {
		select {
		case <-ctx.Done():
			return found, ctx.Err()
		case <-s.draining:
			last = true
		case <-up.C:
			last = true
		case <-look.C:
		}
		if found, err = s.store.Watch(ctx, key.TenantID, id); err != nil {
			return found, err
		}
	}
	return found, nil
}

// waiters counts the requests of a kind that are under way, by key. The zero value is ready.
type waiters struct {
	mu     sync.Mutex
	counts map[string]int
}

// enter is false if the key has too many already.
func (w *waiters) enter(keyID string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.counts[keyID] >= maxWaiters {
		return false
	}
	if w.counts == nil {
		w.counts = make(map[string]int)
	}
	w.counts[keyID]++
	return true
}

func (w *waiters) leave(keyID string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.counts[keyID]--; w.counts[keyID] == 0 {
		delete(w.counts, keyID)
	}
}
