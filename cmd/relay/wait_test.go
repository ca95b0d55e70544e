package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"oprelay/api/client"
	"oprelay/deploy/testenv"
	"oprelay/jobs/cloudflare/simulator"
)

// user is the environment of somebody who uses the relay.
func (s *system) user() environment {
	return environment{"RELAY_URL": "http://" + s.server.address, "RELAY_API_KEY": s.key, "TERM": "xterm"}
}

// lastLine is the last line of what was printed.
func lastLine(printed string) string {
	lines := strings.Split(strings.TrimSpace(printed), "\n")
	return lines[len(lines)-1]
}

// Both in a pipe and on a terminal, relay wait exits with how the watch ended, and says so in its last line. The
// watches have no destinations: they end with an event and without a delivery.
func TestWaitExitsWithHowTheWatchEnded(t *testing.T) {
	t.Parallel()
	s := startEmbedded(t, newSurroundings(t))
	ends := func(plan simulator.Plan) func(t *testing.T, operation, id string) {
		return func(t *testing.T, operation, _ string) {
			t.Helper()
			if err := s.upstream.Add(testAccount, operation, plan); err != nil {
				t.Error(err)
			}
		}
	}
	for _, c := range []struct {
		name   string
		end    func(t *testing.T, operation, id string) // when the state is told; nil: nobody ends it
		watch  []string                                 // flags of relay watch
		wait   []string                                 // flags of relay wait
		code   int
		result string // a regular expression
		says   string // beside the result
	}{
		{"completed", ends(simulator.Plan{}), nil, nil, 0, `completed after [\d.]+m?s`, "running"},
		{"failed", ends(simulator.Plan{End: simulator.EndFailed}), nil, nil, 1, `failed after [\d.]+m?s: This list is at the maximum number of items`, "running"},
		{"expired", nil, []string{"--timeout", "1m"}, nil, 3, `expired after 1m\d+s: the operation has not ended in time`, "To watch it again: relay watch"},
		{"unobservable", func(_ *testing.T, operation, _ string) {
			s.upstream.Remove(testAccount, operation)
		}, nil, nil, 4, `unobservable after [\d.]+m?s: .*404.*`, "The last poll told nothing"},
		{"canceled", func(t *testing.T, _, id string) {
			t.Helper()
			canceled, err := s.api.CancelWatchWithResponse(t.Context(), id)
			want(t, http.StatusOK, err, canceled)
		}, nil, nil, 5, `canceled after [\d.]+m?s`, "running"},
		{"timeout", nil, nil, []string{"--timeout", "2s"}, 6, `not ended yet, and the time is up`, "To wait longer: relay wait watch_"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			operation := s.add(simulator.Plan{End: simulator.EndNever})
			id := s.registered(t, append([]string{operation, "--account", testAccount, "--credential", s.credential(t, operation)}, c.watch...)...)
			piped := spawn(t, t.TempDir(), s.user(), append([]string{"wait", id, "--json"}, c.wait...)...)
			screen := newTerminal(t, 80, 24)
			shown := spawnOn(t, screen, s.user(), append([]string{"wait", id}, c.wait...)...)
			if c.end != nil {
				for _, seen := range []func() string{piped.Stderr.String, screen.text} {
					eventually(t, startLimit, "the state is told", func() bool { return strings.Contains(seen(), "running") })
				}
				c.end(t, operation, id)
			}
			for name, r := range map[string]*relay{"in a pipe": piped, "on a terminal": shown} {
				if code := r.Wait(startLimit + time.Minute); code != c.code {
					t.Errorf("%s: exit code %d, want %d", name, code, c.code)
				}
			}
			result := regexp.MustCompile(`^` + c.result + `  ` + regexp.QuoteMeta("http://"+s.server.address+"/watches/"+id) + `$`)
			said := piped.Stderr.String()
			mention(t, said, "Waiting for "+operation+" of cloudflare.lists\n", c.says)
			if last := lastLine(said); !result.MatchString(last) || strings.ContainsAny(said, "\x1b\r") {
				t.Errorf("in a pipe the last line is %q of\n%s", last, said)
			}
			seen := strings.ReplaceAll(screen.all(), "\r", "\n")
			if last := lastLine(seen); !result.MatchString(last) || screen.colors == 0 {
				t.Errorf("on a terminal the last line is %q of\n%s", last, seen)
			}
			if regexp.MustCompile(`(?m)^(registered|pending|running)  `).MatchString(screen.text()) {
				t.Errorf("the line that was rewritten is still there:\n%s", screen.text())
			}
			s.checkWaited(t, id, piped.Stdout.String(), c.code)
		})
	}
}

