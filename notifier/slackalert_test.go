package notifier_test

import (
	"encoding/json"
	"strings"
	"testing"

	"oprelay/notifier"
)

// A notification shows the fallback alone, which must name what an alert is about whatever else there is to say.
func TestAlertFallbackNamesItsSubject(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, title, text string
		fields            []notifier.Field
		want              string // the end of the fallback
	}{
		{
			"a sentence", "Disabled", "Mend it.",
			[]notifier.Field{{Name: "name", Value: "ops"}, {Name: "reason", Value: "gone"}},
			"Disabled: Mend it. (name: ops, reason: gone)",
		},
		{"no text", "Disabled", "", []notifier.Field{{Name: "name", Value: "a\n<!here>"}}, "Disabled (name: a &lt;!here&gt;)"},
		{"no fields", "Disabled", "Mend it.", nil, "Disabled: Mend it."},
		{"a long text", strings.Repeat("<", 5000), strings.Repeat("&", 5000), []notifier.Field{{Name: "name", Value: "ops"}}, " (name: ops)"},
		{"a long value", "Disabled", "", []notifier.Field{{Name: "name", Value: strings.Repeat("&", 5000)}}, "&amp;…)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var message struct{ Text string }
			facts := notifier.Facts{Alert: &notifier.Alert{Title: tt.title, Text: tt.text, Fields: tt.fields}}
			if err := json.Unmarshal(posted(t, facts), &message); err != nil {
				t.Fatal(err)
			}
			if !strings.HasSuffix(message.Text, tt.want) {
				t.Errorf("got %q", message.Text)
			}
		})
	}
}
