package console

import (
	"bytes"
	"cmp"
	"encoding/json"
	"net/http"
	"time"

	"oprelay/api/client"
	"oprelay/storage"
)

// recoverPage is /destinations/{id}/recover: what would go out again, before it does.
type recoverPage struct {
	list

	Destination  client.Destination
	Since, Until string
	Count        int
	Recover      *action
}

func showRecover(p *page) error {
	if p.canonical() {
		return nil
	}
	id := p.r.PathValue("id")
	destination, err := decode[client.Destination](p.api.GetDestination(p.ctx, id))
	if err != nil {
		return err
	}
	since := p.before(recent)
	if destination.FailingSince != nil {
		since = destination.FailingSince.UTC().Truncate(time.Minute).Format(time.RFC3339)
	}
	asked := p.query()
	shown := recoverPage{Destination: destination, Since: cmp.Or(asked.Get("since"), since), Until: asked.Get("until")}
	would, err := p.recover(id, shown.Since, shown.Until, true)
	if shown.list, err = p.list(nil, err); err != nil {
		return err
	}
	shown.Count = would.Count
	if shown.Count > 0 {
		shown.Recover = p.offer(storage.ScopeWrite, recovery(shown))
	}
	return p.showAs(shown.status(), "recover", view{Title: "Recover " + destination.Name, Section: "/destinations", Data: shown})
}

// SinceInput is the time as an input of a form takes it.
func (r recoverPage) SinceInput() string { return momentOf(r.Since) }

// UntilInput is the same of the other time.
func (r recoverPage) UntilInput() string { return momentOf(r.Until) }

func recovery(r recoverPage) action {
	what := counted(r.Count, "message goes", "messages go") + " out again"
	ask := what + ", as fast as the destination's limits let them."
	if r.Destination.Status == client.Disabled {
		ask = what + " once the destination is enabled."
	}
	return action{
		URL: "/destinations/" + r.Destination.ID + "/recover", Label: "Send again", Ask: ask,
		Confirm: "Send " + counted(r.Count, "message", "messages") + " again",
		Fields:  []field{{Name: "since", Value: r.Since, Type: "hidden"}, {Name: "until", Value: r.Until, Type: "hidden"}},
	}
}

func recoverDestination(p *page) error {
	id := p.r.PathValue("id")
	if _, err := p.recover(id, p.r.PostFormValue("since"), p.r.PostFormValue("until"), false); err != nil {
		return err
	}
	return p.back("/destinations/"+id, "recovered")
}

// recover asks the API for a recovery. It judges the times, which it gets as they are.
func (p *page) recover(id, since, until string, dryRun bool) (client.Recovered, error) {
	body := map[string]any{"since": since, "dry_run": dryRun}
	if until != "" {
		body["until"] = until
	}
	params := client.RecoverDestinationParams{}
	if p.r.Method == http.MethodPost {
		params.IdempotencyKey = p.once()
	}
	text, err := json.Marshal(body)
	if err != nil {
		return client.Recovered{}, err
	}
	return decode[client.Recovered](p.api.RecoverDestinationWithBody(p.ctx, id, &params, "application/json", bytes.NewReader(text)))
}
