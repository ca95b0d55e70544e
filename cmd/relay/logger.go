package main

import (
	"io"
	"log/slog"
)

// newLogger writes text for people on a terminal and JSON for machines, unless
// told otherwise.
func newLogger(cfg config, w io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: cfg.logLevel, ReplaceAttr: readableDurations}
	if cfg.logFormat == "text" || cfg.logFormat == "" && isTerminal(w) {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}

// readableDurations writes 1.5s in JSON too, where slog has nanoseconds.
func readableDurations(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(a.Value.Duration().String())
	}
	return a
}
