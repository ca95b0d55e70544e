package main

import (
	"log/slog"
	"math"
	"syscall"
	"time"

	"golang.org/x/time/rate"
)

const (
	// Below fewFiles a busy relay has to hold back much.
	fewFiles = 256
	// usualShare is the default of notifier, jobs and cloudflare.
	usualShare = 1024
	// freeingPause is the shortest time between two closings of idle connections.
	freeingPause = time.Second
)

// maxFiles is how many files this process may have open: Go has raised the soft limit to the
// hard one.
func maxFiles() uint64 {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return math.MaxUint64
	}
	return limit.Cur
}

// shareOf is how many files each of the three pools of idle connections may hold. Attempts
// may hold twice as many. The rest is for polls, the API, the database and Redis.
func shareOf(files uint64) int {
	return int(max(1, min(files/8, usualShare)))
}

func warnOfFewFiles(files uint64, log *slog.Logger) {
	if files < fewFiles {
		log.Warn("the relay may open few files, so it sends little at a time: raise its limit (LimitNOFILE, ulimit -Hn)",
			"limit", files, "wanted", fewFiles)
	}
}

// freeing calls all, at most once per freeingPause however often it is called.
func freeing(all ...func()) func() {
	sometimes := rate.Sometimes{Interval: freeingPause}
	return func() {
		sometimes.Do(func() {
			for _, free := range all {
				free()
			}
		})
	}
}
