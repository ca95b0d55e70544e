package simulator

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

const maxControlBody = 64 << 10

// controlHandler serves what is the simulator's own.
func (s *Simulator) controlHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", serveIndex)
	mux.HandleFunc("PUT /_sim/operations/{account}/{operation}", s.putOperation)
	mux.HandleFunc("DELETE /_sim/operations/{account}/{operation}", s.deleteOperation)
	mux.HandleFunc("POST /_sim/faults", s.postFault)
	mux.HandleFunc("DELETE /_sim/faults", s.deleteFaults)
	mux.HandleFunc("GET /_sim/requests", s.getRequests)
	return mux
}

func (s *Simulator) putOperation(w http.ResponseWriter, r *http.Request) {
	var body planJSON
	if !decode(w, r, &body) {
		return
	}
	respond(w, s.Add(r.PathValue("account"), r.PathValue("operation"), body.plan()))
}

func (s *Simulator) deleteOperation(w http.ResponseWriter, r *http.Request) {
	s.Remove(r.PathValue("account"), r.PathValue("operation"))
	respond(w, nil)
}

func (s *Simulator) postFault(w http.ResponseWriter, r *http.Request) {
	var body faultJSON
	if !decode(w, r, &body) {
		return
	}
	respond(w, s.AddFault(Fault{Credential: body.Credential, Rate: body.Rate, Misbehaviour: body.misbehaviour()}))
}

func (s *Simulator) deleteFaults(w http.ResponseWriter, _ *http.Request) {
	s.ClearFaults()
	respond(w, nil)
}

// getRequests answers with the records, those of ?credential= alone if given,
// and with ?window= the most of them within such a span.
func (s *Simulator) getRequests(w http.ResponseWriter, r *http.Request) {
	fingerprint, window := r.FormValue("credential"), r.FormValue("window")
	answer := struct {
		Total       int       `json:"total"`
		MaxInWindow *int      `json:"max_in_window,omitempty"`
		Data        []Request `json:"data"`
	}{Data: []Request{}}

	s.mu.Lock()
	requests := s.requests.all()
	answer.Total = s.requests.total
	s.mu.Unlock()

	for _, request := range requests {
		if fingerprint == "" || request.Credential == fingerprint {
			answer.Data = append(answer.Data, request)
		}
	}
	if window != "" {
		d, err := time.ParseDuration(window)
		if err != nil {
			http.Error(w, "window is no duration such as 5m", http.StatusBadRequest)
			return
		}
		most := maxInWindow(requests, fingerprint, d)
		answer.MaxInWindow = &most
	}
	body, err := json.Marshal(answer)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(body, '\n'))
}

func decode(w http.ResponseWriter, r *http.Request, into any) bool {
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxControlBody))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil && !errors.Is(err, io.EOF) {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return false
	}
	return true
}

func respond(w http.ResponseWriter, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// duration is a time.Duration that reads "1m30s" in JSON.
type duration time.Duration

func (d *duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%q is no duration such as 1m30s", text)
	}
	*d = duration(parsed)
	return nil
}

type planJSON struct {
	PendingFor   duration         `json:"pending_for"`
	RunningFor   duration         `json:"running_for"`
	End          End              `json:"end"`
	Error        string           `json:"error"`
	Misbehaviour misbehaviourJSON `json:"misbehaviour"`
}

type faultJSON struct {
	Credential string  `json:"credential"`
	Rate       float64 `json:"rate"`
	misbehaviourJSON
}

type misbehaviourJSON struct {
	Name       string   `json:"name"`
	For        duration `json:"for"`
	Times      int      `json:"times"`
	Status     int      `json:"status"`
	Code       int      `json:"code"`
	RetryAfter duration `json:"retry_after"`
	Delay      duration `json:"delay"`
	Location   string   `json:"location"`
}

func (p planJSON) plan() Plan {
	return Plan{
		PendingFor:   time.Duration(p.PendingFor),
		RunningFor:   time.Duration(p.RunningFor),
		End:          p.End,
		Error:        p.Error,
		Misbehaviour: p.Misbehaviour.misbehaviour(),
	}
}

func (m misbehaviourJSON) misbehaviour() Misbehaviour {
	return Misbehaviour{
		Name:       m.Name,
		For:        time.Duration(m.For),
		Times:      m.Times,
		Status:     m.Status,
		Code:       m.Code,
		RetryAfter: time.Duration(m.RetryAfter),
		Delay:      time.Duration(m.Delay),
		Location:   m.Location,
	}
}
