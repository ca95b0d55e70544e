package notifier

import (
	"fmt"
	"strings"
	"time"

	"github.com/slack-go/slack"
)

const (
	maxValue        = 400 // of one fact in a field: ids and names are shorter, the rest is cut
	maxErrorSummary = 500 // of the error in the fallback, which notifications show
	maxMetadata     = 50  // entries shown: as many as a watch may have
)

// slackText is one rendered message: blocks, and the plain text that notifications and old clients show.
type slackText struct {
	fallback string
	blocks   []slack.Block
}

// renderSlack renders facts. Words are ours; every value from outside goes through clean and escape, into a
// code span, a code block or plain text, where Slack neither formats nor links it.
func renderSlack(f Facts) slackText {
	if f.Alert != nil {
		return renderAlert(*f.Alert, f.Link)
	}
	return renderOperation(f)
}

func renderOperation(f Facts) slackText {
	blocks := []slack.Block{header(title(f.Status)), fieldsSection(operationFields(f))}
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

// title is what happened, by the status of the watch or the progress of its operation.
func title(status string) string {
	switch status {
	case "watching":
		return "👀 Watching an operation"
	case "pending":
		return "⏳ Operation is pending"
	case "running":
		return "🏃 Operation is running"
	case "completed":
		return "✅ Operation completed"
	case "failed":
		return "❌ Operation failed"
	case "expired":
		return "⏰ Operation did not end in time"
	case "unobservable":
		return "🚫 Operation cannot be observed"
	case "canceled":
		return "⏹️ Watch canceled"
	default:
		return "ℹ️ Operation has news"
	}
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

func operationFields(f Facts) []Field {
	fields := []Field{{"Account", code(f.AccountID, maxValue)}, {"Operation", code(f.OperationID, maxValue)}}
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
	text := title(f.Status) + ": operation " + plain(f.OperationID, maxValue) + " of account " + plain(f.AccountID, maxValue)
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
