package console

import (
	"fmt"
	"strconv"

	"oprelay/api/client"
	"oprelay/storage"
)

// destinationPage is /destinations/{id}.
type destinationPage struct {
	client.Destination
	deliveryRows

	Actions []*action
}

func showDestination(p *page) error {
	id := p.r.PathValue("id")
	found, err := decode[client.Destination](p.api.GetDestination(p.ctx, id))
	if err != nil {
		return err
	}
	last := client.ListDeliveriesParams{DestinationID: &id, Limit: new(10)}
	deliveries, err := decode[client.DeliveryList](p.api.ListDeliveries(p.ctx, &last))
	if err != nil {
		return err
	}
	return p.show("destination", view{
		Title: found.Name, Section: "/destinations", Live: "any", Refresh: refreshOne, Data: destinationPage{
			Destination: found, Actions: p.destinationActions(found),
			deliveryRows: deliveryRows{Deliveries: deliveries.Data, OneDestination: true},
		},
	})
}

// Why is what a disabled destination is disabled for.
func (d destinationPage) Why() string {
	if d.DisabledReason == nil {
		return ""
	}
	return disabledReasons[*d.DisabledReason]
}

// IsWaiting says whether anything is to go there.
func (d destinationPage) IsWaiting() bool { return d.Waiting != nil && *d.Waiting > 0 }

func (p *page) destinationActions(d client.Destination) []*action {
	path := "/destinations/" + d.ID
	waiting := "nothing"
	if d.Waiting != nil && *d.Waiting > 0 {
		waiting = counted(*d.Waiting, "delivery", "deliveries")
	}
	test := "A destination.test is sent to it now, signed like any other message."
	if d.Status != client.Enabled {
		test = "A destination.test is made for it now, and sent when it is enabled."
	}
	all := []action{{URL: path + "/test", Label: "Send a test", Ask: test}}
	if d.Status == client.Enabled {
		all = append(all, action{
			URL: path + "/disable", Label: "Disable", Ask: "Nothing more is sent to it. What is for it is held until it is enabled.",
		})
	} else {
		all = append(all, action{URL: path + "/enable", Label: "Enable", Ask: "What waits for it goes out: " + waiting + "."})
	}
	if d.Type == client.DestinationWebhook {
		all = append(all, action{
			URL: path + "/rotate-secret", Label: "Rotate the secret", Confirm: "Make a new secret", Danger: true,
			Ask: "A new signing secret is made and shown once. Until the overlap ends, messages are signed with both.",
			Fields: []field{{
				Name: "overlap_seconds", Label: "Overlap in seconds", Value: "86400", Type: "number", Required: true,
				Hint: "Time to give the receiver the new secret; 0 ends the old one at once.",
			}},
		})
	}
	all = append(all, action{
		URL: path + "/delete", Label: "Delete", Danger: true,
		Ask: "It is gone for good. What waits for it is canceled: " + waiting + ".",
		Fields: []field{{
			Name: "force", Type: "checkbox", Label: "Also if watches still watch for it: they go on, and do not tell it how they end",
		}},
	})
	return each(all, func(a action) *action { return p.offer(storage.ScopeWrite, a) })
}

// counted is a number of things in words.
func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func testDestination(p *page) error {
	params := client.TestDestinationParams{IdempotencyKey: p.once()}
	sent, err := decode[client.Delivery](p.api.TestDestination(p.ctx, p.r.PathValue("id"), &params))
	if err != nil {
		return err
	}
	return p.back("/deliveries/"+sent.ID, "tested")
}

func disableDestination(p *page) error {
	id := p.r.PathValue("id")
	params := client.DisableDestinationParams{IdempotencyKey: p.once()}
	if _, err := decode[client.Destination](p.api.DisableDestination(p.ctx, id, &params)); err != nil {
		return err
	}
	return p.back("/destinations/"+id, "disabled")
}

func enableDestination(p *page) error {
	id := p.r.PathValue("id")
	params := client.EnableDestinationParams{IdempotencyKey: p.once()}
	if _, err := decode[client.Destination](p.api.EnableDestination(p.ctx, id, &params)); err != nil {
		return err
	}
	return p.back("/destinations/"+id, "enabled")
}

func deleteDestination(p *page) error {
	force := p.r.PostFormValue("force") != ""
	params := client.DeleteDestinationParams{Force: &force}
	if _, err := decode[struct{}](p.api.DeleteDestination(p.ctx, p.r.PathValue("id"), &params)); err != nil {
		return err
	}
	return p.back("/destinations", "deleted")
}

// rotateSecret answers with the new secret, which is never shown again.
func rotateSecret(p *page) error {
	id := p.r.PathValue("id")
	overlap, err := strconv.Atoi(p.r.PostFormValue("overlap_seconds"))
	if err != nil {
		overlap = -1 // which the API refuses, in its words
	}
	params := client.RotateSecretParams{IdempotencyKey: p.once()}
	rotated, err := decode[client.Destination](p.api.RotateSecret(p.ctx, id, &params, client.SecretRotation{OverlapSeconds: &overlap}))
	if err != nil {
		return err
	}
	return p.show("secret", view{Title: "The new secret", Section: "/destinations", Data: secretPage{
		Title: "The signing secret of " + rotated.Name, Value: deref(rotated.Secret),
		About: "Copy it now: it is never shown again. The receiver verifies signatures with it.",
		Back:  "/destinations/" + id, BackTo: rotated.Name,
	}})
}
