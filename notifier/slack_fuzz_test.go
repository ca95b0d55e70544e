package notifier

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/slack-go/slack"

	"oprelay/notifier/slacktest"
)

// ours are the control sequences of Slack's that the rendering itself makes, and the entities that escape others.
var ours = regexp.MustCompile(`<!date\^\d+\^\{date_short_pretty\} \{time_secs\}\|[0-9: -]+UTC>|&amp;|&lt;|&gt;`)

// hostileTexts try to mention, to link, to format, to break out, to be empty, and to be more than fits.
func hostileTexts() []string {
	return []string{
		"<!channel> <!here> <!everyone> @channel @here", "<@U012AB3CD> <@W1> <#C012AB3CD> <!subteam^S012AB3CD|@ops>", "<http://evil.example|ok>",
		"<mailto:a@b|c> https://evil.example evil.example", "<!date^0^{date}^https://evil.example|x>", "&lt;!channel&gt; &amp;lt; &#60;", "*b* _i_ ~s~ `c` ```x``` > q",
		`"}]},{"type":"section","text":{"type":"mrkdwn","text":"<!channel>"}}`, "\\\",\\u003c!channel\\u003e", "\x00\x01\x1b[31m\x7f\u0085\b\v\f", "a\r\nb\nc\u2028d\u2029e",
		"\u202eevil\u202c \u2066x\u2069 \u200f\u061c", "z\u0300\u0301\u0302\u0303\u0489\u0488 \u0e49\u0e49\u0e49", ":fire::fire::fire: 🔥👩‍👩‍👧‍👦🏳️‍🌈", "\u200b\u200c\u200d\ufeff\u00ad", "", " ", "\t\n",
		"\xed\xa0\x80\xed\xb0\x80", "\xff\xfe\xc0\xaf", "\ufffd\uffff\U0010ffff\U000e0001", "`", "``````", "&", "<", ">", "|", "…", "<<<<>>>>&&&&",
	}
}

// Whatever the facts are, Slack takes the message, and its control sequences in it are ours alone.
func FuzzSlackMessage(f *testing.F) {
	texts := hostileTexts()
	for i, text := range texts {
		next := texts[(i+1)%len(texts)]
		f.Add(text, next, text+next, next, "https://relay.example.com/watches/1?a="+text, 1, 1)
		f.Add(text, text, text, text, text, 50, 100)
		f.Add(next, text, text, next, "", 60, 3000)
	}
	f.Add("&", "😀&", "<", "&", "http://"+strings.Repeat("&", 900)+"/", 50, 20_000)
	f.Fuzz(func(t *testing.T, id, failure, key, value, link string, keys, times int) {
		keys, times = min(max(keys, 0), 60), min(max(times, 1), 1<<12/(1+len(id)+len(failure)+len(value)))
		repeat := func(text string) string { return strings.Repeat(text, max(times, 1)) }
		facts := Facts{
			Type: id, Status: "failed", WatchID: repeat(id), Name: repeat(value), Source: repeat(id), Params: map[string]string{"account_id": repeat(id)}, OperationID: repeat(id), Error: repeat(failure),
			Reason: repeat(id), StartedAt: time.Unix(int64(times), 0), Polls: times, Metadata: make(map[string]string), Link: link,
		}
		alert := Alert{Title: repeat(id), Text: repeat(failure)}
		for i := range keys {
			name := key + strconv.Itoa(i)
			facts.Metadata[name] = repeat(value)
			alert.Fields = append(alert.Fields, Field{Name: name, Value: repeat(value)})
		}
		ended, bare := facts, facts
		ended.EndedAt, ended.Status = facts.StartedAt.Add(time.Duration(times)), id
		bare.Metadata = map[string]string{key: value}
		for _, facts := range []Facts{facts, ended, bare, {Alert: &alert, Link: link}, {Alert: &Alert{Title: value}}} {
			checkMessage(t, renderSlack(facts), link)
		}
	})
}

