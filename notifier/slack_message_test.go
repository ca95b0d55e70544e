package notifier_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"oprelay/notifier"
	"oprelay/notifier/slacktest"
)

// goldenFacts are the messages whose bytes are kept in testdata.
func goldenFacts() map[string]notifier.Facts {
	facts := make(map[string]notifier.Facts)
	for _, status := range []string{
		"watching", "pending", "running", "completed", "failed", "expired", "unobservable", "canceled", "unheard-of",
	} {
		facts[status] = testFacts(status)
	}
	bare := notifier.Facts{Type: "operation.completed", Status: "completed", Params: map[string]string{"account_id": "a"}, OperationID: "b", Polls: 1}
	facts["bare"] = bare
	facts["alert"] = notifier.Facts{
		Type: "destination.disabled",
		Link: "https://relay.example.com/destinations",
		Alert: &notifier.Alert{
			Title:  "Destination disabled",
			Text:   "Every attempt failed for 120 hours.\nIts deliveries are held until it is enabled.",
			Fields: []notifier.Field{{Name: "Destination", Value: "ops <prod>"}, {Name: "Reason", Value: "failing"}},
		},
	}
	facts["alert-test"] = notifier.Facts{
		Type: "destination.test",
		Alert: &notifier.Alert{
			Title: "A test message",
			Text:  "This destination works.",
			Fields: []notifier.Field{
				{Name: "destination_id", Value: "destination_01kay5v2s5f0rs2m5j7cw9q4te"}, {Name: "name", Value: "ops"},
			},
		},
	}
	named := testFacts("failed")
	named.Name = "deploy 42 (eu)"
	facts["named"] = named
	facts["hostile"] = hostileFacts()
	facts["digest"] = notifier.Facts{Digest: testDigest()}
	facts["digest-watching"] = notifier.Facts{Digest: &notifier.Digest{
		Counts: []notifier.Count{{Status: "watching", N: 11}}, First: []notifier.Facts{testFacts("running")},
	}}
	alert := *facts["alert"].Alert
	alert.Title += ": ops <prod>"
	facts["digest-alerts"] = notifier.Facts{Digest: &notifier.Digest{
		Counts: []notifier.Count{{Status: notifier.CountAlert, N: 11}, {Status: "completed", N: 3}},
		First:  []notifier.Facts{{Alert: &alert, Error: "Slack answered is_archived"}, testFacts("completed")},
		Link:   "https://relay.example.com/deliveries?destination_id=destination_1",
	}}
	test := *facts["alert-test"].Alert
	facts["digest-mixed"] = notifier.Facts{Digest: &notifier.Digest{
		Counts: []notifier.Count{{Status: notifier.CountAlert, N: 1}, {Status: "failed", N: 1}, {Status: notifier.CountTest, N: 1}, {Status: "watching", N: 8}},
		First:  []notifier.Facts{{Alert: &alert}, testFacts("failed"), {Type: "destination.test", Alert: &test}},
	}}
	return facts
}

// testDigest tells of 500 operations, of which 3 have failed.
func testDigest() *notifier.Digest {
	const list = "https://relay.example.com/deliveries?created_after=2026-11-23T10%3A00%3A00Z&created_before=2026-11-23T10%3A00%3A09Z" +
		"&destination_id=destination_01kay5v2s5f0rs2m5j7cw9q4te"
	d := &notifier.Digest{Link: list, Counts: []notifier.Count{
		{Status: "failed", N: 3, Link: list + "&event_type=operation.failed"},
		{Status: "unobservable", N: 1, Link: list + "&event_type=operation.unobservable"},
		{Status: "expired", N: 1, Link: list + "&event_type=operation.expired"},
		{Status: "completed", N: 495, Link: list + "&event_type=operation.completed"},
	}}
	for i, status := range []string{"failed", "failed", "failed", "unobservable", "expired", "completed", "completed", "completed", "completed", "completed"} {
		facts := testFacts(status)
		facts.OperationID = fmt.Sprintf("%d%s", i, facts.OperationID[1:])
		if i == 0 {
			facts.Name = "deploy 42 (eu)"
		}
		d.First = append(d.First, facts)
	}
	return d
}

// digestOf tells of the facts in every place that a digest has, as often as it may.
func digestOf(facts notifier.Facts) notifier.Facts {
	d := &notifier.Digest{Link: facts.Link}
	for _, status := range []string{notifier.CountAlert, "failed", "unobservable", "expired", "completed", "canceled", "watching"} {
		d.Counts = append(d.Counts, notifier.Count{Status: status, N: 1_000_000, Link: facts.Link})
	}
	for _, status := range []string{"failed", "unobservable", "expired", "completed", "failed", "failed", "failed", "failed"} {
		one := facts
		one.Status = status
		d.First = append(d.First, one)
	}
	alert := notifier.Facts{Error: facts.Error, Alert: &notifier.Alert{Title: facts.Error}}
	d.First = append(d.First, alert, alert)
	return notifier.Facts{Digest: d}
}

