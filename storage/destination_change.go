package storage

import (
	"context"
	"fmt"
	"time"

	"oprelay/storage/seal"
	"oprelay/storage/sqldb"
)

// UpdateDestination changes what the patch names. Deliveries in flight keep what they were
// sent with. A new address ends the pause that the old one asked for.
func (s *Store) UpdateDestination(ctx context.Context, tenantID, id string, patch DestinationPatch) (_ Destination, err error) {
	defer wrapf(&err, "update destination %s", id)
	return s.changeDestination(ctx, tenantID, id, func(d *Destination, secret *DestinationSecret) {
		set(&d.Name, patch.Name)
		set(&d.URL, patch.URL)
		set(&d.Channel, patch.Channel)
		set(&d.Alerts, patch.Alerts)
		set(&d.RateLimit, patch.RateLimit)
		set(&d.MaxInFlight, patch.MaxInFlight)
		set(&secret.Headers, patch.Headers)
		set(&secret.SlackURL, patch.SlackURL)
		set(&secret.BotToken, patch.BotToken)
		if patch.URL != nil || patch.SlackURL != nil || patch.BotToken != nil || patch.Channel != nil {
			d.PausedUntil, d.ChangedAt = time.Time{}, s.db.steady()
		}
		d.HeaderNames = headerNames(secret.Headers)
	})
}

// set changes a value if the patch has one for it.
func set[T any](value, patch *T) {
	if patch != nil {
		*value = *patch
	}
}

