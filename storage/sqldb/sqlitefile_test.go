package sqldb

import (
	"os"
	"path/filepath"
	"testing"
)

// Whatever leads to a file, its path is one: also before it is there.
func TestSQLiteFileHasOnePath(t *testing.T) {
	t.Parallel()
	folder := get(filepath.EvalSymlinks(t.TempDir()))(t)
	file, linked := filepath.Join(folder, "real", "relay.db"), filepath.Join(folder, "linked")
	check(t, os.Mkdir(filepath.Dir(file), 0o700))
	for from, to := range map[string]string{
		filepath.Join(folder, "absolute.db"):    file,
		filepath.Join(folder, "relative.db"):    "real/relay.db",
		filepath.Join(folder, "twice.db"):       "relative.db",
		filepath.Join(folder, "real", "way.db"): "../linked/relay.db",
		linked:                                  "real",
		filepath.Join(folder, "round.db"):       "round.db",
	} {
		check(t, os.Symlink(to, from))
	}
	for _, there := range []bool{false, true} {
		for _, path := range []string{
			"real/relay.db", "real/../real/relay.db", "absolute.db", "relative.db", "twice.db", "linked/relay.db", "linked/way.db",
		} {
			if got, err := SQLiteFile(filepath.Join(folder, path)); err != nil || got != file {
				t.Errorf("%s (there: %v) is %s, %v; want %s", path, there, got, err, file)
			}
		}
		for _, path := range []string{"round.db", "nowhere/relay.db"} {
			if got, err := SQLiteFile(filepath.Join(folder, path)); err == nil {
				t.Errorf("%s is %s, want an error", path, got)
			}
		}
		check(t, os.WriteFile(file, nil, 0o600))
	}
}
