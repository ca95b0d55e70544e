package deploy

import _ "embed"

// PgBouncerINI is the example of a PgBouncer's configuration, which the tests use.
//
//go:embed pgbouncer.ini
var PgBouncerINI string
