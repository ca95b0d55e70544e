package slacktest

import (
	"encoding/json"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Slack's published limits (docs.slack.dev: Block Kit reference; chat.postMessage, "Truncating content"), in
// characters, counted here as UTF-16 units.
const (
	maxText            = 40_000
	maxBlocks          = 50
	maxSection         = 3000
	maxFields          = 10
	maxField           = 2000
	maxHeader          = 150
	maxContextElements = 10
	// All texts of the blocks together. Slack does not publish it: this is between what has been seen to pass and
	// to be refused (slackapi/bolt-js, issues 2509 and 2867).
	maxBlocksText = 10_000
)

type textObject struct {
	Type string `json:"type"`
	Text string `json:"text"`
}

type block struct {
	Type     string       `json:"type"`
	Text     *textObject  `json:"text"`
	Fields   []textObject `json:"fields"`
	Elements []textObject `json:"elements"`
}

// faultOf is the error code that Slack has for a message beyond its limits, or "". Of the blocks it knows those
// that make up plain messages: header, section, context, divider.
func faultOf(text string, raw json.RawMessage) string {
	var blocks []block
	if raw != nil && json.Unmarshal(raw, &blocks) != nil {
		return "invalid_blocks_format"
	}
	switch {
	case strings.TrimSpace(text) == "" && len(blocks) == 0:
		return "no_text"
	case length(text) > maxText:
		return "msg_too_long"
	case len(blocks) > maxBlocks:
		return "invalid_blocks"
	}
	total := 0
	for _, b := range blocks {
		if !b.valid() {
			return "invalid_blocks"
		}
		total += b.length()
	}
	if total > maxBlocksText {
		return "msg_blocks_too_long"
	}
	return ""
}

// length is that of all the block's texts.
func (b block) length() int {
	total := 0
	if b.Text != nil {
		total = length(b.Text.Text)
	}
	for _, t := range append(b.Fields, b.Elements...) {
		total += length(t.Text)
	}
	return total
}

func (b block) valid() bool {
	switch b.Type {
	case "divider":
		return true
	case "header":
		return b.Text != nil && b.Text.Type == "plain_text" && b.Text.fits(maxHeader)
	case "context":
		return len(b.Elements) > 0 && len(b.Elements) <= maxContextElements && allFit(b.Elements, maxSection)
	case "section":
		if b.Text == nil && len(b.Fields) == 0 || len(b.Fields) > maxFields {
			return false
		}
		return (b.Text == nil || b.Text.fits(maxSection)) && allFit(b.Fields, maxField)
	}
	return false
}

func allFit(texts []textObject, limit int) bool {
	for _, t := range texts {
		if !t.fits(limit) {
			return false
		}
	}
	return true
}

func (t textObject) fits(limit int) bool {
	known := t.Type == "plain_text" || t.Type == "mrkdwn"
	return known && strings.TrimSpace(t.Text) != "" && utf8.ValidString(t.Text) && length(t.Text) <= limit
}

func length(text string) int {
	return len(utf16.Encode([]rune(text)))
}
