package source

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestCredentialShowsNothing(t *testing.T) {
	t.Parallel()
	cred := Credential{ID: "credential_1", Fields: Fields{
		APIToken: "marker-token", Email: "marker@example.com", APIKey: "marker-key", Username: "marker", Password: "marker-password",
		ClientID: "marker-client", ClientSecret: "marker-secret", ServiceAccount: `{"private_key":"marker"}`,
	}}
	holder := struct{ C *Credential }{&cred}

	shown := new(bytes.Buffer)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		_, _ = fmt.Fprintf(shown, verb+verb+verb+"\n", cred, &cred, []Credential{cred})
	}
	encoded, err := json.Marshal(holder)
	if err != nil {
		t.Fatal(err)
	}
	shown.Write(encoded)
	slog.New(slog.NewTextHandler(shown, nil)).Info("m", "cred", cred, "pointer", &cred)
	slog.New(slog.NewJSONHandler(shown, nil)).Info("m", "cred", cred, "pointer", &cred)
	for _, secret := range []string{"marker", fmt.Sprintf("%x", "marker")} {
		if strings.Contains(shown.String(), secret) {
			t.Errorf("%q shows in:\n%s", secret, shown)
		}
	}
	if !strings.Contains(string(encoded), `"[redacted]"`) {
		t.Errorf("encoded as %s", encoded)
	}
}
