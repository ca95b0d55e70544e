package deliver

import (
	"context"
	"errors"
	"time"

	"oprelay/storage"
)

// Record implements pipeline.Work. It writes the attempts and the next states, and disables
// the destination if need be. Results that wait for a lock of somebody else's keep no place
// from other destinations.
func (r *run) Record(ctx context.Context, results []attempted) (err error) {
	var all attempted
	for _, result := range results {
		all.join(result)
	}
	if len(all.progress) == 0 && !r.mayDisable(all) {
		err = r.store.RecordAttempts(ctx, all.deliveries)
	} else {
		err = r.recordAlone(ctx, all)
	}
	if !storage.Unavailable(err) || errors.Is(err, storage.ErrLocked) {
		for _, result := range results {
			result.place.recorded()
		}
	}
	return err
}

// recordAlone also disables the destination if an answer or a long row of failures
// says so. It is one transaction: between two, what was answered with a 410 would be
// due again.
func (r *run) recordAlone(ctx context.Context, all attempted) error {
	var disable string
	err := r.store.AtomicallyInTurn(ctx, func(tx *storage.Store) error {
		err := tx.RecordAttempts(ctx, all.deliveries)
		if err != nil {
			return err
		}
		if err := tx.KeepProgressError(ctx, r.Group, all.progress); err != nil {
			return err
		}
		if disable, err = r.toDisable(ctx, tx, all); err != nil {
			return err
		}
		if disable != "" {
			if _, err = tx.DisableDestination(ctx, "", r.Group, disable); err != nil {
				return err
			}
		}
		return tx.RecordProgress(ctx, r.Group, all.progress) // last, by the order of locks
	})
	if err != nil {
		return err
	}
	if disable != "" {
		r.log.Warn("a destination is disabled; its deliveries are held until it is enabled",
			"destination_id", r.Group, "reason", disable, "error", all.fault)
	}
	return nil
}

func onlyFailures(results []storage.AttemptResult) bool {
	for i := range results {
		if results[i].Status == storage.DeliverySucceeded {
			return false
		}
	}
	return len(results) > 0
}

// mayDisable says whether the destination may have to be disabled: an answer says so,
// or it has accepted nothing for disableAfter.
func (r *run) mayDisable(all attempted) bool {
	return all.disable != "" || r.failsTooLong(all, r.to.Load().FailingSince)
}

func (r *run) failsTooLong(all attempted, since time.Time) bool {
	return onlyFailures(all.deliveries) && !since.IsZero() && r.now().Sub(since) >= r.disableAfter
}

// toDisable says why the destination is to be disabled now; "" if it is not, or is
// disabled already. What the run has read of it may miss a success, so the row has
// the last word.
func (r *run) toDisable(ctx context.Context, tx *storage.Store, all attempted) (string, error) {
	if !r.mayDisable(all) {
		return "", nil
	}
	row, _, err := tx.OpenDestination(ctx, r.Group)
	switch {
	case errors.Is(err, storage.ErrNotFound): // deleted
		return "", nil
	case err != nil || row.Status == storage.DestinationDisabled:
		return "", err
	case all.disable == "" && r.failsTooLong(all, row.FailingSince):
		return storage.DisabledFailing, nil
	}
	if row.ChangedAt.After(all.began) { // it was somebody else's answer
		return "", nil
	}
	return all.disable, nil
}
