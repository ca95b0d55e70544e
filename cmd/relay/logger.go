package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"time"

	"oprelay/storage"
)

// newLogger writes text for people on a terminal and JSON for machines, unless
// told otherwise.
func newLogger(cfg config, w io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: cfg.logLevel, ReplaceAttr: durationsInMs}
	if logsText(cfg, w) {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}

func logsText(cfg config, w io.Writer) bool {
	return cfg.logFormat == "text" || cfg.logFormat == "" && isTerminal(w)
}

// printFirstKey prints a key that cannot be shown again, whatever the log's level: in
// words, or as a line of JSON where the log is JSON.
func printFirstKey(ctx context.Context, cfg config, w io.Writer, tenant, key string) error {
	if logsText(cfg, w) {
		_, err := fmt.Fprintf(w, "\nThe API key of tenant %q, scope admin. It is shown only now:\n\n    %s\n\n", tenant, key)
		return err
	}
	line := slog.NewRecord(time.Now(), slog.LevelInfo, "the first API key; it is shown only now", 0)
	line.Add("tenant", tenant, "scope", storage.ScopeAdmin, "key", key)
	return slog.NewJSONHandler(w, nil).Handle(ctx, line)
}

// durationsInMs writes every duration as a number with the unit in its key: programs
// that read logs can compare numbers, but not words such as "1m0.5s".
func durationsInMs(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		return slog.Float64(a.Key+"_ms", float64(a.Value.Duration().Microseconds())/1000)
	}
	return a
}
