package jobs

import (
	"context"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"oprelay/deploy/testenv"
	"oprelay/notifier"
	"oprelay/storage"
)

// awayResolver is a resolver whose server is away until it is told otherwise. Then every
// name leads to this machine.
func awayResolver(t *testing.T) (resolver *net.Resolver, back func()) {
	t.Helper()
	var config net.ListenConfig
	server, err := config.ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	away := testenv.Refused(t, "udp")
	t.Cleanup(func() { _ = server.Close() })
	go func() {
		query := make([]byte, 1500)
		for {
			n, from, err := server.ReadFrom(query)
			if err != nil {
				return
			}
			_, _ = server.WriteTo(loopbackAnswer(query[:n]), from)
		}
	}()
	var isBack atomic.Bool
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var dialer net.Dialer
		address := away
		if isBack.Load() {
			address = server.LocalAddr().String()
		}
		return dialer.DialContext(ctx, "udp", address)
	}}, func() { isBack.Store(true) }
}

// loopbackAnswer answers a DNS query (RFC 1035, section 4): 127.0.0.1, if it asks for
// an IPv4 address.
func loopbackAnswer(query []byte) []byte {
	const header, typeA = 12, 1
	end := header
	for query[end] != 0 {
		end += int(query[end]) + 1
	}
	end += 5 // the root label, type, class
	answer := append([]byte{query[0], query[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, query[header:end]...)
	if query[end-3] == typeA {
		answer[7] = 1
		answer = append(answer, 0xc0, header, 0, typeA, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1)
	}
	return answer
}

// ownFailures is how many attempts came to nothing by the relay's own trouble.
func ownFailures(t *testing.T, registry *prometheus.Registry) (n float64) {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != "relay_delivery_attempts_total" {
			continue
		}
		for _, metric := range family.GetMetric() {
			for _, label := range metric.GetLabel() {
				if label.GetName() == "outcome" && label.GetValue() == notifier.Own.String() {
					n += metric.GetCounter().GetValue()
				}
			}
		}
	}
	return n
}

// unsent waits until the worker could not send at least n times, and checks that none
// of that is held against the destination or its delivery, and that it was said once.
func (r *relay) unsent(registry *prometheus.Registry, n int, destination string, why string) {
	r.t.Helper()
	eventually(r.t, func() bool { return ownFailures(r.t, registry) >= float64(n) }, nil, "%d sends that came to nothing", n)
	for _, d := range r.deliveries(destination) {
		if d.Status != storage.DeliveryPending || d.AttemptsMade != 0 {
			r.t.Errorf("it cost the delivery: %+v", d)
		}
	}
	if d := r.destination(destination); d.ConsecutiveFailures != 0 || !d.FailingSince.IsZero() || d.LastError != "" {
		r.t.Errorf("it cost the destination: %+v", d)
	}
	if lines := r.lines.holding("the relay cannot send"); len(lines) != 1 || !strings.Contains(lines[0], why) {
		r.t.Errorf("said %q, want it once, with %q", lines, why)
	}
}

// sentAtOnce checks that the first attempts at the destination are accepted.
func (r *relay) sentAtOnce(destination string, n int) {
	r.t.Helper()
	for _, d := range r.settled(n, destination, storage.DeliverySucceeded) {
		if attempts := r.attempts(d.ID); len(attempts) != 1 || d.AttemptsMade != 1 {
			r.t.Errorf("%d attempts: %+v", len(attempts), attempts)
		}
	}
}

// More tries than the schedule has steps come to nothing because the relay's own
// resolver is away. They cost nothing, and all is sent when it is back. Whom the relay
// knows by address is sent to meanwhile.
func TestResolverAway(t *testing.T) {
	t.Parallel()
	for _, b := range backends() {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			r := newRelay(t, b)
			resolver, back := awayResolver(t)
			r.notifyWith(func(config *notifier.Config) { config.Resolver = resolver })
			r.deliver.OwnPause = 10 * time.Millisecond
			named := r.webhook(func(n *storage.NewDestination) { n.URL = strings.Replace(n.URL, "127.0.0.1", "receiver.example", 1) })
			known := r.webhook(nil)
			registry := prometheus.NewRegistry()
			r.deliver.Metrics = registry
			worker := r.start()
			r.watch(r.credential("token"), operations("op", 3), named.id, known.id)
			r.unsent(registry, 3*2*len(r.deliver.Retry), named.id, "resolver")
			r.sentAtOnce(known.id, 3)
			// A look-up is two queries, and what one of them finds says nothing of the other: so
			// none is under way when the resolver comes back.
			if err := worker.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
			back()
			r.deliver.Metrics = nil
			r.start()
			r.sentAtOnce(named.id, 3)
		})
	}
}

// inOwnProcess is set in the process that TestOutOfFiles starts: its limit of open files
// is not to be other tests'.
const inOwnProcess = "RELAY_TEST_OUT_OF_FILES"

func TestOutOfFiles(t *testing.T) {
	t.Parallel()
	if os.Getenv(inOwnProcess) != "" {
		testOutOfFiles(t)
		return
	}
	self := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestOutOfFiles$", "-test.v")
	self.Env = append(os.Environ(), inOwnProcess+"=1")
	out, err := self.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestOutOfFiles") {
		t.Errorf("%v\n%s", err, out)
	}
}

func testOutOfFiles(t *testing.T) {
	t.Helper()
	r := newRelay(t, sqliteBackend())
	r.deliver.OwnPause = 10 * time.Millisecond
	registry := prometheus.NewRegistry()
	r.deliver.Metrics = registry
	first, to := r.webhook(nil), r.webhook(nil)
	r.start()
	test := func(destination string) {
		if _, err := r.store.TestDestination(t.Context(), r.tenant, destination); err != nil {
			t.Fatal(err)
		}
	}
	test(first.id) // opens what the relay needs by itself
	r.sentAtOnce(first.id, 1)

	limit := syscall.Rlimit{Cur: 200, Max: 200}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	var files []*os.File
	for {
		file, err := os.Open(os.DevNull)
		if err != nil {
			break
		}
		files = append(files, file)
	}
	test(to.id)
	r.unsent(registry, 2*len(r.deliver.Retry), to.id, "too many open files")
	for _, file := range files {
		_ = file.Close()
	}
	r.sentAtOnce(to.id, 1)
}
