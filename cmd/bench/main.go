// Command bench measures the relay against what limits it: real processes, a load,
// an upstream and a receiver that verifies every signature, in processes of their
// own, and the bare queue and the bare network measured in the same run. It prints a
// table with the targets that it was built for, and writes it for machines as well.
//
//	bench [-only burst,latency] [-runs 3] [-watches 1000000]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// fullSize is how many operations a burst has, unless it is a small one.
const fullSize = 20_000

// options are those of the command line.
type options struct {
	only       []string
	runs       int
	within     time.Duration
	operations int
	watches    int
	ended      int
	program    string // the relay's; "" builds it
	folder     string
}

// row is something that is measured, by the name that -only takes.
type row struct {
	name, about string
	limit       time.Duration // of one run
	once        bool          // one run tells as much as three
	byName      bool          // it takes too long to be run unless -only names it
	run         func(context.Context, *bench) ([]sample, error)
}

func rows() []row {
	return []row{
		{name: "limits", about: "the bare queue, the bare network", limit: time.Minute, run: limits},
		{name: "burst", about: "operations that end together, PostgreSQL and Redis", limit: 2 * time.Minute, run: rowBurst},
		{name: "embedded", about: "the same on SQLite and the embedded Redis", limit: 2 * time.Minute, run: rowEmbedded},
		{name: "latency", about: "100 operations a second", limit: time.Minute, run: rowLatency},
		{name: "registration", about: "POST /v1/watches, single and in batches", limit: time.Minute, run: rowRegistration},
		{name: "polls", about: "budgets lifted", limit: time.Minute, run: rowPolls},
		{name: "neighbour", about: "a healthy destination beside a burst to others", limit: 2 * time.Minute, run: rowNeighbour},
		{name: "idle", about: "relay serve with nothing to do", limit: time.Minute, run: rowIdle},
		{name: "workers", about: "the burst with one, two and four workers", limit: 4 * time.Minute, run: rowWorkers},
		{name: "million", about: "pending watches by powers of ten", limit: time.Hour, once: true, run: rowMillion},
		{name: "history", about: "beside many that have ended", limit: time.Hour, once: true, byName: true, run: rowHistory},
		{name: "history-embedded", about: "the same, embedded", limit: time.Hour, once: true, byName: true, run: rowHistoryEmbedded},
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run is the program; its first argument may be a hidden command, in whose process
// a part of it runs.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) > 0 {
		switch args[0] {
		case "stand-in":
			return runStandIn(ctx, stdout, args[1:])
		case "limit":
			return runLimit(ctx, stdout, args[1:])
		}
	}
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	b, err := newBench(ctx, o, stderr)
	if err != nil {
		return err
	}
	rec, err := b.measure(ctx, rows())
	return errors.Join(b.report(ctx, stdout, rec), err, b.close())
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	var only string
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&only, "only", "", "comma list of rows: "+strings.Join(names(), ", "))
	flags.IntVar(&o.runs, "runs", 3, "how often each row is measured")
	flags.DurationVar(&o.within, "within", 9*time.Minute, "after so long no row is begun any more")
	flags.IntVar(&o.operations, "operations", fullSize, "size of a burst, which shorter and longer rows follow")
	flags.IntVar(&o.watches, "watches", 100_000, "how far the row million goes")
	flags.IntVar(&o.ended, "ended", 3_000_000, "how many watches have ended in the row history; a third of them in history-embedded")
	flags.StringVar(&o.program, "relay", "", "the relay's program; it is built if none is given")
	flags.StringVar(&o.folder, "folder", ".bin/bench", "where results and logs go")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	for _, r := range rows() {
		if !r.byName {
			o.only = append(o.only, r.name)
		}
	}
	if only != "" {
		o.only = strings.Split(only, ",")
	}
	for _, name := range o.only {
		if !slices.Contains(names(), name) {
			return o, fmt.Errorf("there is no row %q: -only takes %s", name, strings.Join(names(), ", "))
		}
	}
	if o.runs < 1 || o.operations < 1 || o.watches < 1 || o.ended < 1 || flags.NArg() > 0 {
		return o, errors.New("want positive numbers, and no arguments but flags: see -help")
	}
	return o, nil
}

func names() []string {
	var all []string
	for _, r := range rows() {
		all = append(all, r.name)
	}
	return all
}

// overtime is how long rows may still go on that were begun in time.
const overtime = 45 * time.Second

// measure runs the rows that were asked for, one after the other, and then all of
// them again, as long as there is time: a row is not run again that would not be done
// in time, and none takes more than is left, unless it is the only one. A row that
// fails, for which nothing counts that it measured, does not keep the others from it.
func (b *bench) measure(ctx context.Context, rows []row) (rec *record, err error) {
	rec = &record{}
	var faults []error
	end := b.begun.Add(b.within)
	took := map[string]time.Duration{}
	for round := range b.runs {
		b.round = map[string]float64{}
		for _, r := range rows {
			if !slices.Contains(b.only, r.name) || ctx.Err() != nil || r.once && round > 0 {
				continue
			}
			o := rec.of(r.name)
			o.Asked++
			if len(b.only) > 1 || round > 0 {
				if !time.Now().Add(took[r.name]).Before(end) {
					continue
				}
				r.limit = min(r.limit, time.Until(end)+overtime)
			}
			b.sayf("run %d of %d: %s (%s)", round+1, b.runs, r.name, r.about)
			begun := time.Now()
			samples, err := b.one(ctx, r)
			took[r.name] = time.Since(begun)
			b.sayf("    %.1f s", took[r.name].Seconds())
			if err != nil {
				b.sayf("    FAILED: %v", err)
				faults = append(faults, fmt.Errorf("%s: %w", r.name, err))
				o.Failed = append(o.Failed, err.Error())
				continue
			}
			o.Runs++
			rec.measures = rec.measures.with(r.name, samples)
		}
	}
	return rec, errors.Join(append(faults, context.Cause(ctx))...)
}

// one runs a row within its limit.
func (b *bench) one(ctx context.Context, r row) ([]sample, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, r.limit, fmt.Errorf("not done within %s", r.limit.Round(time.Second)))
	defer cancel()
	samples, err := r.run(ctx, b)
	if err != nil {
		return nil, errors.Join(context.Cause(ctx), err)
	}
	return samples, nil
}

// scaled is a time that is shorter for smaller bursts.
func (b *bench) scaled(d time.Duration) time.Duration {
	return d * time.Duration(b.operations) / fullSize
}
