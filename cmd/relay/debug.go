package main

import (
	"context"
	"net"
	"net/http"
	"net/http/pprof" // what it adds to the default mux nobody serves
)

// startDebug serves profiles, on a listener of their own. The command line, which
// pprof would show too, may hold secrets.
func (p *process) startDebug(ctx context.Context) error {
	if p.cfg.debugListen == "" {
		return nil
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", http.NotFound)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	address, err := p.listen(ctx, p.cfg.debugListen, mux, func() {})
	if err != nil {
		return err
	}
	p.log.Info("profiles", "listen", address)
	if host, _, err := net.SplitHostPort(address); err == nil && !net.ParseIP(host).IsLoopback() {
		p.log.Warn("whoever reaches RELAY_DEBUG_LISTEN can slow this process down and look into it: use a loopback address",
			"listen", address)
	}
	return nil
}
