package notifier

import (
	"strings"

	"github.com/slack-go/slack"
)

// maxAlertSummary bounds the text of an alert in the fallback, and leaves room there for its fields.
const maxAlertSummary = 1000

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

// alertSummary is the alert in one line of plain text, and names what it is about: whoever reads no more than
// a notification must know which destination or credential is meant.
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
