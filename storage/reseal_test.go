package storage_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"oprelay/storage"
	"oprelay/storage/seal"
)

// sealings is more than one chunk of rows.
const sealings = 130

func keyID(spec string) string {
	id, _, _ := strings.Cut(spec, ":")
	return id
}

// signing is the newest signing secret of a destination; "" if it is deleted.
func signing(ctx context.Context, s *storage.Store, id string) (string, error) {
	_, secret, err := s.OpenDestination(ctx, id)
	if errors.Is(err, storage.ErrNotFound) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return string(secret.Signing[0].Value), nil
}

// testReseal: keys change while secrets do. Nobody's change is undone, and in the
// end the new key alone opens everything.
func testReseal(w *world) {
	t := w.t
	fresh := seal.NewKey()
	old := w.with(t, w.key, fresh) // seals under the old key still
	both := w.with(t, fresh, w.key)
	var ids []string
	for range sealings {
		ids = append(ids, w.newWebhook(t, w.tenant, false).ID)
	}
	answers := make([]storage.IdempotencyKey, sealings)
	for i := range answers {
		answers[i] = storage.IdempotencyKey{TenantID: w.tenant, Key: "é'\"" + strconv.Itoa(i), Fingerprint: []byte("same")}
		must(old.ReserveAnswer(t.Context(), answers[i]))(t)
		check(t, old.KeepAnswer(t.Context(), answers[i], storage.Answer{Status: 200, Body: []byte("ok")}))
	}

	var mu sync.Mutex
	last := map[string]string{} // what was last written, by destination
	together(t, 4, func(ctx context.Context, i int) error {
		if i == 0 {
			_, err := both.Reseal(ctx, storage.ResealOptions{})
			return err
		}
		writer := []*storage.Store{old, both, old}[i-1]
		for n, id := range ids {
			if n%3 != i-1 {
				continue
			}
			secret := fmt.Sprintf("whsec_%d", n)
			if n%7 == 0 {
				secret = ""
				if err := writer.ForceDeleteDestination(ctx, w.tenant, id); err != nil {
					return err
				}
			} else if err := writer.RotateSecret(ctx, w.tenant, id, seal.Secret(secret), 0); err != nil {
				return err
			}
			mu.Lock()
			last[id] = secret
			mu.Unlock()
		}
		return nil
	})

	left := must(both.Reseal(t.Context(), storage.ResealOptions{}))(t)
	want(t, "overtaken when nobody writes", left.Overtaken, 0)
	done := must(both.Reseal(t.Context(), storage.ResealOptions{}))(t)
	want(t, "re-sealed when all is", done.Resealed, 0)
	want(t, "sealed under the new key", done.PerKey[keyID(fresh)], done.Rows)
	want(t, "rows", done.Rows, len(slices.DeleteFunc(ids, func(id string) bool { return last[id] == "" }))+sealings+2)
	want(t, "unused keys", fmt.Sprint(done.Unused), fmt.Sprint([]string{keyID(w.key)}))

	alone := w.with(t, fresh)
	check(t, alone.CheckKeys(t.Context()))
	for id, secret := range last {
		want(t, "signing secret", must(signing(t.Context(), alone, id))(t), secret)
	}
	want(t, "token", must(alone.OpenCredential(t.Context(), w.credential.ID))(t).APIToken, "token")
	for _, key := range answers {
		if answer := must(alone.ReserveAnswer(t.Context(), key))(t); answer == nil || string(answer.Body) != "ok" {
			t.Errorf("the answer kept for %s is %v", key.Key, answer)
		}
	}
}

// testResealStopped: what a pass has done is done, and the next does the rest.
func testResealStopped(w *world) {
	t := w.t
	for range sealings {
		w.newCredential(t, w.tenant, "token")
	}
	fresh := seal.NewKey()
	both := w.with(t, fresh, w.key)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	first, err := both.Reseal(ctx, storage.ResealOptions{Progress: func(int) { stop() }})
	wantError(t, "stopped", err, context.Canceled)
	if first.Resealed == 0 || first.Resealed > sealings {
		t.Errorf("%d rows were re-sealed until it stopped", first.Resealed)
	}
	rest := must(both.Reseal(t.Context(), storage.ResealOptions{}))(t)
	want(t, "in the end", first.Resealed+rest.Resealed, sealings+2)
	check(t, w.with(t, fresh).CheckKeys(t.Context()))
}