func checkMessage(t *testing.T, message slackText, link string) {
	t.Helper()
	body, err := json.Marshal(slack.WebhookMessage{Text: message.fallback, Blocks: &slack.Blocks{BlockSet: message.blocks}})
	if err != nil {
		t.Fatal(err)
	}
	req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, slacktest.WebhookPath, bytes.NewReader(body))
	req.Header.Set("Content-Type", "application/json")
	answer := httptest.NewRecorder()
	slacktest.New(slacktest.Options{}).ServeHTTP(answer, req)
	if answer.Code != http.StatusOK {
		t.Fatalf("Slack answers %d %s to %.2000s", answer.Code, answer.Body, body)
	}
	if units(message.fallback) > maxFallbackText || strings.TrimSpace(message.fallback) == "" || strings.ContainsAny(message.fallback, "\r\n") {
		t.Errorf("the fallback is no short line: %q", message.fallback)
	}
	watch, console := linkTo(link, "Open the watch"), linkTo(link, "Open the console")
	for _, text := range append(textsIn(message.blocks), message.fallback) {
		rest := ours.ReplaceAllString(strings.NewReplacer("·"+watch, "", "·"+console, "").Replace("·"+text), "")
		if i := strings.IndexAny(rest, "<>&"); i >= 0 {
			t.Errorf("a control sequence from outside: %q in %q", rest[i:min(len(rest), i+40)], text)
		}
		if strings.ContainsFunc(text, func(r rune) bool {
			return unicode.IsControl(r) && r != '\n' || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029'
		}) || !utf8.ValidString(text) {
			t.Errorf("characters that do not belong into a message: %q", text)
		}
	}
}

// textsIn are the texts of the blocks.
func textsIn(blocks []slack.Block) []string {
	var texts []string
	for _, b := range blocks {
		switch b := b.(type) {
		case *slack.HeaderBlock:
			texts = append(texts, b.Text.Text)
		case *slack.SectionBlock:
			if b.Text != nil {
				texts = append(texts, b.Text.Text)
			}
			for _, field := range b.Fields {
				texts = append(texts, field.Text)
			}
		case *slack.ContextBlock:
			for _, element := range b.ContextElements.Elements {
				if object, is := element.(*slack.TextBlockObject); is {
					texts = append(texts, object.Text)
				}
			}
		}
	}
	return texts
}

// In mrkdwn, what comes from outside stands in code, and its marks are closed by us.
func TestOutsideTextStaysInCode(t *testing.T) {
	t.Parallel()
	for _, text := range hostileTexts() {
		facts := Facts{Status: "failed", Params: map[string]string{"account_id": text}, OperationID: text, WatchID: text, Error: text, Reason: text, Metadata: map[string]string{text: text}}
		for _, shown := range textsIn(renderSlack(facts).blocks) {
			outside := regexp.MustCompile("(?s)```.*?```|`[^`\n]*`").ReplaceAllString(shown, "")
			if strings.Contains(outside, "`") || strings.ContainsAny(outside, "~_<>@:#") {
				t.Errorf("%q shows %q outside of code", text, outside)
			}
		}
	}
}

// As much metadata as a watch may have is shown whole, or each entry of it in part; nothing of it is left out.
func TestSlackMetadataSharesTheRoom(t *testing.T) {
	t.Parallel()
	metadata := make(map[string]string)
	for i := range maxMetadata {
		metadata["key"+strconv.Itoa(i)] = strings.Repeat("&", 150)
	}
	facts := Facts{Status: "failed", Params: map[string]string{"account_id": "a"}, OperationID: "b", Error: strings.Repeat("e", 4000), Metadata: maps.Clone(metadata)}
	checkMessage(t, renderSlack(facts), "")
	blocks := renderSlack(facts).blocks
	all := strings.Join(textsIn(blocks), "\n")
	for key := range metadata {
		if !strings.Contains(all, "*`"+key+"`*\n`&amp;") {
			t.Errorf("%s is not shown", key)
		}
	}
	if size := textOf(blocks); size > maxMessageText || size < maxMessageText/2 {
		t.Errorf("%d units of text", size)
	}
	for key := range facts.Metadata {
		facts.Metadata[key] = strings.Repeat("<😀&", 1<<20/50/len("<😀&"))
	}
	facts.Error = strings.Repeat("&\n", 1<<19)
	checkMessage(t, renderSlack(facts), "")
}
