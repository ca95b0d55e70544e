package storage

import (
	"context"
	"fmt"
	"time"

	"oprelay/storage/sqldb"
)

// GroupKind says what the work of a group is.
type GroupKind string

// The kinds of group.
const (
	PollGroup    GroupKind = "poll"    // polls of one budget
	DeliverGroup GroupKind = "deliver" // deliveries to one destination
)

// Group is work that one worker does at a time, because it shares a limit. Its row is inserted
// with its first work.
type Group struct {
	Kind GroupKind
	ID   string // of the budget or of the destination
}

func scanGroup(row sqldb.Row) (Group, error) {
	var g Group
	err := row.Scan(&g.Kind, &g.ID)
	return g, err
}

// DueGroups returns groups that have work now and are not leased, the longest waiting first:
// up to limit of each kind, so that many of one kind do not hide the other.
func (s *Store) DueGroups(ctx context.Context, limit int) (_ []Group, err error) {
	defer wrapf(&err, "due groups")
	now := s.db.steady().UnixMicro()
	// Mostly nothing is due. This is asked for the fifth part of the time that preparing the other takes.
	some, err := sqldb.All(ctx, s.reader(), sqldb.Int, `SELECT 1 FROM work_groups WHERE kind IN ('poll', 'deliver')
		AND due_at IS NOT NULL AND due_at <= $1 AND leased_until <= $1 LIMIT 1`, now)
	if err != nil || len(some) == 0 {
		return nil, err
	}
	const ofKind = `SELECT kind, id, due_at FROM (SELECT kind, id, due_at FROM work_groups WHERE kind = '%s'
		AND due_at IS NOT NULL AND due_at <= $1 AND leased_until <= $1 ORDER BY due_at LIMIT $2) AS due_%[1]s`
	return sqldb.All(ctx, s.reader(), scanGroup, `SELECT kind, id FROM (`+
		fmt.Sprintf(ofKind, PollGroup)+` UNION ALL `+fmt.Sprintf(ofKind, DeliverGroup)+`) AS due ORDER BY due_at`, now, limit)
}

// LeaseGroup leases the group to owner. It is false if the group is leased already (also to
// the same owner), never had work, or pauses (see ReleaseGroup).
func (s *Store) LeaseGroup(ctx context.Context, group Group, owner string, ttl time.Duration) (leased bool, err error) {
	defer wrapf(&err, "lease %s %s", group.Kind, group.ID)
	now := s.db.steady()
	unflushed := ""
	if group.Kind == PollGroup { // no poll is sent before the commit of its charge, which takes the lease to the disk with it
		unflushed = s.unflushed()
	}
	n, err := s.writeOnce(ctx, `UPDATE work_groups SET owner = $1, leased_until = $2
		WHERE kind = $3 AND id = $4 AND leased_until <= $5 AND not_before <= $5`+unflushed,
		owner, now.Add(ttl).UnixMicro(), string(group.Kind), group.ID, now.UnixMicro())
	return n > 0, err
}

// unflushed is SQL for a commit that does not wait for the disk: it may be lost if the server
// dies. Most transactions are leases, and most of their time is that wait.
// https://www.postgresql.org/docs/current/wal-async-commit.html
func (s *Store) unflushed() string {
	if s.tx != nil { // it would be true of all that the transaction writes
		return ""
	}
	return s.db.Unflushed
}

// RenewLease extends the lease. It is false if another has it by now. A lease that ran out
// and that nobody took is extended too.
func (s *Store) RenewLease(ctx context.Context, group Group, owner string, ttl time.Duration) (renewed bool, err error) {
	defer wrapf(&err, "renew the lease of %s %s", group.Kind, group.ID)
	n, err := s.writeOnce(ctx, `UPDATE work_groups SET leased_until = $1 WHERE kind = $2 AND id = $3 AND owner = $4`,
		s.db.steady().Add(ttl).UnixMicro(), string(group.Kind), group.ID, owner)
	return n > 0, err
}

