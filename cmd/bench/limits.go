package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"oprelay/cmd/bench/limit"
	"oprelay/deploy/testenv"
)

const (
	// postsPerOperation makes the fastest of the limits last about as long as the
	// others.
	postsPerOperation = 3
	bodyBytes         = 500

	bareTaskPosts = "bare asynq task with a POST, drained"
	bareTaskGets  = "bare asynq task with a GET, drained"
	barePosts     = "bare POST"
	perSecond     = "/s"
)

// runLimit is the hidden command in whose process the limits are measured.
func runLimit(ctx context.Context, stdout io.Writer, args []string) error {
	if len(args) != 4 {
		return fmt.Errorf("usage: limit drain-posts|drain-gets|posts REDIS URL NUMBER, not %q", args)
	}
	fmt.Fprintln(stdout, standInReady)
	if args[0] != "posts" {
		return limit.Drain(ctx, args[1], args[2], args[0] == "drain-gets")
	}
	n, err := strconv.Atoi(args[3])
	if err != nil {
		return err
	}
	return limit.Post(ctx, args[2], n, body(0))
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
func (b *bench) limit(ctx context.Context, name string) (float64, error) {
	return b.onceARound(name, func() (float64, error) { return b.measureLimit(ctx, name) })
}

// onceARound is what was measured under the name in this round, or is now. What
// failed is not remembered: the next who asks measures anew.
func (b *bench) onceARound(name string, measure func() (float64, error)) (float64, error) {
	if rate, ok := b.round[name]; ok {
		return rate, nil
	}
	rate, err := measure()
	if err != nil {
		return 0, err
	}
	b.sayf("    %s: %.0f/s", name, rate)
	b.round[name] = rate
	return rate, nil
}

func (b *bench) measureLimit(ctx context.Context, name string) (float64, error) {
	if err := b.clear(ctx); err != nil {
		return 0, err
	}
	switch name {
	case bareTaskPosts:
		return b.drainPosts(ctx)
	case bareTaskGets:
		return b.drainGets(ctx)
	}
	return b.plainRate(ctx, "posts", postsPerOperation*b.operations)
}

func (b *bench) drainPosts(ctx context.Context) (float64, error) {
	if err := limit.Enqueue(ctx, b.redis.URL, b.operations, body); err != nil {
		return 0, err
	}
	return b.plainRate(ctx, "drain-posts", b.operations)
}

// plainRate is of so many arrivals at /plain, from the first to the last.
func (b *bench) plainRate(ctx context.Context, kind string, n int) (float64, error) {
	sender, err := b.startLimit(kind, b.receiver.URL+"/plain", n)
	if err != nil {
		return 0, err
	}
	err = b.receiver.ask(ctx, "GET", "events/plain/"+strconv.Itoa(n), nil)
	if err := errors.Join(err, sender.Close()); err != nil {
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
	rest := func(i int) []byte { return []byte(hold(uint64(i)).String()) }
	if err := limit.Enqueue(ctx, b.redis.URL, b.operations, rest); err != nil {
		return 0, err
	}
	path := b.upstream.URL + "/client/v4/accounts/" + account + "/rules/lists/bulk_operations/"
	sender, err := b.startLimit("drain-gets", path, b.operations)
	if err != nil {
		return 0, err
	}
	first, err := b.awaitAsked(ctx, b.operations)
	took := time.Since(first)
	return rateOf(b.operations, took), errors.Join(err, sender.Close())
}

// awaitAsked returns when the upstream was asked about so many operations, and says
// when it was asked first.
func (b *bench) awaitAsked(ctx context.Context, n int) (first time.Time, err error) {
	if err := b.upstream.ask(ctx, "GET", "asked/1", nil); err != nil {
		return first, err
	}
	first = time.Now()
	return first, b.upstream.ask(ctx, "GET", "asked/"+strconv.Itoa(n), nil)
}

// startLimit starts this program's hidden command in a process of its own.
func (b *bench) startLimit(kind, target string, n int) (*testenv.Standalone, error) {
	return testenv.StartService(testenv.Service{
		Args:  func(string) []string { return []string{b.self, "limit", kind, b.redis.URL, target, strconv.Itoa(n)} },
		Env:   func(string) []string { return []string{"PATH=" + os.Getenv("PATH")} },
		Ready: standInReady,
	})
}
