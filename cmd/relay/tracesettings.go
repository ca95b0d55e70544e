package main

import (
	"errors"
	"fmt"
	"math"
	"net/url"
	"strconv"
	"strings"

	"oprelay/notifier"
)

// tracePath is where OTLP over HTTP takes traces.
const tracePath = "/v1/traces"

// insightSettings are for looking into a process.
func insightSettings() []setting {
	return []setting{
		{
			name: "RELAY_TRACES_ENDPOINT",
			usage: "URL of an OpenTelemetry collector that takes traces (OTLP over HTTP), such as http://127.0.0.1:4318; " +
				"without it there are none",
			parse: optional(func(c *config, v string) error {
				if err := baseURL(func(c *config) *string { return &c.tracesEndpoint })(c, v); err != nil {
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
			parse: func(c *config, v string) (err error) {
				c.tracesHeaders, err = parseHeaders(v)
				return err
			},
		},
		{
			name: "RELAY_TRACES_SAMPLE", value: "1",
			usage: "share of the requests without a traceparent that begin a trace, from 0 to 1; " +
				"with one, the caller has decided",
			parse: func(c *config, v string) (err error) {
				c.tracesSample, err = strconv.ParseFloat(v, 64)
				if err != nil || c.tracesSample < 0 || c.tracesSample > 1 || math.IsNaN(c.tracesSample) {
					return errors.New("want a number from 0 to 1, such as 0.05")
				}
				return nil
			},
		},
		{
			name: "RELAY_DEBUG_LISTEN",
			usage: "address for CPU, heap and goroutine profiles (/debug/pprof/), without a key: keep it on a loopback " +
				"address; without it there are none",
			parse: optional(address(func(c *config) *string { return &c.debugListen })),
		},
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
