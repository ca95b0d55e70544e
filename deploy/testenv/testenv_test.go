package testenv_test

import (
	"context"
	"errors"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"oprelay/deploy/testenv"
)

func TestRedisIsPrivateAndEmpty(t *testing.T) {
	t.Parallel()
	first, second := connect(t, testenv.Redis(t)), connect(t, testenv.Redis(t))
	if err := first.Set(t.Context(), "key", "value", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if n, err := second.DBSize(t.Context()).Result(); err != nil || n != 0 {
		t.Errorf("the second Redis holds %d keys (%v), want none", n, err)
	}
}

func TestRedisSurvivesItsFaults(t *testing.T) {
	t.Parallel()
	server := testenv.StartRedis(t, "--appendonly", "yes", "--appendfsync", "always")
	client := connect(t, server.URL)
	if err := client.Set(t.Context(), "key", "value", 0).Err(); err != nil {
		t.Fatal(err)
	}

	server.Pause()
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := client.Ping(short).Err(); !isTimeout(err) {
		t.Errorf("a paused server answered %v, want a timeout", err)
	}
	server.Resume()
	if err := client.Ping(t.Context()).Err(); err != nil {
		t.Errorf("the resumed server answered %v", err)
	}

	server.Kill()
	server.Kill()
	if err := client.Ping(t.Context()).Err(); err == nil {
		t.Error("the killed server answered")
	}
	server.Restart()
	if value, err := client.Get(t.Context(), "key").Result(); err != nil || value != "value" {
		t.Errorf("after the restart: %q, %v", value, err)
	}
}

func TestPostgresIsPrivateAndEmptyAndGoes(t *testing.T) {
	t.Parallel()
	var urls [2]string
	t.Run("made", func(t *testing.T) {
		for i := range urls {
			urls[i] = testenv.Postgres(t)
			query(t, urls[i], "CREATE TABLE t ()")
		}
	})
	if urls[0] == urls[1] {
		t.Errorf("the same database twice: %s", urls[0])
	}
	for _, gone := range urls {
		u, err := url.Parse(gone)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(u.Path, "/")
		u.Path = "/postgres"
		if left := query(t, u.String(), "SELECT 1 FROM pg_database WHERE datname = '"+name+"'"); left != "" {
			t.Errorf("database %s is still there", name)
		}
	}
}

func TestClusterEndsWithClose(t *testing.T) {
	t.Parallel()
	if testenv.Postgres(t); t.Skipped() { // says what is missing
		return
	}
	cluster, err := testenv.StartPostgres()
	if err != nil {
		t.Fatal(err)
	}
	folder := query(t, cluster.URL, "SHOW data_directory")
	if err := cluster.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(folder); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the files are still in %s: %v", folder, err)
	}
}

// Killed, stopped and restarted, it keeps what was committed.
func TestPostgresSurvivesItsFaults(t *testing.T) {
	t.Parallel()
	server := testenv.StartPostgresServer(t, "max_connections=20")
	if n := query(t, server.URL, "SHOW max_connections"); n != "20" {
		t.Errorf("max_connections = %s, want 20", n)
	}
	query(t, server.URL, "CREATE TABLE t (n int); INSERT INTO t VALUES (1)")
	server.Kill()
	server.Kill()
	if _, err := psql(t.Context(), server.URL, "SELECT 1"); err == nil {
		t.Error("the killed server answered")
	}
	server.Restart()
	query(t, server.URL, "INSERT INTO t VALUES (2)")
	server.Restart()
	if sum := query(t, server.URL, "SELECT sum(n) FROM t"); sum != "3" {
		t.Errorf("after two restarts the sum is %s, want 3", sum)
	}

	server.Pause()
	short, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if printed, err := psql(short, server.URL, "SELECT 1"); err == nil {
		t.Errorf("the paused server answered %s", printed)
	}
	server.Resume()
	if one := query(t, server.URL, "SELECT 1"); one != "1" {
		t.Errorf("the resumed server answered %s", one)
	}
}

func connect(t *testing.T, url string) *redis.Client {
	t.Helper()
	options, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	options.ContextTimeoutEnabled = true
	client := redis.NewClient(options)
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
	return client
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

func query(t *testing.T, databaseURL, statement string) string {
	t.Helper()
	printed, err := psql(t.Context(), databaseURL, statement)
	if err != nil {
		t.Fatalf("%s: %v: %s", statement, err, printed)
	}
	return printed
}

func psql(ctx context.Context, databaseURL, statement string) (string, error) {
	printed, err := exec.CommandContext(ctx, "psql", "-XAtq", "-d", databaseURL, "-c", statement).CombinedOutput()
	return strings.TrimSpace(string(printed)), err
}
