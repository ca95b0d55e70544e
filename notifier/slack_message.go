package notifier

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf16"

	"github.com/slack-go/slack"
)

const (
	maxValue        = 400  // of one fact in a field: ids and names are shorter, the rest is cut
	maxErrorSummary = 500  // of the error in the fallback, which notifications show
	maxParams       = 6    // of a source that are shown: none of the built-in ones has more than 2
	maxMetadata     = 50   // entries shown: as many as a watch may have
	maxAlertSummary = 1000 // of an alert's text in the fallback, which leaves room for its fields
	// maxMessageText bounds all the texts of a message's blocks together, in UTF-16 units. Slack refuses more with
	// msg_blocks_too_long, without saying where it begins: 9,597 have been seen to pass and 11,341 to be refused
	// (slackapi/bolt-js, issues 2509 and 2867).
	maxMessageText = 9000
)

// slackText is one rendered message: blocks, and the plain text that notifications and old clients show.
type slackText struct {
	fallback string
	blocks   []slack.Block
}

// renderSlack renders facts. Words are ours; every value from outside goes through clean and escape, into a
// code span, a code block or plain text, where Slack neither formats nor links it.
func renderSlack(f Facts) slackText {
	switch {
	case f.Digest != nil:
		return renderDigest(*f.Digest)
	case f.Alert != nil:
		return renderAlert(*f.Alert, f.Link)
	}
	return renderOperation(f)
}

func renderOperation(f Facts) slackText {
	blocks := []slack.Block{header(heading(f, maxHeaderText)), fieldsSection(operationFields(f))}
	if clean(f.Error, true) != "" {
		blocks = append(blocks, section("*Error*\n"+preformatted(f.Error, maxSectionText-len("*Error*\n"))))
	}
	if f.Reason != "" {
		blocks = append(blocks, section("*Reason*\n"+reason(f.Reason)))
	}
	last := footer(f)
	blocks = append(blocks, metadataSections(f.Metadata, maxMessageText-textOf(append(blocks, last)))...)
	blocks = append(blocks, last)
	return slackText{fallback: summary(f), blocks: blocks}
}

// words are what is said of a status: of a watch, or of its operation while that goes on.
type words struct {
	mark    string // an emoji, before all of the others
	title   string // of a message
	said    string // of one of many, after its name
	counted string // after their number
}

func wordsFor(status string) words {
	switch status {
	case "watching":
		return words{"👀", "Watching an operation", "is being watched", "being watched"}
	case "pending":
		return words{"⏳", "Operation is pending", "is pending", "pending"}
	case "running":
		return words{"🏃", "Operation is running", "is running", "running"}
	case "completed":
		return words{"✅", "Operation completed", "completed", "completed"}
	case "failed":
		return words{"❌", "Operation failed", "failed", "failed"}
	case "expired":
		return words{"⏰", "Operation did not end in time", "did not end in time", "did not end in time"}
	case "unobservable":
		return words{"🚫", "Operation cannot be observed", "cannot be observed", "cannot be observed"}
	case "canceled":
		return words{"⏹️", "Watch canceled", "is not watched any more", "canceled"}
	case CountAlert:
		return words{"⚠️", "News from the relay", "", "alerts"}
	case CountTest:
		return words{"ℹ️", "A test", "", "tests"}
	default:
		return words{"ℹ️", "Operation has news", "has news", "with news"}
	}
}

// heading is the title, with the name of the watch if it has one.
func heading(f Facts, limit int) string {
	w := wordsFor(f.Status)
	text := w.mark + " " + w.title
	if name := plain(f.Name, limit-len(text)-len(": ")); name != "" {
		text += ": " + name
	}
	return text
}

// reason puts the reasons of the events into a sentence.
func reason(r string) string {
	switch r {
	case "deadline":
		return "The watch's deadline passed before the operation ended."
	case "not_found":
		return "The upstream does not know this operation."
	case "credential_rejected":
		return "The upstream refuses the credential."
	default:
		return code(r, maxValue)
	}
}

