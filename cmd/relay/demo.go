package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"oprelay/jobs/cloudflare/simulator"
	"oprelay/jobs/deliver"
	"oprelay/jobs/source"
	anysource "oprelay/jobs/source/simulator"
	"oprelay/notifier/slacktest"
	"oprelay/notifier/webhooktest"
	"oprelay/storage"
)

const (
	// demoLimit is when the demo gives up waiting for what should have arrived.
	demoLimit    = time.Minute
	demoInterval = 150 * time.Millisecond

	upstreamPath = "/client/v4"      // the simulator's
	githubPath   = "/github"         // that of GitHub's stand-in
	demoToken    = "xoxb-demo-token" //nolint:gosec // of the stand-in
)

func newDemo() *cobra.Command {
	var keep bool
	c := &cobra.Command{
		Use: "demo", Args: cobra.NoArgs,
		Short: "Show the whole relay at work, with nothing to install or set",
		Long: `Runs the whole relay on a throwaway SQLite database and an embedded Redis, with
stand-ins for Cloudflare, GitHub and Slack and two receivers that verify every
signature with the Standard Webhooks library. It registers five watches, shows how
they go on, and prints what arrived.

Exit 0 only if every expected message arrived and verified. It takes about 10
seconds, leaves nothing behind, and sends nothing beyond this machine.`,
		RunE: func(c *cobra.Command, _ []string) error {
			return failed(runDemo(c.Context(), newDemoView(c.OutOrStdout(), c.ErrOrStderr()), keep))
		},
	}
	c.Flags().BoolVar(&keep, "keep", false, "leave it running afterwards, until interrupted, and print the console's address")
	return c
}

// runDemo is nil only if everything arrived and verified.
func runDemo(ctx context.Context, v *demoView, keep bool) (err error) {
	dir, err := os.MkdirTemp("", "relay-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	others, err := startStandIns(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, others.server.Close()) }()
	cfg := demoConfig(dir, others)
	if err := cfg.loadSources(); err != nil {
		return err
	}
	relay, err := start(ctx, cfg, roles{api: true, worker: true}, newLogger(cfg, v.logs), io.Discard)
	if err != nil {
		return err
	}
	defer func() {
		stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), relay.grace())
		defer cancel()
		err = errors.Join(err, relay.stop(stopCtx))
	}()
	d, err := setUpDemo(ctx, relay, others)
	if err != nil {
		return err
	}
	v.begin(d.opening)
	err = d.follow(ctx, v)
	v.end()
	if err != nil {
		return err
	}
	checks := d.checks()
	v.summary(checks)
	if keep {
		v.kept(d.invitation())
		<-ctx.Done()
	}
	if n := failures(checks); n > 0 {
		return fmt.Errorf("the demo failed: %d of %d checks did not hold", n, len(checks))
	}
	return nil
}

// demoConfig polls every fraction of a second and retries after a second.
func demoConfig(dir string, others *standIns) config {
	return config{
		listen:      "127.0.0.1:0",
		databaseURL: "sqlite:" + filepath.Join(dir, "relay.db"),
		redisURL:    embeddedRedis,

		cloudflareURL: others.url + upstreamPath, slackURL: others.url + slacktest.APIPath,
		upstreamURLs: map[string]string{"github": others.url + githubPath},
		pollMin:      400 * time.Millisecond, pollMax: 2 * time.Second, pollLag: 0.1,
		pollBudget: storage.Budget{N: 120, Per: 5 * time.Minute}, egressBudget: storage.Budget{N: 180, Per: time.Second},
		unobservableAfter: 5 * time.Second,

		retrySchedule:   deliver.RetrySchedule{time.Second, 2 * time.Second, 3 * time.Second, 5 * time.Second},
		deliveryTimeout: 5 * time.Second, disableAfter: time.Hour,
		egressAllow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		logFormat:   "text", logLevel: slog.LevelError,
	}
}

// standIns are what the relay has to do with, all on one HTTP server.
type standIns struct {
	url      string
	upstream *simulator.Simulator  // at upstreamPath
	github   *anysource.Simulator  // at githubPath; each run completes
	slack    *slacktest.Server     // at slacktest.APIPath
	steady   *webhooktest.Receiver // at /steady; accepts at once
	flaky    *webhooktest.Receiver // at /flaky; refuses each event twice
	server   *http.Server
}

// startStandIns serves them on a free loopback port until the server is closed.
func startStandIns(ctx context.Context) (*standIns, error) {
	upstream, err := simulator.New(simulator.Config{Default: &simulator.Plan{PendingFor: 2 * time.Second, RunningFor: 18 * time.Second}})
	if err != nil {
		return nil, err
	}
	definitions, err := source.Load(nil, nil)
	if err != nil {
		return nil, err
	}
	github, err := anysource.New(anysource.Config{
		Source: definitions.Source(demoRunSource), PendingFor: time.Second, RunningFor: 4 * time.Second,
	})
	if err != nil {
		return nil, err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	s := &standIns{
		url:      "http://" + listener.Addr().String(),
		upstream: upstream, github: github,
		slack:  slacktest.New(slacktest.Options{Token: demoToken}),
		steady: webhooktest.New(), flaky: webhooktest.New(),
		server: &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second},
	}
	s.flaky.Respond(webhooktest.FirstAttempts(2, webhooktest.Answer{Status: http.StatusServiceUnavailable}))
	mux.Handle(upstreamPath+"/", s.upstream)
	mux.Handle(githubPath+"/", s.github)
	mux.Handle(slacktest.APIPath, s.slack)
	mux.Handle("/steady", s.steady)
	mux.Handle("/flaky", s.flaky)
	go func() { _ = s.server.Serve(listener) }()
	return s, nil
}
