package storage_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"oprelay/deploy/testenv"
	"oprelay/storage"
	"oprelay/storage/seal"
)

// burst is a store in which operations end by the batch: one credential, one
// destination, a watch for each operation.
type burst struct {
	*storage.Store

	b           *testing.B
	tenant      string
	credential  storage.Credential
	destination storage.Destination
	registered  int
}

// eachBurst runs a benchmark on both databases with batches of several sizes,
// and says what a row takes.
func eachBurst(b *testing.B, run func(s *burst, batch int)) {
	b.Helper()
	for backend, newURL := range map[string]func(b *testing.B) string{
		"sqlite":   func(b *testing.B) string { b.Helper(); return "sqlite:" + filepath.Join(b.TempDir(), "relay.db") },
		"postgres": func(b *testing.B) string { b.Helper(); return testenv.Postgres(b) },
	} {
		for _, batch := range []int{1, 100, 1000} {
			b.Run(fmt.Sprintf("%s/%d", backend, batch), func(b *testing.B) {
				s := newBurst(b, newURL(b))
				b.ReportAllocs()
				run(s, batch)
				b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*batch), "µs/row")
			})
		}
	}
}

func newBurst(b *testing.B, url string) *burst {
	b.Helper()
	ctx := b.Context()
	keys := succeed(seal.ParseKeyring(seal.NewKey()))(b)
	s := &burst{b: b, Store: succeed(storage.Open(ctx, storage.Config{URL: url, Keys: keys}))(b)}
	b.Cleanup(func() { _ = s.Close() })
	succeed(s.Migrate(ctx))(b)
	s.tenant = succeed(s.EnsureTenant(ctx, "acme"))(b).ID
	s.credential = succeed(s.CreateCredential(ctx, storage.NewCredential{
		TenantID: s.tenant, Upstream: "cloudflare", Name: "lists", Secret: storage.CredentialSecret{APIToken: "token"},
	}))(b)
	s.destination = succeed(s.CreateDestination(ctx, storage.NewDestination{
		TenantID: s.tenant, Kind: storage.KindWebhook, Name: "hook", URL: "https://example.com/in", MaxInFlight: 64,
	}))(b)
	return s
}

// register makes n watches, each on an operation of its own.
func (s *burst) register(n int) {
	s.b.Helper()
	requests := make([]storage.NewWatch, n)
	for i := range requests {
		s.registered++
		requests[i] = s.request(s.registered)
	}
	succeed(s.CreateWatches(s.b.Context(), requests))(s.b)
}

func (s *burst) request(operation int) storage.NewWatch {
	return storage.NewWatch{
		TenantID: s.tenant, Source: "cloudflare.lists", Upstream: "cloudflare", Params: map[string]string{"account_id": strings.Repeat("a", 32)}, OperationID: fmt.Sprintf("%032x", operation),
		CredentialID: s.credential.ID, DestinationIDs: []string{s.destination.ID}, Timeout: time.Hour,
		Events: []string{storage.EventOperationCompleted}, Metadata: map[string]string{"deploy": "42"},
	}
}

// leased is a group's lease, which is held until the benchmark ends.
func (s *burst) leased(kind storage.GroupKind, id string) string {
	s.b.Helper()
	const owner = "me"
	group := storage.Group{Kind: kind, ID: id}
	if !succeed(s.LeaseGroup(s.b.Context(), group, owner, time.Hour))(s.b) &&
		!succeed(s.RenewLease(s.b.Context(), group, owner, time.Hour))(s.b) {
		s.b.Fatalf("%v is not free", group)
	}
	return owner
}

func (s *burst) polls(n int) []storage.DuePoll {
	s.b.Helper()
	taken, err := s.TakePolls(s.b.Context(), storage.TakePolls{
		Group: s.credential.BudgetID, Owner: s.leased(storage.PollGroup, s.credential.BudgetID), Max: n,
		Budget: storage.Budget{N: 1 << 30, Per: time.Minute}, Intervals: storage.Intervals{Lag: 0.1, Min: time.Second, Max: time.Minute},
	})
	succeed(len(taken.Polls), err)(s.b)
	if len(taken.Polls) != n {
		s.b.Fatalf("%d polls are due, want %d", len(taken.Polls), n)
	}
	return taken.Polls
}

