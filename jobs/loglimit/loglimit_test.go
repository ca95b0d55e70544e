package loglimit

import (
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"oprelay/deploy/testenv"
	"oprelay/storage"
)

func TestLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		written := testenv.NewOutput()
		ended := NewEnded(slog.New(slog.NewTextHandler(written, nil)))
		end := func(n int, status string) {
			ended.Ended(slices.Repeat([]storage.EndedWatch{{ID: "w", OperationID: "o", Status: status, Polls: 3, Took: time.Second}}, n))
		}
		logged := func(what string, single, counts int) {
			t.Helper()
			synctest.Wait()
			if got := strings.Count(written.String(), "a watch has ended"); got != single {
				t.Errorf("%s: %d lines, want %d", what, got, single)
			}
			if got := strings.Count(written.String(), "more watches have ended"); got != counts {
				t.Errorf("%s: %d lines with counts, want %d", what, got, counts)
			}
		}
		end(logsPerSecond, storage.WatchCompleted)
		logged("as many as a second has", logsPerSecond, 0)
		<-time.After(time.Second)
		end(logsPerSecond, storage.WatchCompleted)
		<-time.After(2 * countsEvery)
		logged("as many in another second", 2*logsPerSecond, 0)

		end(logsPerSecond+3000, storage.WatchCompleted)
		end(2, storage.WatchFailed)
		<-time.After(countsEvery / 2)
		end(logsPerSecond+1, storage.WatchFailed)
		logged("before the minute is over", 4*logsPerSecond, 0)
		<-time.After(countsEvery / 2)
		logged("after it", 4*logsPerSecond, 1)
		line, _ := written.Find("more watches have ended")
		if !strings.Contains(line, "count=3003 by_result=\"map[completed:3000 failed:3]\"") {
			t.Error(line)
		}
		<-time.After(2 * countsEvery)
		logged("when nothing was left out", 4*logsPerSecond, 1)

		end(logsPerSecond+1, storage.WatchCanceled)
		ended.Flush()
		logged("at the end", 5*logsPerSecond, 2)
		ended.Flush()
		<-time.After(2 * countsEvery)
		logged("told once", 5*logsPerSecond, 2)
	})
}
