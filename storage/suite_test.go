package storage_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"oprelay/deploy/testenv"
	"oprelay/storage"
	"oprelay/storage/seal"
)

// runSuite runs the whole suite. Each call of newURL gives the URL of a fresh, empty database.
func runSuite(t *testing.T, newURL func(t *testing.T) string) {
	t.Helper()
	runMigrated(t, newURL)
	t.Run("Migrate", func(t *testing.T) {
		t.Parallel()
		testMigrate(t, newURL(t))
	})
}

// runMigrated is runSuite for databases whose schema may be there already.
func runMigrated(t *testing.T, newURL func(t *testing.T) string) {
	t.Helper()
	suite := map[string]func(*world){
		"Atomically":              testAtomically,
		"AttemptsAndHealth":       testAttemptsAndHealth,
		"AttemptsAtSeveral":       testAttemptsAtSeveral,
		"AuthenticateWritesOnce":  testAuthenticate,
		"BatchOfWatches":          testBatchOfWatches,
		"MadeIsWhatIsRead":        testMadeIsWhatIsRead,
		"BudgetHintsAndParking":   testBudgetHints,
		"BudgetNeverExceeded":     testBudgetNeverExceeded,
		"BudgetsLeft":             testBudgetsLeft,
		"Contemporaries":          testContemporaries,
		"LagOfNothing":            testLagOfNothing,
		"BudgetOrder":             testBudgetOrder,
		"StateCounts":             testStateCounts,
		"Counters":                testCounters,
		"Turns":                   testTurns,
		"CancelRegisterCloseRace": testCancelRegisterCloseRace,
		"ClockJoined":             testClockJoined,
		"ClockLastPollKept":       testClockLastPollKept,
		"GraceBegunAnew":          testGraceBegunAnew,
		"ClockSteps":              testClockSteps,
		"CloseOnlyOnce":           testCloseOnlyOnce,
		"CredentialRefused":       testCredentialRefused,
		"SecretReplaced":          testSecretReplaced,
		"SecretReplacedRace":      testSecretReplacedRace,
		"SecretReplacedBudgets":   testSecretReplacedBudgets,
		"DeletedDestination":      testDeletedDestination,
		"DestinationInUse":        testDestinationInUse,
		"DestinationInUseRace":    testDestinationInUseRace,
		"DisableEnable":           testDisableEnable,
		"FailedTold":              testFailedTold,
		"FailedNotTold":           testFailedNotTold,
		"DigestRecorded":          testDigestRecorded,
		"UrgentMessages":          testUrgentMessages,
		"DueDeliveriesShare":      testDueDeliveriesShare,
		"LastError":               testLastError,
		"DueOfEachKind":           testDueOfEachKind,
		"LastSuccess":             testLastSuccess,
		"MovedByTheChunk":         testMovedByTheChunk,
		"AnswerOfBefore":          testAnswerOfBefore,
		"SmallestBudget":          testSmallestBudget,
		"PlanEnds":                testPlanEnds,
		"LongPlanIsForgotten":     testLongPlanIsForgotten,
		"OnlyOneIsLeft":           testOnlyOneIsLeft,
		"PlannedWhenRegistered":   testPlannedWhenRegistered,
		"Pause":                   testPause,
		"PauseEnds":               testPauseEnds,
		"PauseOfSlack":            testPauseOfSlack,
		"RecoveredByTheChunk":     testRecoveredByTheChunk,
		"MovedDespiteAPause":      testMovedDespiteAPause,
		"MovedMeanwhile":          testMovedMeanwhile,
		"EventBodies":             testEventBodies,
		"ForeignRowNotWaitedFor":  testForeignRowIsNotWaitedFor,
		"FeedMissesNothing":       testFeedMissesNothing,
		"FeedParts":               testFeedParts,
		"FeedGone":                testFeedGone,
		"Retention":               testRetention,
		"RetentionOfWhatWaits":    testRetentionOfWhatWaits,
		"RetentionShared":         testRetentionOfSharedOperations,
		"RetentionInSteps":        testRetentionInSteps,
		"RetentionBesideOthers":   testRetentionBesideOthers,
		"RetentionOfWhatIsLocked": testRetentionOfWhatIsLocked,
		"RetentionByTheClock":     testRetentionByTheClock,
		"Changes":                 testChanges,
		"Idempotency":             testIdempotency,
		"IdempotencyContention":   testIdempotencyContention,
		"Keys":                    testKeys,
		"Sessions":                testSessions,
		"OpenedAtOneMoment":       testOpenedAtOneMoment,
		"DamagedRow":              testDamagedRow,
		"LostKey":                 testLostKey,
		"Reseal":                  testReseal,
		"ResealStopped":           testResealStopped,
		"LateDeliveryIsHeld":      testLateDeliveryIsHeld,
		"LeaseContention":         testLeaseContention,
		"Leases":                  testLeases,
		"JoiningWatches":          testJoiningWatches,
		"Lists":                   testLists,
		"WatchFilters":            testWatchFilters,
		"DeliveryFilters":         testDeliveryFilters,
		"DeliveryStates":          testDeliveryStates,
		"RecoverTypes":            testRecoverTypes,
		"YoungFirst":              testYoungFirst,
		"Reclaim":                 testReclaim,
		"RegisteredBesideChange":  testRegisteredBesideChange,
		"NoWakeUpLost":            testNoWakeUpLost,
		"OnDue":                   testOnDue,
		"OverdueWhileLeased":      testOverdueWhileLeased,
		"OperationPeriods":        testOperationPeriods,
		"PollResults":             testPollResults,
		"RecoverAndRedeliver":     testRecover,
		"RotateSecret":            testRotateSecret,
		"Secrets":                 testSecrets,
		"SlackProgress":           testSlackProgress,
		"SlackProgressUntold":     testSlackProgressUntold,
		"Tenancy":                 testTenancy,
		"Traces":                  testTraces,
		"Unavailable":             testUnavailable,
		"UpdateDestination":       testUpdateDestination,
		"WatchEndings":            testWatchEndings,
		"Deadlines":               testDeadlines,
		"PollOfBeforeDeadline":    testPollOfBeforeTheDeadline,
		"SharedDeadlines":         testSharedDeadlines,
		"UnseenAtTheDeadline":     testUnseenAtTheDeadline,
		"Backlog":                 testBacklog,
		"Texts":                   testTexts,
	}
	for name, test := range suite {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(newWorld(t, newURL(t)))
		})
	}
}

