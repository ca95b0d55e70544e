package main

import (
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/redis/go-redis/v9"

	"oprelay/deploy/testenv"
	"oprelay/notifier/slacktest"
	"oprelay/storage/seal"
)

// Everything is done with every secret, well and badly, and then nothing that the
// relay has left behind holds any of them: what its processes and commands printed,
// metrics, answers but for the one that shows a secret, all that went to Redis, and
// the database's bytes.
func TestSecretsStaySecret(t *testing.T) {
	t.Parallel()
	t.Run("one process, embedded", func(t *testing.T) {
		t.Parallel()
		h, world := &hunt{t: t}, newHostile()
		s := startEmbedded(t, newSurroundings(t), hostileSettings(t, h, world)...)
		h.addSeen("the first API key", s.key, 1, only("stderr of serve"))
		_, sealing, _ := strings.Cut(readKeys(t, filepath.Join(s.folder, keyFile)), ":")
		h.addKey("the encryption key", sealing)
		d := &drive{system: s, hunt: h, hostile: world}
		d.everything(s.env.with("RELAY_DATABASE_URL", "sqlite:"+filepath.Join(s.folder, "relay.db")))
		d.crash("serve", s.server)
		d.files()
		d.verdict()
	})
	t.Run("api, worker, PostgreSQL, Redis", func(t *testing.T) {
		t.Parallel()
		h, world := &hunt{t: t}, newHostile()
		s, stores := startGuarded(t, h, world)
		h.addSeen("the API key", s.key, 0, nowhere)
		d := &drive{system: s, hunt: h, hostile: world}
		d.everything(s.env)
		h.keep("the database", testenv.DumpPostgres(t, s.env["RELAY_DATABASE_URL"]))
		d.values(stores)
		mention(t, stores.said.String(), "asynq")
		h.keep("what was said to Redis", []byte(stores.said.String()))
		d.outage(stores)
		d.crash("api", s.server)
		d.crash("worker", s.workers[0])
		d.verdict()
	})
}

// guarded are servers with passwords, for one test alone.
type guarded struct {
	redis    *testenv.Server
	redisURL string
	postgres *testenv.Standalone
	said     *testenv.Output // all that Redis was told
}

func startGuarded(t *testing.T, h *hunt, world *hostile) (*system, guarded) {
	t.Helper()
	postgres, err := testenv.StartPostgres()
	if err != nil {
		testenv.Postgres(t) // skips where there is none
		t.Fatal(err)
	}
	stores := guarded{postgres: postgres}
	t.Cleanup(func() {
		if stores.postgres != nil {
			_ = postgres.Close()
		}
	})
	withPassword := func(address, user, password string) string {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		u.User = url.UserPassword(user, password)
		return u.String()
	}
	password := h.invent("Redis's password")
	stores.redis = testenv.StartRedis(t, "--requirepass", password)
	stores.redisURL = withPassword(stores.redis.URL, "", password)
	stores.said = listen(t, stores.redis.URL, password)
	key := seal.NewKey()
	_, sealing, _ := strings.Cut(key, ":")
	h.addKey("the encryption key", sealing)
	s := startSeparate(t, newSurroundings(t), stores.redisURL, 1, append(hostileSettings(t, h, world),
		"RELAY_DATABASE_URL", withPassword(postgres.URL, "postgres", h.invent("PostgreSQL's password")),
		"RELAY_ENCRYPTION_KEYS", key, "RELAY_METRICS_LISTEN", "127.0.0.1:0")...)
	return s, stores
}

// hostileSettings have the relay log all it can, in a world that echoes.
func hostileSettings(t *testing.T, h *hunt, world *hostile) []string {
	t.Helper()
	world.hostileURL = serve(t, world)
	world.traces = &collector{t: t}
	return []string{
		"OTEL_BSP_SCHEDULE_DELAY", "100", // milliseconds
		"RELAY_TRACES_ENDPOINT", serve(t, world.traces), "RELAY_TRACES_HEADERS", "x-api-key=" + h.invent("the collector's key"),
		"RELAY_LOG_LEVEL", "debug", "RELAY_DELIVERY_TIMEOUT", "1s", "RELAY_RETRY_SCHEDULE", "100ms,100ms",
		"RELAY_CLOUDFLARE_URL", world.hostileURL + "/client/v4", "RELAY_SLACK_URL", world.hostileURL + slacktest.APIPath,
	}
}

