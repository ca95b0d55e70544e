package simulator

import (
	"maps"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Ending is how the writing of a response comes to its end.
type Ending int

// The endings.
const (
	Ends      Ending = iota
	Hangs            // nothing is answered, for as long as the client waits
	NeverEnds        // the body has no end
	BreaksOff        // the body is cut in the middle
	Resets           // the connection is reset, before anything is answered
)

// Response is an HTTP response with a delay before it and an ending of its own.
type Response struct {
	Status int
	Header http.Header
	Body   []byte
	Delay  time.Duration
	Ending Ending
}

// Answered says whether a status line is ever sent.
func (a *Response) Answered() bool { return a.Ending != Hangs && a.Ending != Resets }

// Write answers a request.
func (a *Response) Write(w http.ResponseWriter, r *http.Request) {
	if !pause(r, a.Delay) {
		return
	}
	if !a.Answered() {
		if a.Ending == Hangs {
			<-r.Context().Done()
		}
		disconnect(w)
		return
	}
	maps.Copy(w.Header(), a.Header)
	switch a.Ending {
	case BreaksOff:
		w.Header().Set("Content-Length", strconv.Itoa(len(a.Body)))
		w.WriteHeader(a.Status)
		_, _ = w.Write(a.Body[:len(a.Body)/2]) //nolint:gosec // a stand-in answers what it is told to
	case NeverEnds:
		w.WriteHeader(a.Status)
		writeForever(w, a.Body[:len(a.Body)/2])
	default:
		w.WriteHeader(a.Status)
		_, _ = w.Write(a.Body) //nolint:gosec // a stand-in answers what it is told to
	}
}

// writeForever sends blanks after start until the client is gone.
func writeForever(w http.ResponseWriter, start []byte) {
	blanks := []byte(strings.Repeat(" ", 32<<10))
	_, err := w.Write(start) //nolint:gosec // a stand-in answers what it is told to
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