// shownParams are the names of the parameters that a message shows, in order.
func shownParams(params map[string]string) []string {
	names := slices.Sorted(maps.Keys(params))
	return names[:min(len(names), maxParams)]
}

// paramName is a parameter's name for people: Account for account_id, Owner for owner.
func paramName(name string) string {
	words := strings.ReplaceAll(strings.TrimSuffix(name, "_id"), "_", " ")
	return plain(strings.ToUpper(words[:min(len(words), 1)])+words[min(len(words), 1):], maxValue)
}

func operationFields(f Facts) []Field {
	var fields []Field
	for _, name := range shownParams(f.Params) {
		fields = append(fields, Field{paramName(name), code(f.Params[name], maxValue)})
	}
	fields = append(fields, Field{"Operation", code(f.OperationID, maxValue)})
	if f.Source != "" {
		fields = append(fields, Field{"Source", code(f.Source, maxValue)})
	}
	switch {
	case f.StartedAt.IsZero():
	case f.EndedAt.IsZero():
		fields = append(fields, Field{"Since", slackDate(f.StartedAt)})
	default:
		fields = append(fields, Field{"Took", tookText(f.EndedAt.Sub(f.StartedAt))})
	}
	return fields
}

// slackDate shows a time in each reader's own zone (docs.slack.dev: "Formatting message text", dates).
func slackDate(t time.Time) string {
	t = t.UTC()
	return fmt.Sprintf("<!date^%d^{date_short_pretty} {time_secs}|%s>", t.Unix(), t.Format("2006-01-02 15:04:05 UTC"))
}

// tookText is a duration as a person would say it: 350ms, 4.2s, 3m20s, 26h5m0s.
func tookText(d time.Duration) string {
	d = max(d, 0)
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(time.Second / 10).String()
	default:
		return d.Round(time.Second).String()
	}
}

func footer(f Facts) slack.Block {
	parts := []string{}
	if link := linkTo(f.Link, "Open the watch"); link != "" {
		parts = append(parts, link)
	}
	if f.WatchID != "" {
		parts = append(parts, code(f.WatchID, maxValue))
	}
	if f.Polls == 1 {
		parts = append(parts, "1 poll")
	} else {
		parts = append(parts, fmt.Sprintf("%d polls", f.Polls))
	}
	return contextLine(strings.Join(parts, "  ·  "))
}

// summary is the operation in one line of plain text.
func summary(f Facts) string {
	text := heading(f, maxValue) + ": operation " + plain(f.OperationID, maxValue)
	if params := shownParams(f.Params); len(params) > 0 {
		for i, name := range params {
			params[i] = strings.ToLower(paramName(name)) + " " + plain(f.Params[name], maxValue)
		}
		text += " of " + strings.Join(params, ", ")
	}
	if !f.StartedAt.IsZero() && !f.EndedAt.IsZero() {
		text += " after " + tookText(f.EndedAt.Sub(f.StartedAt))
	}
	if said := plain(f.Error, maxErrorSummary); said != "" {
		text += ": " + said
	}
	if said := plain(f.Reason, maxValue); said != "" {
		text += " (" + said + ")"
	}
	return text
}

func header(text string) slack.Block {
	return slack.NewHeaderBlock(slack.NewTextBlockObject(slack.PlainTextType, text, true, false))
}

// mrkdwn is verbatim: Slack does not turn names and addresses in it into links.
func mrkdwn(text string) *slack.TextBlockObject {
	return slack.NewTextBlockObject(slack.MarkdownType, text, false, true)
}

func section(text string) slack.Block {
	return slack.NewSectionBlock(mrkdwn(text), nil, nil)
}

func contextLine(text string) slack.Block {
	return slack.NewContextBlock("", mrkdwn(text))
}

// fieldsSection shows at most ten fields, whose names and values are already mrkdwn.
func fieldsSection(fields []Field) slack.Block {
	objects := make([]*slack.TextBlockObject, 0, len(fields))
	for _, f := range fields[:min(len(fields), maxFields)] {
		objects = append(objects, mrkdwn("*"+f.Name+"*\n"+f.Value))
	}
	return slack.NewSectionBlock(nil, objects, nil)
}

