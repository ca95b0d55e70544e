package storage

import (
	"context"
	"errors"
	"time"
)

var errTODO = errors.New("not written yet")

func (s *Store) SetOnDue(f func([]Group))                      {}
func (s *Store) Migrate(ctx context.Context) ([]string, error) { return nil, errTODO }
func (s *Store) MigrationStatus(ctx context.Context) (Migrations, error) {
	return Migrations{}, errTODO
}
func (s *Store) Ping(ctx context.Context) error                                 { return errTODO }
func (s *Store) Close() error                                                   { return errTODO }
func (s *Store) Backend() string                                                { return "" }
func (s *Store) Atomically(ctx context.Context, do func(tx *Store) error) error { return errTODO }
func Unavailable(err error) bool                                                { return false }
func (k *Keyring) Seal(additional string, plain []byte) ([]byte, error)         { return nil, errTODO }
func (k *Keyring) Open(additional string, sealed []byte) ([]byte, error)        { return nil, errTODO }

func (s *Store) EnsureTenant(ctx context.Context, name string) (Tenant, error) {
	return Tenant{}, errTODO
}
func (s *Store) HasKeys(ctx context.Context) (bool, error) { return false, errTODO }
func (s *Store) CreateKey(ctx context.Context, n NewAPIKey) (Key, Secret, error) {
	return Key{}, "", errTODO
}
func (s *Store) Keys(ctx context.Context, tenantID string, p Page) (List[Key], error) {
	return List[Key]{}, errTODO
}
func (s *Store) AllKeys(ctx context.Context) ([]Key, error)               { return nil, errTODO }
func (s *Store) RevokeKey(ctx context.Context, tenantID, id string) error { return errTODO }
func (s *Store) Authenticate(ctx context.Context, presented string) (Key, error) {
	return Key{}, errTODO
}

func (s *Store) CreateCredential(ctx context.Context, n NewCredential) (Credential, error) {
	return Credential{}, errTODO
}
func (s *Store) Credential(ctx context.Context, tenantID, id string) (Credential, error) {
	return Credential{}, errTODO
}
func (s *Store) Credentials(ctx context.Context, tenantID string, p Page) (List[Credential], error) {
	return List[Credential]{}, errTODO
}
func (s *Store) DeleteCredential(ctx context.Context, tenantID, id string) error { return errTODO }
func (s *Store) OpenCredential(ctx context.Context, id string) (CredentialSecret, error) {
	return CredentialSecret{}, errTODO
}
func (s *Store) KnownCredentials(ctx context.Context, tenantID string, ids []string) (map[string]bool, error) {
	return nil, errTODO
}
func (s *Store) RejectCredential(ctx context.Context, id string, refusedBefore time.Time) (bool, error) {
	return false, errTODO
}

func (s *Store) CreateDestination(ctx context.Context, n NewDestination) (Destination, error) {
	return Destination{}, errTODO
}
func (s *Store) Destination(ctx context.Context, tenantID, id string) (Destination, error) {
	return Destination{}, errTODO
}
func (s *Store) Destinations(ctx context.Context, tenantID string, p Page) (List[Destination], error) {
	return List[Destination]{}, errTODO
}
func (s *Store) KnownDestinations(ctx context.Context, tenantID string, ids []string) (map[string]bool, error) {
	return nil, errTODO
}
func (s *Store) UpdateDestination(ctx context.Context, tenantID, id string, p DestinationPatch) (Destination, error) {
	return Destination{}, errTODO
}
func (s *Store) DeleteDestination(ctx context.Context, tenantID, id string) error { return errTODO }
func (s *Store) RotateSecret(ctx context.Context, tenantID, id string, next Secret, overlap time.Duration) error {
	return errTODO
}
func (s *Store) DisableDestination(ctx context.Context, tenantID, id, reason string) (Destination, error) {
	return Destination{}, errTODO
}
func (s *Store) EnableDestination(ctx context.Context, tenantID, id string) (Destination, error) {
	return Destination{}, errTODO
}
func (s *Store) TestDestination(ctx context.Context, tenantID, id string) (Delivery, error) {
	return Delivery{}, errTODO
}
func (s *Store) Recover(ctx context.Context, tenantID, id string, since, until time.Time) (int, error) {
	return 0, errTODO
}
func (s *Store) OpenDestination(ctx context.Context, id string) (Destination, DestinationSecret, error) {
	return Destination{}, DestinationSecret{}, errTODO
}

