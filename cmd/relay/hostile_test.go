package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httputil"
	"path"
	"strings"
	"sync"
)

// hostile is an upstream, a receiver and a Slack that send back what they are sent,
// secrets and all.
type hostile struct {
	hostileURL string
	traces     *collector

	mu      sync.Mutex
	answers map[string]int // how an operation is answered, by its id
	asked   map[string]int // how often
}

func newHostile() *hostile {
	return &hostile{answers: map[string]int{}, asked: map[string]int{}}
}

// operation is one that is answered with the status; 0 for an honest end.
func (h *hostile) operation(status int) (id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	id = newOperationID()
	h.answers[id] = status
	return id
}

// allAsked says whether the upstream was asked about every operation.
func (h *hostile) allAsked() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.asked) == len(h.answers)
}

// ServeHTTP implements http.Handler.
func (h *hostile) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	dump, err := httputil.DumpRequest(r, true)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	echo := fmt.Sprintf("%s %s\n%s", r.Host, r.URL, dump)
	how := path.Base(path.Dir(r.URL.Path))
	switch {
	case strings.HasPrefix(r.URL.Path, "/client/"):
		h.upstream(w, path.Base(r.URL.Path), echo)
	case strings.HasPrefix(r.URL.Path, "/api/"):
		slackAPI(w, r, echo)
	case how == "hang":
		<-r.Context().Done()
	case how == "cut": // in the middle of the answer
		w.Header().Set("Content-Length", "100000")
		fmt.Fprint(w, echo)
	case how == "moved":
		w.Header().Set("Location", "/?"+echo[:20])
		http.Error(w, echo, http.StatusFound)
	case how == "gone":
		http.Error(w, echo, http.StatusGone)
	case how == "busy":
		w.Header().Set("Retry-After", "0")
		http.Error(w, echo, http.StatusTooManyRequests)
	case how == "forbidden":
		http.Error(w, echo, http.StatusForbidden)
	case how == "broken":
		http.Error(w, echo, http.StatusInternalServerError)
	default:
		fmt.Fprint(w, echo)
	}
}

func (h *hostile) upstream(w http.ResponseWriter, operation, echo string) {
	h.mu.Lock()
	status := h.answers[operation]
	h.asked[operation]++
	h.mu.Unlock()
	result := map[string]any{"id": operation, "status": "completed"}
	answer := map[string]any{"success": true, "errors": []any{}, "messages": []any{echo}, "result": result}
	switch status {
	case 0:
	case http.StatusOK:
		result["status"], result["error"] = "failed", echo
	default:
		w.WriteHeader(status)
		answer["success"], answer["result"] = false, nil
		answer["errors"] = []any{map[string]any{"code": 10000, "message": echo, "error_chain": []any{map[string]any{"code": 1, "message": echo}}}}
	}
	_ = json.NewEncoder(w).Encode(answer)
}

// slackAPI accepts what goes to the channel C0OK.
func slackAPI(w http.ResponseWriter, r *http.Request, echo string) {
	switch r.FormValue("channel") {
	case "C0OK":
		_ = json.NewEncoder(w).Encode(map[string]any{"ok": true, "channel": "C0OK", "ts": "1.2", "message": echo})
	case "C0REFUSED":
		_ = json.NewEncoder(w).Encode(map[string]any{"ok": false, "error": "invalid_auth", "echo": echo})
	case "C0ODD":
		_ = json.NewEncoder(w).Encode(map[string]any{"ok": false, "error": echo})
	default:
		http.Error(w, echo, http.StatusInternalServerError)
	}
}
