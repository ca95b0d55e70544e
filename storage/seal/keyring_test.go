package seal_test

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"

	"oprelay/storage/seal"
)

func ring(t *testing.T, spec string) *seal.Keyring {
	t.Helper()
	keys, err := seal.ParseKeyring(spec)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func TestKeyringOpensWhatItSealed(t *testing.T) {
	t.Parallel()
	first, second := seal.NewKey(), seal.NewKey()
	sealed, err := ring(t, first).Seal("credentials/secret/1", []byte("token"))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := ring(t, second+", "+first).Open("credentials/secret/1", sealed)
	if err != nil || string(plain) != "token" {
		t.Errorf("with the key in second place: %q, %v", plain, err)
	}
	if bytes.Contains(sealed, []byte("token")) {
		t.Error("the secret is readable")
	}
}

func TestKeyringRefusesToOpen(t *testing.T) {
	t.Parallel()
	key := seal.NewKey()
	id, _, _ := strings.Cut(key, ":")
	sealed, err := ring(t, key).Seal("here", []byte("token"))
	if err != nil {
		t.Fatal(err)
	}
	changed := func(i int) []byte {
		c := bytes.Clone(sealed)
		c[i] ^= 1
		return c
	}
	zeros := base64.StdEncoding.EncodeToString(make([]byte, 32))
	for name, c := range map[string]struct {
		spec, additional string
		sealed           []byte
		says             string
	}{
		"a lost key":              {seal.NewKey(), "here", sealed, `"` + id + `", which RELAY_ENCRYPTION_KEYS lacks`},
		"another key of that id":  {id + ":" + zeros, "here", sealed, id},
		"another place":           {key, "there", sealed, "does not open it"},
		"a changed last byte":     {key, "here", changed(len(sealed) - 1), "does not open it"},
		"a changed version":       {key, "here", changed(0), "not sealed by the relay"},
		"nothing":                 {key, "here", nil, "forgotten"},
		"an id longer than all":   {key, "here", []byte{1, 255, 'a'}, "not sealed by the relay"},
		"an id and nothing after": {key, "here", sealed[:2+len(id)], "not sealed by the relay"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			plain, err := ring(t, c.spec).Open(c.additional, c.sealed)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%q, %v; want an error that says %q", plain, err, c.says)
			}
		})
	}
}

func TestParseKeyringNamesEveryFault(t *testing.T) {
	t.Parallel()
	good := seal.NewKey()
	short := base64.StdEncoding.EncodeToString([]byte("sixteen bytes ok"))
	_, err := seal.ParseKeyring(good + "," + good + ",nokey,x y:" + short + ",a:" + short + ",b:%%%")
	if err == nil {
		t.Fatal("no error")
	}
	for _, says := range []string{
		"key 2: its id is another key's too", "key 3: must be ID:BASE64", "key 4: must be ID", "key 5: has 16 bytes",
		"key 6: what follows the id is not base64",
	} {
		if !strings.Contains(err.Error(), says) {
			t.Errorf("the error lacks %q: %v", says, err)
		}
	}
	if strings.Contains(err.Error(), short) {
		t.Error("the error shows a key")
	}
	for _, spec := range []string{"", ",", "a"} {
		if _, err := seal.ParseKeyring(spec); err == nil {
			t.Errorf("%q: no error", spec)
		}
	}
}