func (s *Store) CreateWatches(ctx context.Context, n []NewWatch) ([]Watch, error) {
	return nil, errTODO
}
func (s *Store) Watch(ctx context.Context, tenantID, id string) (Watch, error) {
	return Watch{}, errTODO
}
func (s *Store) Watches(ctx context.Context, f WatchFilter, p Page) (List[Watch], error) {
	return List[Watch]{}, errTODO
}
func (s *Store) CancelWatch(ctx context.Context, tenantID, id string) (Watch, error) {
	return Watch{}, errTODO
}
func (s *Store) ExpireWatches(ctx context.Context, limit int) (int, error) { return 0, errTODO }

func (s *Store) TakePolls(ctx context.Context, take TakePolls) (polls []DuePoll, notBefore time.Time, err error) {
	return nil, time.Time{}, errTODO
}
func (s *Store) RecordPolls(ctx context.Context, results []PollResult) error { return errTODO }
func (s *Store) ParkBudget(ctx context.Context, budgetID string, until time.Time) error {
	return errTODO
}
func (s *Store) HintBudget(ctx context.Context, budgetID string, remaining int, reset time.Time) error {
	return errTODO
}

func (s *Store) DueGroups(ctx context.Context, limit int) ([]Group, error) { return nil, errTODO }
func (s *Store) LeaseGroup(ctx context.Context, g Group, owner string, ttl time.Duration) (bool, error) {
	return false, errTODO
}
func (s *Store) RenewLease(ctx context.Context, g Group, owner string, ttl time.Duration) (bool, error) {
	return false, errTODO
}
func (s *Store) ReleaseGroup(ctx context.Context, g Group, owner string, notBefore time.Time) (next time.Time, err error) {
	return time.Time{}, errTODO
}
func (s *Store) OldestDue(ctx context.Context) (map[GroupKind]time.Time, error) { return nil, errTODO }

func (s *Store) Event(ctx context.Context, tenantID, id string) (Event, error) {
	return Event{}, errTODO
}
func (s *Store) Events(ctx context.Context, tenantID, after string, limit int) (List[Event], error) {
	return List[Event]{}, errTODO
}

func (s *Store) Delivery(ctx context.Context, tenantID, id string) (Delivery, []Attempt, error) {
	return Delivery{}, nil, errTODO
}
func (s *Store) Deliveries(ctx context.Context, f DeliveryFilter, p Page) (List[Delivery], error) {
	return List[Delivery]{}, errTODO
}
func (s *Store) Redeliver(ctx context.Context, tenantID, id string) (Delivery, error) {
	return Delivery{}, errTODO
}
func (s *Store) DueDeliveries(ctx context.Context, take TakeDeliveries) ([]DueDelivery, error) {
	return nil, errTODO
}
func (s *Store) RecordAttempts(ctx context.Context, destinationID string, results []AttemptResult) error {
	return errTODO
}
func (s *Store) DueProgress(ctx context.Context, take TakeDeliveries) ([]DueProgress, error) {
	return nil, errTODO
}
func (s *Store) RecordProgress(ctx context.Context, destinationID string, results []ProgressResult) error {
	return errTODO
}

func (s *Store) ReserveAnswer(ctx context.Context, k IdempotencyKey) (*Answer, error) {
	return nil, errTODO
}
func (s *Store) KeepAnswer(ctx context.Context, k IdempotencyKey, a Answer) error { return errTODO }
func (s *Store) DropReservation(ctx context.Context, k IdempotencyKey) error      { return errTODO }
func (s *Store) Sweep(ctx context.Context, limit int) (int, error)                { return 0, errTODO }