// hostileFacts tries, in every field that comes from outside, to mention, to link, to format and to break out.
func hostileFacts() notifier.Facts {
	const attack = "<!channel> <@U012AB3CD> <#C1> <https://evil.example|click> &lt; *b* _i_ ~s~ `c` ```x``` " +
		":fire: @here\r\n> quote \u202e\x00\x1b[31m\xff"
	facts := testFacts("failed")
	facts.OperationID, facts.Source, facts.WatchID, facts.Name = attack, attack, attack, attack
	facts.Params = map[string]string{"account_id": attack}
	facts.Error, facts.Reason = attack, attack
	facts.Metadata = map[string]string{attack: attack, "": "", "empty": ""}
	facts.Link = "https://relay.example.com/w?a=1&b=<!channel>|x`y"
	return facts
}

// posted is what an incoming webhook receives for the facts.
func posted(t *testing.T, facts notifier.Facts) []byte {
	t.Helper()
	var body []byte
	url := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ = io.ReadAll(r.Body)
	}))
	if _, err := newClient(t, nil).SendSlackWebhook(t.Context(), url, notifier.Message{Facts: facts}); err != nil {
		t.Fatal(err)
	}
	return body
}

func TestSlackMessages(t *testing.T) {
	t.Parallel()
	for name, facts := range goldenFacts() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var pretty bytes.Buffer
			encoder := json.NewEncoder(&pretty)
			encoder.SetEscapeHTML(false)
			encoder.SetIndent("", "  ")
			if err := encoder.Encode(json.RawMessage(posted(t, facts))); err != nil {
				t.Fatal(err)
			}
			compareGolden(t, "slack-"+name+".golden.json", pretty.Bytes())
		})
	}
}

func TestSlackBotForm(t *testing.T) {
	t.Parallel()
	var got strings.Builder
	base := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		form, _ := url.ParseQuery(string(body))
		form.Del("blocks") // kept by the golden files of the messages
		fmt.Fprintf(&got, "POST %s\nauthorization: %s\nuser-agent: %s\n%s\n", r.URL.Path, r.Header.Get("Authorization"),
			r.Header.Get("User-Agent"), strings.ReplaceAll(form.Encode(), "&", "\n"))
		_, _ = io.WriteString(w, `{"ok":true,"channel":"C1","ts":"1.2"}`)
	}))
	client := newClient(t, func(cfg *notifier.Config) { cfg.SlackURL = base + "/api" })
	ref := notifier.SlackRef{}
	for range 2 {
		outcome, err := client.SendSlackBot(t.Context(), "xoxb-1", "C1", ref, testMessage())
		if err != nil {
			t.Fatal(err)
		}
		ref = outcome.Slack
	}
	compareGolden(t, "slack-bot.golden", []byte(got.String()))
}

// Whatever the facts hold, Slack's control sequences in the message are ours alone, and it keeps the limits.
func TestHostileFactsAreHarmless(t *testing.T) {
	t.Parallel()
	hostile := hostileFacts()
	long := hostileFacts()
	for _, field := range []*string{&long.OperationID, &long.Source, &long.WatchID, &long.Error, &long.Reason} {
		*field = strings.Repeat("<😀&", 5000)
	}
	long.Params = map[string]string{"account_id": strings.Repeat("<😀&", 5000)}
	for i := range 60 {
		long.Metadata[fmt.Sprintf("%02d", i)+strings.Repeat("<", 900)] = strings.Repeat("&😀", 3000)
	}
	alert := &notifier.Alert{Title: long.Error, Text: long.Error, Fields: make([]notifier.Field, 30)}
	for i := range alert.Fields {
		alert.Fields[i] = notifier.Field{Name: long.Error, Value: long.Error}
	}
	small := &notifier.Alert{Title: hostile.Error, Text: hostile.Error, Fields: []notifier.Field{{Name: hostile.Error, Value: hostile.Error}}}
	linked := long
	linked.Link = "https://relay.example.com/w?a=" + strings.Repeat("a", 160)
	slack := slacktest.New(slacktest.Options{})
	to := serve(t, slack) + slacktest.WebhookPath
	client := newClient(t, nil)
	for name, facts := range map[string]notifier.Facts{
		"hostile": hostile, "long": long, "empty": {}, "alert": {Alert: alert}, "small alert": {Alert: small},
		"empty alert": {Alert: &notifier.Alert{}}, "digest": digestOf(hostile), "long digest": digestOf(long),
		"long links": digestOf(linked), "empty digest": {Digest: &notifier.Digest{}},
	} {
		outcome, err := client.SendSlackWebhook(t.Context(), to, notifier.Message{Facts: facts})
		if err != nil {
			t.Errorf("%s: %v: %s", name, err, outcome.Body)
		}
	}
	for _, message := range slack.Messages() {
		if utf8.RuneCountInString(message.Text) > 3000 || strings.ContainsAny(message.Text, "\r\n") {
			t.Errorf("a fallback that is no short line: %q", message.Text)
		}
		var blocks any
		if err := json.Unmarshal(message.Blocks, &blocks); err != nil {
			t.Fatal(err)
		}
		for _, text := range append(textsOf(blocks), message.Text) {
			rest := strings.NewReplacer("<https://relay.example.com/w?a=1&amp;b=%3C!channel%3E%7Cx%60y|", "", "<"+linked.Link+"|", "").Replace(text)
			if i := strings.Index(rest, "<"); i >= 0 && !strings.HasPrefix(rest[i:], "<!date^") {
				t.Errorf("a control sequence from outside: %q", rest[i:min(len(rest), i+40)])
			}
			if strings.ContainsAny(text, "\x00\x1b\u202e") {
				t.Errorf("control characters: %q", text)
			}
			if strings.Count(text, "`")%2 != 0 {
				t.Errorf("an open code span: %q", text)
			}
		}
	}
}

