package storage

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"
)

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
	FailingSince        time.Time // steady, the first failure since the last success; zero if none
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

// keptDestination is a DestinationSecret as it is sealed: a Secret hides itself in JSON.
type keptDestination struct {
	Headers  map[string]string `json:"headers,omitempty"`
	Signing  []keptSigning     `json:"signing,omitempty"`
	SlackURL string            `json:"slack_url,omitempty"`
	BotToken string            `json:"bot_token,omitempty"`
}

type keptSigning struct {
	Value     string    `json:"value"`
	ExpiresAt time.Time `json:"expires_at,omitzero"`
}

const destinationColumns = `id, tenant_id, kind, name, url, channel, header_names, alerts, rate_limit,
	max_in_flight, status, disabled_reason, created_at, failing_since, consecutive_failures, bot`

const selectDestination = `SELECT ` + destinationColumns + ` FROM destinations WHERE deleted_at IS NULL `

func scanDestination(row scanner) (Destination, error) {
	var d Destination
	err := row.Scan(d.columns()...)
	return d, err
}

// columns is where destinationColumns are read into.
func (d *Destination) columns() []any {
	return []any{
		&d.ID, &d.TenantID, &d.Kind, &d.Name, &d.URL, &d.Channel,
		jsonColumn{&d.HeaderNames},
		&d.Alerts, &d.RateLimit, &d.MaxInFlight, &d.Status, &d.DisabledReason,
		timeColumn{&d.CreatedAt},
		timeColumn{&d.FailingSince},
		&d.ConsecutiveFailures, &d.Bot,
	}
}

// CreateDestination keeps a destination, its secrets sealed.
func (s *Store) CreateDestination(ctx context.Context, n NewDestination) (Destination, error) {
	d := Destination{
		ID: newID(prefixDestination), TenantID: n.TenantID, Kind: n.Kind, Name: n.Name, URL: n.URL,
		Channel: n.Channel, HeaderNames: headerNames(n.Secret.Headers), Alerts: n.Alerts, RateLimit: n.RateLimit,
		MaxInFlight: n.MaxInFlight, Status: DestinationEnabled, CreatedAt: s.db.now(),
		Bot: n.Kind == KindSlack && n.Secret.BotToken != "",
	}
	sealed, err := s.db.sealDestination(d.ID, n.Secret)
	if err != nil {
		return Destination{}, fmt.Errorf("create destination: %w", err)
	}
	names, err := jsonText(d.HeaderNames)
	if err != nil {
		return Destination{}, fmt.Errorf("create destination: %w", err)
	}
	err = s.write(ctx, func(tx *transaction) error {
		err := tx.later(ctx, `INSERT INTO destinations
			(id, tenant_id, kind, name, url, channel, header_names, alerts, rate_limit,
			max_in_flight, status, created_at, bot, secret)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)`,
			d.ID, d.TenantID, d.Kind, d.Name, d.URL, d.Channel, names, d.Alerts, d.RateLimit,
			d.MaxInFlight, d.Status, d.CreatedAt.UnixMicro(), d.Bot, sealed)
		return err
	})
	if err != nil {
		return Destination{}, fmt.Errorf("create destination: %w", err)
	}
	return d, nil
}

func headerNames(headers map[string]string) []string {
	return slices.AppendSeq([]string{}, slices.Values(slices.Sorted(maps.Keys(headers))))
}

// Destination returns one destination of the tenant.
func (s *Store) Destination(ctx context.Context, tenantID, id string) (Destination, error) {
	d, err := queryOne(ctx, s.reader(), scanDestination,
		selectDestination+`AND tenant_id = $1 AND id = $2`, tenantID, id)
	if err != nil {
		return Destination{}, fmt.Errorf("destination %s: %w", id, err)
	}
	return d, nil
}

// Destinations lists the tenant's destinations, newest first.
func (s *Store) Destinations(ctx context.Context, tenantID string, page Page) (List[Destination], error) {
	destinations, err := queryPage(ctx, s.reader(), pageQuery[Destination]{
		selection: selectDestination, scan: scanDestination, id: func(d Destination) string { return d.ID },
		idColumn: "id", tenant: filter{column: "tenant_id", value: tenantID}, page: page,
	})
	if err != nil {
		return List[Destination]{}, fmt.Errorf("list destinations: %w", err)
	}
	return destinations, nil
}

// KnownDestinations says which of the ids are destinations of the tenant.
func (s *Store) KnownDestinations(ctx context.Context, tenantID string, ids []string) (map[string]bool, error) {
	known, err := s.known(ctx, "destinations", tenantID, ids)
	if err != nil {
		return nil, fmt.Errorf("known destinations: %w", err)
	}
	return known, nil
}

// OpenDestination returns a destination of any tenant with its secrets, for
// delivering. Signing secrets whose time is over are left out.
func (s *Store) OpenDestination(ctx context.Context, id string) (Destination, DestinationSecret, error) {
	d, secret, err := s.db.openDestination(ctx, s.reader(), id, "")
	if err != nil {
		return Destination{}, DestinationSecret{}, fmt.Errorf("open destination %s: %w", id, err)
	}
	return d, secret, nil
}

// openDestination reads a destination and its secrets, and locks it as told. They
// are one row: the secrets of one moment are not for the URL of another.
func (db *database) openDestination(
	ctx context.Context, q querier, id, lock string,
) (d Destination, secret DestinationSecret, err error) {
	sealed, err := queryOne(ctx, q, func(row scanner) (sealed []byte, err error) {
		err = row.Scan(append(d.columns(), &sealed)...)
		return sealed, err
	}, `SELECT `+destinationColumns+`, secret FROM destinations WHERE deleted_at IS NULL AND id = $1`+lock, id)
	if err != nil {
		return d, secret, err
	}
	var kept keptDestination
	if err := db.unseal(destinationSecret(id), sealed, &kept); err != nil {
		return d, secret, err
	}
	secret = DestinationSecret{Headers: kept.Headers, SlackURL: Secret(kept.SlackURL), BotToken: Secret(kept.BotToken)}
	for _, signing := range kept.Signing {
		if signing.ExpiresAt.IsZero() || signing.ExpiresAt.After(db.now()) {
			secret.Signing = append(secret.Signing, SigningSecret{Secret(signing.Value), signing.ExpiresAt})
		}
	}
	return d, secret, nil
}

// destinationSecret is where a destination's secrets are kept, for Seal.
func destinationSecret(id string) string { return "destinations/secret/" + id }

func (db *database) sealDestination(id string, secret DestinationSecret) ([]byte, error) {
	kept := keptDestination{
		Headers: secret.Headers, SlackURL: string(secret.SlackURL), BotToken: string(secret.BotToken),
	}
	for _, signing := range secret.Signing {
		kept.Signing = append(kept.Signing, keptSigning{string(signing.Value), signing.ExpiresAt.UTC()})
	}
	return db.seal(destinationSecret(id), kept)
}
