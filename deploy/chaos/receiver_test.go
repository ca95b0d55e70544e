package chaos

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// secret signs the webhooks of every destination.
const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// handling is how long a receiver takes to accept a message, so that some are
// in flight whenever a fault hits.
const handling = 5 * time.Millisecond

// message is what a webhook says, as far as the books need it.
type message struct {
	Type      string    `json:"type"`
	Timestamp time.Time `json:"timestamp"`
	Data      struct {
		WatchID   string `json:"watch_id"`
		Operation struct {
			ID     string  `json:"id"`
			Status *string `json:"status"`
			Error  *string `json:"error"`
		} `json:"operation"`
		Reason *string `json:"reason"`
	} `json:"data"`
}

// receipt is what one destination got of one event.
type receipt struct {
	destination, event string
	body               [sha256.Size]byte
	message            message
	accepted           []acceptance
}

// acceptance is one time that a message was accepted.
type acceptance struct {
	at   time.Time
	from string // the address of the sender's end of the connection
}

// receivers are the destinations that accept everything, each at a path of its
// own. They remember what they got, and what was wrong with it.
type receivers struct {
	anyTime bool // as for a relay whose clock is set wrong

	mu       sync.Mutex
	receipts map[[2]string]*receipt // by destination and operation
	wrong    []string
	books    []*books // which are told of each first acceptance
}

// ServeHTTP takes one webhook in.
func (r *receivers) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, 1<<20))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.record(req.URL.Path, req, body)
	select {
	case <-time.After(handling):
	case <-req.Context().Done():
	}
	w.WriteHeader(http.StatusNoContent)
}

// record enters the acceptance of a webhook.
func (r *receivers) record(destination string, req *http.Request, body []byte) {
	header := req.Header
	var m message
	decodeErr := json.Unmarshal(body, &m)
	verifier, err := standardwebhooks.NewWebhook(secret)
	if err == nil {
		verify := verifier.Verify
		if r.anyTime {
			verify = verifier.VerifyIgnoringTimestamp
		}
		err = verify(body, header)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	event := header.Get("Webhook-Id")
	if err != nil || decodeErr != nil {
		r.wrong = append(r.wrong, fmt.Sprintf("event %s at %s: %v %v", event, destination, err, decodeErr))
	}
	operation := m.Data.Operation.ID
	key := [2]string{destination, operation}
	known := r.receipts[key]
	if known == nil {
		known = &receipt{destination: destination, event: event, body: sha256.Sum256(body), message: m}
		r.receipts[key] = known
	}
	if known.event != event || known.body != sha256.Sum256(body) {
		r.wrong = append(r.wrong, fmt.Sprintf("%s got operation %s as event %s and as %s, or with other bytes", destination, operation, known.event, event))
	}
	known.accepted = append(known.accepted, acceptance{at: time.Now(), from: req.RemoteAddr})
	if len(known.accepted) == 1 {
		for _, b := range r.books {
			b.told(operation)
		}
	}
}

// tell has the books told from now on.
func (r *receivers) tell(b *books) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.books = append(r.books, b)
}

// of are the receipts of the operation at its destinations; nil for each that
// has not accepted it.
func (r *receivers) of(operation string, destinations []string) []*receipt {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]*receipt, len(destinations))
	for i, d := range destinations {
		all[i] = r.receipts[[2]string{d, operation}]
	}
	return all
}

// count is how many operations the destination was told of.
func (r *receivers) count(destination string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for key := range r.receipts {
		if key[0] == destination {
			n++
		}
	}
	return n
}
