package chaos

import (
	"net/http"
	"testing"

	"oprelay/deploy/testenv"
)

// PostgreSQL goes away, stands still, loses its connections, cannot write, or may not.
// Registrations are answered 503 and take effect once when they are repeated.
func TestPostgresFails(t *testing.T) {
	t.Parallel()
	server := testenv.StartPostgresServer(t)
	proxy := testenv.StartProxy(t, server.URL)
	migrate(t, server.URL)
	testenv.Execute(t, server.URL, diskTriggers)
	r := newRig(t, proxy.URL, testenv.Redis(t), 3)
	for i, f := range []fault{
		{name: "PostgreSQL: killed and started again", refuses: true, inject: func(t *testing.T, e *episode) {
			t.Helper()
			server.Kill()
			await(t, theForm().spell)
			server.Restart()
			e.recovered()
		}},
		{name: "PostgreSQL: connections cut, again and again", inject: func(t *testing.T, e *episode) {
			t.Helper()
			for range 10 {
				proxy.Cut()
				await(t, theForm().spell/10)
			}
			e.recovered()
		}},
		{name: "PostgreSQL: stopped (SIGSTOP)", refuses: *long, inject: func(t *testing.T, e *episode) {
			t.Helper()
			server.Pause()
			await(t, theForm().stopped)
			server.Resume()
			e.recovered()
		}},
		{name: "PostgreSQL: connections fall silent", refuses: *long, inject: func(t *testing.T, e *episode) {
			t.Helper()
			proxy.Silence()
			await(t, theForm().stopped)
			proxy.Restore()
			e.recovered()
		}},
		{name: "PostgreSQL: the disk is full", refuses: true, inject: func(t *testing.T, e *episode) {
			t.Helper()
			testenv.Execute(t, server.URL, fillDisk)
			await(t, theForm().spell)
			e.awaitReadiness(t, http.StatusServiceUnavailable, "its disk is full")
			e.reads(t)
			testenv.Execute(t, server.URL, emptyDisk)
			e.recovered()
			e.awaitReadiness(t, http.StatusOK, "")
		}},
		{name: "PostgreSQL: only reads (default_transaction_read_only)", refuses: true, inject: func(t *testing.T, e *episode) {
			t.Helper()
			readOnly(t, server.URL, "on")
			await(t, theForm().spell)
			e.awaitReadiness(t, http.StatusServiceUnavailable, "only reads")
			e.reads(t)
			readOnly(t, server.URL, "off")
			e.recovered()
			e.awaitReadiness(t, http.StatusOK, "")
		}},
	} {
		t.Run(f.name, func(t *testing.T) {
			f.order, f.refusal = 40+i, repeat
			r.endure(t, f)
		})
	}
}

// readOnly has transactions only read, those of connections that are open included.
func readOnly(t *testing.T, url, state string) {
	t.Helper()
	testenv.Execute(t, url, "ALTER SYSTEM SET default_transaction_read_only = "+state)
	testenv.Execute(t, url, "SELECT pg_reload_conf()")
}

// A full disk, as the program sees it: the error that PostgreSQL answers with
// whenever a row of any table would take more room, as each version of it does. The
// triggers are there from the beginning, and what they do is replaced, which locks no
// table: the relay's transactions lock several, in an order that the change of a
// trigger does not know.
const (
	diskTriggers = emptyDisk + `;
		DO $$ DECLARE t regclass; BEGIN
			FOR t IN SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' LOOP
				EXECUTE format('CREATE TRIGGER disk BEFORE INSERT OR UPDATE ON %s FOR EACH ROW EXECUTE FUNCTION disk()', t);
			END LOOP;
		END $$`
	fillDisk = `CREATE OR REPLACE FUNCTION disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full';
		END $$`
	emptyDisk = `CREATE OR REPLACE FUNCTION disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$`
)