// registered calls relay watch, which prints the watch's id alone.
func (s *system) registered(t *testing.T, args ...string) (id string) {
	t.Helper()
	made := call(t.Context(), s.user(), append([]string{"watch"}, args...)...)
	if made.code != exitOK || !regexp.MustCompile(`^watch_[0-9a-z]{26}\n$`).MatchString(made.stdout) {
		t.Fatalf("relay watch: exit code %d, stdout %q\n%s", made.code, made.stdout, made.stderr)
	}
	id = strings.TrimSpace(made.stdout)
	mention(t, made.stderr, "http://"+s.server.address+"/watches/"+id, "relay wait "+id)
	return id
}

// checkWaited holds what was printed against the API: the watch when it has ended, nothing before.
func (s *system) checkWaited(t *testing.T, id, printed string, code int) {
	t.Helper()
	if code == exitTimeout {
		if printed != "" {
			t.Errorf("a watch that has not ended is printed: %s", printed)
		}
		return
	}
	var watch client.Watch
	if err := json.Unmarshal([]byte(printed), &watch); err != nil || pretty(watch) != pretty(s.look(t, id)) {
		t.Errorf("printed (%v):\n%s\nthe API has\n%s", err, printed, pretty(s.look(t, id)))
	}
	if (watch.EventID != nil) != (watch.Status != client.WatchStatusCanceled) || len(watch.DestinationIds) > 0 {
		t.Errorf("the watch is %s", pretty(watch))
	}
	if sent := s.deliveries(t, client.ListDeliveriesParams{WatchID: &id}); len(sent) > 0 {
		t.Errorf("%d deliveries to nobody", len(sent))
	}
}

// The API is killed and started again under wait and listen: both say once that it is away, and go on. listen
// prints what happened before, meanwhile and after, once each.
func TestClientsOutliveTheAPI(t *testing.T) {
	t.Parallel()
	s := startSeparate(t, newSurroundings(t), testenv.Redis(t), 1)
	proxy := testenv.StartProxy(t, "http://"+s.server.address)
	env := s.user().with("RELAY_URL", proxy.URL)
	credential := s.credential(t, "token")
	var operations []string
	register := func(n int) {
		for range n {
			operations = append(operations, s.add(simulator.Plan{End: simulator.EndNever}))
		}
	}
	complete := func(operation string) {
		if err := s.upstream.Add(testAccount, operation, simulator.Plan{}); err != nil {
			t.Fatal(err)
		}
	}
	register(5)
	var body client.NewWatches
	for _, operation := range operations {
		body.Watches = append(body.Watches, client.NewWatch{
			AccountID: new(testAccount), OperationID: operation, CredentialID: credential, DestinationIds: []string{},
		})
	}
	made, err := s.api.CreateWatchesWithResponse(t.Context(), nil, body)
	want(t, http.StatusCreated, err, made)
	last := made.JSON201.Data[len(operations)-1].ID

	screens := []*terminal{newTerminal(t, 80, 24), newTerminal(t, 80, 24)}
	waits := []*relay{spawn(t, t.TempDir(), env, "wait", last), spawnOn(t, screens[0], env, "wait", last)}
	listens := []*relay{spawn(t, t.TempDir(), env, "listen", "--json"), spawnOn(t, screens[1], env, "listen")}
	outputs := []func() string{waits[0].Stderr.String, screens[0].all, listens[0].Stderr.String, screens[1].all}
	all := func(what string, says ...string) {
		t.Helper()
		eventually(t, startLimit, what, func() bool {
			for i, output := range outputs {
				if !strings.Contains(output(), says[i/2]) {
					return false
				}
			}
			return true
		})
	}
	all("all are under way", "running", "ready: ")
	complete(operations[0])
	eventually(t, startLimit, "the first event is printed", func() bool { return strings.Count(listens[0].Stdout.String(), "\n") == 1 })

	proxy.Refuse()
	s.server.Kill()
	all("all miss the API", "does not answer", "lost")
	s.server = startRelay(t, s.folder, s.env, "api") // which they cannot reach yet
	s.api = s.server.client(s.key)
	complete(operations[1])
	complete(operations[2])
	eventually(t, startLimit, "watches end meanwhile", func() bool { return len(s.events(t)) == 3 })
	proxy.Lead("http://" + s.server.address)
	proxy.Restore()
	all("all have the API again", "answers again", "answers again")
	complete(operations[3])
	complete(operations[4])

	for i, r := range waits {
		if code := r.Wait(startLimit); code != exitOK {
			t.Errorf("wait %d: exit code %d", i, code)
		}
	}
	eventually(t, startLimit, "every event is printed", func() bool { return strings.Count(listens[0].Stdout.String(), "\n") >= len(operations) })
	for _, r := range listens {
		r.Signal(syscall.SIGINT)
		if code := r.Wait(startLimit); code != exitOK {
			t.Errorf("listen: exit code %d after an interrupt", code)
		}
	}
	s.checkPrinted(t, listens[0].Stdout.String(), screens[1].all())
	for i, output := range outputs {
		said := output()
		if away := strings.Count(said, "Waiting for it") + strings.Count(said, "Connecting again"); away != 1 || strings.Count(said, "answers again") != 1 {
			t.Errorf("output %d should say once that the relay is away, and that it is back:\n%s", i, said)
		}
	}
}

