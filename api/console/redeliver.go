package console

import (
	"oprelay/api/client"
)

// redeliver sends a delivery again, and leads back to the page that it was asked on.
func redeliver(p *page) error {
	id := p.r.PathValue("id")
	if _, err := decode[client.Delivery](p.api.Redeliver(p.ctx, id, &client.RedeliverParams{IdempotencyKey: p.once()})); err != nil {
		return err
	}
	back := "/deliveries/" + id
	if from := p.r.PostFormValue("back"); from != "" {
		back = ownPath(from)
	}
	return p.back(back, "redelivered")
}
