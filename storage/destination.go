package storage

import (
	"context"
	"maps"
	"slices"
	"time"

	"oprelay/storage/seal"
	"oprelay/storage/sqldb"
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
	Alerts              bool // also receives destination.disabled, credential.rejected and delivery.failed
	RateLimit           int  // per second; 0 means none
	MaxInFlight         int
	Status              string // DestinationEnabled or DestinationDisabled
	DisabledReason      string // "" while enabled
	CreatedAt           time.Time
	FailingSince        time.Time // steady, the first failure since the last success; zero if none
	ConsecutiveFailures int
	LastSuccessAt       time.Time // when it last accepted something, to the second; zero if it never did
	LastError           string    // why the last failed attempt failed, kept when others succeed; "" if none has
	PausedUntil         time.Time // steady, when it may be sent to again after it asked for a pause; zero if it did not
	ChangedAt           time.Time // steady, when it was last enabled or got another address; zero for never
	Bot                 bool      // Slack by bot token
}

// SigningSecret is one of the secrets that a webhook is signed with.
type SigningSecret struct {
	Value     seal.Secret
	ExpiresAt time.Time // zero for the current one
}

// DestinationSecret holds the secrets of a destination.
type DestinationSecret struct {
	Headers  map[string]string
	Signing  []SigningSecret // newest first
	SlackURL seal.Secret
	BotToken seal.Secret
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
	SlackURL    *seal.Secret
	BotToken    *seal.Secret
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
	max_in_flight, status, disabled_reason, created_at, failing_since, consecutive_failures,
	last_success_at, last_error, paused_until, changed_at, bot`

const selectDestination = `SELECT ` + destinationColumns + ` FROM destinations WHERE deleted_at IS NULL `

func scanDestination(row sqldb.Row) (Destination, error) {
	var d Destination
	err := row.Scan(d.columns()...)
	return d, err
}

// columns is where destinationColumns are read into.
func (d *Destination) columns() []any {
	return []any{
		prefixDestination.scan(&d.ID), prefixTenant.scan(&d.TenantID), &d.Kind, &d.Name, &d.URL, &d.Channel,
		sqldb.JSON(&d.HeaderNames),
		&d.Alerts, &d.RateLimit, &d.MaxInFlight, &d.Status, &d.DisabledReason,
		sqldb.Time(&d.CreatedAt),
		sqldb.Time(&d.FailingSince),
		&d.ConsecutiveFailures,
		sqldb.Time(&d.LastSuccessAt),
		&d.LastError,
		sqldb.Time(&d.PausedUntil),
		sqldb.Time(&d.ChangedAt),
		&d.Bot,
	}
}

// CreateDestination creates a destination. Its secrets are kept sealed.
func (s *Store) CreateDestination(ctx context.Context, n NewDestination) (_ Destination, err error) {
	defer wrapf(&err, "create destination")
	d := Destination{
		ID: newID(prefixDestination), TenantID: n.TenantID, Kind: n.Kind, Name: n.Name, URL: n.URL,
		Channel: n.Channel, HeaderNames: headerNames(n.Secret.Headers), Alerts: n.Alerts, RateLimit: n.RateLimit,
		MaxInFlight: n.MaxInFlight, Status: DestinationEnabled, CreatedAt: s.db.now(),
		Bot: n.Kind == KindSlack && n.Secret.BotToken != "",
	}
	sealed, err := s.db.sealDestination(d.ID, n.Secret)
	if err != nil {
		return Destination{}, err
	}
	names, err := sqldb.JSONText(d.HeaderNames)
	if err != nil {
		return Destination{}, err
	}
	err = s.write(ctx, func(tx *transaction) error {
		return tx.Later(`INSERT INTO destinations
			(id, tenant_id, kind, name, url, channel, header_names, alerts, rate_limit,
			max_in_flight, status, created_at, bot, secret)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)`,
			prefixDestination.arg(d.ID), prefixTenant.arg(d.TenantID), d.Kind, d.Name, d.URL, d.Channel, names, d.Alerts, d.RateLimit,
			d.MaxInFlight, d.Status, d.CreatedAt.UnixMicro(), d.Bot, sealed)
	})
	return d, err
}

func headerNames(headers map[string]string) []string {
	return slices.AppendSeq([]string{}, slices.Values(slices.Sorted(maps.Keys(headers))))
}

// Destination returns one destination of the tenant.
func (s *Store) Destination(ctx context.Context, tenantID, id string) (_ Destination, err error) {
	defer wrapf(&err, "destination %s", id)
	return sqldb.One(ctx, s.reader(), scanDestination,
		selectDestination+`AND tenant_id = $1 AND id = $2`, prefixTenant.arg(tenantID), prefixDestination.arg(id))
}

// Waiting counts the pending and held deliveries of a destination.
func (s *Store) Waiting(ctx context.Context, destinationID string) (_ int, err error) {
	defer wrapf(&err, "what waits for destination %s", destinationID)
	n, err := sqldb.One(ctx, s.reader(), sqldb.Int, `SELECT COUNT(*) FROM waiting_deliveries WHERE destination_id = $1`,
		prefixDestination.arg(destinationID))
	return int(n), err
}

// Destinations lists the tenant's destinations, newest first.
func (s *Store) Destinations(ctx context.Context, tenantID string, page Page) (_ List[Destination], err error) {
	defer wrapf(&err, "list destinations")
	return sqldb.ReadPage(ctx, s.reader(), sqldb.PageQuery[Destination]{
		Selection: selectDestination, Scan: scanDestination, ID: func(d Destination) string { return d.ID },
		Key: prefixDestination.arg, IDColumn: "id",
		Always: sqldb.Filter{Column: "tenant_id", Value: prefixTenant.arg(tenantID)}, Page: page,
	})
}

// KnownDestinations says which of the ids are destinations of the tenant.
func (s *Store) KnownDestinations(ctx context.Context, tenantID string, ids []string) (_ map[string]bool, err error) {
	defer wrapf(&err, "known destinations")
	args := sqldb.Args{prefixTenant.arg(tenantID)}
	found, err := sqldb.All(ctx, s.reader(), prefixDestination.read, `SELECT id FROM destinations
		WHERE tenant_id = $1 AND deleted_at IS NULL AND `+s.db.In(&args, "id", prefixDestination.args(ids)), args...)
	known := make(map[string]bool, len(found))
	for _, id := range found {
		known[id] = true
	}
	return known, err
}

// OpenDestination returns a destination of any tenant with its secrets, for
// delivering. Signing secrets whose time is over are left out.
func (s *Store) OpenDestination(ctx context.Context, id string) (_ Destination, _ DestinationSecret, err error) {
	defer wrapf(&err, "open destination %s", id)
	return s.db.openDestination(ctx, s.reader(), id, "")
}

// openDestination reads a destination and its secrets, and locks it as told. Both are in one
// row, so that secrets are never sent to a URL that they were not set for.
func (db *database) openDestination(
	ctx context.Context, q sqldb.Querier, id, lock string,
) (d Destination, secret DestinationSecret, err error) {
	sealed, err := sqldb.One(ctx, q, func(row sqldb.Row) (sealed []byte, err error) {
		err = row.Scan(append(d.columns(), &sealed)...)
		return sealed, err
	}, `SELECT `+destinationColumns+`, secret FROM destinations WHERE deleted_at IS NULL AND id = $1`+lock, prefixDestination.arg(id))
	if err != nil {
		return d, secret, err
	}
	var kept keptDestination
	if err := db.unseal(destinationSecret(id), sealed, &kept); err != nil {
		return d, secret, err
	}
	secret = DestinationSecret{Headers: kept.Headers, SlackURL: seal.Secret(kept.SlackURL), BotToken: seal.Secret(kept.BotToken)}
	for _, signing := range kept.Signing {
		if signing.ExpiresAt.IsZero() || signing.ExpiresAt.After(db.now()) {
			secret.Signing = append(secret.Signing, SigningSecret{seal.Secret(signing.Value), signing.ExpiresAt})
		}
	}
	return d, secret, nil
}

// destinationSecret names the place of a destination's secrets, see credentialSecret.
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
