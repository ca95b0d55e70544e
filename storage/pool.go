package storage

import "database/sql"

// Pools tells how each pool of connections is used, by its name: "all" with
// PostgreSQL, "read" and "write" with SQLite. It asks the database nothing.
func (s *Store) Pools() map[string]sql.DBStats {
	if s.db.read == s.db.write {
		return map[string]sql.DBStats{"all": s.db.write.Stats()}
	}
	return map[string]sql.DBStats{"read": s.db.read.Stats(), "write": s.db.write.Stats()}
}
