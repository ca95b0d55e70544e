package main

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"oprelay/api/ratelimit"
	"oprelay/jobs/deliver"
	"oprelay/jobs/source"
	"oprelay/notifier"
	"oprelay/storage"
)

// defaultUpstream is the upstream that a watch's source is of if it names none.
const defaultUpstream = "cloudflare"

// environment is the environment variables by name.
type environment map[string]string

func environmentOf(pairs []string) environment {
	env := environment{}
	for _, pair := range pairs {
		name, value, _ := strings.Cut(pair, "=")
		env[name] = value
	}
	return env
}

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
	retention        time.Duration // 0 keeps all

	usesSources   bool // of the settings, those of sources were read
	sourcePaths   []string
	upstreamURLs  map[string]string // by upstream
	cloudflareURL string            // "" for its definition's
	sources       *source.Set       // what they define; loadSources makes it

	pollMin, pollMax  time.Duration
	pollLag           float64
	pollBudget        storage.Budget
	egressBudget      storage.Budget
	unobservableAfter time.Duration

	retrySchedule   deliver.RetrySchedule
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

	url    string
	apiKey string
}

// pollIntervals is how long operations wait between polls where budgets afford it.
func (c *config) pollIntervals() storage.Intervals {
	return storage.Intervals{Lag: c.pollLag, Min: c.pollMin, Max: c.pollMax}
}

// addSettings gives a command the flags of the settings that it uses.
func addSettings(c *cobra.Command, used func(*config) []setting) {
	for _, s := range used(new(config)) {
		c.Flags().String(s.flag(), s.value, s.usage+" ["+s.name+"]")
	}
}

// load reads the settings that a command uses, and warns of variables whose names
// resemble a setting's. The error names every fault.
func load(c *cobra.Command, env environment, used func(*config) []setting) (config, error) {
	var cfg config
	var faults []error
	for _, s := range used(&cfg) {
		value, from := s.value, s.name
		if given := env[s.name]; given != "" { // Compose passes variables on that have no value
			value = given
		}
		if f := c.Flags().Lookup(s.flag()); f.Changed {
			value, from = f.Value.String(), "--"+s.flag()
		}
		err := s.parse(value)
		switch {
		case err != nil && (s.secret || strings.ContainsAny(value, "@?#")): // a URL that may hold a password
			faults = append(faults, fmt.Errorf("%s: %w", from, err))
		case err != nil:
			faults = append(faults, fmt.Errorf("%s=%q: %w", from, value, err))
		}
	}
	faults = append(faults, cfg.conflicts()...)
	if cfg.usesSources {
		faults = append(faults, cfg.loadSources())
	}
	warnOfMisspelt(env, newLogger(cfg, c.ErrOrStderr()))
	if err := errors.Join(faults...); err != nil {
		return cfg, fmt.Errorf("the configuration is wrong:\n%w", err)
	}
	return cfg, nil
}

// budgets is nil where nobody polls.
func (c *config) budgets() storage.Budgets {
	if c.sources == nil {
		return nil
	}
	return func(upstream string) storage.Budget {
		u := c.sources.Upstream(upstream)
		if u == nil {
			return storage.Budget{}
		}
		return cmp.Or(c.pollBudget, storage.Budget(u.Budget))
	}
}

// loadSources reads the definitions that the settings name, beside the built-in ones.
func (c *config) loadSources() (err error) {
	bases := maps.Clone(c.upstreamURLs)
	if bases == nil {
		bases = map[string]string{}
	}
	if c.cloudflareURL != "" {
		if other := bases[defaultUpstream]; other != "" && other != c.cloudflareURL {
			return errors.New("RELAY_CLOUDFLARE_URL and RELAY_UPSTREAM_URLS give cloudflare two bases: leave one out")
		}
		bases[defaultUpstream] = c.cloudflareURL
	}
	if c.sources, err = source.Load(c.sourcePaths, bases); err != nil {
		return fmt.Errorf("RELAY_SOURCES and RELAY_UPSTREAM_URLS:\n%w", err)
	}
	return nil
}

