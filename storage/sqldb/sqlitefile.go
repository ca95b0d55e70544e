package sqldb

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// linksMost is how many symbolic links may lead to a file that is not there yet.
const linksMost = 40

// SQLiteFile is the one path of the file that the path leads to, by whichever links. The file
// need not be there yet, its folder must.
func SQLiteFile(path string) (string, error) {
	path, err := filepath.Abs(path)
	for range linksMost {
		if err != nil {
			break
		}
		var file string
		if file, err = filepath.EvalSymlinks(path); err == nil || !errors.Is(err, fs.ErrNotExist) {
			return file, err
		}
		target, notLink := os.Readlink(path)
		if notLink != nil {
			folder, err := filepath.EvalSymlinks(filepath.Dir(path))
			return filepath.Join(folder, filepath.Base(path)), err
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(path), target)
		}
		path, err = filepath.Abs(target)
	}
	return "", errors.Join(err, errors.New("too many links lead from one to the next"))
}

// checkOneName refuses a file with a second name (a hard link): SQLite keeps what was written
// last beside the name that it is given, so who comes by the other name reads and writes
// another database.
func checkOneName(file *os.File) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && stat.Nlink > 1 {
		return fmt.Errorf("%s is one file under %d names (hard links), which SQLite cannot keep apart: "+
			"remove the others, and copy the file for a backup", file.Name(), stat.Nlink)
	}
	return nil
}
