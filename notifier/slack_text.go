package notifier

import (
	"net/url"
	"strings"
	"unicode"
	"unicode/utf16"
)

// Slack's limits, in characters (docs.slack.dev: Block Kit reference, "Section" and "Header"). At most 50 blocks:
// the rendering makes no more than 11. A message's text may have 40,000, but notifications show far less.
const (
	maxHeaderText   = 150
	maxSectionText  = 3000
	maxFieldText    = 2000
	maxFields       = 10
	maxFallbackText = 3000
	maxLink         = 1000 // ours: nobody's console has longer addresses
)

const ellipsis = "…"

// clean makes text from outside harmless to display: valid UTF-8, no control characters, no marks that turn
// the direction of the text around it. Line breaks stay if keepLines, else they become spaces.
func clean(text string, keepLines bool) string {
	text = strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\r\n", "\n")
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		switch {
		case r == '\n' && keepLines:
			return r
		case r == '\n', r == '\r', r == '\t', r == '\u2028', r == '\u2029':
			return ' '
		case unicode.IsControl(r), unicode.Is(unicode.Bidi_Control, r):
			return -1
		}
		return r
	}, text))
}

// escape replaces Slack's three control characters and cuts the result to limit, between characters and never
// inside an entity (docs.slack.dev: "Formatting message text", "Escaping text"). Characters are counted as
// UTF-16 units, the strictest reading of Slack's limits.
func escape(text string, limit int) string {
	var b strings.Builder
	size, fits := 0, 0 // fits: how many bytes of b leave room for an ellipsis
	for _, r := range text {
		piece, width := string(r), utf16.RuneLen(r)
		switch r {
		case '&':
			piece, width = "&amp;", len("&amp;")
		case '<':
			piece, width = "&lt;", len("&lt;")
		case '>':
			piece, width = "&gt;", len("&gt;")
		}
		if size += width; size > limit {
			return b.String()[:fits] + ellipsis
		}
		b.WriteString(piece)
		if size < limit {
			fits = b.Len()
		}
	}
	return b.String()
}

// plain is one line of outside text for a plain_text object or the fallback.
func plain(text string, limit int) string {
	return escape(clean(text, false), limit)
}

// code is one line of outside text as a mrkdwn code span, in which Slack applies no formatting and no emoji.
// A backtick, which would end the span, is replaced by a mark that looks like it.
func code(text string, limit int) string {
	text = strings.ReplaceAll(clean(text, false), "`", "ˋ")
	if text == "" {
		return "–"
	}
	return "`" + escape(text, limit-len("``")) + "`"
}

// preformatted is outside text as a mrkdwn code block: as code, with its lines kept.
func preformatted(text string, limit int) string {
	text = strings.ReplaceAll(clean(text, true), "`", "ˋ")
	return "```\n" + escape(text, limit-len("```\n\n```")) + "\n```"
}

// linkTo is a mrkdwn link with a label of ours, or "" if the address is not a plain http or https URL.
func linkTo(address, label string) string {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return ""
	}
	target := strings.NewReplacer("|", "%7C", "<", "%3C", ">", "%3E", "`", "%60", "&", "&amp;").Replace(clean(u.String(), false))
	if len(target) > maxLink {
		return ""
	}
	return "<" + target + "|" + label + ">"
}
