package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"time"

	"oprelay/deploy/testenv"
)

// standInReady is what a stand-in prints once it serves.
const standInReady = "the stand-in is up"

// standIn is a stand-in in a process of its own, so that what it costs is told
// apart from what the relay costs.
type standIn struct {
	*testenv.Standalone
}

// startStandIn starts this program again, as one of its hidden commands.
func startStandIn(self string, args ...string) (*standIn, error) {
	server, err := testenv.StartService(testenv.Service{
		Args:  func(port string) []string { return append([]string{self, "stand-in", port}, args...) },
		Env:   func(string) []string { return []string{"PATH=" + os.Getenv("PATH")} },
		Ready: standInReady,
	})
	if err != nil {
		return nil, err
	}
	return &standIn{server}, nil
}

// ask calls the stand-in's own interface below /bench/. What it answers is decoded
// into answer unless that is nil.
func (s *standIn) ask(ctx context.Context, method, path string, answer any) error {
	request, err := http.NewRequestWithContext(ctx, method, s.URL+"/bench/"+path, nil)
	if err != nil {
		return err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s", method, path, response.Status)
	}
	if answer == nil {
		_, err = io.Copy(io.Discard, response.Body)
		return err
	}
	return json.NewDecoder(response.Body).Decode(answer)
}

// runStandIn is the hidden command: it serves on the port until it is killed.
func runStandIn(ctx context.Context, stdout io.Writer, args []string) error {
	if len(args) < 2 {
		return errors.New("usage: stand-in PORT upstream|receiver [SECRET]")
	}
	handler := newUpstream()
	if args[1] == "receiver" {
		var err error
		if handler, err = newReceiver(args[len(args)-1]); err != nil {
			return err
		}
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", args[0]))
	if err != nil {
		return err
	}
	fmt.Fprintln(stdout, standInReady)
	server := http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	return server.Serve(listener)
}

func writeJSON(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(value); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

// tally is a number that grows, and that others wait for. Its owner locks it.
type tally struct {
	n       int
	waiters []waiter
}

type waiter struct {
	n       int
	reached chan struct{}
}

// add counts one more.
func (t *tally) add() {
	t.n++
	if len(t.waiters) == 0 {
		return
	}
	t.waiters = slices.DeleteFunc(t.waiters, func(w waiter) bool {
		if t.n < w.n {
			return false
		}
		close(w.reached)
		return true
	})
}

// reach is closed once the tally has come to n.
func (t *tally) reach(n int) <-chan struct{} {
	w := waiter{n, make(chan struct{})}
	if t.n >= n {
		close(w.reached)
	} else {
		t.waiters = append(t.waiters, w)
	}
	return w.reached
}

// await waits for it, or for the end of ctx.
func await(ctx context.Context, reached <-chan struct{}) error {
	select {
	case <-reached:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