// A watch may have 50 entries of metadata, and a person sees them all.
func TestSlackShowsAllMetadata(t *testing.T) {
	t.Parallel()
	for _, count := range []int{0, 10, 11, 50, 51, 60} {
		facts := testFacts("completed")
		facts.Metadata = make(map[string]string, count)
		for i := range count {
			facts.Metadata[fmt.Sprintf("key%02d", i)] = "v"
		}
		body := string(posted(t, facts))
		if shown := strings.Count(body, "*`key"); shown != min(count, 50) {
			t.Errorf("of %d entries %d are shown", count, shown)
		}
		if left := fmt.Sprintf("The first 50 of %d entries", count); strings.Contains(body, left) != (count > 50) {
			t.Errorf("of %d entries: %s", count, body)
		}
	}
}

// textsOf collects every string under a "text" key.
func textsOf(value any) []string {
	var texts []string
	switch v := value.(type) {
	case []any:
		for _, item := range v {
			texts = append(texts, textsOf(item)...)
		}
	case map[string]any:
		for key, item := range v {
			if text, ok := item.(string); ok && key == "text" {
				texts = append(texts, text)
				continue
			}
			texts = append(texts, textsOf(item)...)
		}
	}
	return texts
}

func TestSlackLinksOnlyToTheConsole(t *testing.T) {
	t.Parallel()
	for _, link := range []string{"", "javascript:alert(1)", "//evil.example", "relay.example.com", "https://", "http://a b/"} {
		facts := testFacts("completed")
		facts.Link = link
		if body := string(posted(t, facts)); strings.Contains(body, "Open the watch") {
			t.Errorf("%q was linked", link)
		}
	}
}

func TestSlackDurations(t *testing.T) {
	t.Parallel()
	for took, want := range map[time.Duration]string{
		-time.Second: "0s", 1234567 * time.Nanosecond: "1ms", 4210 * time.Millisecond: "4.2s",
		200*time.Second + 400*time.Millisecond: "3m20s", 26*time.Hour + 5*time.Minute: "26h5m0s",
	} {
		facts := testFacts("completed")
		facts.EndedAt = facts.StartedAt.Add(took)
		if body := string(posted(t, facts)); !strings.Contains(body, `*Took*\n`+want+`"`) {
			t.Errorf("%v is not told as %s: %s", took, want, body)
		}
	}
}

// A notification shows the fallback alone, which must name what an alert is about whatever else there is to say.
func TestAlertFallbackNamesItsSubject(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, title, text string
		fields            []notifier.Field
		want              string // the end of the fallback
	}{
		{
			"a sentence", "Disabled", "Mend it.",
			[]notifier.Field{{Name: "name", Value: "ops"}, {Name: "reason", Value: "gone"}},
			"Disabled: Mend it. (name: ops, reason: gone)",
		},
		{"no text", "Disabled", "", []notifier.Field{{Name: "name", Value: "a\n<!here>"}}, "Disabled (name: a &lt;!here&gt;)"},
		{"no fields", "Disabled", "Mend it.", nil, "Disabled: Mend it."},
		{"a long text", strings.Repeat("<", 5000), strings.Repeat("&", 5000), []notifier.Field{{Name: "name", Value: "ops"}}, " (name: ops)"},
		{"a long value", "Disabled", "", []notifier.Field{{Name: "name", Value: strings.Repeat("&", 5000)}}, "&amp;…)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var message struct{ Text string }
			facts := notifier.Facts{Alert: &notifier.Alert{Title: tt.title, Text: tt.text, Fields: tt.fields}}
			if err := json.Unmarshal(posted(t, facts), &message); err != nil {
				t.Fatal(err)
			}
			if !strings.HasSuffix(message.Text, tt.want) {
				t.Errorf("got %q", message.Text)
			}
		})
	}
}