// renderAlert renders news about a destination or a credential.
func renderAlert(a Alert, link string) slackText {
	name := alertTitle(a)
	blocks := []slack.Block{header(name)}
	if text := escape(clean(a.Text, true), maxSectionText); text != "" {
		object := slack.NewTextBlockObject(slack.PlainTextType, text, false, false)
		blocks = append(blocks, slack.NewSectionBlock(object, nil, nil))
	}
	var last []slack.Block
	if target := linkTo(link, "Open the console"); target != "" {
		last = append(last, contextLine(target))
	}
	room := maxMessageText - textOf(blocks) - textOf(last)
	blocks = append(blocks, fieldSections(a.Fields[:min(len(a.Fields), maxFields)], room)...)
	blocks = append(blocks, last...)
	return slackText{fallback: alertSummary(a), blocks: blocks}
}

func alertTitle(a Alert) string {
	if title := plain(a.Title, maxHeaderText); title != "" {
		return title
	}
	return "News from the relay"
}

// alertSummary is the alert in one line of plain text. It names the destination or credential that is meant, for
// people who read only the notification.
func alertSummary(a Alert) string {
	summary := alertTitle(a)
	if text := plain(a.Text, maxAlertSummary); text != "" {
		summary += ": " + text
	}
	fields := make([]string, 0, maxFields)
	for _, f := range a.Fields[:min(len(a.Fields), maxFields)] {
		fields = append(fields, f.Name+": "+f.Value)
	}
	const most = maxFallbackText - maxHeaderText - len(": ") - maxAlertSummary - len(" ()")
	if named := plain(strings.Join(fields, ", "), most); named != "" {
		summary += " (" + named + ")"
	}
	return summary
}

// textOf is how many units the texts of the blocks hold.
func textOf(blocks []slack.Block) int {
	size := 0
	add := func(object *slack.TextBlockObject) {
		if object != nil {
			size += units(object.Text)
		}
	}
	for _, b := range blocks {
		switch b := b.(type) {
		case *slack.HeaderBlock:
			add(b.Text)
		case *slack.SectionBlock:
			add(b.Text)
			for _, field := range b.Fields {
				add(field)
			}
		case *slack.ContextBlock:
			for _, element := range b.ContextElements.Elements {
				if object, is := element.(*slack.TextBlockObject); is {
					add(object)
				}
			}
		}
	}
	return size
}

func units(text string) int { return len(utf16.Encode([]rune(text))) }

// metadataSections shows the entries in the order of their keys, in at most room units.
func metadataSections(metadata map[string]string, room int) []slack.Block {
	keys := slices.Sorted(maps.Keys(metadata))
	entries := make([]Field, 0, len(keys))
	for _, key := range keys[:min(len(keys), maxMetadata)] {
		entries = append(entries, Field{Name: key, Value: metadata[key]})
	}
	var blocks []slack.Block
	if len(keys) > maxMetadata {
		note := contextLine(fmt.Sprintf("The first %d of %d entries of metadata", maxMetadata, len(keys)))
		blocks = append(blocks, note)
		room -= textOf(blocks)
	}
	return append(fieldSections(entries, room), blocks...)
}

// fieldSections shows names and values from outside, ten to a section. If they do not fit into the room, each
// gets the same part of it.
func fieldSections(entries []Field, room int) []slack.Block {
	blocks := sectionsOf(entries, maxFieldText)
	if textOf(blocks) > room {
		blocks = sectionsOf(entries, min(maxFieldText, room/len(entries)))
	}
	return blocks
}

// sectionsOf gives each entry at most limit units, of which its name gets no more than half.
func sectionsOf(entries []Field, limit int) []slack.Block {
	const marks = len("**\n")
	nameLimit := min(maxValue, (limit-marks)/2)
	var blocks []slack.Block
	for group := range slices.Chunk(entries, maxFields) {
		fields := make([]Field, 0, len(group))
		for _, e := range group {
			fields = append(fields, Field{code(e.Name, nameLimit), code(e.Value, limit-marks-nameLimit)})
		}
		blocks = append(blocks, fieldsSection(fields))
	}
	return blocks
}
