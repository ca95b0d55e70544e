package simulator

import (
	"encoding/json"
	"math"
	"net/http"
	"strconv"
	"time"

	"oprelay/jobs/source/simulator"
)

type apiError struct {
	Code    int        `json:"code"`
	Message string     `json:"message"`
	Chain   []apiError `json:"error_chain,omitempty"`
}

type envelope struct {
	Success  bool       `json:"success"`
	Errors   []apiError `json:"errors"`
	Messages []apiError `json:"messages"`
	Result   any        `json:"result"`
}

type operationResult struct {
	ID        string  `json:"id"`
	Status    string  `json:"status"`
	Completed *string `json:"completed,omitempty"`
	Error     string  `json:"error,omitempty"`
}

// answer is an HTTP response before it is written, so that a misbehaviour can
// still change any part of it.
type answer struct {
	status   int
	header   http.Header
	envelope envelope
	raw      string // replaces the envelope if not empty
	delay    time.Duration
	ending   simulator.Ending
	// spoiledBy is the misbehaviour's name, "" for an honest answer.
	spoiledBy string
}

func success(result *operationResult) *answer {
	return newAnswer(http.StatusOK, envelope{Success: true, Errors: []apiError{}, Messages: []apiError{}, Result: result})
}

func failure(status, code int, message string) *answer {
	return newAnswer(status, envelope{Errors: []apiError{{Code: code, Message: message}}, Messages: []apiError{}})
}

func newAnswer(status int, e envelope) *answer {
	return &answer{status: status, header: http.Header{"Content-Type": {"application/json"}}, envelope: e}
}

// keep takes over the headers that an answer had before it was replaced.
func (a *answer) keep(header http.Header) *answer {
	a.header = header
	return a
}

// body replaces status and body.
func (a *answer) body(status int, contentType, body string) {
	a.status, a.raw = status, body
	a.header.Set("Content-Type", contentType)
}

// result changes the operation's result, if the answer has one.
func (a *answer) result(change func(*operationResult)) {
	if r, ok := a.envelope.Result.(*operationResult); ok {
		change(r)
	}
}

func (a *answer) retryAfter(d time.Duration) *answer {
	if d > 0 {
		a.header.Set("Retry-After", seconds(d))
	}
	return a
}

// recordedStatus is 0 if no status line is ever sent.
func (a *answer) recordedStatus() int {
	if a.ending == simulator.Hangs || a.ending == simulator.Resets {
		return 0
	}
	return a.status
}

func (a *answer) write(w http.ResponseWriter, r *http.Request) {
	body := []byte(a.raw)
	if a.raw == "" {
		var err error
		if body, err = json.Marshal(a.envelope); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
	}
	response := simulator.Response{Status: a.status, Header: a.header, Body: body, Delay: a.delay, Ending: a.ending}
	response.Write(w, r)
}

// seconds rounds up, as a wait must not end early.
func seconds(d time.Duration) string {
	return strconv.Itoa(int(math.Ceil(d.Seconds())))
}
