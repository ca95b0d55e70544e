package main

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"oprelay/jobs"
	"oprelay/storage"
)

// config is the configuration, checked and typed.
type config struct {
	listen, metricsListen string

	databaseURL    string
	redisURL       string
	encryptionKeys string

	cloudflareURL     string
	pollMin, pollMax  time.Duration
	pollLag           float64
	pollBudget        storage.Budget
	egressBudget      storage.Budget
	unobservableAfter time.Duration

	retrySchedule   jobs.RetrySchedule
	deliveryTimeout time.Duration
	disableAfter    time.Duration
	egressAllow     []netip.Prefix

	consoleURL string
	slackURL   string

	logLevel  slog.Level
	logFormat string
}

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
	for _, group := range [][]setting{serverSettings(), storeSettings(), pollSettings(), deliverySettings(), logSettings()} {
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

const databaseForms = "sqlite:PATH or postgres://user:password@host/database" //nolint:gosec // the form of one

func storeSettings() []setting {
	return []setting{
		{
			name: "RELAY_DATABASE_URL", value: "sqlite:relay.db", secret: true,
			usage: databaseForms,
			parse: func(c *config, v string) error {
				c.databaseURL = v
				if !strings.HasPrefix(v, "sqlite:") && !isPostgres(v) {
					return errors.New("want " + databaseForms)
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
				for part := range strings.SplitSeq(v, ",") {
					d, err := parseDuration(strings.TrimSpace(part))
					if err != nil {
						return fmt.Errorf("want delays such as 5s,5m,30m: %w", err)
					}
					c.retrySchedule = append(c.retrySchedule, d)
				}
				return nil
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
			parse: func(c *config, v string) error {
				c.egressAllow = nil
				for part := range strings.SplitSeq(v, ",") {
					if part = strings.TrimSpace(part); part == "" {
						continue
					}
					prefix, err := netip.ParsePrefix(part)
					if err != nil {
						return fmt.Errorf("%q is not a network such as 10.1.0.0/16", part)
					}
					c.egressAllow = append(c.egressAllow, prefix)
				}
				return nil
			},
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

// addSettings gives a command the flags of the settings that it uses.
func addSettings(c *cobra.Command, used []setting) {
	for _, s := range used {
		c.Flags().String(s.flag(), s.value, s.usage+" ["+s.name+"]")
	}
}

// load reads the settings that a command uses. The error names every fault.
func load(c *cobra.Command, getenv func(string) string, used []setting) (config, error) {
	var cfg config
	var faults []error
	for _, s := range used {
		value, from := s.value, s.name
		if env := getenv(s.name); env != "" {
			value = env
		}
		if f := c.Flags().Lookup(s.flag()); f.Changed {
			value, from = f.Value.String(), "--"+s.flag()
		}
		err := s.parse(&cfg, value)
		switch {
		case err != nil && s.secret:
			faults = append(faults, fmt.Errorf("%s: %w", from, err))
		case err != nil:
			faults = append(faults, fmt.Errorf("%s=%q: %w", from, value, err))
		}
	}
	if cfg.pollMax < cfg.pollMin {
		faults = append(faults, fmt.Errorf("RELAY_POLL_MAX (%s) is shorter than RELAY_POLL_MIN (%s)", cfg.pollMax, cfg.pollMin))
	}
	if isPostgres(cfg.databaseURL) && cfg.encryptionKeys == "" {
		faults = append(faults, errors.New("RELAY_ENCRYPTION_KEYS is required with PostgreSQL: every process needs the same keys. "+
			"Make one with: echo \"k1:$(openssl rand -base64 32)\""))
	}
	return cfg, configError(faults)
}

// configError is nil without faults.
func configError(faults []error) error {
	if len(faults) == 0 {
		return nil
	}
	return fmt.Errorf("the configuration is wrong:\n%w", errors.Join(faults...))
}

func isPostgres(databaseURL string) bool {
	return strings.HasPrefix(databaseURL, "postgres://") || strings.HasPrefix(databaseURL, "postgresql://")
}

func parseDuration(v string) (time.Duration, error) {
	d, err := time.ParseDuration(v)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("%q is not a duration above zero such as 500ms, 15s or 24h", v)
	}
	return d, nil
}

func duration(field func(*config) *time.Duration) func(*config, string) error {
	return func(c *config, v string) (err error) {
		*field(c), err = parseDuration(v)
		return err
	}
}

func address(field func(*config) *string) func(*config, string) error {
	return func(c *config, v string) error {
		*field(c) = v
		_, port, err := net.SplitHostPort(v)
		if n, e := strconv.Atoi(port); err != nil || e != nil || n < 0 || n > 65535 {
			return errors.New("want host:port, such as 127.0.0.1:8080 or :8080")
		}
		return nil
	}
}

func baseURL(field func(*config) *string) func(*config, string) error {
	return func(c *config, v string) error {
		*field(c) = v
		u, err := url.Parse(v)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			return errors.New("want an http or https URL without user, query or fragment")
		}
		return nil
	}
}

func optional(parse func(*config, string) error) func(*config, string) error {
	return func(c *config, v string) error {
		if v == "" {
			return nil
		}
		return parse(c, v)
	}
}

func budget(field func(*config) *storage.Budget) func(*config, string) error {
	return func(c *config, v string) error {
		count, per, _ := strings.Cut(v, "/")
		n, err := strconv.Atoi(count)
		d, e := parseDuration(per)
		if err != nil || e != nil || n < 1 {
			return errors.New("want COUNT/TIME, such as 120/5m")
		}
		*field(c) = storage.Budget{N: n, Per: d}
		return nil
	}
}
