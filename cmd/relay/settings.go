package main

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"oprelay/jobs/wake"
	"oprelay/storage"
	"oprelay/storage/seal"
)

const (
	embeddedRedis = "embedded"
	// tracePath is where OTLP over HTTP takes traces.
	tracePath = "/v1/traces"
)

// setting is one environment variable and the flag that goes with it.
type setting struct {
	name   string // RELAY_...
	value  string // the default
	usage  string
	secret bool // its value is never quoted in an error
	parse  parser
}

// parser reads a setting's value into the configuration.
type parser func(string) error

// flag is the setting's flag: RELAY_POLL_MIN is --poll-min.
func (s setting) flag() string {
	return strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(s.name, "RELAY_"), "_", "-"))
}

// settings lists every setting, in the order in which help shows them.
func settings(c *config) []setting {
	return slices.Concat(serverSettings(c), limitSettings(c), storeSettings(c), retentionSettings(c), sourceSettings(c), pollSettings(c),
		deliverySettings(c), logSettings(c), insightSettings(c), clientSettings(c))
}

func serverSettings(c *config) []setting {
	return []setting{
		{
			name: "RELAY_LISTEN", value: "127.0.0.1:8080",
			usage: "address of the API",
			parse: address(&c.listen),
		},
		{
			name: "RELAY_METRICS_LISTEN",
			usage: "address for /metrics, which the API's address then no longer has, and for /healthz and /readyz; " +
				"a worker has them nowhere else",
			parse: optional(address(&c.metricsListen)),
		},
	}
}

// limitSettings are the API's.
func limitSettings(c *config) []setting {
	return []setting{
		{
			name: "RELAY_API_RATE_LIMIT", value: "5000/1s",
			usage: "requests per time with one API key, over all processes; none for no limit",
			parse: apiLimit(&c.apiRateLimit),
		},
		{
			name: "RELAY_AUTH_FAILURE_LIMIT", value: "120/1m",
			usage: "wrong API keys per time from one client address (IPv6: /64), over all processes, before more of them " +
				"are told to wait; valid keys are served all the same. none for no limit",
			parse: apiLimit(&c.authFailureLimit),
		},
		{
			name:  "RELAY_TRUSTED_PROXIES",
			usage: "comma list of networks of proxies whose X-Forwarded-For tells the client's address",
			parse: networks(&c.trustedProxies),
		},
	}
}

// minMaxConns leaves a connection to each of: a claim of work, its results, leases,
// the clock that all share.
const minMaxConns = 4

const databaseForms = "sqlite:PATH or postgres://user:password@host/database" //nolint:gosec // the form of one

func storeSettings(c *config) []setting {
	return []setting{
		{
			name: "RELAY_DATABASE_URL", value: "sqlite:relay.db", secret: true,
			usage: databaseForms,
			parse: func(v string) error {
				c.databaseURL = v
				return storage.CheckURL(v)
			},
		},
		{
			name: "RELAY_DATABASE_MAX_CONNS", value: strconv.Itoa(storage.DefaultMaxConns),
			usage: "connections that this process has to PostgreSQL at most. All processes together must stay below " +
				"PostgreSQL's max_connections, or what a PgBouncer between them allows",
			parse: func(v string) (err error) {
				if c.databaseMaxConns, err = strconv.Atoi(v); err != nil || c.databaseMaxConns < minMaxConns {
					return fmt.Errorf("want a whole number, %d at least", minMaxConns)
				}
				return nil
			},
		},
		{
			name: "RELAY_REDIS_URL", value: embeddedRedis, secret: true,
			usage: "embedded, redis://, rediss://, redis-sentinel://h1:p,h2:p?master=NAME or redis-cluster://h1:p,h2:p",
			parse: func(v string) error {
				c.redisURL = v
				if v == embeddedRedis {
					return nil
				}
				return wake.CheckURL(v)
			},
		},
		{
			name: "RELAY_ENCRYPTION_KEYS", secret: true,
			usage: "comma list of ID:BASE64 (32 bytes); the first encrypts, all decrypt. " +
				"With SQLite and none given, relay.key is made beside the database",
			parse: func(v string) error {
				c.encryptionKeys = v
				if v == "" {
					return nil
				}
				_, err := seal.ParseKeyring(v)
				return err
			},
		},
	}
}

// retentionSettings are the workers'.
func retentionSettings(c *config) []setting {
	return []setting{{
		name: "RELAY_RETENTION", value: "90d",
		usage: "how long a watch that has ended is kept, with its events, deliveries and attempts; none keeps all",
		parse: retention(&c.retention),
	}}
}

// sourceSettings say which APIs can be asked. A command that uses them finds what they define
// in config.sources.
func sourceSettings(c *config) []setting {
	return []setting{
		{
			name: "RELAY_SOURCES",
			usage: "comma list of files or folders with definitions of upstreams and their sources, beside the built-in ones; " +
				"one that has a built-in's name replaces it",
			parse: func(v string) error {
				c.usesSources = true
				c.sourcePaths = list(v)
				return nil
			},
		},
		{
			name:  "RELAY_UPSTREAM_URLS",
			usage: "comma list of UPSTREAM=URL that replace the bases of upstreams, such as github=https://git.example/api/v3",
			parse: upstreamURLs(&c.upstreamURLs),
		},
		{
			name:  "RELAY_CLOUDFLARE_URL",
			usage: "base of the Cloudflare API, short for cloudflare= in RELAY_UPSTREAM_URLS; its own is https://api.cloudflare.com/client/v4",
			parse: optional(baseURL(&c.cloudflareURL)),
		},
	}
}

