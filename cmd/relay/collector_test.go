package main

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"slices"
	"sync"
	"testing"

	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// collector takes traces as OTLP over HTTP and keeps them. refusing makes it answer
// 500, and quote what it was sent.
type collector struct {
	t        *testing.T
	refusing bool

	mu    sync.Mutex
	asked int
	spans []collected
	kept  []byte // all that came, decompressed
	heads []http.Header
}

// collected is a span and the service that it came from.
type collected struct {
	*tracepb.Span

	service string
}

// ServeHTTP implements http.Handler.
func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	c.heads = append(c.heads, r.Header)
	sent, err := io.ReadAll(r.Body)
	if err != nil {
		return // whoever sent it was killed meanwhile
	}
	body, err := readGzip(bytes.NewReader(sent))
	var request coltracepb.ExportTraceServiceRequest
	if err == nil {
		err = proto.Unmarshal(body, &request)
	}
	if err != nil || r.Method != http.MethodPost || r.URL.Path != tracePath || r.Header.Get("Content-Type") != "application/x-protobuf" {
		c.t.Errorf("the collector got %s %s, %v: %v", r.Method, r.URL, r.Header, err)
	}
	if c.refusing {
		w.WriteHeader(http.StatusInternalServerError)
		_ = r.Header.Write(w)
		return
	}
	c.kept = append(c.kept, body...)
	for _, resource := range request.GetResourceSpans() {
		for _, scope := range resource.GetScopeSpans() {
			for _, span := range scope.GetSpans() {
				c.spans = append(c.spans, collected{span, text(resource.GetResource().GetAttributes(), "service.name")})
			}
		}
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

func readGzip(r io.Reader) ([]byte, error) {
	unzipped, err := gzip.NewReader(r)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(unzipped)
}

// named are the spans of that name so far.
func (c *collector) named(name string) []collected {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(c.spans), func(s collected) bool { return s.GetName() != name })
}

func (c *collector) requests() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked
}

// everything is all that came, headers too, but for the collector's own key.
func (c *collector) everything() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := bytes.NewBuffer(slices.Clone(c.kept))
	for _, head := range c.heads {
		_ = head.WriteSubset(all, map[string]bool{"X-Api-Key": true}) // a buffer takes everything
	}
	return all.Bytes()
}

// text is a text attribute, "" without it.
func text(attributes []*commonpb.KeyValue, key string) string {
	return value(attributes, key).GetStringValue()
}

func value(attributes []*commonpb.KeyValue, key string) *commonpb.AnyValue {
	for _, a := range attributes {
		if a.GetKey() == key {
			return a.GetValue()
		}
	}
	return nil
}
