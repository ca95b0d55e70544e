package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"oprelay/api/ratelimit"
	"oprelay/jobs"
	"oprelay/storage"
)

// config is the configuration, checked and typed.
type config struct {
	listen, metricsListen string
	apiRateLimit          ratelimit.Rate // zero for none
	authFailureLimit      ratelimit.Rate // zero for none
	trustedProxies        []netip.Prefix

	databaseURL      string
	databaseMaxConns int
	redisURL         string
	encryptionKeys   string

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

	tracesEndpoint string // "" for none
	tracesHeaders  map[string]string
	tracesSample   float64
	debugListen    string // "" for none
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
		case err != nil && (s.secret || strings.ContainsAny(value, "@?#")): // a URL that should have no password
			faults = append(faults, fmt.Errorf("%s: %w", from, err))
		case err != nil:
			faults = append(faults, fmt.Errorf("%s=%q: %w", from, value, err))
		}
	}
	if cfg.pollMax < cfg.pollMin {
		faults = append(faults, fmt.Errorf("RELAY_POLL_MAX (%s) is shorter than RELAY_POLL_MIN (%s)", cfg.pollMax, cfg.pollMin))
	}
	if cfg.metricsListen != "" && cfg.metricsListen == cfg.listen && !strings.HasSuffix(cfg.listen, ":0") {
		faults = append(faults, fmt.Errorf(
			"RELAY_METRICS_LISTEN and RELAY_LISTEN are both %s: leave the former out to have /metrics there", cfg.listen))
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
		n, per, ok := countPerTime(v)
		if !ok {
			return errors.New("want COUNT/TIME, such as 120/5m")
		}
		*field(c) = storage.Budget{N: n, Per: per}
		return nil
	}
}

// apiLimit is a budget in whole seconds, as the API's headers tell it, or none.
func apiLimit(field func(*config) *ratelimit.Rate) func(*config, string) error {
	return func(c *config, v string) error {
		if v == "none" {
			*field(c) = ratelimit.Rate{}
			return nil
		}
		n, per, ok := countPerTime(v)
		if !ok || per%time.Second != 0 {
			return errors.New("want COUNT/TIME in whole seconds, such as 120/1m, or none")
		}
		*field(c) = ratelimit.Rate{N: n, Per: per}
		return nil
	}
}

func countPerTime(v string) (n int, per time.Duration, ok bool) {
	count, of, _ := strings.Cut(v, "/")
	n, err := strconv.Atoi(count)
	per, e := parseDuration(of)
	return n, per, err == nil && e == nil && n > 0
}

// networks reads a comma list of CIDRs.
func networks(field func(*config) *[]netip.Prefix) func(*config, string) error {
	return func(c *config, v string) error {
		var all []netip.Prefix
		var faults []error
		for part := range strings.SplitSeq(v, ",") {
			if part = strings.TrimSpace(part); part == "" {
				continue
			}
			prefix, err := netip.ParsePrefix(part)
			if err != nil {
				faults = append(faults, fmt.Errorf("%q is not a network such as 10.1.0.0/16", part))
			}
			all = append(all, prefix)
		}
		*field(c) = all
		return errors.Join(faults...)
	}
}
