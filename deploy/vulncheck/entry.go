package main

import (
	"maps"
	"slices"
	"time"
)

// entry is what the extract keeps of a vulnerability, in the OSV format as the
// Go project uses it: https://go.dev/security/vuln/database#schema. Texts
// and credits stay behind the URL.
type entry struct {
	ID        string     `json:"id"`
	Withdrawn *time.Time `json:"withdrawn,omitempty"`
	Summary   string     `json:"summary"` // the id again
	Affected  []affected `json:"affected"`
	About     struct {
		URL string `json:"url"`
	} `json:"database_specific"`
}

// affected says which versions and functions of a module are vulnerable.
type affected struct {
	Package struct {
		Name      string `json:"name"`
		Ecosystem string `json:"ecosystem"`
	} `json:"package"`
	Ranges []struct {
		Type   string  `json:"type"`
		Events []event `json:"events"`
	} `json:"ranges"`
	Specific struct {
		Imports []imported `json:"imports,omitempty"`
	} `json:"ecosystem_specific"`
}

// event is a version at which a vulnerability begins or ends.
type event struct {
	Introduced string `json:"introduced,omitempty"`
	Fixed      string `json:"fixed,omitempty"`
}

// imported is a vulnerable package; one without symbols is vulnerable as a whole.
type imported struct {
	Path    string   `json:"path"`
	GOOS    []string `json:"goos,omitempty"`
	GOARCH  []string `json:"goarch,omitempty"`
	Symbols []string `json:"symbols,omitempty"`
}

// moduleIndex names a module's vulnerabilities.
type moduleIndex struct {
	Path  string          `json:"path"`
	Vulns []vulnerability `json:"vulns"`
}

// vulnerability names an entry.
type vulnerability struct {
	ID string `json:"id"`
}

// byModule is the index of the entries: modules by their paths, ids in the
// entries' order.
func byModule(entries []entry) []moduleIndex {
	all := map[string][]vulnerability{}
	for _, e := range entries {
		v := vulnerability{ID: e.ID}
		for _, a := range e.Affected {
			if module := a.Package.Name; !slices.Contains(all[module], v) { // an entry may list a module twice
				all[module] = append(all[module], v)
			}
		}
	}
	modules := make([]moduleIndex, 0, len(all))
	for _, path := range slices.Sorted(maps.Keys(all)) {
		modules = append(modules, moduleIndex{Path: path, Vulns: all[path]})
	}
	return modules
}
