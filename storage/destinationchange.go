package storage

import (
	"context"
	"fmt"
	"time"
)

// UpdateDestination changes what the patch names. Deliveries on their way keep
// what they were sent with.
func (s *Store) UpdateDestination(ctx context.Context, tenantID, id string, patch DestinationPatch) (Destination, error) {
	d, err := s.changeDestination(ctx, tenantID, id, func(d *Destination, secret *DestinationSecret) {
		set(&d.Name, patch.Name)
		set(&d.URL, patch.URL)
		set(&d.Channel, patch.Channel)
		set(&d.Alerts, patch.Alerts)
		set(&d.RateLimit, patch.RateLimit)
		set(&d.MaxInFlight, patch.MaxInFlight)
		set(&secret.Headers, patch.Headers)
		set(&secret.SlackURL, patch.SlackURL)
		set(&secret.BotToken, patch.BotToken)
		d.HeaderNames = headerNames(secret.Headers)
	})
	if err != nil {
		return Destination{}, fmt.Errorf("update destination %s: %w", id, err)
	}
	return d, nil
}

// set changes a value if the patch has one for it.
func set[T any](value, patch *T) {
	if patch != nil {
		*value = *patch
	}
}

// RotateSecret signs with next from now on. What signed until now signs beside
// it until the overlap ends, so that a receiver can change in between, or until
// its own overlap ends, if that is sooner.
func (s *Store) RotateSecret(ctx context.Context, tenantID, id string, next Secret, overlap time.Duration) error {
	_, err := s.changeDestination(ctx, tenantID, id, func(_ *Destination, secret *DestinationSecret) {
		signing, now := []SigningSecret{{Value: next}}, s.db.now()
		end := now.Add(overlap)
		for _, old := range secret.Signing {
			if old.ExpiresAt.IsZero() || old.ExpiresAt.After(end) {
				old.ExpiresAt = end
			}
			if old.ExpiresAt.After(now) {
				signing = append(signing, old)
			}
		}
		secret.Signing = signing
	})
	if err != nil {
		return fmt.Errorf("rotate the secret of %s: %w", id, err)
	}
	return nil
}

// changeDestination reads, changes and writes a destination and its secrets.
func (s *Store) changeDestination(
	ctx context.Context, tenantID, id string, change func(*Destination, *DestinationSecret),
) (changed Destination, err error) {
	err = s.write(ctx, func(tx *transaction) error {
		d, secret, err := tx.db.openDestination(ctx, tx, id, tx.db.dialect.forUpdate)
		if err != nil {
			return err
		}
		if d.TenantID != tenantID {
			return ErrNotFound
		}
		change(&d, &secret)
		sealed, err := tx.db.sealDestination(id, secret)
		if err != nil {
			return err
		}
		names, err := jsonText(d.HeaderNames)
		if err != nil {
			return err
		}
		changed = d
		return exec(ctx, tx, `UPDATE destinations SET name = $1, url = $2, channel = $3, header_names = $4,
			alerts = $5, rate_limit = $6, max_in_flight = $7, secret = $8 WHERE id = $9`,
			d.Name, d.URL, d.Channel, names, d.Alerts, d.RateLimit, d.MaxInFlight, sealed, id)
	})
	return changed, err
}

// DeleteDestination forgets a destination and its secrets. What it was still to
// receive is canceled, see settle.
func (s *Store) DeleteDestination(ctx context.Context, tenantID, id string) error {
	err := s.write(ctx, func(tx *transaction) error {
		err := exec(ctx, tx, `UPDATE destinations SET deleted_at = $1, secret = $2
			WHERE id = $3 AND tenant_id = $4 AND deleted_at IS NULL`, tx.db.now().UnixMicro(), []byte{}, id, tenantID)
		if err != nil {
			return err
		}
		return tx.settle(ctx, id)
	})
	if err != nil {
		return fmt.Errorf("delete destination %s: %w", id, err)
	}
	return nil
}

// lockDestination reads and locks a destination of the tenant; of any, if tenantID
// is "". Another tenant's is not waited for.
func (tx *transaction) lockDestination(ctx context.Context, tenantID, id string) (Destination, error) {
	return queryOne(ctx, tx, scanDestination,
		selectDestination+`AND id = $1 AND (tenant_id = $2 OR $2 = '')`+tx.db.dialect.forUpdate, id, tenantID)
}

// DisableDestination stops sending to a destination: its pending deliveries are
// held, see settle. Unless it is the user's wish, the tenant's other alerts destinations
// are told. One that is disabled already keeps its reason, and nobody is told
// again. A tenantID of "" means any tenant's, for the workers.
func (s *Store) DisableDestination(ctx context.Context, tenantID, id, reason string) (disabled Destination, err error) {
	err = s.write(ctx, func(tx *transaction) error {
		d, err := tx.lockDestination(ctx, tenantID, id)
		disabled = d
		if err != nil || d.Status == DestinationDisabled {
			return err
		}
		disabled.Status, disabled.DisabledReason = DestinationDisabled, reason
		err = tx.later(ctx, `UPDATE destinations SET status = 'disabled', disabled_reason = $1 WHERE id = $2`, reason, id)
		if err != nil {
			return err
		}
		if reason != DisabledByUser {
			if err := tx.alertDisabled(ctx, disabled); err != nil {
				return err
			}
		}
		return tx.settle(ctx, id)
	})
	if err != nil {
		return Destination{}, fmt.Errorf("disable destination %s: %w", id, err)
	}
	return disabled, nil
}

// alertDisabled tells the other alerts destinations that one is disabled.
func (tx *transaction) alertDisabled(ctx context.Context, d Destination) error {
	now := tx.db.now()
	body, err := renderBody(EventDestinationDisabled, now, destinationDisabledData{
		DestinationID: d.ID, Name: d.Name, Reason: d.DisabledReason, DisabledAt: now,
	})
	if err != nil {
		return err
	}
	return tx.alert(ctx, event{tenantID: d.TenantID, kind: EventDestinationDisabled, body: body}, d.ID)
}

// EnableDestination sends to a destination again, what was held first. Its
// failures are forgotten.
func (s *Store) EnableDestination(ctx context.Context, tenantID, id string) (enabled Destination, err error) {
	err = s.write(ctx, func(tx *transaction) error {
		d, err := tx.lockDestination(ctx, tenantID, id)
		enabled = d
		if err != nil || d.Status == DestinationEnabled {
			return err
		}
		enabled.Status, enabled.DisabledReason = DestinationEnabled, ""
		enabled.FailingSince, enabled.ConsecutiveFailures = time.Time{}, 0
		err = tx.later(ctx, `UPDATE destinations SET status = 'enabled', disabled_reason = '',
			failing_since = NULL, consecutive_failures = 0 WHERE id = $1`, id)
		if err != nil {
			return err
		}
		if err := tx.settle(ctx, id); err != nil {
			return err
		}
		tx.markDue(Group{DeliverGroup, id}, tx.db.steady()) // for messages in Slack
		err = tx.later(ctx, `UPDATE work_groups SET not_before = 0 WHERE kind = $1 AND id = $2`,
			string(DeliverGroup), id)
		return err
	})
	if err != nil {
		return Destination{}, fmt.Errorf("enable destination %s: %w", id, err)
	}
	return enabled, nil
}
