package main

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Where a database keeps its parts; see https://go.dev/security/vuln/database.
const (
	indexFile     = "index/db.json"
	modulesFile   = "index/modules.json"
	entriesFolder = "ID"
)

// extract writes the folder anew from the clone: every vulnerability's id by
// module, and the whole entry where it is about Go itself or a module that one
// of the go.sum files names. A module that is added later and that may be
// vulnerable is in the index without its entry, which govulncheck reports as an
// error: so what the extract does not know never passes for harmless.
func extract(ctx context.Context, clone, folder string, sums []string) error {
	modified, err := lastCommit(ctx, clone)
	if err != nil {
		return err
	}
	entries, err := readEntries(ctx, clone)
	if err != nil {
		return err
	}
	ours, err := modulesOf(sums)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(folder, entriesFolder)); err != nil {
		return fmt.Errorf("remove the old entries: %w", err)
	}
	for _, e := range entries {
		if !slices.ContainsFunc(e.Affected, func(a affected) bool { return ours[a.Package.Name] }) {
			continue
		}
		if err := writeObject(filepath.Join(folder, entriesFolder, e.ID+".json"), e); err != nil {
			return err
		}
	}
	return errors.Join(
		writeList(filepath.Join(folder, modulesFile), byModule(entries)),
		writeObject(filepath.Join(folder, indexFile), index{Modified: modified}),
	)
}

// lastCommit returns the time of the clone's last commit, UTC.
func lastCommit(ctx context.Context, clone string) (time.Time, error) {
	printed, err := exec.CommandContext(ctx, "git", "-C", clone, "log", "-1", "--format=%cI", "HEAD").Output()
	if err != nil {
		return time.Time{}, fmt.Errorf("ask %s for its date: %w", clone, err)
	}
	at, err := time.Parse(time.RFC3339, strings.TrimSpace(string(printed)))
	if err != nil {
		return time.Time{}, fmt.Errorf("read the date of %s: %w", clone, err)
	}
	return at.UTC(), nil
}

// readEntries reads the entries of the clone's last commit, without those that
// were withdrawn, in the order of their file names.
func readEntries(ctx context.Context, clone string) ([]entry, error) {
	archive, err := exec.CommandContext(ctx, "git", "-C", clone, "archive", "--format=tar", "HEAD:data/osv").Output()
	if err != nil {
		return nil, fmt.Errorf("read the entries of %s: %w", clone, err)
	}
	var entries []entry
	for files := tar.NewReader(bytes.NewReader(archive)); ; {
		header, err := files.Next()
		if errors.Is(err, io.EOF) {
			return entries, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read the entries of %s: %w", clone, err)
		}
		if !strings.HasSuffix(header.Name, ".json") {
			continue
		}
		var e entry
		if err := json.NewDecoder(files).Decode(&e); err != nil {
			return nil, fmt.Errorf("read %s: %w", header.Name, err)
		}
		if e.Withdrawn == nil {
			e.Summary = e.ID
			entries = append(entries, e)
		}
	}
}

// modulesOf returns the modules that the go.sum files name, and the names that
// stand for Go itself.
func modulesOf(sums []string) (map[string]bool, error) {
	modules := map[string]bool{"stdlib": true, "toolchain": true}
	for _, name := range sums {
		content, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read the modules in use: %w", err)
		}
		for line := range strings.Lines(string(content)) {
			path, _, _ := strings.Cut(line, " ")
			modules[path] = true
		}
	}
	return modules, nil
}

// writeList writes an array, an element a line.
func writeList[T any](name string, elements []T) error {
	lines := make([]string, 0, len(elements))
	for _, element := range elements {
		line, err := json.Marshal(element)
		if err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
		lines = append(lines, string(line))
	}
	return writeFile(name, "[\n"+strings.Join(lines, ",\n")+"\n]\n")
}

// writeObject writes an object in one line.
func writeObject(name string, object any) error {
	line, err := json.Marshal(object)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return writeFile(name, string(line)+"\n")
}

func writeFile(name, content string) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}
