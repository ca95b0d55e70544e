package chart_test

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"

	"oprelay/cmd/bench/chart"
)

// The chart is well-formed and says what it shows.
func TestSVG(t *testing.T) {
	t.Parallel()
	drawn, err := chart.SVG([]chart.Point{
		{Watches: 1000, RegistrationRate: 10, FirstPollRate: 9, RegistrationP99: 5, ListP99: 4, API: 30, Worker: 50, Redis: 2},
		{Watches: 1_000_000, RegistrationRate: 8, FirstPollRate: 7, RegistrationP99: 6, ListP99: 7, API: 100, Worker: 300, Redis: 20},
	})
	if err != nil {
		t.Fatal(err)
	}
	for decoder := xml.NewDecoder(strings.NewReader(string(drawn))); ; {
		if _, err := decoder.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	for _, text := range []string{"1,000", "1,000,000", "list page p99", "watches a second", "MiB, by pending watches"} {
		if !strings.Contains(string(drawn), text) {
			t.Errorf("it does not say %q", text)
		}
	}
}