// checkPrinted holds what listen printed against the feed.
func (s *system) checkPrinted(t *testing.T, asJSON, lines string) {
	t.Helper()
	var printed, feed []string
	for line := range strings.Lines(asJSON) {
		var event client.Event
		if err := json.Unmarshal([]byte(line), &event); err != nil {
			t.Errorf("%v in %s", err, line)
		}
		printed = append(printed, event.ID)
	}
	for _, event := range s.events(t) {
		feed = append(feed, event.ID)
		if strings.Count(lines, event.ID) != 1 {
			t.Errorf("event %s is not once in\n%s", event.ID, lines)
		}
	}
	if !slices.Equal(printed, feed) {
		t.Errorf("printed %q, the feed is %q", printed, feed)
	}
}

// answers is an API that gives these answers, one after the other, and the last one for ever.
func answers(t *testing.T, asked chan<- time.Time, all ...http.HandlerFunc) environment {
	t.Helper()
	var n atomic.Int64
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- time.Now()
		all[min(int(n.Add(1)), len(all))-1](w, r)
	}))
	return environment{"RELAY_URL": url, "RELAY_API_KEY": "relay_test"}
}

// answering answers with a status and a body.
func answering(status int, kind, body string, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		for i := 0; i+1 < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}
}

const problemJSON = "application/problem+json"

func endedWatch(status, err string) http.HandlerFunc {
	quoted, _ := json.Marshal(err)
	return answering(http.StatusOK, "application/json", `{"id":"watch_1","status":"`+status+`","operation":{"id":"a","error":`+string(quoted)+`},
		"created_at":"2026-01-01T00:00:00Z","finished_at":"2026-01-01T01:02:03.4Z"}`)
}

// What passes by itself is waited for: Retry-After is honoured, and a relay that has no database is said once.
func TestWaitWaitsForTheAPI(t *testing.T) {
	t.Parallel()
	problem := `{"title":"It is so","status":1,"detail":"Because."}`
	asked := make(chan time.Time, 10)
	env := answers(t, asked,
		answering(http.StatusTooManyRequests, problemJSON, problem, "Retry-After", "1"),
		answering(http.StatusServiceUnavailable, problemJSON, problem),
		answering(http.StatusBadGateway, "text/html", "<p>"),
		endedWatch("completed", ""))
	done := call(t.Context(), env, "wait", "watch_1")
	if done.code != exitOK {
		t.Fatalf("%+v", done)
	}
	if first, second := <-asked, <-asked; second.Sub(first) < time.Second {
		t.Errorf("Retry-After is not honoured: asked again after %s", second.Sub(first))
	}
	want := fmt.Sprintf("The relay at %s does not answer: It is so (503): Because. Waiting for it.\nThe relay answers again.\n"+
		"completed after 1h2m3s  %[1]s/watches/watch_1\n", env["RELAY_URL"])
	if done.stderr != want {
		t.Errorf("said\n%swant\n%s", done.stderr, want)
	}
}