// testLostKey: a lost or wrong key is named, with the rows that need it. It keeps
// nothing else from being re-sealed, and its secrets can be given up.
func testLostKey(w *world) {
	t := w.t
	lost, fresh := seal.NewKey(), seal.NewKey()
	stranger := w.with(t, lost)
	var gone []string
	for i := range 5 {
		c := must(stranger.CreateCredential(t.Context(), storage.NewCredential{
			TenantID: w.tenant, Upstream: "cloudflare", Name: strconv.Itoa(i), Secret: storage.CredentialSecret{APIToken: "lost-token"},
		}))(t)
		gone = append(gone, c.ID)
	}
	_, otherBytes, _ := strings.Cut(seal.NewKey(), ":")
	for what, keys := range map[string][]string{
		"a lost key":             {fresh, w.key},
		"another key of that id": {fresh, w.key, keyID(lost) + ":" + otherBytes},
	} {
		err := w.with(t, keys...).CheckKeys(t.Context())
		for _, says := range []string{`"` + keyID(lost) + `"`, "credentials " + gone[0], "and 2 more"} {
			if err == nil || !strings.Contains(err.Error(), says) {
				t.Errorf("%s: %v; want %s", what, err, says)
			}
		}
	}

	both := w.with(t, fresh, w.key)
	pass := must(both.Reseal(t.Context(), storage.ResealOptions{}))(t)
	want(t, "re-sealed", pass.Resealed, 2)
	want(t, "still sealed under the lost key", pass.PerKey[keyID(lost)], len(gone))
	want(t, "the rows", fmt.Sprint(rowsOf(pass.Unopened)), "["+"credentials "+strings.Join(gone, " credentials ")+"]")
	check(t, w.with(t, lost, fresh).CheckKeys(t.Context()))

	pass = must(both.Reseal(t.Context(), storage.ResealOptions{Forget: true}))(t)
	want(t, "forgotten", pass.Forgotten, len(gone))
	check(t, both.CheckKeys(t.Context()))
	_, err := both.OpenCredential(t.Context(), gone[0])
	if err == nil || !strings.Contains(err.Error(), gone[0]) || !strings.Contains(err.Error(), "forgotten") {
		t.Errorf("a forgotten credential: %v", err)
	}
	check(t, both.DeleteCredential(t.Context(), w.tenant, gone[0]))
	want(t, "forgotten again", must(both.Reseal(t.Context(), storage.ResealOptions{Forget: true}))(t).Forgotten, 0)
}

func rowsOf(unopened []storage.UnopenedRow) []string {
	var rows []string
	for _, u := range unopened {
		rows = append(rows, u.String())
	}
	return rows
}

// testDamagedRow: a row that was changed is its own trouble and nobody else's.
func testDamagedRow(w *world) {
	t := w.t
	other := w.newCredential(t, w.tenant, "other")
	must(w.raw(t).ExecContext(t.Context(), `UPDATE credentials
		SET secret = (SELECT secret FROM credentials WHERE id = $1) WHERE id = $2`, inSQL(w.credential.ID), inSQL(other.ID)))(t)
	check(t, w.CheckKeys(t.Context()))
	_, err := w.OpenCredential(t.Context(), other.ID)
	if err == nil || !strings.Contains(err.Error(), other.ID) || !strings.Contains(err.Error(), keyID(w.key)) {
		t.Errorf("another row's secret: %v", err)
	}
	pass := must(w.with(t, seal.NewKey(), w.key).Reseal(t.Context(), storage.ResealOptions{}))(t)
	want(t, "cannot be re-sealed", fmt.Sprint(rowsOf(pass.Unopened)), "[credentials "+other.ID+"]")
	want(t, "the others", pass.Resealed, 2)
}
