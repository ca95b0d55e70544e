package storage

import (
	"context"
	"fmt"
	"time"
)

// GroupKind says what the work of a group is.
type GroupKind string

// The kinds of group.
const (
	PollGroup    GroupKind = "poll"    // polls of one budget
	DeliverGroup GroupKind = "deliver" // deliveries to one destination
)

// Group is work that one worker does at a time, because it shares a limit. A
// group comes into being with its first work.
type Group struct {
	Kind GroupKind
	ID   string // of the budget or of the destination
}

func scanGroup(row scanner) (Group, error) {
	var g Group
	err := row.Scan(&g.Kind, &g.ID)
	return g, err
}

// DueGroups returns up to limit groups that have work now and are not leased,
// the longest waiting first.
func (s *Store) DueGroups(ctx context.Context, limit int) ([]Group, error) {
	groups, err := queryAll(ctx, s.reader(), scanGroup, `SELECT kind, id FROM work_groups
		WHERE due_at IS NOT NULL AND due_at <= $1 AND leased_until <= $1 ORDER BY due_at LIMIT $2`,
		s.db.steady().UnixMicro(), limit)
	if err != nil {
		return nil, fmt.Errorf("due groups: %w", err)
	}
	return groups, nil
}

// LeaseGroup leases the group to owner. It is false if the group is leased (to
// the same owner too), never had work, or is not to be worked on yet (see
// ReleaseGroup).
func (s *Store) LeaseGroup(ctx context.Context, group Group, owner string, ttl time.Duration) (leased bool, err error) {
	now := s.db.steady()
	unflushed := ""
	if group.Kind == PollGroup { // no poll is sent before the commit of its charge, which takes the lease to the disk with it
		unflushed = s.unflushed()
	}
	n, err := s.writeOnce(ctx, `UPDATE work_groups SET owner = $1, leased_until = $2
		WHERE kind = $3 AND id = $4 AND leased_until <= $5 AND not_before <= $5`+unflushed,
		owner, now.Add(ttl).UnixMicro(), string(group.Kind), group.ID, now.UnixMicro())
	if err != nil {
		return false, fmt.Errorf("lease %s %s: %w", group.Kind, group.ID, err)
	}
	return n > 0, nil
}

// unflushed is for what may be lost when the server dies, with all that was committed after
// it. A commit waits for the disk, and most of what comes alone is leases.
// https://www.postgresql.org/docs/current/wal-async-commit.html
func (s *Store) unflushed() string {
	if s.tx != nil { // it would be true of all that the transaction writes
		return ""
	}
	return s.db.dialect.unflushed
}

// RenewLease extends the lease: false if it is another's by now. One that ran
// out and that nobody took is extended too.
func (s *Store) RenewLease(ctx context.Context, group Group, owner string, ttl time.Duration) (renewed bool, err error) {
	n, err := s.writeOnce(ctx, `UPDATE work_groups SET leased_until = $1 WHERE kind = $2 AND id = $3 AND owner = $4`,
		s.db.steady().Add(ttl).UnixMicro(), string(group.Kind), group.ID, owner)
	if err != nil {
		return false, fmt.Errorf("renew the lease of %s %s: %w", group.Kind, group.ID, err)
	}
	return n > 0, nil
}