// conflicts are faults of settings that are right one by one.
func (c *config) conflicts() (faults []error) {
	if c.pollMax > 0 && c.pollMax < c.pollMin {
		faults = append(faults, fmt.Errorf("RELAY_POLL_MAX (%s) is shorter than RELAY_POLL_MIN (%s)", c.pollMax, c.pollMin))
	}
	if c.metricsListen != "" && c.metricsListen == c.listen && !strings.HasSuffix(c.listen, ":0") {
		faults = append(faults, fmt.Errorf(
			"RELAY_METRICS_LISTEN and RELAY_LISTEN are both %s: leave the former out to have /metrics there", c.listen))
	}
	if isPostgres(c.databaseURL) && c.encryptionKeys == "" {
		faults = append(faults, errors.New("RELAY_ENCRYPTION_KEYS is required with PostgreSQL: every process needs the same keys. "+
			"Make one with: echo \"k1:$(openssl rand -base64 32)\""))
	}
	return faults
}

func isPostgres(databaseURL string) bool {
	return strings.HasPrefix(databaseURL, "postgres://") || strings.HasPrefix(databaseURL, "postgresql://")
}

// parseDuration reads a duration as time.ParseDuration does, or whole days.
func parseDuration(v string) (time.Duration, error) {
	d, err := time.ParseDuration(v)
	if days, whole := strings.CutSuffix(v, "d"); whole {
		var n uint64
		n, err = strconv.ParseUint(days, 10, 16)
		d = time.Duration(n) * 24 * time.Hour
	}
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("%q is not a duration above zero such as 500ms, 15s, 24h or 90d", v)
	}
	return d, nil
}

func duration(into *time.Duration) parser {
	return func(v string) (err error) {
		*into, err = parseDuration(v)
		return err
	}
}

// retention reads how long to keep what has ended: 0 for none, which keeps all.
func retention(into *time.Duration) parser {
	return func(v string) (err error) {
		if v == "none" {
			*into = 0
			return nil
		}
		if *into, err = parseDuration(v); err == nil && *into < minRetention {
			err = fmt.Errorf("want %s at least, or none to keep all", minRetention)
		}
		return err
	}
}

// share reads a number from 0 to 1.
func share(into *float64, example string) parser {
	return func(v string) (err error) {
		*into, err = strconv.ParseFloat(v, 64)
		if err != nil || *into < 0 || *into > 1 || math.IsNaN(*into) {
			return errors.New("want a number from 0 to 1, such as " + example)
		}
		return nil
	}
}

func address(into *string) parser {
	return func(v string) error {
		*into = v
		_, port, err := net.SplitHostPort(v)
		if n, e := strconv.Atoi(port); err != nil || e != nil || n < 0 || n > 65535 {
			return errors.New("want host:port, such as 127.0.0.1:8080 or :8080")
		}
		return nil
	}
}

func baseURL(into *string) parser {
	return func(v string) error {
		*into = v
		u, err := url.Parse(v)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			return errors.New("want an http or https URL without user, query or fragment")
		}
		return nil
	}
}

// list takes a comma list apart, blanks left out.
func list(v string) (parts []string) {
	for part := range strings.SplitSeq(v, ",") {
		if part = strings.TrimSpace(part); part != "" {
			parts = append(parts, part)
		}
	}
	return parts
}

// upstreamURLs reads a comma list of UPSTREAM=URL.
func upstreamURLs(into *map[string]string) parser {
	return func(v string) error {
		var faults []error
		*into = map[string]string{}
		for _, pair := range list(v) {
			name, base, ok := strings.Cut(pair, "=")
			var checked string
			switch err := baseURL(&checked)(base); {
			case !ok || name == "":
				faults = append(faults, errors.New("want UPSTREAM=URL,UPSTREAM=URL"))
			case err != nil:
				faults = append(faults, fmt.Errorf("%s: %w", name, err))
			case (*into)[name] != "":
				faults = append(faults, fmt.Errorf("%s is there twice", name))
			default:
				(*into)[name] = checked
			}
		}
		return errors.Join(faults...)
	}
}