// world is a migrated store with a tenant that has what a watch needs.
type world struct {
	*storage.Store

	t           *testing.T
	url         string
	key         string // in the form of ParseKeyring
	clock       *clock
	tenant      string
	credential  storage.Credential
	destination storage.Destination
}

// start is when every test begins.
var start = time.Date(2026, 11, 23, 10, 0, 0, 123456000, time.UTC)

func newWorld(t *testing.T, url string) *world {
	t.Helper()
	w := &world{t: t, url: url, key: seal.NewKey(), clock: &clock{now: start}}
	w.Store = w.open(t)
	must(w.Migrate(t.Context()))(t)
	w.tenant = must(w.EnsureTenant(t.Context(), "acme"))(t).ID
	w.credential = w.newCredential(t, w.tenant, "token")
	w.destination = w.newWebhook(t, w.tenant, false)
	return w
}

// open is another process on the same database.
func (w *world) open(t *testing.T) *storage.Store {
	t.Helper()
	return w.with(t, w.key)
}

// with is another process on the same database, with the encryption keys.
func (w *world) with(t *testing.T, keys ...string) *storage.Store {
	t.Helper()
	return w.opened(t, w.config(must(seal.ParseKeyring(strings.Join(keys, ",")))(t)))
}

func (w *world) opened(t *testing.T, config storage.Config) *storage.Store {
	t.Helper()
	s := must(storage.Open(t.Context(), config))(t)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

// moving is another process, whose transactions move few deliveries at a time.
func (w *world) moving(t *testing.T, most int) *storage.Store {
	t.Helper()
	config := w.config(must(seal.ParseKeyring(w.key))(t))
	config.MoveMost = most
	return w.opened(t, config)
}

func (w *world) config(keys *seal.Keyring) storage.Config {
	return storage.Config{URL: w.url, Keys: keys, Now: w.clock.Now, Elapsed: w.clock.Elapsed, MaxConns: 8}
}

func (w *world) newCredential(t *testing.T, tenant, token string) storage.Credential {
	t.Helper()
	return must(w.CreateCredential(t.Context(), storage.NewCredential{
		TenantID: tenant, Upstream: "cloudflare", Name: "lists", Secret: storage.CredentialSecret{APIToken: seal.Secret(token)},
	}))(t)
}

func (w *world) newWebhook(t *testing.T, tenant string, alerts bool) storage.Destination {
	t.Helper()
	return must(w.CreateDestination(t.Context(), storage.NewDestination{
		TenantID: tenant, Kind: storage.KindWebhook, Name: "hook", URL: "https://example.com/in", Alerts: alerts,
		MaxInFlight: 4, Secret: storage.DestinationSecret{
			Headers: map[string]string{"X-Team": "edge"}, Signing: []storage.SigningSecret{{Value: "whsec_one"}},
		},
	}))(t)
}

func (w *world) newBot(t *testing.T) storage.Destination {
	t.Helper()
	return must(w.CreateDestination(t.Context(), storage.NewDestination{
		TenantID: w.tenant, Kind: storage.KindSlack, Name: "bot", Channel: "C1", MaxInFlight: 1,
		Secret: storage.DestinationSecret{BotToken: "xoxb-1"},
	}))(t)
}

// request is a watch on an operation, for the world's destination.
func (w *world) request(operation string) storage.NewWatch {
	return storage.NewWatch{
		TenantID: w.tenant, Source: "cloudflare.lists", Upstream: "cloudflare", Params: map[string]string{"account_id": strings.Repeat("a", 32)}, OperationID: operation, CredentialID: w.credential.ID,
		DestinationIDs: []string{w.destination.ID}, Timeout: time.Hour, Metadata: map[string]string{"deploy": "42"},
		Events: []string{
			storage.EventOperationCompleted, storage.EventOperationFailed,
			storage.EventOperationExpired, storage.EventOperationUnobservable,
		},
	}
}

func (w *world) watch(t *testing.T, operation string) storage.Watch {
	t.Helper()
	return must(w.CreateWatches(t.Context(), []storage.NewWatch{w.request(operation)}))(t)[0]
}

// pollGroup is the group of the world's credential.
func (w *world) pollGroup() storage.Group {
	return storage.Group{Kind: storage.PollGroup, ID: w.credential.BudgetID}
}

func deliverGroup(d storage.Destination) storage.Group {
	return storage.Group{Kind: storage.DeliverGroup, ID: d.ID}
}

// lease takes a group that must be free.
func (w *world) lease(t *testing.T, group storage.Group) {
	t.Helper()
	if !must(w.LeaseGroup(t.Context(), group, "me", time.Hour))(t) {
		t.Fatalf("%v is not free", group)
	}
}

func (w *world) release(t *testing.T, group storage.Group) time.Time {
	t.Helper()
	return must(w.ReleaseGroup(t.Context(), group, "me", storage.Pause{}))(t)
}

// intervals are the default ones.
func intervals() storage.Intervals {
	return storage.Intervals{Lag: 0.1, Min: time.Second, Max: time.Minute}
}

// take polls what is due now, with a budget that never binds.
func (w *world) take(t *testing.T) []storage.DuePoll {
	t.Helper()
	w.lease(t, w.pollGroup())
	defer w.release(t, w.pollGroup())
	taken, err := w.TakePolls(t.Context(), storage.TakePolls{
		Group: w.credential.BudgetID, Owner: "me", Budget: storage.Budget{N: 1 << 30, Per: time.Minute}, Max: 10000,
		Intervals: intervals(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return taken.Polls
}

// end closes an operation with what a poll told.
func (w *world) end(t *testing.T, poll storage.DuePoll, end string) {
	t.Helper()
	r := storage.PollResult{RowID: poll.RowID, At: w.clock.Now(), End: end, CredentialAccepted: true}
	if end == storage.WatchCompleted || end == storage.WatchFailed {
		r.Status = end
	}
	check(t, w.RecordPolls(t.Context(), []storage.PollResult{r}))
}

// complete registers a watch and completes its operation, and returns its delivery.
func (w *world) complete(t *testing.T, operation string) storage.Delivery {
	t.Helper()
	watch := w.watch(t, operation)
	for _, poll := range w.take(t) {
		if poll.OperationID == operation {
			w.end(t, poll, storage.WatchCompleted)
		}
	}
	return must(w.Deliveries(t.Context(), storage.DeliveryFilter{TenantID: w.tenant, WatchID: watch.ID},
		storage.Page{Limit: 1}))(t).Data[0]
}

func (w *world) deliveries(t *testing.T, d storage.Destination) []storage.DueDelivery {
	t.Helper()
	w.lease(t, deliverGroup(d))
	defer w.release(t, deliverGroup(d))
	take := storage.TakeDeliveries{Group: d.ID, Owner: "me", Max: 10000}
	if d.Kind != storage.KindSlack {
		return must(w.DueDeliveries(t.Context(), take))(t)
	}
	due := must(w.DueMessages(t.Context(), take))(t)
	check(t, w.LoadMessages(t.Context(), due))
	return due
}

func (w *world) reload(t *testing.T, watch storage.Watch) storage.Watch {
	t.Helper()
	return must(w.Watch(t.Context(), watch.TenantID, watch.ID))(t)
}

func (w *world) delivery(t *testing.T, id string) storage.Delivery {
	t.Helper()
	d, _, err := w.Delivery(t.Context(), w.tenant, id)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// feed reads all of a tenant's events, page by page.
func (w *world) feed(t *testing.T, tenant string) []storage.Event {
	t.Helper()
	var all []storage.Event
	for after := ""; ; {
		page := must(w.Events(t.Context(), storage.FeedFilter{TenantID: tenant, After: after}, 7))(t)
		all = append(all, page.Data...)
		if after = page.Next; after == "" {
			return all
		}
	}
}

// clock is a clock that stands still until told.
type clock struct {
	mu   sync.Mutex
	now  time.Time
	step time.Duration
}

// Now implements storage.Config.Now.
func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now.Add(c.step)
}

// Elapsed implements storage.Config.Elapsed.
func (c *clock) Elapsed() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now.Sub(start)
}

// set sets the clock forward or, by less than nothing, back: no time goes by.
func (c *clock) set(by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.step += by
}

func (c *clock) advance(d time.Duration) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	return c.now
}

// must returns the value of a call that must not fail.
func must[T any](value T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantError(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: error %v, want %v", what, err, want)
	}
}

func want[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// together runs workers at the same time, each with its number, and fails with
// the first error.
func together(t *testing.T, n int, work func(ctx context.Context, i int) error) {
	t.Helper()
	errs := make(chan error, n)
	begin := make(chan struct{})
	for i := range n {
		go func() {
			<-begin
			errs <- work(t.Context(), i)
		}()
	}
	close(begin)
	for range n {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if t.Failed() {
		t.FailNow()
	}
}

func TestSQLite(t *testing.T) {
	t.Parallel()
	runSuite(t, func(t *testing.T) string {
		t.Helper()
		return "sqlite:" + filepath.Join(t.TempDir(), "relay.db")
	})
}

func TestPostgres(t *testing.T) {
	t.Parallel()
	runSuite(t, func(t *testing.T) string {
		t.Helper()
		return testenv.Postgres(t)
	})
}
