package console

import (
	"strings"
	"time"

	"oprelay/api/client"
)

// credentialsPage is /credentials.
type credentialsPage struct {
	list

	Credentials []client.Credential
}

func listCredentials(p *page) error {
	found, err := decode[client.CredentialList](p.api.ListCredentials(p.ctx, nil, with(p.query())))
	l, err := p.list(found.NextCursor, err)
	if err != nil {
		return err
	}
	return p.showAs(l.status(), "credentials", view{
		Title: "Credentials", Section: "/credentials", Refresh: refreshMany, Data: credentialsPage{l, found.Data},
	})
}

// credentialPage is /credentials/{id}.
type credentialPage struct{ client.Credential }

func showCredential(p *page) error {
	found, err := decode[client.Credential](p.api.GetCredential(p.ctx, p.r.PathValue("id")))
	if err != nil {
		return err
	}
	return p.show("credential", view{Title: found.Name, Section: "/credentials", Refresh: refreshMany, Data: credentialPage{found}})
}

// Secret is the body that gives it a new secret; "" if it has none.
func (c credentialPage) Secret() string {
	fields := each(secretFields[c.Auth], func(name string) string { return `"` + name + `": "..."` })
	if len(fields) == 0 {
		return ""
	}
	return "{" + strings.Join(fields, ", ") + "}"
}

// Window is the budget's.
func (c credentialPage) Window() string {
	return duration(time.Duration(float64(c.Budget.WindowSeconds) * float64(time.Second)))
}

// Late is about how late the end of an operation of a minute is noticed: half of what lies between two polls.
func (c credentialPage) Late() string {
	const operation = time.Minute // that of which the API tells the lag
	return duration(time.Duration(float64(c.Budget.Lag) / 2 * float64(operation)))
}