// listen has Redis tell all that it is told, from now on.
func listen(t *testing.T, address, password string) *testenv.Output {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	connection, err := new(net.Dialer).DialContext(t.Context(), "tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	if _, err := connection.Write([]byte("AUTH " + password + "\r\nECHO listening\r\nMONITOR\r\n")); err != nil {
		t.Fatal(err)
	}
	said, ended := testenv.NewOutput(), make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(said, connection) // until it is closed
	}()
	if _, ok := said.Wait(deadline(t, startLimit), "listening", ended); !ok {
		t.Fatalf("Redis does not let us listen: %s", said)
	}
	return said
}

func redisClient(t *testing.T, address string) *redis.Client {
	t.Helper()
	options, err := redis.ParseURL(address)
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(options)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// values keeps all that Redis holds.
func (d *drive) values(stores guarded) {
	d.t.Helper()
	client := redisClient(d.t, stores.redisURL)
	ctx := d.t.Context()
	keys := client.Scan(ctx, 0, "*", 1000).Iterator()
	for keys.Next(ctx) {
		key := keys.Val()
		var value any
		switch kind := client.Type(ctx, key).Val(); kind {
		case "string":
			value = client.Get(ctx, key).Val()
		case "hash":
			value = client.HGetAll(ctx, key).Val()
		case "list":
			value = client.LRange(ctx, key, 0, -1).Val()
		case "set":
			value = client.SMembers(ctx, key).Val()
		case "zset":
			value = client.ZRange(ctx, key, 0, -1).Val()
		case "none": // gone meanwhile
		default:
			d.t.Errorf("%s is a %s: how is it read?", key, kind)
		}
		d.hunt.keepValue("Redis, "+key, value)
	}
	if err := keys.Err(); err != nil {
		d.t.Error(err)
	}
}

// files keeps all that the relay has written, but for the key file itself.
func (d *drive) files() {
	d.t.Helper()
	entries, err := os.ReadDir(d.folder)
	if err != nil {
		d.t.Fatal(err)
	}
	for _, entry := range entries {
		if entry.Name() == keyFile {
			continue
		}
		data, err := os.ReadFile(filepath.Join(d.folder, entry.Name()))
		if err != nil {
			d.t.Fatal(err)
		}
		d.hunt.keep("the database, "+entry.Name(), data)
	}
}

// outage takes both stores away from running processes.
func (d *drive) outage(stores guarded) {
	d.t.Helper()
	stores.redis.Kill()
	if err := stores.postgres.Close(); err != nil {
		d.t.Error(err)
	}
	stores.postgres = nil
	eventually(d.t, startLimit, "the API is not ready", func() bool {
		status, _ := d.do("GET", "/readyz", "")
		return status == 503
	})
	d.do("POST", "/v1/credentials", `{"name":"x","api_token":"`+d.hunt.invent("a token during an outage")+`"}`)
	for _, args := range [][]string{{"keys", "list"}, {"migrate", "status"}, {"keys", "rotate-encryption"}, {"api"}, {"worker"}} {
		d.command(d.env, args...)
	}
	if _, ok := d.workers[0].Stderr.Wait(deadline(d.t, startLimit), "the database", d.workers[0].Ended); !ok {
		d.t.Error("the worker says nothing of the outage")
	}
	for _, r := range append(d.workers, d.server) {
		for line := range strings.Lines(r.Stderr.String()) {
			if !strings.HasPrefix(line, "{") {
				d.t.Errorf("a library prints past the log: %s", line)
			}
		}
	}
}

// crash ends a process with the runtime's own account of all goroutines.
func (d *drive) crash(role string, r *relay) {
	d.t.Helper()
	if err := syscall.Kill(r.PID(), syscall.SIGQUIT); err != nil {
		d.t.Fatal(err)
	}
	r.Wait(startLimit)
	mention(d.t, r.Stderr.String(), "goroutine ", "SIGQUIT")
	d.hunt.keep("stdout of "+role, []byte(r.Stdout.String()))
	d.hunt.keep("stderr of "+role, []byte(r.Stderr.String()))
}

// spans keeps what the collector was sent, which must be of every kind.
func (d *drive) spans() {
	d.t.Helper()
	for _, name := range []string{"POST /v1/watches", "poll cloudflare.lists", "deliver webhook", "deliver slack"} {
		if len(d.traces.named(name)) == 0 {
			d.t.Errorf("no span is called %q", name)
		}
	}
	d.hunt.keep("the traces", d.traces.everything())
}

func (d *drive) verdict() {
	d.t.Helper()
	d.spans()
	for _, leak := range d.hunt.found() {
		d.t.Error(leak)
	}
	d.t.Logf("%d secrets, %d traces, %d bytes", len(d.hunt.secrets), len(d.hunt.traces), d.hunt.size())
}
