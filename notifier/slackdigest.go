package notifier

import (
	"fmt"
	"strings"

	"github.com/slack-go/slack"
)

// renderAlert renders news about a destination or a credential.
func renderAlert(a Alert, link string) slackText {
	name := plain(a.Title, maxHeaderText)
	if name == "" {
		name = "News from the relay"
	}
	blocks := []slack.Block{header(name)}
	fallback := name
	if text := plain(a.Text, maxSectionText); text != "" {
		object := slack.NewTextBlockObject(slack.PlainTextType, escape(clean(a.Text, true), maxSectionText), false, false)
		blocks = append(blocks, slack.NewSectionBlock(object, nil, nil))
		fallback += ": " + plain(a.Text, maxFallbackText-maxHeaderText-len(": "))
	}
	fields := make([]Field, 0, len(a.Fields))
	for _, f := range a.Fields {
		fields = append(fields, Field{code(f.Name, maxValue), code(f.Value, maxFieldText-maxValue-len("**\n"))})
	}
	if len(fields) > 0 {
		blocks = append(blocks, fieldsSection(fields))
	}
	if target := linkTo(link, "Open the console"); target != "" {
		blocks = append(blocks, contextLine(target))
	}
	return slackText{fallback: fallback, blocks: blocks}
}

// renderDigest renders a burst: how many operations ended how, then one line for each of the first.
func renderDigest(messages []Facts) slackText {
	name := fmt.Sprintf("📬 %d messages at once", len(messages))
	counts := escape(countByStatus(messages), maxSectionText)
	object := slack.NewTextBlockObject(slack.PlainTextType, counts, false, false)
	blocks := []slack.Block{header(name), slack.NewSectionBlock(object, nil, nil)}
	for _, f := range messages[:min(len(messages), maxDigestLines)] {
		blocks = append(blocks, section(digestLine(f)))
	}
	if hidden := len(messages) - maxDigestLines; hidden > 0 {
		blocks = append(blocks, contextLine(fmt.Sprintf("… and %d more", hidden)))
	}
	return slackText{fallback: name + ": " + counts, blocks: blocks}
}

// countByStatus is "3 completed, 1 failed", in the order in which the statuses first appear; not escaped.
func countByStatus(messages []Facts) string {
	counts := make(map[string]int)
	var order []string
	for _, f := range messages {
		status := clean(f.Status, false)
		if f.Alert != nil {
			status = "alert(s)"
		}
		if counts[status]++; counts[status] == 1 {
			order = append(order, status)
		}
	}
	parts := make([]string, 0, len(order))
	for _, status := range order {
		parts = append(parts, fmt.Sprintf("%d %s", counts[status], status))
	}
	return strings.Join(parts, ", ")
}

func digestLine(f Facts) string {
	if f.Alert != nil {
		return "📣 " + code(f.Alert.Title, maxValue) + "\n" + code(f.Alert.Text, maxErrorSummary)
	}
	line := title(f.Status) + ": " + code(f.OperationID, maxValue) + " of " + code(f.AccountID, maxValue)
	if !f.StartedAt.IsZero() && !f.EndedAt.IsZero() {
		line += " after " + tookText(f.EndedAt.Sub(f.StartedAt))
	}
	if link := linkTo(f.Link, "open"); link != "" {
		line += "  ·  " + link
	}
	switch {
	case f.Error != "":
		line += "\n" + code(f.Error, maxErrorSummary)
	case f.Reason != "":
		line += "\n" + reason(f.Reason)
	}
	return line
}
