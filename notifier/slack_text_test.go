package notifier

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestEscapeCuts(t *testing.T) {
	t.Parallel()
	tests := []struct {
		text  string
		limit int
		want  string
	}{
		{"", 5, ""},
		{"abcde", 5, "abcde"},
		{"abcdef", 5, "abcd…"},
		{"a<b", 6, "a&lt;b"},
		{"a<b", 5, "a…"},
		{"a&b", 7, "a&amp;b"},
		{"a&b", 6, "a…"},
		{"&", 4, "…"},
		{"<>", 8, "&lt;&gt;"},
		{"üüü", 3, "üüü"},
		{"üüüü", 3, "üü…"},
		{"😀😀", 4, "😀😀"}, // each counts as two
		{"😀😀😀", 4, "😀…"},
		{"👩‍👩‍👧", 1, "…"},
	}
	for _, tt := range tests {
		if got := escape(tt.text, tt.limit); got != tt.want {
			t.Errorf("escape(%q, %d) = %q, want %q", tt.text, tt.limit, got, tt.want)
		}
	}
}

func FuzzCode(f *testing.F) {
	f.Add("<!channel> `x` \xff\r\n", 20)
	f.Add("😀&&&&", 9)
	f.Fuzz(func(t *testing.T, text string, limit int) {
		limit = min(max(limit, 10), 3000)
		for _, got := range []string{code(text, limit), preformatted(text, limit)} {
			inner := strings.Trim(got, "`")
			switch {
			case !utf8.ValidString(got):
				t.Errorf("not UTF-8: %q", got)
			case strings.ContainsAny(inner, "`<>"):
				t.Errorf("breaks out: %q", got)
			case utf8.RuneCountInString(got) > limit:
				t.Errorf("longer than %d: %q", limit, got)
			case strings.Count(inner, "&") != strings.Count(inner, "&amp;")+strings.Count(inner, "&lt;")+strings.Count(inner, "&gt;"):
				t.Errorf("a broken entity: %q", got)
			}
		}
	})
}