func pollSettings(c *config) []setting {
	return []setting{
		{
			name: "RELAY_POLL_MIN", value: "1s",
			usage: "shortest time between two polls of an operation",
			parse: duration(&c.pollMin),
		},
		{
			name: "RELAY_POLL_MAX", value: "60s",
			usage: "longest time between two polls of an operation",
			parse: duration(&c.pollMax),
		},
		{
			name: "RELAY_POLL_LAG", value: "0.1",
			usage: "share of an operation's age that its end may be noticed late",
			parse: share(&c.pollLag, "0.1"),
		},
		{
			name:  "RELAY_POLL_BUDGET",
			usage: "requests per time that one credential may cost, of any upstream; without it each upstream's own (Cloudflare: 120/5m)",
			parse: optional(budget(&c.pollBudget)),
		},
		{
			name:  "RELAY_POLL_EGRESS_BUDGET",
			usage: "requests per time that this process may send to an upstream; without it each upstream's own (Cloudflare: 180/1s)",
			parse: optional(budget(&c.egressBudget)),
		},
		{
			name: "RELAY_UNOBSERVABLE_AFTER", value: "15m",
			usage: "how long the upstream may answer 401, 403 or 404 before a watch ends",
			parse: duration(&c.unobservableAfter),
		},
	}
}

func deliverySettings(c *config) []setting {
	return []setting{
		{
			name: "RELAY_RETRY_SCHEDULE", value: "5s,5m,30m,2h,5h,10h,14h,20h,24h",
			usage: "delays between the attempts of a delivery",
			parse: func(v string) error {
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
			parse: duration(&c.deliveryTimeout),
		},
		{
			name: "RELAY_DISABLE_AFTER", value: "120h",
			usage: "a destination with nothing but failures for this long is disabled",
			parse: duration(&c.disableAfter),
		},
		{
			name:  "RELAY_EGRESS_ALLOW",
			usage: "comma list of networks that destinations may reach beside public addresses, such as 10.1.0.0/16",
			parse: networks(&c.egressAllow),
		},
		{
			name:  "RELAY_CONSOLE_URL",
			usage: "where people open the console: links in Slack messages point there, else there are none; with https its cookie is Secure",
			parse: optional(baseURL(&c.consoleURL)),
		},
		{
			name: "RELAY_SLACK_URL", value: "https://slack.com/api/",
			usage: "base of the Slack Web API",
			parse: baseURL(&c.slackURL),
		},
	}
}

func logSettings(c *config) []setting {
	return []setting{
		{
			name: "RELAY_LOG_LEVEL", value: "info",
			usage: "debug, info, warn or error",
			parse: func(v string) error {
				if c.logLevel.UnmarshalText([]byte(v)) != nil {
					return errors.New("want debug, info, warn or error")
				}
				return nil
			},
		},
		{
			name:  "RELAY_LOG_FORMAT",
			usage: "text or json; text on a terminal and else json if not set",
			parse: func(v string) error {
				if v != "" && v != "text" && v != "json" {
					return errors.New("want text or json")
				}
				c.logFormat = v
				return nil
			},
		},
	}
}

// insightSettings are for looking into a process.
func insightSettings(c *config) []setting {
	return []setting{
		{
			name: "RELAY_TRACES_ENDPOINT",
			usage: "URL of an OpenTelemetry collector that takes traces (OTLP over HTTP), such as http://127.0.0.1:4318; " +
				"without it there are none",
			parse: optional(func(v string) error {
				if err := baseURL(&c.tracesEndpoint)(v); err != nil {
					return err
				}
				if u, err := url.Parse(v); err == nil && strings.Trim(u.Path, "/") == "" {
					c.tracesEndpoint = u.JoinPath(tracePath).String()
				}
				return nil
			}),
		},
		{
			name: "RELAY_TRACES_HEADERS", secret: true,
			usage: "comma list of NAME=VALUE for the collector, each value percent-encoded",
			parse: func(v string) (err error) {
				c.tracesHeaders, err = parseHeaders(v)
				return err
			},
		},
		{
			name: "RELAY_TRACES_SAMPLE", value: "1",
			usage: "share of the requests without a traceparent that begin a trace, from 0 to 1; " +
				"with one, the caller has decided",
			parse: share(&c.tracesSample, "0.05"),
		},
		{
			name: "RELAY_DEBUG_LISTEN",
			usage: "address for CPU, heap and goroutine profiles (/debug/pprof/), without a key: keep it on a loopback " +
				"address; without it there are none",
			parse: optional(address(&c.debugListen)),
		},
	}
}

// clientSettings are those of the commands that talk to a relay through its API.
func clientSettings(c *config) []setting {
	return []setting{
		{
			name: "RELAY_URL", value: "http://127.0.0.1:8080",
			usage: "address of the relay that the client commands (watch, wait, listen) use",
			parse: baseURL(&c.url),
		},
		{
			name: "RELAY_API_KEY", secret: true,
			usage: "API key of the client commands: read suffices for wait and listen, watch needs write",
			parse: func(v string) error {
				c.apiKey = strings.TrimSpace(v) // a file's content ends with a line break
				switch {
				case c.apiKey == "":
					return errors.New("is not set: give the client commands an API key, which begins with relay_. " +
						"Where the relay runs, make one with: relay keys create --name me --scope write")
				case !apiKeyForm.MatchString(c.apiKey):
					return errors.New("is no API key: those begin with relay_ and hold letters, digits, - and _")
				}
				return nil
			},
		},
	}
}

var apiKeyForm = regexp.MustCompile(`^relay_[A-Za-z0-9_-]+$`)
