package main

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"oprelay/api/ratelimit"
	"oprelay/jobs"
	"oprelay/storage"
)

const embeddedRedis = "embedded"

// setting is one environment variable and the flag that goes with it.
type setting struct {
	name   string // RELAY_...
	value  string // the default
	usage  string
	secret bool // its value is never quoted in an error
	parse  func(*config, string) error
}

// flag is the setting's flag: RELAY_POLL_MIN is --poll-min.
func (s setting) flag() string {
	return strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(s.name, "RELAY_"), "_", "-"))
}

// settings lists every setting, in the order in which help shows them.
func settings() []setting {
	var all []setting
	for _, group := range [][]setting{
		serverSettings(), limitSettings(), storeSettings(), pollSettings(), deliverySettings(), logSettings(), insightSettings(),
	} {
		all = append(all, group...)
	}
	return all
}

func serverSettings() []setting {
	return []setting{
		{
			name: "RELAY_LISTEN", value: "127.0.0.1:8080",
			usage: "address of the API",
			parse: address(func(c *config) *string { return &c.listen }),
		},
		{
			name: "RELAY_METRICS_LISTEN",
			usage: "address for /metrics, which the API's address then no longer has, and for /healthz and /readyz; " +
				"a worker has them nowhere else",
			parse: optional(address(func(c *config) *string { return &c.metricsListen })),
		},
	}
}

// limitSettings are the API's.
func limitSettings() []setting {
	return []setting{
		{
			name: "RELAY_API_RATE_LIMIT", value: "5000/1s",
			usage: "requests per time with one API key, over all processes; none for no limit",
			parse: apiLimit(func(c *config) *ratelimit.Rate { return &c.apiRateLimit }),
		},
		{
			name: "RELAY_AUTH_FAILURE_LIMIT", value: "120/1m",
			usage: "wrong API keys per time from one client address (IPv6: /64), over all processes, before more of them " +
				"are told to wait; valid keys are served all the same. none for no limit",
			parse: apiLimit(func(c *config) *ratelimit.Rate { return &c.authFailureLimit }),
		},
		{
			name:  "RELAY_TRUSTED_PROXIES",
			usage: "comma list of networks of proxies whose X-Forwarded-For tells the client's address",
			parse: networks(func(c *config) *[]netip.Prefix { return &c.trustedProxies }),
		},
	}
}

// minMaxConns leaves a connection to each of: a claim of work, its results, leases,
// the clock that all share.
const minMaxConns = 4

const databaseForms = "sqlite:PATH or postgres://user:password@host/database" //nolint:gosec // the form of one

func storeSettings() []setting {
	return []setting{
		{
			name: "RELAY_DATABASE_URL", value: "sqlite:relay.db", secret: true,
			usage: databaseForms,
			parse: func(c *config, v string) error {
				c.databaseURL = v
				return storage.CheckURL(v)
			},
		},
		{
			name: "RELAY_DATABASE_MAX_CONNS", value: strconv.Itoa(storage.DefaultMaxConns),
			usage: "connections that this process has to PostgreSQL at most. All processes together must stay below " +
				"PostgreSQL's max_connections, or what a PgBouncer between them allows",
			parse: func(c *config, v string) (err error) {
				if c.databaseMaxConns, err = strconv.Atoi(v); err != nil || c.databaseMaxConns < minMaxConns {
					return fmt.Errorf("want a whole number, %d at least", minMaxConns)
				}
				return nil
			},
		},
		{
			name: "RELAY_REDIS_URL", value: embeddedRedis, secret: true,
			usage: "embedded, redis://, rediss://, redis-sentinel://h1:p,h2:p?master=NAME or redis-cluster://h1:p,h2:p",
			parse: func(c *config, v string) error {
				c.redisURL = v
				if v == embeddedRedis {
					return nil
				}
				return jobs.CheckRedisURL(v)
			},
		},
		{
			name: "RELAY_ENCRYPTION_KEYS", secret: true,
			usage: "comma list of ID:BASE64 (32 bytes); the first encrypts, all decrypt. " +
				"With SQLite and none given, relay.key is made beside the database",
			parse: func(c *config, v string) error {
				c.encryptionKeys = v
				if v == "" {
					return nil
				}
				_, err := storage.ParseKeyring(v)
				return err
			},
		},
	}
}

