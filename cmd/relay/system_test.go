package main

import (
	"net/http"
	"reflect"
	"testing"
	"time"

	"oprelay/api/client"
	"oprelay/deploy/testenv"
	"oprelay/storage/seal"
)

// system is a running relay, in one process or in several.
type system struct {
	*surroundings
	t *testing.T

	api *client.ClientWithResponses
	key string
	// folder and env are what its processes were started with.
	folder string
	env    environment
	server *relay // serve or api
	// workers are empty in one process.
	workers []*relay
}

// startEmbedded starts relay serve with nothing but what it brings along.
func startEmbedded(t *testing.T, around *surroundings, settings ...string) *system {
	t.Helper()
	s := &system{surroundings: around, t: t, folder: t.TempDir(), env: around.environment().with(settings...)}
	s.server = startRelay(t, s.folder, s.env, "serve")
	s.key = s.server.firstKey()
	s.api = s.server.client(s.key)
	return s
}

// startSeparate starts relay api and a number of relay worker on the Redis at the
// URL and a PostgreSQL database of their own.
func startSeparate(t *testing.T, around *surroundings, redisURL string, workers int, settings ...string) *system {
	t.Helper()
	s := &system{surroundings: around, t: t, folder: t.TempDir(), env: around.environment().with(
		"RELAY_DATABASE_URL", testenv.Postgres(t), "RELAY_REDIS_URL", redisURL, "RELAY_ENCRYPTION_KEYS", seal.NewKey(),
	).with(settings...)}
	if done := call(t.Context(), s.env, "migrate", "up"); done.code != exitOK {
		t.Fatalf("migrate up: %+v", done)
	}
	made := call(t.Context(), s.env, "keys", "create", "--tenant", "default", "--name", "tests", "--scope", "admin")
	if made.code != exitOK {
		t.Fatalf("keys create: %+v", made)
	}
	s.key = made.stdout[:len(made.stdout)-len("\n")]
	s.server = startRelay(t, s.folder, s.env, "api")
	s.api = s.server.client(s.key)
	for range workers {
		s.addWorker()
	}
	return s
}

func (s *system) addWorker() {
	s.t.Helper()
	s.workers = append(s.workers, startRelay(s.t, s.folder, s.env, "worker"))
}

// restart starts relay serve anew where it ran before, after its end.
func (s *system) restart() {
	s.t.Helper()
	s.server = startRelay(s.t, s.folder, s.env, "serve")
	s.api = s.server.client(s.key)
}

// deployments are the ways to run a relay that behave alike.
func deployments() map[string]func(t *testing.T, settings ...string) *system {
	return map[string]func(t *testing.T, settings ...string) *system{
		"one process, embedded": func(t *testing.T, settings ...string) *system {
			t.Helper()
			return startEmbedded(t, newSurroundings(t), settings...)
		},
		"api, two workers, PostgreSQL, Redis": func(t *testing.T, settings ...string) *system {
			t.Helper()
			return startSeparate(t, newSurroundings(t), testenv.Redis(t), 2, settings...)
		},
	}
}

// response is any answer of the generated client.
type response interface{ StatusCode() int }

// want ends the test unless a request was answered with the status.
func want(t *testing.T, status int, err error, answer response) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if answer.StatusCode() != status {
		t.Fatalf("the API answered %d, want %d\n%s", answer.StatusCode(), status, reflect.ValueOf(answer).Elem().FieldByName("Body").Bytes())
	}
}

func (s *system) credential(t *testing.T, token string) string {
	t.Helper()
	made, err := s.api.CreateCredentialWithResponse(t.Context(), nil, client.NewCredential{Name: t.Name(), APIToken: &token})
	want(t, http.StatusCreated, err, made)
	return made.JSON201.ID
}

func (s *system) destination(t *testing.T, d client.NewDestination) string {
	t.Helper()
	d.Name = "tests"
	made, err := s.api.CreateDestinationWithResponse(t.Context(), nil, d)
	want(t, http.StatusCreated, err, made)
	return made.JSON201.ID
}

// webhook is a destination at the receiver.
func (s *system) webhook(t *testing.T) string {
	t.Helper()
	return s.destination(t, client.NewDestination{Type: client.DestinationWebhook, URL: &s.receiverURL, Secret: new(testSecret)})
}

func (s *system) watch(t *testing.T, w client.NewWatch) client.Watch {
	t.Helper()
	w.AccountID = new(testAccount)
	made, err := s.api.CreateWatchWithResponse(t.Context(), nil, w)
	want(t, http.StatusCreated, err, made)
	return *made.JSON201
}

// watches registers one watch for each operation, all or nothing.
func (s *system) watches(t *testing.T, credentialID, destinationID string, operationIDs []string) []client.Watch {
	t.Helper()
	var body client.NewWatches
	for _, id := range operationIDs {
		body.Watches = append(body.Watches, client.NewWatch{
			AccountID: new(testAccount), OperationID: id, CredentialID: credentialID, DestinationIds: []string{destinationID},
		})
	}
	made, err := s.api.CreateWatchesWithResponse(t.Context(), nil, body)
	want(t, http.StatusCreated, err, made)
	return made.JSON201.Data
}

// look is the watch as it is.
func (s *system) look(t *testing.T, id string) client.Watch {
	t.Helper()
	got, err := s.api.GetWatchWithResponse(t.Context(), id, nil)
	want(t, http.StatusOK, err, got)
	return *got.JSON200
}

// end is the watch when it has ended.
func (s *system) end(t *testing.T, id string, limit time.Duration) client.Watch {
	t.Helper()
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); {
		got, err := s.api.GetWatchWithResponse(t.Context(), id, &client.GetWatchParams{Wait: new("10s")})
		want(t, http.StatusOK, err, got)
		if got.JSON200.Status != client.WatchStatusWatching {
			return *got.JSON200
		}
	}
	t.Fatalf("watch %s has not ended within %s", id, limit)
	return client.Watch{}
}

// events is the whole feed.
func (s *system) events(t *testing.T) []client.Event {
	t.Helper()
	var all []client.Event
	for params := (&client.ListEventsParams{Limit: new(200)}); ; {
		page, err := s.api.ListEventsWithResponse(t.Context(), params)
		want(t, http.StatusOK, err, page)
		all = append(all, page.JSON200.Data...)
		if len(page.JSON200.Data) == 0 {
			return all
		}
		params.After = &all[len(all)-1].ID
	}
}

func (s *system) deliveries(t *testing.T, params client.ListDeliveriesParams) []client.Delivery {
	t.Helper()
	params.Limit = new(200)
	var all []client.Delivery
	for {
		page, err := s.api.ListDeliveriesWithResponse(t.Context(), &params)
		want(t, http.StatusOK, err, page)
		all = append(all, page.JSON200.Data...)
		if page.JSON200.NextCursor == nil {
			return all
		}
		params.Cursor = page.JSON200.NextCursor
	}
}
