package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// scraped are a process's metrics: the value of each series, by its name and labels
// as they are shown.
type scraped map[string]float64

// scrape asks a process for its metrics, as Prometheus does.
func scrape(t *testing.T, r *relay) (s scraped, text string) {
	t.Helper()
	request, err := http.NewRequestWithContext(deadline(t, startLimit), http.MethodGet, "http://"+r.metricsAddress(t)+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s, %v\n%s", response.Status, err, body)
	}
	s = scraped{}
	for line := range strings.Lines(string(body)) {
		end := strings.LastIndexByte(line, ' ')
		if strings.HasPrefix(line, "#") || end < 0 {
			continue
		}
		if s[line[:end]], err = strconv.ParseFloat(strings.TrimSpace(line[end:]), 64); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
	}
	return s, string(body)
}

// metricsAddress is where the process shows its metrics.
func (r *relay) metricsAddress(t *testing.T) string {
	t.Helper()
	line, ok := r.Stderr.Find(`"msg":"metrics and health"`)
	if !ok {
		return r.address
	}
	var up struct{ Listen string }
	if err := json.Unmarshal([]byte(line), &up); err != nil {
		t.Fatal(err)
	}
	return up.Listen
}

// names are the relay's own series, sorted.
func (s scraped) names() (names []string) {
	for _, name := range slices.Sorted(maps.Keys(s)) {
		if strings.HasPrefix(name, "relay_") {
			names = append(names, name)
		}
	}
	return names
}

// sum adds up the series of a name.
func (s scraped) sum(name string) (sum float64) {
	for series, value := range s {
		if of, _, _ := strings.Cut(series, "{"); of == name {
			sum += value
		}
	}
	return sum
}

// lacks are those of the wanted series that have another value or are not there.
func (s scraped) lacks(wanted map[string]float64) (missing []string) {
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		if value, ok := s[name]; !ok || value != wanted[name] {
			missing = append(missing, fmt.Sprint(name, " ", value))
		}
	}
	return missing
}
