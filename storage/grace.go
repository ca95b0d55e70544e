package storage

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// graceChunk is how many graces of operations or watches are moved in one
// transaction: there may be a million, and none may take answerTime.
const graceChunk = 500

// leaveGapOut begins to leave a gap out of every grace that runs: nobody could find
// its trouble to be over. None begins later than end, as one may that began after
// the last word. It moves the few at once, and notes the many in the clock's row.
func (tx *transaction) leaveGapOut(ctx context.Context, gap time.Duration, end int64) error {
	for _, grace := range []struct{ table, column string }{
		{"credentials", "refused_since"}, {"destinations", "failing_since"},
	} {
		err := tx.later(ctx, fmt.Sprintf(`UPDATE %[1]s SET %[2]s = %[3]s(%[2]s + $1, $2) WHERE %[2]s IS NOT NULL`,
			grace.table, grace.column, tx.db.dialect.least), gap.Microseconds(), end)
		if err != nil {
			return err
		}
	}
	return exec(ctx, tx, `UPDATE steady_clock SET gap = $1, gap_end = $2, gap_done = '' WHERE id = 1`, gap.Microseconds(), end)
}

// gapLeft is what is still to be done about a gap; its length is 0 if nothing is.
type gapLeft struct {
	length, end int64
	done        string // the last id that was moved: operations come before watches
}

func scanGapLeft(row scanner) (gapLeft, error) {
	var left gapLeft
	err := row.Scan(&left.length, &left.end, &left.done)
	return left, err
}

// endGap moves the graces on that a gap is still to be left out of. Whoever starts
// does it before any work, so that none ends too early. How far it is stands in the
// clock's row and is written with each chunk: a process that dies in between leaves
// the rest to the next, and none is moved twice.
func (s *Store) endGap(ctx context.Context) error {
	for more := true; more; {
		err := s.write(ctx, func(tx *transaction) error {
			left, err := queryOne(ctx, tx, scanGapLeft,
				`SELECT gap, gap_end, gap_done FROM steady_clock WHERE id = 1`+tx.db.dialect.forUpdate)
			more = err == nil && left.length > 0
			if errors.Is(err, ErrNotFound) {
				return nil // nobody has said a word yet
			}
			if err != nil || !more {
				return err
			}
			return tx.extendGraces(ctx, left)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// extendGraces moves the next chunk, and notes how far it came. What began after the
// gap stays as it is.
func (tx *transaction) extendGraces(ctx context.Context, left gapLeft) error {
	operations := left.done == "" || strings.HasPrefix(left.done, prefixOperation+"_")
	next := `SELECT id FROM watches WHERE status = 'watching' AND expire_at > 0 AND id > $1 ORDER BY id LIMIT $2`
	if operations {
		next = `SELECT id FROM operations WHERE active AND (refused_since IS NOT NULL OR last_poll_asked_at IS NOT NULL)
			AND id > $1 ORDER BY id LIMIT $2` + tx.db.dialect.forUpdate
	}
	ids, err := queryAll(ctx, tx, scanString, next, left.done, graceChunk)
	if err != nil {
		return err
	}
	switch {
	case len(ids) > 0:
		left.done = ids[len(ids)-1]
	case operations:
		left.done = prefixWatch + "_"
	default:
		left.length = 0
	}
	if err := tx.moveGraces(ctx, left, operations, ids); err != nil {
		return err
	}
	return exec(ctx, tx, `UPDATE steady_clock SET gap = $1, gap_done = $2 WHERE id = 1`, left.length, left.done)
}

func (tx *transaction) moveGraces(ctx context.Context, left gapLeft, operations bool, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	least, args := tx.db.dialect.least, arguments{left.length, left.end}
	patience := strconv.FormatInt(lastPollPatience.Microseconds(), 10)
	moved := `%[1]s = CASE WHEN %[1]s <= $2 THEN ` + least + `(%[1]s + $1, $2) ELSE %[1]s END`
	update := `UPDATE operations SET ` + fmt.Sprintf(moved, "refused_since") + `, ` + fmt.Sprintf(moved, "last_poll_asked_at")
	if !operations {
		latest := `CAST($2 AS BIGINT) + ` + patience
		update = `UPDATE watches SET expire_at = CASE WHEN expire_at <= ` + latest + ` THEN ` +
			least + `(expire_at + $1, ` + latest + `) ELSE expire_at END`
	}
	return tx.later(ctx, update+` WHERE `+tx.db.dialect.in(&args, "id", ids), args...)
}
