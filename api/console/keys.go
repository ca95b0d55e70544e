package console

import (
	"net/http"

	"oprelay/api/client"
	"oprelay/storage"
)

// keysPage is /keys.
type keysPage struct {
	list

	Keys   []keyRow
	Create *action
}

type keyRow struct {
	client.Key

	Own    bool // the session's
	Revoke *action
}

func listKeys(p *page) error {
	found, err := decode[client.KeyList](p.api.ListKeys(p.ctx, nil, with(p.query())))
	shown := keysPage{}
	if shown.list, err = p.list(found.NextCursor, err); err != nil {
		return err
	}
	for _, key := range found.Data {
		row := keyRow{Key: key, Own: key.ID == p.key.ID}
		ask := "Who uses this key is refused at once, and its sessions in the console end."
		if row.Own {
			ask += " This session is one of them."
		}
		row.Revoke = p.offer(storage.ScopeAdmin, action{
			URL: "/keys/" + key.ID + "/revoke", Label: "Revoke", Ask: ask, Danger: true,
		})
		shown.Keys = append(shown.Keys, row)
	}
	shown.Create = p.offer(storage.ScopeAdmin, action{
		URL: "/keys", Label: "New key", Confirm: "Make the key", Ask: "A key of this tenant. It is shown once.",
		Fields: []field{
			{Name: "name", Label: "Name", Hint: "For people: who or what uses it.", Required: true},
			{Name: "scope", Label: "Scope", Options: []option{
				{"read", "read: see everything"},
				{"write", "write: also register watches, redeliver, change destinations"},
				{"admin", "admin: also make and revoke keys"},
			}},
		},
	})
	return p.showAs(shown.status(), "keys", view{Title: "API keys", Section: "/keys", Data: shown})
}

// createKey answers with the key, which is never shown again.
func createKey(p *page) error {
	made, err := decode[client.Key](p.api.CreateKey(p.ctx, &client.CreateKeyParams{IdempotencyKey: p.once()}, client.NewKey{
		Name: p.r.PostFormValue("name"), Scopes: []client.Scope{client.Scope(p.r.PostFormValue("scope"))},
	}))
	if err != nil {
		return err
	}
	return p.showAs(http.StatusCreated, "secret", view{Title: "The new key", Section: "/keys", Data: secretPage{
		Title: "The key " + made.Name, Value: deref(made.Key),
		About: "Copy it now: it is never shown again. It goes into the Authorization header, as a bearer token, or into RELAY_API_KEY.",
		Back:  "/keys", BackTo: "the keys",
	}})
}

func revokeKey(p *page) error {
	if _, err := decode[struct{}](p.api.RevokeKey(p.ctx, p.r.PathValue("id"))); err != nil {
		return err
	}
	return p.back("/keys", "revoked")
}

// secretPage shows a secret, this once.
type secretPage struct {
	Title, Value, About string
	Back, BackTo        string
}
