package chaos

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"maps"
	mathrand "math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"oprelay/api/client"
	"oprelay/jobs/cloudflare/simulator"
)

const (
	// crowd bounds the registrations under way at once.
	crowd = 32
	// batchEvery is how often a registration is a batch, and of how many.
	batchEvery, batchSize = 5, 8
	// again is when a registration is repeated that got no answer.
	again = 200 * time.Millisecond
)

// onRefusal is what to do with a registration that is answered 503.
type onRefusal int

const (
	// repeat sends it again under its idempotency key. The answer may have been
	// lost after the commit.
	repeat onRefusal = iota
	// leave does not: nothing may have been stored.
	leave
)

// load registers watches until it is stopped.
type load struct {
	*rig

	books   *books
	rate    int // registrations a second, some of them batches
	refusal onRefusal
	// credentials and destinations are what watches are given some of.
	credentials  []string
	destinations map[string]string
	everywhere   bool // each watch is for all of the destinations
	timeout      int  // of each watch, in seconds; 0 for the relay's own
	stop         context.CancelFunc
	running      sync.WaitGroup
}

// newLoad is one for every credential and every destination that accepts.
func (r *rig) newLoad() *load {
	return &load{rig: r, books: newBooks(), rate: theForm().rate, credentials: r.credentials, destinations: r.destinations}
}

// start begins to register watches.
func (l *load) start() {
	ctx, stop := context.WithCancel(l.t.Context())
	l.stop = stop
	l.receive.tell(l.books)
	l.running.Go(func() {
		tick := time.NewTicker(time.Second / time.Duration(l.rate))
		defer tick.Stop()
		places := make(chan struct{}, crowd)
		for n := 1; ; n++ {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			size := 1
			if n%batchEvery == 0 {
				size = batchSize
			}
			select {
			case places <- struct{}{}:
			case <-ctx.Done():
				return
			}
			l.running.Go(func() {
				defer func() { <-places }()
				l.register(size, somePlan)
			})
		}
	})
}

// end stops the load and returns when every registration has its answer.
func (l *load) end() {
	l.stop()
	l.running.Wait()
}

func somePlan() simulator.Plan {
	plan := simulator.Plan{
		PendingFor: mathrand.N(500 * time.Millisecond), RunningFor: mathrand.N(2500 * time.Millisecond), End: simulator.EndCompleted,
	}
	if mathrand.IntN(3) == 0 {
		plan.End, plan.Error = simulator.EndFailed, "This list is at the maximum number of items"
	}
	return plan
}

// register registers as many watches in one request, each on an operation of its
// own that it makes known upstream first, and repeats until it has an answer.
func (l *load) register(size int, plan func() simulator.Plan) {
	var entries []*entry
	var request client.NewWatches
	for range size {
		e, watch := l.newEntry(plan())
		entries, request.Watches = append(entries, e), append(request.Watches, watch)
	}
	l.books.enter(entries...)
	key := newID()
	ctx, cancel := context.WithTimeout(l.t.Context(), patience)
	defer cancel()
	for {
		watches, err := l.send(ctx, key, request)
		switch {
		case err == nil:
			l.books.registered(entries, watches)
			return
		case errors.Is(err, errRefused):
			l.books.countRefusal()
			if l.refusal == leave {
				l.books.strike(entries...)
				return
			}
		case errors.Is(err, errUnanswered):
			l.books.countUnanswered(err)
		case !errors.Is(err, errUnderWay):
			l.t.Errorf("register %d watches: %v", size, err)
			return
		}
		if ctx.Err() != nil {
			l.t.Errorf("register %d watches: not within %s: %v", size, patience, err)
			return
		}
		select {
		case <-time.After(again):
		case <-ctx.Done():
		}
	}
}

// newEntry makes an operation known upstream, and a watch on it for some of the
// destinations.
func (l *load) newEntry(plan simulator.Plan) (*entry, client.NewWatch) {
	now := time.Now()
	e := &entry{operation: newID(), status: client.WatchStatusCompleted, asked: now, over: now.Add(plan.PendingFor + plan.RunningFor)}
	if plan.End == simulator.EndFailed {
		e.status, e.upstream = client.WatchStatusFailed, &plan.Error
	}
	watch := client.NewWatch{AccountID: new(account), OperationID: e.operation, CredentialID: l.credentials[mathrand.IntN(len(l.credentials))]}
	paths := slices.Sorted(maps.Keys(l.destinations))
	mathrand.Shuffle(len(paths), func(i, k int) { paths[i], paths[k] = paths[k], paths[i] })
	if !l.everywhere {
		paths = paths[:1+mathrand.IntN(min(3, len(paths)))]
	}
	if l.timeout > 0 {
		watch.TimeoutSeconds = &l.timeout
	}
	for _, path := range paths {
		e.destinations = append(e.destinations, path)
		watch.DestinationIds = append(watch.DestinationIds, l.destinations[path])
	}
	if err := l.upstream.Add(account, e.operation, plan); err != nil {
		l.t.Error(err)
	}
	return e, watch
}

var (
	// errUnanswered says that a request may or may not have been handled.
	errUnanswered = errors.New("no answer")
	// errRefused is an answer of 503 that says when to try again.
	errRefused = errors.New("503")
	// errUnderWay is an answer of 409: the same request of before is still being handled.
	errUnderWay = errors.New("409")
)

// send makes one request for all of the watches: a batch if they are several.
func (r *rig) send(ctx context.Context, key string, watches client.NewWatches) ([]client.Watch, error) {
	if len(watches.Watches) == 1 {
		made, err := r.client.CreateWatchWithResponse(ctx, &client.CreateWatchParams{IdempotencyKey: &key}, watches.Watches[0])
		if err != nil {
			return nil, errors.Join(errUnanswered, err)
		}
		if made.JSON201 != nil {
			return []client.Watch{*made.JSON201}, nil
		}
		return nil, refusal(made.HTTPResponse, made.Body)
	}
	made, err := r.client.CreateWatchesWithResponse(ctx, &client.CreateWatchesParams{IdempotencyKey: &key}, watches)
	if err != nil {
		return nil, errors.Join(errUnanswered, err)
	}
	if made.JSON201 != nil {
		return made.JSON201.Data, nil
	}
	return nil, refusal(made.HTTPResponse, made.Body)
}

// refusal judges an answer that is not 201.
func refusal(response *http.Response, body []byte) error {
	said := errors.New(response.Status + " " + string(body))
	switch {
	case response.StatusCode == http.StatusServiceUnavailable && response.Header.Get("Retry-After") != "":
		return errRefused
	case response.StatusCode == http.StatusConflict:
		return errors.Join(errUnderWay, said)
	}
	return said
}

func newID() string {
	var id [16]byte
	_, _ = rand.Read(id[:])
	return hex.EncodeToString(id[:])
}

func (b *books) registered(entries []*entry, watches []client.Watch) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, e := range entries {
		e.watch = watches[i].ID
	}
}

func (b *books) countRefusal() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refusal++
}

func (b *books) countUnanswered(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.unanswered = append(b.unanswered, err)
}
