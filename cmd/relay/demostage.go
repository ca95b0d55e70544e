package main

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"time"

	"oprelay/jobs/cloudflare/simulator"
	"oprelay/notifier/slacktest"
	"oprelay/notifier/webhooktest"
)

// demoLogLevel keeps the relay's own log out of the demo's picture.
const demoLogLevel = slog.LevelError

const demoToken = "xoxb-demo-token" //nolint:gosec // of the stand-in

// stage is what stands around the relay in the demo: an upstream, Slack, and two
// receivers, each an HTTP server of its own.
type stage struct {
	upstream    *simulator.Simulator
	slack       *slacktest.Server
	steady      *webhooktest.Receiver // accepts at once
	flaky       *webhooktest.Receiver // refuses each event twice
	upstreamURL string
	slackAPI    string
	slackHook   string
	steadyURL   string
	flakyURL    string
	servers     []*http.Server
}

func raiseStage(ctx context.Context) (*stage, error) {
	upstream, err := simulator.New(simulator.Config{})
	if err != nil {
		return nil, err
	}
	s := &stage{
		upstream: upstream,
		slack:    slacktest.New(slacktest.Options{Token: demoToken}),
		steady:   webhooktest.New(), flaky: webhooktest.New(),
	}
	s.flaky.Respond(webhooktest.FirstAttempts(2, webhooktest.Answer{Status: http.StatusServiceUnavailable}))
	slackURL := ""
	for _, part := range []struct {
		url     *string
		handler http.Handler
	}{{&s.upstreamURL, s.upstream}, {&slackURL, s.slack}, {&s.steadyURL, s.steady}, {&s.flakyURL, s.flaky}} {
		if *part.url, err = s.serve(ctx, part.handler); err != nil {
			s.close()
			return nil, err
		}
	}
	s.upstreamURL += "/client/v4"
	s.slackAPI, s.slackHook = slackURL+slacktest.APIPath, slackURL+slacktest.WebhookPath
	return s, nil
}

// serve listens on a free loopback port until close.
func (s *stage) serve(ctx context.Context, handler http.Handler) (url string, err error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	s.servers = append(s.servers, server)
	go func() { _ = server.Serve(listener) }()
	return "http://" + listener.Addr().String(), nil
}

func (s *stage) close() {
	for _, server := range s.servers {
		_ = server.Close()
	}
}