func (s *burst) deliveries(n int) []storage.DueDelivery {
	s.b.Helper()
	due := succeed(s.DueDeliveries(s.b.Context(), storage.TakeDeliveries{
		Group: s.destination.ID, Owner: s.leased(storage.DeliverGroup, s.destination.ID), Max: n,
	}))(s.b)
	if len(due) != n {
		s.b.Fatalf("%d deliveries are due, want %d", len(due), n)
	}
	return due
}

// ends is what polls tell of operations that have completed.
func (s *burst) ends(polls []storage.DuePoll) []storage.PollResult {
	results := make([]storage.PollResult, len(polls))
	for i, p := range polls {
		results[i] = storage.PollResult{
			RowID: p.RowID, At: s.Steady(), Status: storage.OperationCompleted, End: storage.WatchCompleted, CredentialAccepted: true,
		}
	}
	return results
}

// accepts is what came of deliveries that were accepted.
func (s *burst) accepts(due []storage.DueDelivery) []storage.AttemptResult {
	results := make([]storage.AttemptResult, len(due))
	for i, d := range due {
		results[i] = storage.AttemptResult{
			DeliveryID: d.ID, DestinationID: d.DestinationID, AttemptsMade: d.AttemptsMade, Status: storage.DeliverySucceeded,
			Attempt: storage.Attempt{Number: 1, StartedAt: s.Steady(), Duration: time.Millisecond, StatusCode: 200},
		}
	}
	return results
}

// prepare does what a benchmark needs and does not measure.
func prepare[T any](b *testing.B, do func() T) T {
	b.Helper()
	b.StopTimer()
	defer b.StartTimer()
	return do()
}

func succeed[T any](value T, err error) func(b *testing.B) T {
	return func(b *testing.B) T {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
		return value
	}
}

// BenchmarkCreateWatches registers watches, each on an operation of its own.
func BenchmarkCreateWatches(b *testing.B) {
	eachBurst(b, func(s *burst, batch int) {
		for s.b.Loop() {
			s.register(batch)
		}
	})
}

// BenchmarkTakePolls claims what is due among twenty thousand operations.
// BenchmarkRegister is a crowd of callers, each with one watch.
func BenchmarkRegister(b *testing.B) {
	for backend, newURL := range map[string]func(b *testing.B) string{
		"sqlite":   func(b *testing.B) string { b.Helper(); return "sqlite:" + filepath.Join(b.TempDir(), "relay.db") },
		"postgres": func(b *testing.B) string { b.Helper(); return testenv.Postgres(b) },
	} {
		b.Run(backend, func(b *testing.B) {
			s := newBurst(b, newURL(b))
			var made atomic.Int64
			b.SetParallelism(32)
			b.RunParallel(func(each *testing.PB) {
				for each.Next() {
					one := s.request(int(made.Add(1)))
					if _, err := s.Register(b.Context(), []storage.NewWatch{one}, nil); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}

func BenchmarkTakePolls(b *testing.B) {
	eachBurst(b, func(s *burst, batch int) {
		prepare(s.b, func() any { s.register(20000); return nil })
		for s.b.Loop() {
			s.polls(batch)
		}
	})
}

// BenchmarkRecordPolls writes polls that end their watches: events and deliveries with them.
func BenchmarkRecordPolls(b *testing.B) {
	eachBurst(b, func(s *burst, batch int) {
		for s.b.Loop() {
			results := prepare(s.b, func() []storage.PollResult {
				s.register(batch)
				return s.ends(s.polls(batch))
			})
			succeed(0, s.RecordPolls(s.b.Context(), results))(s.b)
		}
	})
}

// BenchmarkDueDeliveries claims what is due among a burst's deliveries.
func BenchmarkDueDeliveries(b *testing.B) {
	eachBurst(b, func(s *burst, batch int) {
		prepare(s.b, func() any { s.endMany(2000); return nil })
		for s.b.Loop() {
			s.deliveries(batch)
		}
	})
}

// BenchmarkRecordAttempts writes attempts that were accepted.
func BenchmarkRecordAttempts(b *testing.B) {
	eachBurst(b, func(s *burst, batch int) {
		for s.b.Loop() {
			results := prepare(s.b, func() []storage.AttemptResult {
				s.endMany(batch)
				return s.accepts(s.deliveries(batch))
			})
			succeed(0, s.RecordAttempts(s.b.Context(), results))(s.b)
		}
	})
}

// endMany registers n watches and ends them, so that n deliveries are due.
func (s *burst) endMany(n int) {
	s.b.Helper()
	s.register(n)
	succeed(0, s.RecordPolls(s.b.Context(), s.ends(s.polls(n))))(s.b)
}
