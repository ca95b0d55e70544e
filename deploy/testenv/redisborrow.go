package testenv

import (
	"context"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// borrowFor bounds how long a test keeps a logical database should its
	// process die before it gives it back: above go test's own time limit.
	borrowFor = 15 * time.Minute
	// borrowRetry is how often a test looks for a free database when all
	// are taken.
	borrowRetry = 50 * time.Millisecond
	// lastDatabase is the highest of Redis's default 16 logical databases;
	// number 0 holds who has which of the others.
	lastDatabase = 15
)

// borrowRedis takes a logical database of the server at RELAY_TEST_REDIS_URL
// that no other test has, in this process or another, empties it, and gives it
// back emptied when the test ends. It is false when the variable is not set.
func borrowRedis(t testing.TB) (string, bool) {
	t.Helper()
	url := os.Getenv(redisURLVariable)
	if url == "" {
		return "", false
	}
	options, err := redis.ParseURL(url)
	if err != nil {
		t.Fatalf("%s: %v", redisURLVariable, err)
	}
	options.DB = 0
	register := redis.NewClient(options)
	database, claim, err := claimDatabase(t.Context(), register, t.Name())
	if err != nil {
		t.Fatalf("%s: no free logical database: %v", redisURLVariable, err)
	}
	own := *options
	own.DB = database
	client := redis.NewClient(&own)
	if err := client.FlushDB(t.Context()).Err(); err != nil {
		t.Fatalf("%s: %v", redisURLVariable, err)
	}
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context()) // canceled by now
		for _, err := range []error{
			client.FlushDB(ctx).Err(), client.Close(), register.Del(ctx, claim).Err(), register.Close(),
		} {
			if err != nil {
				t.Errorf("%s: give the database back: %v", redisURLVariable, err)
			}
		}
	})
	return withPath(t, url, strconv.Itoa(database)), true
}

// claimDatabase waits for a logical database that nobody has and returns its
// number and the key that claims it.
func claimDatabase(ctx context.Context, register *redis.Client, holder string) (int, string, error) {
	retry := time.NewTicker(borrowRetry)
	defer retry.Stop()
	for {
		for database := 1; database <= lastDatabase; database++ {
			claim := "oprelay-test-database:" + strconv.Itoa(database)
			claimed, err := register.SetNX(ctx, claim, holder, borrowFor).Result()
			if err != nil {
				return 0, "", err
			}
			if claimed {
				return database, claim, nil
			}
		}
		select {
		case <-ctx.Done():
			return 0, "", ctx.Err()
		case <-retry.C:
		}
	}
}