// RenewLeases extends the leases that the owner has on the groups by one statement, and
// returns these groups. It leaves out those that another has by now, and those whose row is
// locked, so as not to wait; RenewLease tells the one from the other.
func (s *Store) RenewLeases(ctx context.Context, owner string, ttl time.Duration, groups []Group) (renewed []Group, err error) {
	defer wrapf(&err, "renew %d leases", len(groups))
	ids := make([]string, len(groups))
	for i, g := range groups {
		ids[i] = g.ID
	}
	err = s.write(ctx, func(tx *transaction) error {
		args := sqldb.Args{tx.db.steady().Add(ttl).UnixMicro(), owner, string(PollGroup), string(DeliverGroup)}
		renewed, err = sqldb.All(ctx, tx, scanGroup, `UPDATE work_groups SET leased_until = $1 WHERE (kind, id) IN (
			SELECT kind, id FROM work_groups WHERE owner = $2 AND kind IN ($3, $4) AND `+tx.InTexts(&args, "id", ids)+
			tx.ForUpdate+tx.SkipLocked+`) RETURNING kind, id`, args...)
		return err
	})
	return renewed, err
}

// Pause says until when a limit lets nobody work on a group. The zero Pause is none.
type Pause struct {
	Until time.Time
	// ButNew says that what becomes due meanwhile need not wait.
	ButNew bool
	// Again is when to look at the group even if nothing is due before; zero for not at all.
	Again time.Time
}

// ReleaseGroup gives the lease back and returns when the group has work next, zero for none.
// That is not before the pause ends, nor before the one ends that its destination asked for,
// whatever becomes due meanwhile: so a limit holds in every process. No wake-up is lost: a
// transaction that makes rows of the group due at the same time has either committed before
// the group is locked here, so that its rows are seen, or waits for the lock and then brings
// the group forward. ErrLeaseLost if another has the lease by now.
func (s *Store) ReleaseGroup(
	ctx context.Context, group Group, owner string, pause Pause,
) (next time.Time, err error) {
	defer wrapf(&err, "release %s %s", group.Kind, group.ID)
	unflushed, notBefore := "", pause.Until
	if pause.ButNew {
		notBefore = time.Time{}
	}
	if notBefore.IsZero() { // if this is lost, the lease runs out
		unflushed = s.unflushed()
	}
	err = s.write(ctx, func(tx *transaction) error {
		_, err := sqldb.One(ctx, tx, scanGroup, `SELECT kind, id FROM work_groups
			WHERE kind = $1 AND id = $2 AND owner = $3`+tx.ForUpdate, string(group.Kind), group.ID, owner)
		if err == ErrNotFound { //nolint:errorlint // One returns it bare
			return ErrLeaseLost
		}
		if err != nil {
			return err
		}
		var until time.Time
		if next, until, err = tx.nextDue(ctx, group); err != nil {
			return err
		}
		limit := pause.Until
		if until.After(tx.db.steady()) && until.After(limit) {
			limit, notBefore = until, until
		}
		if now := tx.db.steady(); !next.IsZero() && next.Before(now) {
			next = now // behind all groups that have waited meanwhile, however old its work is
		}
		if !next.IsZero() && !pause.Again.IsZero() && pause.Again.Before(next) {
			next = pause.Again.UTC().Truncate(time.Microsecond)
		}
		if !next.IsZero() && limit.After(next) {
			next = limit.UTC().Truncate(time.Microsecond)
		}
		return tx.Later(`UPDATE work_groups SET due_at = $1, not_before = $2, owner = '', leased_until = 0
			WHERE kind = $3 AND id = $4`+unflushed, sqldb.Micros(next), max(notBefore.UnixMicro(), 0), string(group.Kind), group.ID)
	})
	return next, err
}