// RotateSecret signs with next from now on. The secrets before sign as well until the
// overlap ends, or their own overlap if that is sooner, so that a receiver can change in
// between.
func (s *Store) RotateSecret(ctx context.Context, tenantID, id string, next seal.Secret, overlap time.Duration) (err error) {
	defer wrapf(&err, "rotate the secret of %s", id)
	_, err = s.changeDestination(ctx, tenantID, id, func(_ *Destination, secret *DestinationSecret) {
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
	return err
}

// changeDestination reads, changes and writes a destination and its secrets.
func (s *Store) changeDestination(
	ctx context.Context, tenantID, id string, change func(*Destination, *DestinationSecret),
) (changed Destination, err error) {
	err = s.write(ctx, func(tx *transaction) error {
		d, secret, err := tx.db.openDestination(ctx, tx, id, tx.ForUpdate)
		if err != nil {
			return err
		}
		if d.TenantID != tenantID {
			return ErrNotFound
		}
		before := d.PausedUntil
		change(&d, &secret)
		sealed, err := tx.db.sealDestination(id, secret)
		if err != nil {
			return err
		}
		names, err := sqldb.JSONText(d.HeaderNames)
		if err != nil {
			return err
		}
		changed = d
		err = sqldb.Exec(ctx, tx, `UPDATE destinations SET name = $1, url = $2, channel = $3, header_names = $4,
			alerts = $5, rate_limit = $6, max_in_flight = $7, secret = $8, paused_until = $9, changed_at = $10 WHERE id = $11`,
			d.Name, d.URL, d.Channel, names, d.Alerts, d.RateLimit, d.MaxInFlight, sealed, sqldb.Micros(d.PausedUntil),
			sqldb.Micros(d.ChangedAt), prefixDestination.arg(id))
		if err != nil || d.PausedUntil.Equal(before) {
			return err
		}
		tx.unpause(Group{DeliverGroup, id})
		return nil
	})
	return changed, err
}

// DeleteDestination is [Store.ForceDeleteDestination], but an [InUseError] while watches
// that are still watching name the destination. CreateWatches holds a lock on its row that
// conflicts with this one only, so no watch is added between the count and the deletion.
func (s *Store) DeleteDestination(ctx context.Context, tenantID, id string) error {
	return s.deleteDestination(ctx, tenantID, id, func(tx *transaction) error {
		key, tenant := prefixDestination.arg(id), prefixTenant.arg(tenantID)
		_, err := sqldb.One(ctx, tx, prefixDestination.read, `SELECT id FROM destinations
			WHERE id = $1 AND tenant_id = $2 AND deleted_at IS NULL`+tx.ForDelete, key, tenant)
		if err != nil {
			return err
		}
		open, err := sqldb.One(ctx, tx, sqldb.Int, `SELECT COUNT(*) FROM open_watches w JOIN watch_destinations wd ON wd.watch_id = w.watch_id
			WHERE w.tenant_id = $1 AND wd.destination_id = $2`, tenant, key)
		if err == nil && open > 0 {
			err = &InUseError{Open: int(open)}
		}
		return err
	})
}

// ForceDeleteDestination deletes a destination and its secrets. What waits for it is canceled,
// see applyState. The row stays, for deliveries name it, and so do watch_destinations:
// whoever reads these leaves deleted ones out.
func (s *Store) ForceDeleteDestination(ctx context.Context, tenantID, id string) error {
	return s.deleteDestination(ctx, tenantID, id, func(*transaction) error { return nil })
}

func (s *Store) deleteDestination(ctx context.Context, tenantID, id string, allowed func(*transaction) error) error {
	err := s.write(ctx, func(tx *transaction) error {
		if err := allowed(tx); err != nil {
			return err
		}
		err := sqldb.Exec(ctx, tx, `UPDATE destinations SET deleted_at = $1, secret = $2
			WHERE id = $3 AND tenant_id = $4 AND deleted_at IS NULL`, tx.db.now().UnixMicro(), []byte{},
			prefixDestination.arg(id), prefixTenant.arg(tenantID))
		if err != nil {
			return err
		}
		return tx.applyState(ctx, id)
	})
	if err != nil {
		return fmt.Errorf("delete destination %s: %w", id, err)
	}
	return nil
}

// lockDestination reads and locks a destination of the tenant, of any tenant if tenantID is
// "". It never waits for the row of another tenant.
func (tx *transaction) lockDestination(ctx context.Context, tenantID, id string) (Destination, error) {
	return sqldb.One(ctx, tx, scanDestination,
		selectDestination+`AND id = $1 AND (tenant_id = $2 OR $3)`+tx.ForUpdate,
		prefixDestination.arg(id), prefixTenant.arg(tenantID), tenantID == "")
}

// DisableDestination stops sending to a destination: its pending deliveries are
// held, see applyState. Unless it is the user's wish, the tenant's other alerts destinations
// are told. One that is disabled already keeps its reason, and nobody is told
// again. A tenantID of "" means any tenant's, for the workers.
func (s *Store) DisableDestination(ctx context.Context, tenantID, id, reason string) (disabled Destination, err error) {
	defer wrapf(&err, "disable destination %s", id)
	err = s.write(ctx, func(tx *transaction) error {
		d, err := tx.lockDestination(ctx, tenantID, id)
		disabled = d
		if err != nil || d.Status == DestinationDisabled {
			return err
		}
		disabled.Status, disabled.DisabledReason = DestinationDisabled, reason
		err = tx.Later(`UPDATE destinations SET status = 'disabled', disabled_reason = $1 WHERE id = $2`, reason, prefixDestination.arg(id))
		if err != nil {
			return err
		}
		if reason != DisabledByUser {
			if err := tx.alertDisabled(ctx, disabled); err != nil {
				return err
			}
		}
		return tx.applyState(ctx, id)
	})
	return disabled, err
}

// alertDisabled tells the other alerts destinations that one is disabled.
func (tx *transaction) alertDisabled(ctx context.Context, d Destination) error {
	now := tx.db.now()
	body, err := renderBody(EventDestinationDisabled, now, destinationDisabledData{
		DestinationID: d.ID, Name: d.Name, Reason: d.DisabledReason, DisabledAt: now, LastError: optional(d.LastError),
	})
	if err != nil {
		return err
	}
	alert, err := tx.alert(ctx, event{tenantID: d.TenantID, kind: EventDestinationDisabled, body: body}, d.ID)
	if err != nil {
		return err
	}
	return tx.publish([]event{alert})
}

// EnableDestination sends to a destination again, held deliveries first. Its failures and
// the pause that it asked for are forgotten.
func (s *Store) EnableDestination(ctx context.Context, tenantID, id string) (enabled Destination, err error) {
	defer wrapf(&err, "enable destination %s", id)
	err = s.write(ctx, func(tx *transaction) error {
		d, err := tx.lockDestination(ctx, tenantID, id)
		enabled = d
		if err != nil || d.Status == DestinationEnabled && d.PausedUntil.IsZero() {
			return err
		}
		enabled.Status, enabled.DisabledReason, enabled.ChangedAt = DestinationEnabled, "", tx.db.steady()
		enabled.FailingSince, enabled.ConsecutiveFailures, enabled.PausedUntil = time.Time{}, 0, time.Time{}
		err = tx.Later(`UPDATE destinations SET status = 'enabled', disabled_reason = '',
			failing_since = NULL, consecutive_failures = 0, paused_until = NULL, changed_at = $2 WHERE id = $1`,
			prefixDestination.arg(id), enabled.ChangedAt.UnixMicro())
		if err != nil {
			return err
		}
		if err := tx.applyState(ctx, id); err != nil {
			return err
		}
		tx.unpause(Group{DeliverGroup, id}) // for messages in Slack, too
		return nil
	})
	return enabled, err
}

// defaultMoveMost is how many deliveries one transaction moves to another state: so few that
// nobody waits long for it.
const defaultMoveMost = 1000

// waitingOf, pendingOf and heldOf find the deliveries that wait for the destination $1. behindOf
// finds watches whose Slack messages do not show their state yet.
const (
	waitingOf = `SELECT id FROM waiting_deliveries WHERE destination_id = $1`
	pendingOf = waitingOf + ` AND turn IN ('first', 'again')`
	heldOf    = waitingOf + ` AND turn = 'held'`
	behindOf  = `SELECT watch_id FROM slack_messages WHERE destination_id = $1 AND due_at IS NOT NULL`
)

// stateNotApplied says whether the destination d, whose id is $1, has deliveries (or Slack
// messages) that applyState has to move.
const stateNotApplied = `CASE WHEN d.deleted_at IS NOT NULL
	THEN EXISTS (` + waitingOf + ` UNION ALL ` + behindOf + `)
	WHEN d.status = 'enabled' THEN EXISTS (` + heldOf + `) ELSE EXISTS (` + pendingOf + `) END`

// applyState has deliveries follow the state of their destination: pending while it is
// enabled, held while it is disabled, canceled (with the updates of its Slack messages) once
// it is deleted. It moves a bounded number of them and, unless there was nothing to move,
// makes the group due, whose next run goes on. So a change of the state is one short
// transaction however much waits. It also puts right what another transaction wrote by the
// state before and committed after the change, so these need no lock on the destination.
func (tx *transaction) applyState(ctx context.Context, destinationID string) error {
	key := prefixDestination.arg(destinationID)
	state, err := sqldb.One(ctx, tx, sqldb.String, `SELECT CASE WHEN deleted_at IS NOT NULL THEN 'deleted' ELSE status END
		FROM destinations WHERE id = $1`+tx.ForUpdate, key)
	if err != nil {
		return err
	}
	var n int
	switch state {
	case DestinationEnabled:
		n, err = sqldb.ExecCount(ctx, tx, `UPDATE waiting_deliveries SET turn = CASE WHEN step > 0 THEN 'again' ELSE 'first' END,
			next_attempt_at = $2 WHERE id IN (`+heldOf+` LIMIT $3)`, key, tx.db.steady().UnixMicro(), tx.db.moveMost)
	case DestinationDisabled:
		n, err = sqldb.ExecCount(ctx, tx, `UPDATE waiting_deliveries SET turn = 'held', next_attempt_at = NULL
			WHERE id IN (`+pendingOf+` LIMIT $2)`, key, tx.db.moveMost)
	default:
		n, err = tx.cancelWaiting(ctx, key)
	}
	if err != nil || n == 0 {
		return err
	}
	tx.unpause(Group{DeliverGroup, destinationID})
	return nil
}

// cancelWaiting cancels some of what waits for a destination, which is locked, and says how much.
func (tx *transaction) cancelWaiting(ctx context.Context, destination sqldb.UUID) (n int, err error) {
	n, err = sqldb.ExecCount(ctx, tx, `UPDATE slack_messages SET due_at = NULL
		WHERE destination_id = $1 AND watch_id IN (`+behindOf+` LIMIT $2)`, destination, tx.db.moveMost)
	if err != nil {
		return 0, err
	}
	ids, err := sqldb.All(ctx, tx, prefixDelivery.read, waitingOf+` LIMIT $2`, destination, tx.db.moveMost)
	if err != nil || len(ids) == 0 {
		return n, err
	}
	return n + len(ids), tx.giveUp(ids, DeliveryCanceled)
}
