package sqldb

// Dialect is all that differs between the databases once they are open.
type Dialect struct {
	Name          string
	OneProcess    bool             // no other process uses the database
	maxParameters int              // of a statement for many rows; 0 where these travel as arrays
	ForUpdate     string           // locks the rows of a SELECT that are about to change
	SkipLocked    string           // after ForUpdate: leaves out those that others have locked
	ForDelete     string           // ForUpdate, and waits for ForKey
	ForKey        string           // keeps the rows of a SELECT from being deleted
	lockTimeout   string           // has the transaction wait %d milliseconds at most for each lock; "" where there are none
	Least         string           // the scalar minimum
	Greatest      string           // the scalar maximum
	Unflushed     string           // in a WHERE: the commit of a changed row need not be on the disk
	locked        func(error) bool // the transaction would have waited for longer
	retryable     func(error) bool
	unanswered    func(error) bool // the database has not said what became of a statement
}

// postgresDialect locks with NO KEY UPDATE: the keys never change, so the
// foreign keys that point to a locked row need not wait.
func postgresDialect() *Dialect {
	return &Dialect{
		Name:        "postgres",
		ForUpdate:   " FOR NO KEY UPDATE",
		SkipLocked:  " SKIP LOCKED",
		ForDelete:   " FOR UPDATE",
		ForKey:      " FOR KEY SHARE",
		lockTimeout: "SET LOCAL lock_timeout = %d",
		Least:       "LEAST",
		Greatest:    "GREATEST",
		Unflushed:   " AND set_config('synchronous_commit', 'off', true) = 'off'",
		locked:      postgresLocked,
		retryable:   postgresRetryable,
		unanswered:  postgresUnanswered,
	}
}

// sqliteDialect locks no rows: there is one writer at a time.
func sqliteDialect() *Dialect {
	return &Dialect{
		Name:          "sqlite",
		OneProcess:    true,
		maxParameters: 5000, // 32766 are allowed
		Least:         "MIN",
		Greatest:      "MAX",
		locked:        func(error) bool { return false },
		retryable:     sqliteBusy,
		unanswered:    func(error) bool { return false },
	}
}
