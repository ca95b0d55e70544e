package simulator

import "time"

// Request is what was asked, when, by whom, and what it got.
type Request struct {
	Time time.Time `json:"time"`
	// Credential is a fingerprint, "" if the request had none.
	Credential string `json:"credential"`
	// Account and Operation are "" if the path is not the status endpoint's.
	Account   string `json:"account"`
	Operation string `json:"operation"`
	// Path is as it came, still escaped.
	Path string `json:"path"`
	// Status is 0 if the request was left without an answer on purpose.
	Status int `json:"status"`
	// Misbehaviour is the name of what spoiled the answer, "" if nothing did.
	Misbehaviour string `json:"misbehaviour,omitempty"`
}

// Requests are the latest ones, oldest first, those of /_sim/ left out.
func (s *Simulator) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests.all()
}

// MaxInWindow is the most requests that the credential made within any span of
// length d, as far as the records reach back; "" counts all credentials.
func (s *Simulator) MaxInWindow(fingerprint string, d time.Duration) int {
	return maxInWindow(s.Requests(), fingerprint, d)
}

func maxInWindow(requests []Request, fingerprint string, d time.Duration) int {
	most := 0
	var window []time.Time
	for _, r := range requests {
		if fingerprint != "" && r.Credential != fingerprint {
			continue
		}
		window = append(window, r.Time)
		for r.Time.Sub(window[0]) >= d && len(window) > 1 {
			window = window[1:]
		}
		most = max(most, len(window))
	}
	return most
}

// requestLog is a ring.
type requestLog struct {
	ring  []Request
	next  int
	total int
}

func newRequestLog(size int) *requestLog {
	return &requestLog{ring: make([]Request, 0, max(size, 1))}
}

func (l *requestLog) add(r Request) {
	l.total++
	if len(l.ring) < cap(l.ring) {
		l.ring = append(l.ring, r)
		return
	}
	l.ring[l.next] = r
	l.next = (l.next + 1) % len(l.ring)
}

func (l *requestLog) all() []Request {
	all := make([]Request, 0, len(l.ring))
	return append(append(all, l.ring[l.next:]...), l.ring[:l.next]...)
}
