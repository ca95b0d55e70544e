package simulator

import (
	"encoding/json"
	"maps"
	"math"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// ending is how the writing of an answer comes to its end.
type ending int

const (
	ends ending = iota
	hangs
	neverEnds
	breaksOff
	resets
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
	ending   ending
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
	if a.ending == hangs || a.ending == resets {
		return 0
	}
	return a.status
}

func (a *answer) write(w http.ResponseWriter, r *http.Request) {
	if !pause(r, a.delay) {
		return
	}
	if a.recordedStatus() == 0 {
		if a.ending == hangs {
			<-r.Context().Done()
		}
		disconnect(w)
		return
	}
	body := []byte(a.raw)
	if a.raw == "" {
		var err error
		if body, err = json.Marshal(a.envelope); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
	}
	maps.Copy(w.Header(), a.header)
	switch a.ending {
	case breaksOff:
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		w.WriteHeader(a.status)
		_, _ = w.Write(body[:len(body)/2])
	case neverEnds:
		w.WriteHeader(a.status)
		writeForever(w, body[:len(body)/2])
	default:
		w.WriteHeader(a.status)
		_, _ = w.Write(body)
	}
}

// writeForever sends blanks after start until the client is gone.
func writeForever(w http.ResponseWriter, start []byte) {
	blanks := []byte(strings.Repeat(" ", 32<<10))
	_, err := w.Write(start)
	for err == nil {
		_, err = w.Write(blanks)
	}
}

// pause reports whether the client is still there after d.
func pause(r *http.Request, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.Context().Done():
		return false
	}
}

// disconnect drops the connection without an answer, over TCP by a reset.
func disconnect(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // the way to do it where connections are shared
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// seconds rounds up, as a wait must not end early.
func seconds(d time.Duration) string {
	return strconv.Itoa(int(math.Ceil(d.Seconds())))
}