// Where as many requests of the API key wait as may, the relay is asked without waiting.
func TestWaitAmongTooManyThatWait(t *testing.T) {
	t.Parallel()
	s := startEmbedded(t, newSurroundings(t))
	operation := s.add(simulator.Plan{PendingFor: time.Hour})
	id := s.registered(t, operation, "--account", testAccount, "--credential", s.credential(t, "token"))
	refused := make(chan struct{}, 100)
	for range cap(refused) {
		go func() {
			seen, err := s.api.GetWatchWithResponse(t.Context(), id, &client.GetWatchParams{Wait: new("60s")})
			if err == nil && seen.StatusCode() == http.StatusTooManyRequests {
				refused <- struct{}{}
			}
		}()
	}
	for range 36 { // beyond 64
		select {
		case <-refused:
		case <-time.After(startLimit):
			t.Fatal("so many may wait")
		}
	}
	r := spawn(t, t.TempDir(), s.user(), "wait", id)
	for _, next := range []struct {
		seen string
		plan simulator.Plan
	}{{"pending", simulator.Plan{End: simulator.EndNever}}, {"running", simulator.Plan{}}} {
		if _, ok := r.Stderr.Wait(deadline(t, startLimit), next.seen, r.Ended); !ok {
			t.Fatalf("it does not notice that the operation is %s", next.seen)
		}
		if err := s.upstream.Add(testAccount, operation, next.plan); err != nil {
			t.Fatal(err)
		}
	}
	if code := r.Wait(startLimit); code != exitOK {
		t.Errorf("exit code %d", code)
	}
}

// Text from outside steers no terminal and stays on its line.
func TestWaitPrintsHostileTextAsText(t *testing.T) {
	t.Parallel()
	env := answers(t, make(chan time.Time, 1), endedWatch("failed", "a\x1b[2J\r\n\u202eb\u009b31m "+strings.Repeat("x", 1000)))
	done := call(t.Context(), env, "wait", "watch_1")
	if done.code != exitError || !strings.HasPrefix(done.stderr, "failed after 1h2m3s: a [2J b 31m xxx") || strings.Count(done.stderr, "\n") != 1 ||
		len(done.stderr) > 700 {
		t.Errorf("%+v", done)
	}
}

// Each error of wait's own says what to do, and exits 2.
func TestErrorsOfTheClientCommands(t *testing.T) {
	t.Parallel()
	s := startEmbedded(t, newSurroundings(t))
	user, unknown := s.user(), "watch_01jd8p5kzve6wbdq8rfg0m3c7x"
	reader := call(t.Context(), s.env.with("RELAY_DATABASE_URL", "sqlite:"+filepath.Join(s.folder, "relay.db")),
		"keys", "create", "--name", "reader", "--scope", "read")
	html := serve(t, answering(http.StatusOK, "text/html", "<p>Sign in</p>"))
	moved := serve(t, http.RedirectHandler("https://relay.example.com/", http.StatusMovedPermanently))
	registration := []string{"watch", newOperationID(), "--account", testAccount, "--credential", "credential_01jd8p5kzve6wbdq8rfg0m3c7x"}
	for name, c := range map[string]struct {
		env  environment
		args []string
		says []string
	}{
		"no key":           {environment{}, []string{"wait", unknown}, []string{"RELAY_API_KEY", "relay keys create"}},
		"no key at all":    {environment{"RELAY_API_KEY": "secret"}, []string{"listen"}, []string{"RELAY_API_KEY", "relay_"}},
		"a wrong key":      {user.with("RELAY_API_KEY", "relay_wrong"), []string{"wait", unknown}, []string{"refuses the API key", "RELAY_API_KEY"}},
		"listens wrongly":  {user.with("RELAY_API_KEY", "relay_wrong"), []string{"listen"}, []string{"refuses the API key", "RELAY_API_KEY"}},
		"a key that reads": {user.with("RELAY_API_KEY", strings.TrimSpace(reader.stdout)), registration, []string{"write"}},
		"no such watch":    {user, []string{"wait", unknown}, []string{unknown, "relay watch", "/watches"}},
		"no id of a watch": {user, []string{"wait", "../x?y"}, []string{"../x?y"}},
		"nobody there":     {user.with("RELAY_URL", "http://127.0.0.1:1"), []string{"wait", unknown}, []string{"refused", "http://127.0.0.1:1", "RELAY_URL"}},
		"nobody to listen": {user.with("RELAY_URL", "http://127.0.0.1:1"), []string{"listen"}, []string{"refused", "RELAY_URL"}},
		"another's page":   {user.with("RELAY_URL", html), []string{"wait", unknown}, []string{"not answer as a relay", "RELAY_URL"}},
		"a redirect":       {user.with("RELAY_URL", moved), []string{"watch", "x", "--account", "y"}, []string{"https://relay.example.com/", "RELAY_URL"}},
		"no watch":         {user, []string{"wait"}, []string{"id of a watch"}},
		"no time":          {user, []string{"wait", unknown, "--timeout", "-1s"}, []string{"--timeout"}},
		"no credential":    {user, []string{"watch", "x"}, []string{"POST /v1/credentials", "/docs"}},
		"wrong values": {
			user, append(registration, "--timeout", "5s", "--destination", "nobody", "--source", "nowhere"),
			[]string{"--timeout: ", "--destination #1: ", "--source: "},
		},
		"wrong pairs": {
			user, append(registration, "--metadata", "a", "--metadata", "b=1", "--metadata", "b=2", "--param", "x", "--param", "account_id=1"),
			[]string{`"a"`, "b is given twice", `--param "x"`, "differ"},
		},
		"an unknown type":  {user, []string{"listen", "--type", "none"}, []string{"--type", "operation.failed"}},
		"an unknown event": {user, []string{"listen", "--since", "event_01jd8p5kzve6wbdq8rfg0m3c7x"}, []string{"--since", "no such event"}},
		"no target":        {user, []string{"listen", "--forward-to", "localhost:3000"}, []string{"--forward-to", "http"}},
		"no secret":        {user, []string{"listen", "--receive", "127.0.0.1:0"}, []string{"--secret", "rotate-secret"}},
		"a wrong secret":   {user, []string{"listen", "--receive", "127.0.0.1:0", "--secret", "abc"}, []string{"--secret", "whsec_"}},
		"no address":       {user, []string{"listen", "--receive", "x", "--secret", testSecret}, []string{"--receive", "host:port"}},
		"a spare secret":   {user, []string{"listen", "--secret", testSecret}, []string{"--secret", "--receive"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			done := call(t.Context(), c.env, c.args...)
			if done.code != exitUsage || done.stdout != "" {
				t.Errorf("exit code %d, stdout %q", done.code, done.stdout)
			}
			mention(t, done.stderr, c.says...)
		})
	}
}

