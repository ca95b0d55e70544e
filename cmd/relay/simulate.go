package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"oprelay/jobs/cloudflare/simulator"
)

func newSimulate() *cobra.Command {
	var listen, misbehave string
	var plan simulator.Plan
	var cfg simulator.Config
	var known bool
	var rate float64
	c := &cobra.Command{
		Use: "simulate", Args: cobra.NoArgs,
		Short: "Stand in for the Cloudflare status endpoint",
		Long: `Stands in for Cloudflare's endpoint that tells the status of a Lists bulk
operation. Every operation id is known from the moment it is first asked about:
pending, then running, then completed or failed. Point the relay at it with
RELAY_CLOUDFLARE_URL. GET / on its address tells how to add single operations.

Misbehaviours: ` + strings.Join(simulator.Misbehaviours(), ", "),
		Example: "  relay simulate --running-for 20s --fail-rate 0.2\n" +
			"  relay simulate --misbehave html --rate 0.3",
		RunE: func(c *cobra.Command, _ []string) error {
			if known {
				cfg.Default = &plan
			}
			s, err := newSimulator(cfg, misbehave, rate)
			if err := errors.Join(err, address(func(*config) *string { return &listen })(nil, listen)); err != nil {
				return err
			}
			return failed(serveSimulator(c, listen, s))
		},
	}
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
	_ = c.RegisterFlagCompletionFunc("misbehave", cobra.FixedCompletions(simulator.Misbehaviours(), cobra.ShellCompDirectiveNoFileComp))
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

func serveSimulator(c *cobra.Command, listen string, s *simulator.Simulator) error {
	listener, err := new(net.ListenConfig).Listen(c.Context(), "tcp", listen)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.ErrOrStderr(), "simulating on http://%[1]s\n  RELAY_CLOUDFLARE_URL=http://%[1]s/client/v4 relay serve\n", listener.Addr())
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
