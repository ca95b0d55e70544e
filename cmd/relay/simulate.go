package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"oprelay/jobs/cloudflare/simulator"
	anysource "oprelay/jobs/source/simulator"
)

func newSimulate(env environment) *cobra.Command {
	var listen, misbehave, name string
	var plan simulator.Plan
	var cfg simulator.Config
	var known bool
	var rate float64
	c := &cobra.Command{
		Use: "simulate", Args: cobra.NoArgs,
		Short: "Stand in for the Cloudflare status endpoint, or any source",
		Long: `Stands in for Cloudflare's endpoint that tells the status of a Lists bulk
operation. Every operation id is known from the moment it is first asked about:
pending, then running, then completed or failed. Point the relay at it with
RELAY_CLOUDFLARE_URL. GET / on its address tells how to add single operations.

Misbehaviours: ` + strings.Join(simulator.Misbehaviours(), ", ") + `

With --source NAME it stands in for that source, in the shapes of the examples of its
definition. Of the flags it takes --listen, --pending-for, --running-for, --end,
--fail-rate, --accept-token, --misbehave, --rate and --seed.

Misbehaviours of any source: ` + strings.Join(anysource.Misbehaviours(), ", "),
		Example: "  relay simulate --running-for 20s --fail-rate 0.2\n" +
			"  relay simulate --misbehave html --rate 0.3\n" +
			"  relay simulate --source github.run",
		RunE: func(c *cobra.Command, _ []string) error {
			if name != "" {
				return simulateSource(c, env, name, listen, anysource.Config{
					PendingFor: plan.PendingFor, RunningFor: plan.RunningFor, End: string(plan.End), FailRate: cfg.FailRate,
					AcceptedTokens: cfg.AcceptedTokens, Misbehave: misbehave, Rate: rate, Seed: cfg.Seed,
				})
			}
			if known {
				cfg.Default = &plan
			}
			s, err := newSimulator(cfg, misbehave, rate)
			if err := errors.Join(err, address(&listen)(listen)); err != nil {
				return err
			}
			return failed(serveSimulator(c, listen, s, "RELAY_CLOUDFLARE_URL=http://%s/client/v4"))
		},
	}
	c.Flags().StringVar(&name, "source", "", "stand in for this source instead")
	c.Flags().StringVar(&listen, "listen", "127.0.0.1:8787", "address to listen on")
	c.Flags().DurationVar(&plan.PendingFor, "pending-for", time.Second, "how long an operation is pending")
	c.Flags().DurationVar(&plan.RunningFor, "running-for", 10*time.Second, "how long it then is running")
	c.Flags().StringVar((*string)(&plan.End), "end", string(simulator.EndCompleted), "how it ends: completed, failed or never")
	c.Flags().StringVar(&plan.Error, "error", "", "the message of a failed operation")
	c.Flags().Float64Var(&cfg.FailRate, "fail-rate", 0, "share of operations that fail, the same ids every time")
	c.Flags().BoolVar(&known, "known", true, "know every operation; with --known=false one that was not added is answered 404")
	c.Flags().StringSliceVar(&cfg.AcceptedTokens, "accept-token", nil, "accept this API token or key only (may be repeated)")
	c.Flags().StringVar(&misbehave, "misbehave", "", "answer wrongly, in this way")
	c.Flags().Float64Var(&rate, "rate", 1, "share of the answers that are wrong")
	c.Flags().IntVar(&cfg.Limit.Requests, "limit", 0,
		"requests within --limit-window before a credential is locked out (0 is Cloudflare's 1200, negative none)")
	c.Flags().DurationVar(&cfg.Limit.Window, "limit-window", 0, "see --limit (0 is Cloudflare's 5m)")
	c.Flags().DurationVar(&cfg.Limit.Block, "limit-block", 0, "how long a lock-out lasts (0 is Cloudflare's 5m)")
	c.Flags().Uint64Var(&cfg.Seed, "seed", 1, "makes random misbehaviour repeatable")
	addSettings(c, definitionSettings)
	ways := slices.Concat(simulator.Misbehaviours(), anysource.Misbehaviours())
	_ = c.RegisterFlagCompletionFunc("misbehave", cobra.FixedCompletions(ways, cobra.ShellCompDirectiveNoFileComp))
	return c
}

// newSimulator makes a simulator with one fault, or says all that is wrong.
func newSimulator(cfg simulator.Config, misbehave string, rate float64) (*simulator.Simulator, error) {
	s, err := simulator.New(cfg)
	if misbehave == "" {
		return s, err
	}
	fault := simulator.Fault{Rate: rate, Misbehaviour: simulator.Misbehaviour{Name: misbehave}}
	if err != nil { // a simulator that takes faults, to learn what is wrong with this one
		plain, plainErr := simulator.New(simulator.Config{})
		return nil, errors.Join(err, plainErr, plain.AddFault(fault))
	}
	return s, s.AddFault(fault)
}

// definitionSettings say which definitions there are.
func definitionSettings(c *config) []setting { return sourceSettings(c)[:1] }

// simulateSource stands in for a source that is defined.
func simulateSource(c *cobra.Command, env environment, name, listen string, of anysource.Config) error {
	cfg, err := load(c, env, definitionSettings)
	if err != nil {
		return err
	}
	if of.Source, err = sourceNamed(cfg.sources, name); err != nil {
		return err
	}
	s, err := anysource.New(of)
	if err := errors.Join(err, address(&listen)(listen)); err != nil {
		return err
	}
	return failed(serveSimulator(c, listen, s, "RELAY_UPSTREAM_URLS="+of.Source.Upstream.Name+"=http://%s"))
}

// serveSimulator says how to point the relay at the stand-in: by a setting with its address.
func serveSimulator(c *cobra.Command, listen string, s http.Handler, setting string) error {
	listener, err := new(net.ListenConfig).Listen(c.Context(), "tcp", listen)
	if err != nil {
		return err
	}
	at := listener.Addr().String()
	fmt.Fprintf(c.ErrOrStderr(), "simulating on http://%s\n  %s relay serve\n", at, strings.Replace(setting, "%s", at, 1))
	server := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		<-c.Context().Done()
		_ = server.Close()
	}()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
