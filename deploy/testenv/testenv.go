package testenv

import (
	"os"
	"strconv"
	"testing"
)

const (
	redisURLVariable    = "RELAY_TEST_REDIS_URL"
	databaseURLVariable = "RELAY_TEST_DATABASE_URL"

	loopback = "127.0.0.1"
)

// unavailable ends a test whose server is not there: skipped on a developer's
// machine, failed where CI=true.
func unavailable(t testing.TB, server string) {
	t.Helper()
	const hint = "%s is not installed: `make test` or deploy/install-test-servers.sh installs it"
	if ci, err := strconv.ParseBool(os.Getenv("CI")); err == nil && ci {
		t.Fatalf(hint, server)
	}
	t.Skipf(hint, server)
}