// nextPoll is the due time of a poll group's next row. %s is the group's id.
const nextPoll = `SELECT MIN(due_at) FROM open_operations WHERE budget_id = %s`

// nextDelivery is the due time of a deliver group's next row.
const nextDelivery = `SELECT MIN(due) FROM (
		SELECT MIN(next_attempt_at) AS due FROM waiting_deliveries WHERE destination_id = %[1]s AND turn = 'first'
		UNION ALL
		SELECT MIN(next_attempt_at) FROM waiting_deliveries WHERE destination_id = %[1]s AND turn = 'again'
		UNION ALL
		SELECT MIN(m.due_at) FROM slack_messages m JOIN destinations d ON d.id = m.destination_id
		WHERE m.destination_id = %[1]s AND m.due_at IS NOT NULL AND d.status = 'enabled' AND d.deleted_at IS NULL
	) AS dues`

// nextDue is when the group has work next, zero for never; applyState's is due now.
// pausedUntil is the end of the pause that its destination asked for, zero if there is none
// or nothing may be sent to it.
func (tx *transaction) nextDue(ctx context.Context, group Group) (next, pausedUntil time.Time, err error) {
	query, args := `SELECT (`+fmt.Sprintf(nextPoll, "$1")+`), NULL`, []any{group.ID}
	if group.Kind == DeliverGroup {
		args[0] = prefixDestination.arg(group.ID)
		query = `SELECT MIN(due), (SELECT paused_until FROM destinations WHERE id = $1 AND status = 'enabled' AND deleted_at IS NULL)
			FROM (SELECT (` + fmt.Sprintf(nextDelivery, "$1") + `) AS due
			UNION ALL SELECT CAST($2 AS BIGINT) FROM destinations d WHERE d.id = $1 AND ` + stateNotApplied + `) AS work`
		args = append(args, tx.db.steady().UnixMicro())
	}
	next, err = sqldb.One(ctx, tx, func(row sqldb.Row) (next time.Time, err error) {
		err = row.Scan(sqldb.Time(&next), sqldb.Time(&pausedUntil))
		return next, err
	}, query, args...)
	return next, pausedUntil, err
}

// Overdue is how long the longest waiting work of each kind has been due, including what is
// being worked on. Kinds without any are left out. Of a group that is leased the work itself
// is looked at, for its row says when it was due before that; there are few of these. One that is
// leased in between is left out for this time.
func (s *Store) Overdue(ctx context.Context) (_ map[GroupKind]time.Duration, err error) {
	defer wrapf(&err, "overdue")
	overdue, now := map[GroupKind]time.Duration{}, s.db.steady()
	leased, err := sqldb.All(ctx, s.reader(), sqldb.String, `SELECT id FROM work_groups
		WHERE kind = 'deliver' AND due_at <= $1 AND owner <> ''`, now.UnixMicro())
	if err != nil {
		return nil, err
	}
	args := sqldb.Args{now.UnixMicro()}
	_, err = s.reader().Query(ctx, func(row sqldb.Row) error {
		var kind GroupKind
		var due time.Time
		err := row.Scan(&kind, sqldb.Time(&due))
		overdue[kind] = now.Sub(due)
		return err
	}, `SELECT kind, MIN(due) FROM (
			SELECT kind, due_at AS due FROM work_groups WHERE kind IN ('poll', 'deliver') AND due_at <= $1 AND owner = ''
			UNION ALL
			SELECT kind, (`+fmt.Sprintf(nextPoll, "work_groups.id")+`)
			FROM work_groups WHERE kind = 'poll' AND due_at <= $1 AND owner <> ''
			UNION ALL
			SELECT 'deliver', (`+fmt.Sprintf(nextDelivery, "leased.id")+`)
			FROM destinations leased WHERE `+s.db.In(&args, "leased.id", prefixDestination.args(leased))+`
		) AS waiting WHERE due <= $1 GROUP BY kind`, args...)
	return overdue, err
}