// ReleaseGroup gives the lease back and returns when the group has work next
// (zero for none). That is not before notBefore, whatever becomes due meanwhile:
// so a limit holds in every process. Who makes rows of the group due at the same
// time has committed before the group is locked here, so that they are seen; or
// waits for the lock, and brings the group forward after. So no wake-up is lost.
// ErrLeaseLost if the lease is another's by now.
func (s *Store) ReleaseGroup(
	ctx context.Context, group Group, owner string, notBefore time.Time,
) (next time.Time, err error) {
	unflushed := ""
	if notBefore.IsZero() { // a lease that was given back for nothing runs out
		unflushed = s.unflushed()
	}
	err = s.write(ctx, func(tx *transaction) error {
		_, err := queryOne(ctx, tx, scanGroup, `SELECT kind, id FROM work_groups
			WHERE kind = $1 AND id = $2 AND owner = $3`+tx.db.dialect.forUpdate, string(group.Kind), group.ID, owner)
		if err == ErrNotFound { //nolint:errorlint // queryOne returns it bare
			return ErrLeaseLost
		}
		if err != nil {
			return err
		}
		if next, err = tx.nextDue(ctx, group); err != nil {
			return err
		}
		if now := tx.db.steady(); !next.IsZero() && next.Before(now) {
			next = now // behind all who have waited meanwhile, however old its work is
		}
		if !next.IsZero() && notBefore.After(next) {
			next = notBefore.UTC().Truncate(time.Microsecond)
		}
		return tx.later(ctx, `UPDATE work_groups SET due_at = $1, not_before = $2, owner = '', leased_until = 0
			WHERE kind = $3 AND id = $4`+unflushed, instant(next), max(notBefore.UnixMicro(), 0), string(group.Kind), group.ID)
	})
	if err != nil {
		return time.Time{}, fmt.Errorf("release %s %s: %w", group.Kind, group.ID, err)
	}
	return next, nil
}

// The due time of a poll group's next row; %s is its id.
const nextPoll = `SELECT MIN(due_at) FROM operations WHERE budget_id = %s AND active`

// The due time of a deliver group's next row.
const nextDelivery = `SELECT MIN(due) FROM (
		SELECT MIN(next_attempt_at) AS due FROM deliveries WHERE destination_id = %[1]s AND status = 'pending' AND step = 0
		UNION ALL
		SELECT MIN(next_attempt_at) FROM deliveries WHERE destination_id = %[1]s AND status = 'pending' AND step > 0
		UNION ALL
		SELECT MIN(m.due_at) FROM slack_messages m JOIN destinations d ON d.id = m.destination_id
		WHERE m.destination_id = %[1]s AND m.due_at IS NOT NULL AND d.status = 'enabled' AND d.deleted_at IS NULL
	) AS dues`

// nextDue is when the group has work next; zero for never. Deliveries that settle has
// to move are work now.
func (tx *transaction) nextDue(ctx context.Context, group Group) (time.Time, error) {
	query, args := fmt.Sprintf(nextPoll, "$1"), []any{group.ID}
	if group.Kind == DeliverGroup {
		query = `SELECT MIN(due) FROM (SELECT (` + fmt.Sprintf(nextDelivery, "$1") + `) AS due
			UNION ALL SELECT CAST($2 AS BIGINT) FROM destinations d WHERE d.id = $1 AND ` + unsettled + `) AS work`
		args = append(args, tx.db.steady().UnixMicro())
	}
	return queryOne(ctx, tx, scanTime, query, args...)
}

// Overdue is how long the longest waiting work of each kind has been due, what is
// being worked on included; kinds without any are left out. Of a group that is not
// given back the work itself is looked at, for its holder may have done all that was
// due when it came. There are no more of these groups than shifts.
func (s *Store) Overdue(ctx context.Context) (map[GroupKind]time.Duration, error) {
	overdue, now := map[GroupKind]time.Duration{}, s.db.steady()
	_, err := queryAll(ctx, s.reader(), func(row scanner) (struct{}, error) {
		var kind GroupKind
		var due time.Time
		err := row.Scan(&kind, timeColumn{&due})
		overdue[kind] = now.Sub(due)
		return struct{}{}, err
	}, `SELECT kind, MIN(due) FROM (
			SELECT kind, due_at AS due FROM work_groups WHERE due_at <= $1 AND owner = ''
			UNION ALL
			SELECT kind, CASE kind WHEN 'poll' THEN (`+fmt.Sprintf(nextPoll, "work_groups.id")+`)
				ELSE (`+fmt.Sprintf(nextDelivery, "work_groups.id")+`) END
			FROM work_groups WHERE due_at <= $1 AND owner <> ''
		) AS waiting WHERE due <= $1 GROUP BY kind`, now.UnixMicro())
	if err != nil {
		return nil, fmt.Errorf("overdue: %w", err)
	}
	return overdue, nil
}
