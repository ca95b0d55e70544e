package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"oprelay/jobs"
	"oprelay/storage"
)

const (
	// demoLimit is when the demo gives up waiting for what should have arrived.
	demoLimit = 30 * time.Second
	demoLook  = 150 * time.Millisecond
)

func newDemo() *cobra.Command {
	var keep bool
	c := &cobra.Command{
		Use: "demo", Args: cobra.NoArgs,
		Short: "Show the whole relay at work, with nothing to install and nothing to set",
		Long: `Runs the whole relay on a throwaway SQLite database and an embedded Redis, with
stand-ins for Cloudflare and for Slack and two receivers that verify every
signature with the Standard Webhooks library. It registers four watches, shows how
they go on, and prints what arrived.

Exit 0 only if every expected message arrived and verified. It takes about 15
seconds, leaves nothing behind, and sends nothing beyond this machine.`,
		RunE: func(c *cobra.Command, _ []string) error {
			return failed(runDemo(c.Context(), c.OutOrStdout(), c.ErrOrStderr(), keep))
		},
	}
	c.Flags().BoolVar(&keep, "keep", false, "leave it running afterwards, until interrupted")
	return c
}

// demoConfig is the relay's own configuration, quickened: an operation's end is
// looked for every fraction of a second and a failed delivery tried again within
// two.
func demoConfig(dir string, s *stage) config {
	return config{
		listen:      "127.0.0.1:0",
		databaseURL: "sqlite:" + filepath.Join(dir, "relay.db"),
		redisURL:    embeddedRedis,

		cloudflareURL: s.upstreamURL, slackURL: s.slackAPI,
		pollMin: 400 * time.Millisecond, pollMax: 2 * time.Second, pollLag: 0.1,
		pollBudget: storage.Budget{N: 120, Per: 5 * time.Minute}, egressBudget: storage.Budget{N: 180, Per: time.Second},
		unobservableAfter: 5 * time.Second,

		retrySchedule:   jobs.RetrySchedule{time.Second, 2 * time.Second, 3 * time.Second, 5 * time.Second},
		deliveryTimeout: 5 * time.Second, disableAfter: time.Hour,
		egressAllow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		logFormat:   "text",
	}
}

// runDemo is nil only if everything arrived and verified.
func runDemo(ctx context.Context, out, logs io.Writer, keep bool) (err error) {
	dir, err := os.MkdirTemp("", "relay-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	set, err := raiseStage(ctx)
	if err != nil {
		return err
	}
	defer set.close()
	cfg := demoConfig(dir, set)
	cfg.logLevel = demoLogLevel
	relay, err := start(ctx, cfg, roles{api: true, worker: true}, newLogger(cfg, logs), io.Discard)
	if err != nil {
		return err
	}
	defer func() {
		stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), relay.grace())
		defer cancel()
		err = errors.Join(err, relay.stop(stopCtx))
	}()
	p, err := rehearse(ctx, relay, set)
	if err != nil {
		return err
	}
	v := newView(out)
	v.opening(relay, set, p.scenes)
	if err := p.run(ctx, v); err != nil {
		return err
	}
	report := p.report()
	v.summary(report)
	if keep {
		v.kept(relay, p.key)
		<-ctx.Done()
	}
	if !report.good() {
		return fmt.Errorf("the demo failed: %d of %d checks did not hold", report.bad(), len(report.checks))
	}
	return nil
}
