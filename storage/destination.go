package storage

import "time"

// The kinds of destination.
const (
	KindWebhook = "webhook"
	KindSlack   = "slack"
)

// The states of a destination.
const (
	DestinationEnabled  = "enabled"
	DestinationDisabled = "disabled"
)

// Why a destination is disabled.
const (
	DisabledGone     = "gone"     // it answered 410
	DisabledFailing  = "failing"  // nothing but failures for too long
	DisabledRejected = "rejected" // Slack refuses for good
	DisabledByUser   = "by_user"
)

// Destination is where messages go, without its secrets.
type Destination struct {
	ID                  string
	TenantID            string
	Kind                string // KindWebhook or KindSlack
	Name                string
	URL                 string // of a webhook
	Channel             string // of a Slack bot
	HeaderNames         []string
	Alerts              bool // also receives destination.disabled and credential.rejected
	RateLimit           int  // per second; 0 means none
	MaxInFlight         int
	Status              string // DestinationEnabled or DestinationDisabled
	DisabledReason      string // "" while enabled
	CreatedAt           time.Time
	FailingSince        time.Time // the first failure since the last success; zero if none
	ConsecutiveFailures int
	Bot                 bool // Slack by bot token
}

// SigningSecret is one of the secrets that a webhook is signed with.
type SigningSecret struct {
	Value     Secret
	ExpiresAt time.Time // zero for the current one
}

// DestinationSecret is what must not be seen of a destination.
type DestinationSecret struct {
	Headers  map[string]string
	Signing  []SigningSecret // newest first
	SlackURL Secret
	BotToken Secret
}

// NewDestination is what a destination is made from.
type NewDestination struct {
	TenantID    string
	Kind        string
	Name        string
	URL         string
	Channel     string
	Alerts      bool
	RateLimit   int
	MaxInFlight int
	Secret      DestinationSecret
}

// DestinationPatch changes what is not nil.
type DestinationPatch struct {
	Name        *string
	URL         *string
	Channel     *string
	Headers     *map[string]string
	Alerts      *bool
	RateLimit   *int
	MaxInFlight *int
	SlackURL    *Secret
	BotToken    *Secret
}
