package source

import "strings"

// Pointer is a JSON Pointer (RFC 6901). The token * stands for each element of an array.
type Pointer string

// fault says why it is none, "" if it is one. The whole document cannot be meant.
func (p Pointer) fault() string {
	switch {
	case !strings.HasPrefix(string(p), "/"):
		return "it has to begin with /, as /result/status"
	case strings.Contains(strings.NewReplacer("~0", "", "~1", "").Replace(string(p)), "~"):
		return "~ is written ~0, and / in a name ~1"
	}
	return ""
}

// Tokens are the names and indices that lead to the value.
func (p Pointer) Tokens() []string {
	tokens := strings.Split(string(p), "/")[1:]
	for i, token := range tokens {
		tokens[i] = strings.ReplaceAll(strings.ReplaceAll(token, "~1", "/"), "~0", "~")
	}
	return tokens
}
