package main

import (
	"fmt"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"oprelay/api/client"
	"oprelay/deploy/testenv"
	"oprelay/jobs/cloudflare/simulator"
)

// slow is a receiver that takes its time, so that requests are under way together, and
// counts what it has accepted.
type slow struct{ accepted atomic.Int64 }

// ServeHTTP implements http.Handler.
func (s *slow) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	select {
	case <-time.After(200 * time.Millisecond):
		s.accepted.Add(1)
		w.WriteHeader(http.StatusNoContent)
	case <-r.Context().Done():
	}
}

// sendMuch registers watches that end soon, at one operation each.
func (s *system) sendMuch(t *testing.T, watches int, destinations ...string) {
	t.Helper()
	credential := s.credential(t, "token")
	for _, operation := range s.operations(watches, simulator.Plan{}) {
		s.watch(t, client.NewWatch{OperationID: operation, CredentialID: credential, DestinationIds: destinations})
	}
}

// healthy asks over a connection of its own, for which the relay needs a file.
func (s *system) healthy(t *testing.T) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.server.address+"/healthz", nil)
	if err != nil {
		t.Fatal(err)
	}
	asking := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	response, err := asking.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	if err := response.Body.Close(); err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%d, %v", response.StatusCode, err)
	}
}

// A relay that may open few files says so, and goes on doing all it does.
func TestFewFiles(t *testing.T) {
	t.Parallel()
	path, err := relayBinary()
	if err != nil {
		t.Fatal(err)
	}
	around := newSurroundings(t)
	s := &system{surroundings: around, t: t, folder: t.TempDir(), env: around.environment()}
	s.server = &relay{t: t, Program: testenv.StartProgram(t, "/bin/sh", s.folder, s.env, "-c", `ulimit -n 100 && exec "$0" serve`, path)}
	s.server.awaitUp(t, "serve")
	s.key = s.server.firstKey()
	s.api = s.server.client(s.key)
	if _, ok := s.server.Stderr.Find("the relay may open few files"); !ok {
		t.Error("it does not say that it may open few files")
	}

	const watches, destinations = 40, 10
	to := &slow{}
	url := serve(t, to)
	var ids []string
	for range destinations {
		ids = append(ids, s.destination(t, client.NewDestination{Type: client.DestinationWebhook, URL: &url, MaxInFlight: new(20)}))
	}
	s.sendMuch(t, watches, ids...)
	eventually(t, 40*time.Second, "all is delivered, and the relay is healthy meanwhile", func() bool {
		s.healthy(t)
		return to.accepted.Load() >= watches*destinations
	})
}

// A relay whose files are all taken by connections that wait for reuse closes them, and sends.
func TestIdleConnectionsMakeRoom(t *testing.T) {
	t.Parallel()
	// Longer than this takes, and shorter than a connection waits for reuse.
	const limit = 30 * time.Second
	s := startEmbedded(t, newSurroundings(t), "RELAY_RETRY_SCHEDULE", "1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s")
	var accepted atomic.Bool
	var closed atomic.Int64
	late := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close") // so that each attempt needs a file
		if closed.Load() == 0 {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		accepted.Store(true)
	}))
	to := &slow{}
	receiver := httptest.NewUnstartedServer(to)
	receiver.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			closed.Add(1)
		}
	}
	receiver.Start()
	t.Cleanup(receiver.Close)
	const watches = 20
	many := s.destination(t, client.NewDestination{Type: client.DestinationWebhook, URL: &receiver.URL, MaxInFlight: new(20)})
	one := s.destination(t, client.NewDestination{Type: client.DestinationWebhook, URL: &late})
	s.sendMuch(t, watches, many)
	eventually(t, limit, "connections gather", func() bool { return to.accepted.Load() == watches })
	tested, err := s.api.TestDestinationWithResponse(t.Context(), one, nil)
	want(t, http.StatusAccepted, err, tested)
	eventually(t, limit, "the other is tried", func() bool {
		return slices.ContainsFunc(s.deliveries(t, client.ListDeliveriesParams{DestinationID: &one}), func(d client.Delivery) bool { return d.AttemptsMade > 0 })
	})
	if n := closed.Load(); n > 0 {
		t.Fatalf("%d connections are closed already", n)
	}

	most := takeFiles(t, s.server.PID())
	eventually(t, limit, "idle connections are closed", func() bool {
		fillUp(t, s.server.PID(), most, s.server.address)
		return closed.Load() > 0
	})
	eventually(t, limit, "the other accepts", accepted.Load)
	if _, ok := s.server.Stderr.Find("too many open files"); !ok {
		t.Error("the relay was not out of files")
	}
	s.healthy(t)
}

// takeFiles has a process open no further file, and returns its limit.
func takeFiles(t *testing.T, pid int) int {
	t.Helper()
	most := lowestFree(pid)
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(most), Max: uint64(most)}, nil); err != nil {
		t.Fatal(err)
	}
	return most
}

// fillUp takes what a process has closed of itself since takeFiles, by connections to it.
func fillUp(t *testing.T, pid, most int, address string) {
	t.Helper()
	for free := lowestFree(pid); free < most; free = lowestFree(pid) {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		eventually(t, time.Minute, "the process accepts", func() bool { return lowestFree(pid) != free })
	}
}

// lowestFree is the number that the process's next file would have.
func lowestFree(pid int) int {
	for n := 0; ; n++ {
		if _, err := os.Lstat(fmt.Sprintf("/proc/%d/fd/%d", pid, n)); err != nil {
			return n
		}
	}
}

func TestShareOf(t *testing.T) {
	t.Parallel()
	for files, want := range map[uint64]int{0: 1, 7: 1, 100: 12, 1024: 128, 8191: 1023, 8192: 1024, 1 << 20: 1024, math.MaxUint64: 1024} {
		if got := shareOf(files); got != want {
			t.Errorf("%d files: %d, want %d", files, got, want)
		}
	}
}