// Who interrupts wait learns how to go on, and that is no result.
func TestWaitIsInterrupted(t *testing.T) {
	t.Parallel()
	s := startEmbedded(t, newSurroundings(t))
	id := s.registered(t, s.add(simulator.Plan{End: simulator.EndNever}), "--account", testAccount, "--credential", s.credential(t, "token"))
	r := spawn(t, t.TempDir(), s.user(), "wait", id, "--json")
	if _, ok := r.Stderr.Wait(deadline(t, startLimit), "running", r.Ended); !ok {
		t.Fatal("it does not wait")
	}
	r.Signal(syscall.SIGINT)
	if code := r.Wait(startLimit); code != exitUsage || r.Stdout.String() != "" {
		t.Errorf("exit code %d, stdout %q", code, r.Stdout)
	}
	mention(t, lastLine(r.Stderr.String()), "interrupted", "relay wait "+id)

	canceled, err := s.api.CancelWatchWithResponse(t.Context(), id)
	want(t, http.StatusOK, err, canceled)
	full := spawnInShell(t, s.user(), ">/dev/full", "wait", id, "--json")
	if code := full.Wait(startLimit); code != exitUsage {
		t.Errorf("exit code %d for a watch that cannot be printed, want 2", code)
	}
}

// A line that is rewritten fits the terminal, and is gone when it is over. Where nothing can be rewritten there is
// a line for each state.
func TestProgress(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		width  int
		env    environment
		colors bool
		want   string
	}{
		"narrow":    {20, nil, true, "a line\nthe end\n"},
		"wide":      {80, nil, true, "a line\nthe end\n"},
		"no colors": {80, environment{"NO_COLOR": "1"}, false, "a line\nthe end\n"},
		"dumb":      {80, environment{"TERM": "dumb"}, false, "pending  000000000000000\nrunning  111111111111111\na line\nthe end\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			screen := newTerminal(t, c.width, 24)
			p := newProgress(screen.tty, c.env)
			for i, state := range []string{"pending", "running", "running"} {
				p.show(state, func() string { return strings.Repeat(strconv.Itoa(i), 15) })
			}
			p.say("a line")
			p.stop()
			p.say("the end")
			screen.drain()
			if got := screen.text(); got != c.want || screen.wraps > 0 || (screen.colors > 0) != c.colors {
				t.Errorf("%d lines wrap, %d colors, the terminal shows\n%s", screen.wraps, screen.colors, got)
			}
		})
	}
}