func optional(parse parser) parser {
	return func(v string) error {
		if v == "" {
			return nil
		}
		return parse(v)
	}
}

func budget(into *storage.Budget) parser {
	return func(v string) error {
		n, per, ok := countPerTime(v)
		if !ok {
			return errors.New("want COUNT/TIME, such as 120/5m")
		}
		if per < time.Second { // a request is to be sent within a tenth of it
			return errors.New("want a time of at least 1s, such as 120/5m")
		}
		*into = storage.Budget{N: n, Per: per}
		return nil
	}
}

// apiLimit reads a limit in whole seconds, as the API's headers tell it, or none.
func apiLimit(into *ratelimit.Rate) parser {
	return func(v string) error {
		if v == "none" {
			return nil
		}
		n, per, ok := countPerTime(v)
		if !ok || per%time.Second != 0 {
			return errors.New("want COUNT/TIME in whole seconds, such as 120/1m, or none")
		}
		*into = ratelimit.Rate{N: n, Per: per}
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
func networks(into *[]netip.Prefix) parser {
	return func(v string) error {
		var faults []error
		for part := range strings.SplitSeq(v, ",") {
			if part = strings.TrimSpace(part); part == "" {
				continue
			}
			prefix, err := netip.ParsePrefix(part)
			if err != nil {
				faults = append(faults, fmt.Errorf("%q is not a network such as 10.1.0.0/16", part))
			}
			*into = append(*into, prefix)
		}
		return errors.Join(faults...)
	}
}

// parseHeaders reads headers as OpenTelemetry's own variables have them. Its error
// names them, but none of their values.
func parseHeaders(list string) (map[string]string, error) {
	headers := map[string]string{}
	if list == "" {
		return headers, nil
	}
	var faults []error
	for pair := range strings.SplitSeq(list, ",") {
		name, encoded, ok := strings.Cut(strings.TrimSpace(pair), "=")
		value, err := url.PathUnescape(encoded)
		if !ok || err != nil {
			return nil, errors.New("want NAME=VALUE,NAME=VALUE, each value percent-encoded")
		}
		headers[name] = value
	}
	for _, fault := range notifier.CheckHeaders(headers) {
		faults = append(faults, fmt.Errorf("the header %q %s", fault.Name, fault.Detail))
	}
	return headers, errors.Join(faults...)
}

// maxEdits is how many letters of a setting's name may be wrong. The names that
// orchestrators set (RELAY_PORT beside a service named relay) are farther off.
const maxEdits = 2

// warnOfMisspelt warns of variables that are no settings but are named almost like one.
func warnOfMisspelt(env environment, log *slog.Logger) {
	for _, name := range slices.Sorted(maps.Keys(env)) {
		if meant := meantSetting(name); meant != "" {
			log.Warn("a variable is ignored, for it is no setting: did you mean "+meant+"?", "variable", name)
		}
	}
}

// meantSetting is the setting that a misspelt name is nearest to; "" if the name is
// right, or near to none.
func meantSetting(name string) (meant string) {
	if !strings.HasPrefix(strings.ToUpper(name), "RELAY_") {
		return ""
	}
	least := maxEdits + 1
	for _, s := range settings(new(config)) {
		if s.name == name {
			return ""
		}
		if n := edits(strings.ToUpper(name), s.name); n < least {
			least, meant = n, s.name
		}
	}
	return meant
}

// edits is the Levenshtein distance of two names.
func edits(a, b string) int {
	row := make([]int, len(b)+1) // row[j] is the distance of what was read of a from b[:j]
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(diagonal+cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
