package notifier

import (
	"fmt"
	"maps"
	"slices"
	"unicode/utf16"

	"github.com/slack-go/slack"
)

// maxMessageText bounds all the texts of a message's blocks together, in UTF-16 units. Slack refuses more with
// msg_blocks_too_long, without saying where it begins: 9,597 have been seen to pass and 11,341 to be refused
// (slackapi/bolt-js, issues 2509 and 2867).
const maxMessageText = 9000

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
