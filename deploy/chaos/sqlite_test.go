package chaos

import (
	"context"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"oprelay/deploy/testenv"
)

// The disk under relay serve is full. What is registered is answered 503, what is read is
// answered, and the log has two lines of it.
func TestSQLiteFails(t *testing.T) {
	t.Parallel()
	disk := testenv.StartDisk(t, 64)
	r := newRig(t, "sqlite:"+filepath.Join(disk.Folder, "relay.db"), "embedded", 0)
	r.endure(t, fault{order: 48, name: "SQLite: the disk is full", refuses: true, inject: func(t *testing.T, e *episode) {
		t.Helper()
		disk.Fill(e.api.Program)
		await(t, theForm().spell)
		e.awaitReadiness(t, http.StatusServiceUnavailable, "database ")
		e.reads(t)
		disk.Empty(e.api.Program)
		e.recovered()
		e.awaitReadiness(t, http.StatusOK, "")
	}})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, ok := r.api.Stderr.Wait(ctx, "answers again", r.api.Ended); !ok {
		t.Error("nothing says that the database is back")
	}
	if n := strings.Count(r.api.Stderr.String(), `"msg":"the database`); n != 2 {
		t.Errorf("%d lines say that the database is away or back, want 2", n)
	}
}
