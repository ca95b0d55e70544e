package storage

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"oprelay/storage/sqldb"
)

// PollResult is what one poll told. Its times are steady, but for CompletedAt,
// which is the upstream's.
type PollResult struct {
	RowID              string
	At                 time.Time
	Next               time.Time // when to poll again, unless End is set
	Held               bool      // that is later than the operation's own interval, for its budget
	Status             string    // "" when the poll was inconclusive
	UpstreamStatus     string    // the upstream's own word; "" if it gave none
	Error              string
	CompletedAt        time.Time // of an operation that completed or failed; At stands in for the zero time
	Problem            string    // why the poll was inconclusive
	RefusedSince       time.Time
	RefusedReason      string // ReasonCredentialRejected or ReasonNotFound
	End                string // "", WatchCompleted, WatchFailed or WatchUnobservable
	CredentialRefused  bool
	CredentialAccepted bool
	CredentialVersion  int // the DuePoll's
	// GraceGap is after how long without a refusal of the credential the next one begins
	// its grace anew; 0 for never.
	GraceGap time.Duration
}

// RecordPolls writes the results of a group's polls, at most one per row, in one
// transaction. Where End is set, the operation is closed and its watches end, in this
// transaction or, where there are many, soon after ([Store.EndRemaining]). Results for
// operations that were closed meanwhile are dropped. A refusal of a secret that the
// credential no longer has ends nothing: the operation is polled anew.
func (s *Store) RecordPolls(ctx context.Context, results []PollResult) error {
	_, err := s.recordPolls(ctx, results, nil)
	return err
}

// RecordRefusals is RecordPolls, and rejects the credentials that were refused for longer
// than the grace. It tells the alerts destinations of their tenants and returns the ids of
// the credentials, whose watches [Store.EndRejected] ends.
func (s *Store) RecordRefusals(ctx context.Context, results []PollResult, grace time.Duration) (rejected []string, err error) {
	return s.recordPolls(ctx, results, &grace)
}

// recordPolls rejects no credential if grace is nil. Results that are recorded together share
// a commit, see groupCommit, unless they refuse a credential.
func (s *Store) recordPolls(ctx context.Context, results []PollResult, grace *time.Duration) (rejected []string, err error) {
	defer wrapf(&err, "record %d polls", len(results))
	switch {
	case len(results) == 0:
		return nil, nil
	case s.tx != nil:
		return s.writePolls(ctx, results, grace)
	case slices.ContainsFunc(results, func(r PollResult) bool { return r.CredentialRefused }):
		err = s.AtomicallyInTurn(ctx, func(tx *Store) error {
			rejected, err = tx.writePolls(ctx, results, grace)
			return err
		})
		return rejected, err
	}
	return nil, s.db.polls.do(ctx, &contribution[[]PollResult]{what: results, rows: len(results), locks: results[0].RowID})
}

func (s *Store) commitPolls(ctx context.Context, all [][]PollResult) ([]error, error) {
	_, err := s.writePolls(ctx, slices.Concat(all...), nil)
	return nil, err
}

func (s *Store) writePolls(ctx context.Context, results []PollResult, grace *time.Duration) (rejected []string, err error) {
	err = s.write(ctx, func(tx *transaction) error {
		tx.recorded[PollGroup] += len(results)
		byRow := make(map[string]PollResult, len(results))
		for _, r := range results {
			byRow[r.RowID] = r
		}
		rowIDs := slices.Sorted(maps.Keys(byRow))
		var alerts []event
		if rejected, alerts, err = tx.recordCredentials(ctx, byRow, rowIDs, grace); err != nil {
			return err
		}
		_, operations, err := tx.lock(ctx, rowIDs, true)
		if err != nil {
			return err
		}
		if err := tx.dropOldRefusals(ctx, operations, byRow); err != nil {
			return err
		}
		if err := tx.updateOperations(operations, byRow); err != nil {
			return err
		}
		var ended, moved, lastSeen []string
		for _, o := range operations {
			r := byRow[o.id]
			switch {
			case r.End != "":
				ended = append(ended, o.id)
			case r.Status != "" && r.Status != o.status:
				moved = append(moved, o.id)
				tx.changes.operation(o.tenantID, o.id)
			}
			if r.End == "" && o.lastPoll {
				lastSeen = append(lastSeen, o.id)
			}
		}
		if err := tx.expirePolled(lastSeen, touchMost); err != nil {
			return err
		}
		if err := tx.endOperations(ctx, ended, alerts...); err != nil {
			return err
		}
		return tx.showOperations(ctx, moved, touchMost)
	})
	return rejected, err
}

