package main

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// liveTimeout bounds how long the live database may take to tell its date.
const liveTimeout = 10 * time.Second

// choose returns the URL of the live database or, where it does not answer, of
// the extract in the folder, and prints which of the two and its date.
func choose(ctx context.Context, live, folder string, out io.Writer) (string, error) {
	modified, liveErr := liveModified(ctx, live)
	if liveErr == nil {
		fmt.Fprintf(out, "vulnerabilities: the live database %s, of %s\n", live, modified.Format(time.DateOnly))
		return live, nil
	}
	modified, err := extractModified(folder)
	if err != nil {
		return "", errors.Join(liveErr, err)
	}
	fmt.Fprintf(out, "vulnerabilities: %v\nvulnerabilities: the extract in %s, of %s; its README.md tells how to make it anew\n",
		liveErr, extractFolder, modified.Format(time.DateOnly))
	return (&url.URL{Scheme: "file", Path: filepath.ToSlash(folder)}).String(), nil
}

// index is a database's index/db.json.
type index struct {
	Modified time.Time `json:"modified"`
}

// liveModified asks a database for the time of its last change.
func liveModified(ctx context.Context, live string) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, liveTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, live+"/index/db.json.gz", http.NoBody)
	if err != nil {
		return time.Time{}, fmt.Errorf("ask the live database: %w", err)
	}
	client := http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment}}
	defer client.CloseIdleConnections()
	response, err := client.Do(request)
	if err != nil {
		return time.Time{}, fmt.Errorf("ask the live database: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return time.Time{}, fmt.Errorf("ask the live database: it answers %s", response.Status)
	}
	plain, err := gzip.NewReader(response.Body)
	if err != nil {
		return time.Time{}, fmt.Errorf("read the live database's answer: %w", err)
	}
	return readModified(plain)
}

// extractModified returns the time of the last change that an extract knows of.
// Without its list of modules it is no database: govulncheck would take the
// folder for one that knows of no vulnerability.
func extractModified(folder string) (time.Time, error) {
	if _, err := os.Stat(filepath.Join(folder, modulesFile)); err != nil {
		return time.Time{}, fmt.Errorf("find the extract: %w", err)
	}
	file, err := os.Open(filepath.Join(folder, indexFile))
	if err != nil {
		return time.Time{}, fmt.Errorf("find the extract: %w", err)
	}
	defer file.Close() //nolint:errcheck // it was only read
	return readModified(file)
}

func readModified(r io.Reader) (time.Time, error) {
	var i index
	if err := json.NewDecoder(r).Decode(&i); err != nil {
		return time.Time{}, fmt.Errorf("read a database's index: %w", err)
	}
	if i.Modified.IsZero() {
		return time.Time{}, errors.New("read a database's index: it has no date")
	}
	return i.Modified, nil
}
