package notifier

import (
	"fmt"
	"strings"

	"github.com/slack-go/slack"
)

// What a digest's parts have at most, in UTF-16 units: together they are less than maxMessageText.
const (
	maxDigestName  = 120
	maxDigestError = 200
	maxDigestLink  = 200 // of a line
	maxCountLink   = 300 // of a count, and of the list
)

// renderDigest renders many messages as one: how many came to what, the most urgent in a line
// each, and where all are.
func renderDigest(d Digest) slackText {
	counts := make([]string, 0, len(d.Counts))
	for _, c := range d.Counts {
		text := c.text()
		if link := shortLink(c.Link, text, maxCountLink); link != "" {
			text = link
		}
		counts = append(counts, wordsFor(c.Status).mark+" "+text)
	}
	blocks := []slack.Block{header(digestTitle(d))}
	if len(counts) > 0 {
		blocks = append(blocks, section(strings.Join(counts, "  ·  ")))
	}
	lines := make([]string, 0, len(d.First))
	for i := range d.First {
		lines = append(lines, digestLine(d.First[i]))
	}
	blocks = append(append(blocks, lineSections(lines)...), contextLine(digestFooter(d)))
	return slackText{fallback: digestSummary(d), blocks: blocks}
}

// total is how many messages the digest tells of.
func (d Digest) total() (n int) {
	for _, c := range d.Counts {
		n += c.N
	}
	return n
}

// of is how many came to a result.
func (d Digest) of(status string) (n int) {
	for _, c := range d.Counts {
		if c.Status == status {
			n += c.N
		}
	}
	return n
}

// text is the count in words.
func (c Count) text() string {
	if c.Status == CountAlert || c.Status == CountTest {
		return number(c.N, c.Status)
	}
	return fmt.Sprintf("%d %s", c.N, wordsFor(c.Status).counted)
}

// number is "1 thing" or "2 things".
func number(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// digestTitle tells the most urgent.
func digestTitle(d Digest) string {
	mark, title, urgent := endsTitle(d)
	switch alerts := d.of(CountAlert); {
	case alerts > 0 && urgent:
		return "⚠️ " + number(alerts, "alert") + " from the relay, and " + title
	case alerts > 0:
		return "⚠️ " + number(alerts, "alert") + " from the relay"
	}
	return mark + " " + title
}

// endsTitle tells all but the alerts. It is urgent if an operation has ended badly.
func endsTitle(d Digest) (mark, title string, urgent bool) {
	failed, completed, watching := d.of("failed"), d.of("completed"), d.of("watching")
	ended := failed + completed + d.of("expired") + d.of("unobservable")
	switch operations := number(ended, "operation"); {
	case failed > 0:
		return "❌", fmt.Sprintf("%d of %s failed", failed, operations), true
	case ended > completed:
		return "🚫", fmt.Sprintf("%d of %s ended without a result", ended-completed, operations), true
	case ended > 0:
		return "✅", operations + " completed", false
	case watching > 0:
		return "👀", "Watching " + number(watching, "operation"), false
	}
	return "ℹ️", number(d.total(), "message"), false
}

// digestLine tells one of the messages.
func digestLine(f Facts) string {
	line := operationLine(f)
	if f.Alert != nil {
		status := CountAlert
		if f.Type == "destination.test" {
			status = CountTest
		}
		line = wordsFor(status).mark + " " + code(f.Alert.Title, maxDigestName)
	}
	if clean(f.Error, false) != "" {
		line += ": " + code(f.Error, maxDigestError)
	}
	if link := shortLink(f.Link, "Open", maxDigestLink); link != "" {
		line += "  " + link
	}
	return line
}

// operationLine is what came of an operation, but for its error.
func operationLine(f Facts) string {
	words := wordsFor(f.Status)
	line := words.mark + " " + code(named(f), maxDigestName) + " " + words.said
	if !f.StartedAt.IsZero() && !f.EndedAt.IsZero() {
		line += " after " + tookText(f.EndedAt.Sub(f.StartedAt))
	}
	if f.Status == "unobservable" && f.Reason != "" {
		line += ": " + reason(f.Reason)
	}
	return line
}

// named is what people call the watch.
func named(f Facts) string {
	if f.Name == "" {
		return f.OperationID
	}
	return f.Name
}

func digestFooter(d Digest) string {
	var parts []string
	if more := d.total() - len(d.First); more > 0 {
		parts = append(parts, fmt.Sprintf("and %d more", more))
	}
	if link := shortLink(d.Link, fmt.Sprintf("Open all %d in the console", d.total()), maxCountLink); link != "" {
		parts = append(parts, link)
	}
	return strings.Join(append(parts, "One message, because many waited for this channel"), "  ·  ")
}

// digestSummary is the digest in one line of plain text: the counts, and the most urgent message.
func digestSummary(d Digest) string {
	text := digestTitle(d)
	if len(d.Counts) > 1 {
		counts := make([]string, 0, len(d.Counts))
		for _, c := range d.Counts {
			counts = append(counts, c.text())
		}
		text += " (" + strings.Join(counts, ", ") + ")"
	}
	if len(d.First) == 0 {
		return text
	}
	first := d.First[0]
	name := named(first)
	switch {
	case first.Alert != nil:
		name = first.Alert.Title
	case first.Status != "failed" && first.Status != "unobservable" && first.Status != "expired":
		return text // nobody has to do anything about it
	}
	if said := plain(name, maxValue); said != "" {
		text += ": " + said
	}
	if said := plain(first.Error, maxErrorSummary); said != "" {
		text += ": " + said
	}
	return text
}

// lineSections puts lines into as few sections as they fit.
func lineSections(lines []string) []slack.Block {
	var blocks []slack.Block
	text := ""
	for _, line := range lines {
		if text != "" && units(text)+units(line)+1 > maxSectionText {
			blocks, text = append(blocks, section(text)), ""
		}
		if text != "" {
			text += "\n"
		}
		text += line
	}
	if text != "" {
		blocks = append(blocks, section(text))
	}
	return blocks
}

// shortLink is linkTo, or "" if it is longer than limit.
func shortLink(address, label string, limit int) string {
	link := linkTo(address, label)
	if units(link) > limit+len(label) {
		return ""
	}
	return link
}