// dropOldRefusals turns a result with a refusal (its own or an earlier one) of a secret that
// was replaced meanwhile into one that tells nothing. UpdateCredential locks the operations
// too: so either the new secret is seen here, or it comes later and clears this refusal.
func (tx *transaction) dropOldRefusals(ctx context.Context, operations []lockedOperation, results map[string]PollResult) error {
	var refused []string
	for _, o := range operations {
		if results[o.id].RefusedReason == ReasonCredentialRejected {
			refused = append(refused, o.id)
		}
	}
	if len(refused) == 0 {
		return nil
	}
	var args sqldb.Args
	polls, err := sqldb.All(ctx, tx, scanPollOf, selectPollOf+tx.In(&args, "o.id", prefixOperation.args(refused)), args...)
	for _, p := range polls {
		if r := results[p.operationRef]; r.CredentialVersion != p.version {
			results[p.operationRef] = PollResult{RowID: r.RowID, At: r.At, Next: r.At}
		}
	}
	return err
}

// askedSince says whether a last poll was asked for after the one that is recorded, which was
// answered before the deadline: then it is still to be made.
const askedSince = `open_operations.last_poll_asked_at > v.column2`

// updateOperations writes the results into locked operations, and those that end into what is
// kept. They stay open until their watches have ended, see endOperations.
func (tx *transaction) updateOperations(operations []lockedOperation, results map[string]PollResult) error {
	var going, over [][]any
	for _, o := range operations {
		r := results[o.id]
		status, word, message, completedAt := o.status, o.upstreamStatus, o.message, o.completedAt
		if r.Status != "" {
			status, message, completedAt = r.Status, sqldb.Clean(r.Error), r.CompletedAt
		}
		if r.UpstreamStatus != "" {
			word = sqldb.Clean(r.UpstreamStatus)
		}
		if r.End == WatchCompleted || r.End == WatchFailed {
			status = r.End
			completedAt = cmp.Or(completedAt, tx.db.dated(r.At))
		}
		state := []any{r.At.UnixMicro(), status, word, message, sqldb.Micros(completedAt), sqldb.Clean(r.Problem), r.RefusedReason}
		if r.End != "" {
			over = append(over, append(state, prefixOperation.arg(o.id), o.source, o.params, o.operationID, o.polls+1, o.watches))
			continue
		}
		tx.markDue(Group{PollGroup, o.budgetID}, r.Next)
		going = append(going, slices.Concat([]any{prefixOperation.arg(o.id)}, state, []any{
			r.Next.UnixMicro(), r.Held, sqldb.Micros(r.RefusedSince),
		}))
	}
	err := tx.InsertRows(`INSERT INTO operations (last_polled_at, status, upstream_status, error, completed_at, problem, refused_reason,
		id, source, params, operation_id, polls, watches)`, over)
	if err != nil {
		return err
	}
	return tx.UpdateRows(sqldb.RowsUpdate{
		Head: `UPDATE open_operations SET polls = open_operations.polls + 1, last_polled_at = v.column2, status = v.column3,
			upstream_status = v.column4, error = v.column5, completed_at = v.column6, problem = v.column7,
			refused_reason = v.column8, held = v.column10, refused_since = v.column11,
			due_at = CASE WHEN ` + askedSince + ` THEN ` + tx.Least + `(open_operations.due_at, v.column9) ELSE v.column9 END,
			last_poll_asked_at = CASE WHEN ` + askedSince + ` THEN open_operations.last_poll_asked_at END`,
		Key:  "open_operations.id",
		Rows: going,
		Tail: `WHERE TRUE`,
	})
}

