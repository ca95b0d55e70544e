package storage

import (
	"context"
	"fmt"
	"time"
)

const (
	// keepEvery is how often a process tells the others its steady time.
	keepEvery = time.Second
	// keepAlone is how often, where there are no others: each time is a write to disk.
	keepAlone = 10 * time.Second
	// keepSilence is after how long without a word from any process all count as gone.
	keepSilence = 5 * keepEvery / 2
	// keepGap is how far the wall clock may have gone on since the last word while
	// others live; it covers keepEvery and the difference of clocks that are kept right.
	keepGap = 2 * time.Second
)

// word is the last that was heard of the steady time, in microseconds.
type word struct {
	steady int64
	wall   int64 // what the wall clock showed then, wherever that was
}

func scanWord(row scanner) (word, error) {
	var last word
	err := row.Scan(&last.steady, &last.wall)
	return last, err
}

// JoinClock sets this process's steady time to that of all others, or makes it go
// on where those before stopped: later by what the wall clock has gone on since, so
// a night without the relay counts as a night, for all but graces. While others live
// their steady time is believed, whatever the wall clock here shows. To find out
// takes a moment. Call it before any work is taken, and KeepClock from then on.
func (s *Store) JoinClock(ctx context.Context) error {
	if err := s.joinClock(ctx); err != nil {
		return fmt.Errorf("join the clock: %w", err)
	}
	return nil
}

func (s *Store) joinClock(ctx context.Context) error {
	db := s.db
	if err := s.endGap(ctx); err != nil { // of a start that died over it
		return err
	}
	last, err := db.lastWord(ctx)
	if err != nil {
		return err
	}
	gap := time.Duration(db.now().UnixMicro()-last.wall) * time.Microsecond
	if gap > keepGap {
		if err := s.endSilence(ctx, last, gap); err != nil {
			return err
		}
		if last, err = db.lastWord(ctx); err != nil {
			return err
		}
		gap = time.Duration(db.now().UnixMicro()-last.wall) * time.Microsecond
	}
	if gap < 0 || gap > keepGap {
		gap = 0 // one of the wall clocks is wrong
	}
	db.clock.set(time.UnixMicro(last.steady).Add(gap))
	return s.endGap(ctx)
}

// lastWord reads it, or is the first to say one.
func (db *database) lastWord(ctx context.Context) (word, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	_, err := db.write.ExecContext(ctx, `INSERT INTO steady_clock (id, steady, wall) VALUES (1, $1, $2)
		ON CONFLICT (id) DO NOTHING`, db.steady().UnixMicro(), db.now().UnixMicro())
	if err != nil {
		return word{}, err
	}
	return queryOne(ctx, db.read, scanWord, `SELECT steady, wall FROM steady_clock WHERE id = 1`)
}

// endSilence has the steady time make up for the gap, unless anybody says a word
// meanwhile: each makes the steady time later, so the last word is known by it. Nor
// does it while an earlier gap is still to be left out of graces: one is noted at a time.
func (s *Store) endSilence(ctx context.Context, last word, gap time.Duration) error {
	silent := s.db.clock.elapsed()
	if !s.db.dialect.oneProcess {
		heard := time.NewTimer(keepSilence)
		defer heard.Stop()
		select {
		case <-heard.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	gap += s.db.clock.elapsed() - silent
	return s.write(ctx, func(tx *transaction) error {
		steady := last.steady + gap.Microseconds()
		n, err := execCount(ctx, tx, `UPDATE steady_clock SET steady = $1, wall = $2 WHERE id = 1 AND steady = $3 AND gap = 0`,
			steady, tx.db.now().UnixMicro(), last.steady)
		if err != nil || n == 0 {
			return err
		}
		return tx.leaveGapOut(ctx, gap, steady)
	})
}

// KeepClock keeps the steady time of all processes together until ctx ends. An
// outage of the database does no harm: each goes on by itself meanwhile.
func (s *Store) KeepClock(ctx context.Context) {
	every := keepEvery
	if s.db.dialect.oneProcess {
		every = keepAlone
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		_ = s.KeepClockOnce(ctx) // who works here finds the database away, and says so
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// KeepClockOnce tells the others the steady time and follows whoever is ahead: a
// process that stood still, or whose database was another's for a while. It is one
// statement, so that a process that is stopped inside it locks nobody out.
func (s *Store) KeepClockOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	latest, err := queryOne(ctx, s.db.write, scanInt, `INSERT INTO steady_clock (id, steady, wall) VALUES (1, $1, $2)
		ON CONFLICT (id) DO UPDATE SET steady = `+s.db.dialect.greatest+`(steady_clock.steady, excluded.steady),
		wall = excluded.wall RETURNING steady`, s.db.steady().UnixMicro(), s.db.now().UnixMicro())
	if err != nil {
		return fmt.Errorf("keep the clock: %w", err)
	}
	if at := time.UnixMicro(latest); at.After(s.db.steady()) {
		s.db.clock.set(at)
	}
	return nil
}