func pollSettings() []setting {
	return []setting{
		{
			name: "RELAY_CLOUDFLARE_URL", value: "https://api.cloudflare.com/client/v4",
			usage: "base of the Cloudflare API",
			parse: baseURL(func(c *config) *string { return &c.cloudflareURL }),
		},
		{
			name: "RELAY_POLL_MIN", value: "1s",
			usage: "shortest time between two polls of an operation",
			parse: duration(func(c *config) *time.Duration { return &c.pollMin }),
		},
		{
			name: "RELAY_POLL_MAX", value: "60s",
			usage: "longest time between two polls of an operation",
			parse: duration(func(c *config) *time.Duration { return &c.pollMax }),
		},
		{
			name: "RELAY_POLL_LAG", value: "0.1",
			usage: "share of an operation's age that its end may be noticed late",
			parse: func(c *config, v string) (err error) {
				if c.pollLag, err = strconv.ParseFloat(v, 64); err != nil || c.pollLag < 0 || c.pollLag > 1 || math.IsNaN(c.pollLag) {
					return errors.New("want a number from 0 to 1, such as 0.1")
				}
				return nil
			},
		},
		{
			name: "RELAY_POLL_BUDGET", value: "120/5m",
			usage: "requests per time that one credential may cost",
			parse: budget(func(c *config) *storage.Budget { return &c.pollBudget }),
		},
		{
			name: "RELAY_POLL_EGRESS_BUDGET", value: "180/1s",
			usage: "requests per time that this process may send upstream",
			parse: budget(func(c *config) *storage.Budget { return &c.egressBudget }),
		},
		{
			name: "RELAY_UNOBSERVABLE_AFTER", value: "15m",
			usage: "how long the upstream may answer 401, 403 or 404 before a watch ends",
			parse: duration(func(c *config) *time.Duration { return &c.unobservableAfter }),
		},
	}
}

func deliverySettings() []setting {
	return []setting{
		{
			name: "RELAY_RETRY_SCHEDULE", value: "5s,5m,30m,2h,5h,10h,14h,20h,24h",
			usage: "delays between the attempts of a delivery",
			parse: func(c *config, v string) error {
				c.retrySchedule = nil
				var faults []error
				for part := range strings.SplitSeq(v, ",") {
					d, err := parseDuration(strings.TrimSpace(part))
					c.retrySchedule, faults = append(c.retrySchedule, d), append(faults, err)
				}
				return errors.Join(faults...)
			},
		},
		{
			name: "RELAY_DELIVERY_TIMEOUT", value: "15s",
			usage: "time for one attempt, the answer's body included",
			parse: duration(func(c *config) *time.Duration { return &c.deliveryTimeout }),
		},
		{
			name: "RELAY_DISABLE_AFTER", value: "120h",
			usage: "a destination with nothing but failures for this long is disabled",
			parse: duration(func(c *config) *time.Duration { return &c.disableAfter }),
		},
		{
			name:  "RELAY_EGRESS_ALLOW",
			usage: "comma list of networks that destinations may reach beside public addresses, such as 10.1.0.0/16",
			parse: networks(func(c *config) *[]netip.Prefix { return &c.egressAllow }),
		},
		{
			name:  "RELAY_CONSOLE_URL",
			usage: "where links in Slack messages point; without it there are none",
			parse: optional(baseURL(func(c *config) *string { return &c.consoleURL })),
		},
		{
			name: "RELAY_SLACK_URL", value: "https://slack.com/api/",
			usage: "base of the Slack Web API",
			parse: baseURL(func(c *config) *string { return &c.slackURL }),
		},
	}
}

func logSettings() []setting {
	return []setting{
		{
			name: "RELAY_LOG_LEVEL", value: "info",
			usage: "debug, info, warn or error",
			parse: func(c *config, v string) error {
				if c.logLevel.UnmarshalText([]byte(v)) != nil {
					return errors.New("want debug, info, warn or error")
				}
				return nil
			},
		},
		{
			name:  "RELAY_LOG_FORMAT",
			usage: "text or json; text on a terminal and else json if not set",
			parse: func(c *config, v string) error {
				if v != "" && v != "text" && v != "json" {
					return errors.New("want text or json")
				}
				c.logFormat = v
				return nil
			},
		},
	}
}