// credentialNews is what the polls together tell of a credential.
type credentialNews struct {
	id           string
	troubled     bool // it was refused or rejected before
	version      int  // of its secret, with which the polls were made
	accepted     bool
	refusedSince time.Time // the first refusal after the last acceptance
	gapSince     time.Time // without a refusal since then the grace begins anew; zero for never
	refusedLast  time.Time
	refusal      string // the upstream's words of the last one
}

// pollOf is a poll's operation and its credential.
type pollOf struct {
	operationRef, credentialID string
	version                    int  // of the credential's secret
	troubled                   bool // the credential is refused or rejected
}

const selectPollOf = `SELECT o.id, c.id, c.version, c.status <> 'active' OR c.refused_since IS NOT NULL
	FROM open_operations o JOIN credentials c ON c.id = o.credential_id WHERE `

func scanPollOf(row sqldb.Row) (pollOf, error) {
	var p pollOf
	err := row.Scan(prefixOperation.scan(&p.operationRef), prefixCredential.scan(&p.credentialID), &p.version, &p.troubled)
	return p, err
}

// recordCredentials notes since when credentials are refused and that they are accepted
// again, and rejects those that were refused for longer than the grace, unless that is nil.
// Mostly nothing changes, and then nothing is locked.
func (tx *transaction) recordCredentials(
	ctx context.Context, results map[string]PollResult, rowIDs []string, grace *time.Duration,
) (rejected []string, alerts []event, err error) {
	var args sqldb.Args
	of := selectPollOf + tx.In(&args, "o.id", prefixOperation.args(rowIDs)) + ` AND c.deleted_at IS NULL`
	if !slices.ContainsFunc(rowIDs, func(id string) bool { return results[id].CredentialRefused }) {
		of += ` AND (c.status <> 'active' OR c.refused_since IS NOT NULL)` // else there is no news
	}
	polls, err := sqldb.All(ctx, tx, scanPollOf, of, args...)
	if err != nil {
		return nil, nil, err
	}
	slices.SortFunc(polls, func(a, b pollOf) int {
		return cmp.Or(results[a.operationRef].At.Compare(results[b.operationRef].At), cmp.Compare(a.operationRef, b.operationRef))
	})
	all := map[string]credentialNews{}
	for _, p := range polls {
		news := all[p.credentialID]
		switch r := results[p.operationRef]; {
		case r.CredentialVersion != p.version:
		case r.CredentialAccepted:
			news = credentialNews{accepted: true}
		case r.CredentialRefused:
			if news.refusedSince.IsZero() {
				news.refusedSince = r.At
				if r.GraceGap > 0 {
					news.gapSince = r.At.Add(-r.GraceGap)
				}
			}
			news.refusedLast, news.refusal = r.At, sqldb.Clean(r.Problem)
		}
		news.id, news.troubled, news.version = p.credentialID, p.troubled, p.version
		all[p.credentialID] = news
	}
	for _, id := range slices.Sorted(maps.Keys(all)) {
		if err := tx.recordCredential(all[id]); err != nil {
			return nil, nil, err
		}
		if grace == nil || all[id].refusedLast.IsZero() {
			continue
		}
		// The time of the answer counts: a database outage since may be longer than the grace.
		alert, err := tx.rejectCredential(ctx, id, all[id].refusedLast.Add(-*grace))
		if err != nil {
			return nil, nil, err
		}
		if alert != nil {
			rejected, alerts = append(rejected, id), append(alerts, *alert)
		}
	}
	return rejected, alerts, nil
}

func (tx *transaction) recordCredential(news credentialNews) error {
	if news.accepted && news.troubled {
		err := tx.Later(`UPDATE credentials SET refused_since = NULL, status = 'active' WHERE id = $1 AND version = $2`,
			prefixCredential.arg(news.id), news.version)
		if err != nil {
			return err
		}
	}
	if news.refusedSince.IsZero() {
		return nil
	}
	return tx.Later(`UPDATE credentials SET refused_at = $2, last_error = $3,
		refused_since = CASE WHEN status = 'active' AND refused_at < $6 THEN CAST($1 AS BIGINT) ELSE COALESCE(refused_since, $1) END
		WHERE id = $4 AND version = $5`,
		news.refusedSince.UnixMicro(), news.refusedLast.UnixMicro(), news.refusal,
		prefixCredential.arg(news.id), news.version, sqldb.Micros(news.gapSince))
}
