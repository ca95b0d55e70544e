package notifier

import "github.com/slack-go/slack"

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
