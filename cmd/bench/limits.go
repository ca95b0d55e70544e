package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"oprelay/cmd/bench/limit"
)

const (
	limitTasks = 20_000
	limitPosts = 60_000
	bodyBytes  = 500

	bareTaskPosts = "bare asynq task with a POST, drained"
	bareTaskGets  = "bare asynq task with a GET, drained"
	barePosts     = "bare POST"
	perSecond     = "/s"
)

// runLimit is the hidden command in whose process the limits are measured.
func runLimit(ctx context.Context, args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("usage: limit drain-posts|drain-gets|posts REDIS URL, not %q", args)
	}
	if args[0] == "posts" {
		return limit.Post(ctx, args[2], limitPosts, body(0))
	}
	return limit.Drain(ctx, args[1], args[2], args[0] == "drain-gets")
}

// body is about as long as an event's.
func body(i int) []byte {
	return fmt.Appendf(nil, `{"n":%d,"pad":"%s"}`, i, strings.Repeat("x", bodyBytes-len(`{"n":10000,"pad":""}`)))
}

// limits measures what the relay is compared with. Each is measured once a round,
// when it is first asked for.
func limits(ctx context.Context, b *bench) ([]sample, error) {
	var all []sample
	for _, name := range []string{bareTaskPosts, bareTaskGets, barePosts} {
		rate, err := b.limit(ctx, name)
		if err != nil {
			return nil, err
		}
		all = append(all, sample{Name: name, Unit: perSecond, Value: rate})
	}
	return all, nil
}

// limit is the rate of the name, measured in this round.
func (b *bench) limit(ctx context.Context, name string) (rate float64, err error) {
	if rate, ok := b.round[name]; ok {
		return rate, nil
	}
	if err := b.clear(ctx); err != nil {
		return 0, err
	}
	switch name {
	case bareTaskPosts:
		rate, err = b.drainPosts(ctx)
	case bareTaskGets:
		rate, err = b.drainGets(ctx)
	default:
		rate, err = b.posts(ctx)
	}
	b.say("    %s: %.0f/s", name, rate)
	b.round[name] = rate
	return rate, err
}

func (b *bench) drainPosts(ctx context.Context) (float64, error) {
	if err := limit.Enqueue(ctx, b.redis.URL, limitTasks, body); err != nil {
		return 0, err
	}
	stop, err := b.startLimit(ctx, "drain-posts", b.receiver.URL+"/plain")
	if err != nil {
		return 0, err
	}
	defer stop()
	return b.plainRate(ctx, limitTasks)
}

// plainRate waits for so many arrivals at /plain and is their rate from the first
// to the last.
func (b *bench) plainRate(ctx context.Context, n int) (float64, error) {
	if err := b.receiver.ask(ctx, "GET", "events/plain/"+strconv.Itoa(n), nil); err != nil {
		return 0, err
	}
	report, err := b.inbox(ctx, "plain")
	return rateOf(report.Events, time.Duration(report.Last-report.First)), err
}

// inbox is what has come to the receiver's path.
func (b *bench) inbox(ctx context.Context, name string) (report inboxReport, err error) {
	err = b.receiver.ask(ctx, "GET", "report/"+name, &report)
	return report, err
}

// rateOf is of n things, from the first to the last.
func rateOf(n int, between time.Duration) float64 { return ratio(float64(n-1), between.Seconds()) }

func (b *bench) drainGets(ctx context.Context) (float64, error) {
	path := func(i int) []byte { return []byte(hold(uint64(i)).String()) }
	if err := limit.Enqueue(ctx, b.redis.URL, limitTasks, path); err != nil {
		return 0, err
	}
	stop, err := b.startLimit(ctx, "drain-gets", b.upstream.URL+"/client/v4/accounts/"+account+"/rules/lists/bulk_operations/")
	if err != nil {
		return 0, err
	}
	defer stop()
	if err := b.upstream.ask(ctx, "GET", "asked/1", nil); err != nil {
		return 0, err
	}
	begun := time.Now()
	err = b.upstream.ask(ctx, "GET", "asked/"+strconv.Itoa(limitTasks), nil)
	return rateOf(limitTasks, time.Since(begun)), err
}

func (b *bench) posts(ctx context.Context) (float64, error) {
	stop, err := b.startLimit(ctx, "posts", b.receiver.URL+"/plain")
	if err != nil {
		return 0, err
	}
	defer stop()
	return b.plainRate(ctx, limitPosts)
}

// startLimit starts this program's hidden command in a process of its own.
func (b *bench) startLimit(ctx context.Context, kind, target string) (stop func(), err error) {
	command := exec.CommandContext(ctx, b.self, "limit", kind, b.redis.URL, target)
	command.Stderr = os.Stderr
	if err := command.Start(); err != nil {
		return nil, err
	}
	return func() {
		_ = command.Process.Kill()
		_ = command.Wait() // it was killed
	}, nil
}
