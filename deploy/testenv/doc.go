// Package testenv gives tests real servers: a Redis, an empty PostgreSQL
// database, and a mock server made from an OpenAPI document, throwaway and
// private to the test that asks.
//
// The servers are ordinary redis-server and postgres programs that the package
// finds on the machine, starts on 127.0.0.1 and stops again; nothing needs to
// be configured or running. Two variables replace them by servers that run
// already, RELAY_TEST_REDIS_URL and RELAY_TEST_DATABASE_URL.
//
// Where a server is neither given nor installed the test is skipped with a
// message that says what to install. With CI=true it fails instead, so that no
// gate is ever green because nothing ran.
package testenv
