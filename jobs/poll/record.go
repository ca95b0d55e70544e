package poll

import (
	"context"

	"oprelay/jobs/source"
	"oprelay/storage"
)

// Record implements pipeline.Work. It applies to the budget what an answer says of it, writes
// all results, and rejects credentials whose grace is over.
func (r *run) Record(ctx context.Context, results []*polled) error {
	if err := r.applyLimits(ctx, results); err != nil {
		return err
	}
	rows := make([]storage.PollResult, len(results))
	for i, p := range results {
		rows[i] = p.PollResult
	}
	// One transaction: the last refusal of a credential may end its last watch, and
	// no poll would come back to reject it.
	rejected, err := r.store.RecordRefusals(ctx, rows, r.policy.UnobservableAfter)
	if err != nil {
		return err
	}
	for _, id := range rejected {
		r.log.Warn("the upstream has refused a credential for longer than the grace period; it is rejected and its watches end",
			"credential_id", id)
		if err := r.store.EndRejected(ctx, id); err != nil {
			r.log.Warn("not all watches of a rejected credential have ended; their own polls end the rest", "credential_id", id, "error", err)
		}
	}
	return nil
}

// applyLimits carries what the upstream says about its limits over to the budget: a 429, or
// the last of the quotas. None is believed for longer than the budget's own window: by
// then the relay has kept within its share for as long as the upstream counts.
func (r *run) applyLimits(ctx context.Context, results []*polled) error {
	var limited, hint *polled
	for _, p := range results {
		if p.answer.Verdict == source.Limited && (limited == nil || p.Next.After(limited.Next)) {
			limited = p
		}
		if p.hints {
			hint = p
		}
	}
	if limited != nil {
		r.log.Warn("the upstream rate-limits a credential; all its operations rest",
			"credential_id", limited.due.CredentialID, "until", r.store.Dated(limited.Next), "answer", limited.answer.Problem)
		return r.store.ParkBudget(ctx, r.Group, limited.Next)
	}
	if hint != nil {
		q, until := hint.answer.Left, hint.at // one that is not low says no more than that an earlier one is over
		if r.low(q) {
			until = until.Add(min(q.Reset, r.budget.Per))
		}
		return r.store.HintBudget(ctx, r.Group, q.Remaining, until)
	}
	return nil
}
