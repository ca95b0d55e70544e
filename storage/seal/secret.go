package seal

import "log/slog"

// redacted is what a Secret shows wherever it is printed.
const redacted = "[redacted]"

// Secret is text that must not be seen: it redacts itself in logs, errors,
// and JSON. Convert it to string at the single place that needs its value.
type Secret string

// String hides the value from fmt.
func (Secret) String() string { return redacted }

// GoString hides the value from %#v.
func (Secret) GoString() string { return redacted }

// LogValue hides the value from slog.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON hides the value from encoding/json.
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }
