package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	oteltrace "go.opentelemetry.io/otel/trace"
	"golang.org/x/time/rate"
)

const (
	// exportTimeout bounds one request to the collector, and flushTimeout what a
	// stop waits for the last spans.
	exportTimeout = 5 * time.Second
	flushTimeout  = 2 * time.Second
	// exportWarnEvery is the shortest time between two warnings that the collector fails.
	exportWarnEvery = time.Minute
	// attributeMost is how many characters of a value a span quotes.
	attributeMost = 1 << 10
)

// startTracing makes a tracer if there is a collector. Spans wait in a bounded queue of
// their own: when the collector is slow or away they are dropped, and work goes on.
func (p *process) startTracing(ctx context.Context, r roles) error {
	if p.cfg.tracesEndpoint == "" {
		return nil
	}
	exporter, err := otlptracehttp.New(ctx,
		otlptracehttp.WithEndpointURL(p.cfg.tracesEndpoint),
		otlptracehttp.WithHeaders(p.cfg.tracesHeaders),
		otlptracehttp.WithTimeout(exportTimeout),
		otlptracehttp.WithCompression(otlptracehttp.GzipCompression),
	)
	if err != nil {
		return fmt.Errorf("export traces: %w", err)
	}
	limits := sdktrace.NewSpanLimits()
	limits.AttributeValueLengthLimit = attributeMost
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(&spanExporter{
			SpanExporter: exporter, log: p.log, warnings: rate.Sometimes{Interval: exportWarnEvery},
		}),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(p.cfg.tracesSample))),
		sdktrace.WithRawSpanLimits(limits),
		sdktrace.WithResource(resource.NewWithAttributes(semconv.SchemaURL,
			semconv.ServiceName(r.serviceName()), semconv.ServiceVersion(version), semconv.ServiceInstanceID(rand.Text()))),
	)
	p.onStop(func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, flushTimeout)
		defer cancel()
		if err := provider.Shutdown(ctx); err != nil {
			p.log.Warn("the last spans are lost", "error", exportFailure(err))
		}
		return nil
	})
	p.tracer = provider.Tracer("oprelay", oteltrace.WithInstrumentationVersion(version))
	return nil
}

// serviceName is what the process is called where its traces are shown.
func (r roles) serviceName() string {
	switch {
	case !r.worker:
		return "relay-api"
	case !r.api:
		return "relay-worker"
	}
	return "relay"
}

// spanExporter logs failures itself, now and then. The SDK would hand each of them to
// one handler for the whole process.
type spanExporter struct {
	sdktrace.SpanExporter

	log      *slog.Logger
	warnings rate.Sometimes
}

// ExportSpans sends spans to the collector. What it does not take is lost.
func (e *spanExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	if err := e.SpanExporter.ExportSpans(ctx, spans); err != nil {
		e.warnings.Do(func() {
			e.log.Warn("the collector of traces takes no spans; they are lost, and nothing else is",
				"spans", len(spans), "error", exportFailure(err), "silent_for", exportWarnEvery)
		})
	}
	return nil
}

// exportFailure is the exporter's error without the collector's answer, which may
// quote the headers that it was sent.
func exportFailure(err error) string {
	text, _, _ := strings.Cut(err.Error(), "body: ")
	return strings.TrimRight(text, " (:")
}
