package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"
)

// stopMargin is what a stop may take beyond the longest attempt under way, before
// what is in flight is cut off and left to be found again.
const stopMargin = 5 * time.Second

// usualStop is how long the files in deploy/ have a stop take before it is a kill.
const usualStop = 45 * time.Second

// roles are the parts of the relay that a process runs.
type roles struct{ api, worker bool }

func newServe(env environment) *cobra.Command {
	return newRole(env, roles{api: true, worker: true}, &cobra.Command{
		Use: "serve", Short: "Run API and workers in one process, with nothing to install",
		Long: `Runs the API and the workers in one process. With no settings at all it keeps its
data in ./relay.db (SQLite) and an embedded Redis; a kill at any moment and a
restart lose nothing. On its first start it makes a tenant "default" and an admin
key, which it prints once, on stderr.

On SIGTERM, SIGINT or SIGHUP it takes no new work and stops when what is in flight
has finished, at the latest after RELAY_DELIVERY_TIMEOUT plus 5 s.`,
		Example: "  relay serve\n  relay serve --database-url postgres://... --redis-url redis://...",
	})
}

func newAPI(env environment) *cobra.Command {
	return newRole(env, roles{api: true}, &cobra.Command{
		Use: "api", Short: "Run the API alone, on PostgreSQL and Redis",
		Long: "Runs the API alone; any number of them share one PostgreSQL and one Redis with any\n" +
			"number of relay worker. It refuses to start while migrations are pending: run\n" +
			"relay migrate up first.",
	})
}

func newWorker(env environment) *cobra.Command {
	return newRole(env, roles{worker: true}, &cobra.Command{
		Use: "worker", Short: "Run the workers alone, on PostgreSQL and Redis",
		Long: `Polls and delivers; any number of workers share one PostgreSQL and one Redis. It
refuses to start while migrations are pending: run relay migrate up first. With
RELAY_METRICS_LISTEN it answers /healthz, /readyz and /metrics there.

On SIGTERM, SIGINT or SIGHUP it takes no new work and stops when what is in flight
has finished, at the latest after RELAY_DELIVERY_TIMEOUT plus 5 s; another worker takes over the rest.`,
	})
}

func newRole(env environment, r roles, c *cobra.Command) *cobra.Command {
	c.Args = cobra.NoArgs
	addSettings(c, r.settings)
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg, err := load(c, env, r.settings)
		if err != nil {
			return err
		}
		log := newLogger(cfg, c.ErrOrStderr())
		p, err := start(c.Context(), cfg, r, log, c.ErrOrStderr())
		if err != nil {
			return failed(err)
		}
		select {
		case <-c.Context().Done():
			log.Info("stopping: no new work; what is in flight may finish", "within", p.grace())
		case err = <-p.broken:
		}
		stopCtx, cancel := context.WithTimeout(context.WithoutCancel(c.Context()), p.grace())
		defer cancel()
		err = errors.Join(err, p.stop(stopCtx))
		log.Info("stopped")
		return failed(err)
	}
	return c
}

// settings are those that the roles use. The API needs the settings of the deliveries
// for the addresses that destinations may have, and of the polls to show budgets.
func (r roles) settings(c *config) []setting {
	used := serverSettings(c)
	if r.api {
		used = append(used, limitSettings(c)...)
	}
	used = append(used, r.storeSettings(c)...)
	if r.worker {
		used = append(used, retentionSettings(c)...)
	}
	return slices.Concat(used, deliverySettings(c), sourceSettings(c), pollSettings(c), logSettings(c),
		insightSettings(c))
}

// storeSettings leave out SQLite and the embedded Redis for api and worker: only one
// process can use them.
func (r roles) storeSettings(c *config) []setting {
	used := storeSettings(c)
	if r.api && r.worker {
		return used
	}
	for i := range used {
		switch s := &used[i]; s.name {
		case "RELAY_DATABASE_URL":
			s.value, s.usage = "", "postgres://user:password@host/database"
			s.parse = shared(s.parse, isPostgres)
		case "RELAY_REDIS_URL":
			s.value, s.usage = "", "redis://, rediss://, redis-sentinel://h1:p,h2:p?master=NAME or redis-cluster://h1:p,h2:p"
			s.parse = shared(s.parse, func(v string) bool { return v != "" && v != embeddedRedis })
		}
	}
	return used
}

// shared refuses what is not for several processes.
func shared(parse parser, serves func(string) bool) parser {
	return func(v string) error {
		if !serves(v) {
			return errors.New("must name a server that all processes share; SQLite and the embedded Redis are for relay serve")
		}
		return parse(v)
	}
}

func (p *process) grace() time.Duration { return p.cfg.deliveryTimeout + stopMargin }

var errListenerFailed = errors.New("a listener failed")

func listenerFailed(address string, err error) error {
	return fmt.Errorf("%w: %s: %w", errListenerFailed, address, err)
}
