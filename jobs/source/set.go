package source

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

//go:embed builtin/*.yaml
var builtin embed.FS

// maxFile bounds a file of a definition.
const maxFile = 1 << 20

// Set are the definitions that a process knows.
type Set struct {
	upstreams map[string]*Upstream
	sources   map[string]*Source
	texts     map[string]document // by upstream
}

// document is a definition as it is written.
type document struct {
	file string
	text []byte
}

func newSet() *Set {
	return &Set{upstreams: map[string]*Upstream{}, sources: map[string]*Source{}, texts: map[string]document{}}
}

// Load reads the built-in definitions, and those of files and folders, which replace built-in
// ones of the same name. bases, by upstream, stand in for the bases in the definitions. The
// error has every fault of all files.
func Load(paths []string, bases map[string]string) (*Set, error) {
	s := newSet()
	own, err := fs.Glob(builtin, "builtin/*.yaml")
	if err != nil {
		return nil, err
	}
	var faults Faults
	for _, file := range own {
		text, err := builtin.ReadFile(file)
		if err != nil {
			return nil, err
		}
		faults = append(faults, s.add(document{file, text})...)
	}
	err = errors.Join(faults.err(), s.addFiles(paths))
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(bases)) {
		if u := s.upstreams[name]; u != nil {
			u.Base = strings.TrimRight(bases[name], "/")
			continue
		}
		known := slices.Sorted(maps.Keys(s.upstreams))
		err = errors.Join(err, fmt.Errorf("there is no upstream %q; there are %s", name, strings.Join(known, ", ")))
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Check reads the definitions of files and folders alone. The error has every fault.
func Check(paths []string) (*Set, error) {
	s := newSet()
	if err := s.addFiles(paths); err != nil {
		return nil, err
	}
	return s, nil
}

// addFiles adds what the files and folders define, each upstream once.
func (s *Set) addFiles(paths []string) error {
	files, err := definitions(paths)
	var faults Faults
	from := map[string]string{}
	for _, file := range files {
		text, readErr := readFile(file)
		if readErr != nil {
			err = errors.Join(err, readErr)
			continue
		}
		found := s.add(document{file, text})
		for name, d := range s.texts {
			if d.file != file || len(found) > 0 {
				continue
			}
			if other := from[name]; other != "" {
				found = Faults{{file, 1, fmt.Sprintf("the upstream %s is defined in %s, too; remove one", name, other)}}
			}
			from[name] = file
		}
		faults = append(faults, found...)
	}
	return errors.Join(err, faults.err())
}

// add replaces the definition of an upstream.
func (s *Set) add(d document) Faults {
	u, err := Parse(d.file, d.text)
	if err != nil {
		faults, _ := errors.AsType[Faults](err)
		return faults
	}
	if before := s.upstreams[u.Name]; before != nil {
		for _, source := range before.Sources {
			delete(s.sources, source.Name)
		}
	}
	s.upstreams[u.Name], s.texts[u.Name] = u, d
	for _, source := range u.Sources {
		s.sources[source.Name] = source
	}
	return nil
}

// definitions are the files that the paths name; of a folder those that end in .yaml or .yml.
func definitions(paths []string) (files []string, err error) {
	for _, path := range paths {
		if info, err := os.Stat(path); err != nil || !info.IsDir() { // reading it says what is wrong
			files = append(files, path)
			continue
		}
		entries, readErr := os.ReadDir(path)
		err = errors.Join(err, readErr)
		for _, entry := range entries {
			if extension := strings.ToLower(filepath.Ext(entry.Name())); extension == ".yaml" || extension == ".yml" {
				files = append(files, filepath.Join(path, entry.Name()))
			}
		}
	}
	return files, err
}

func readFile(file string) ([]byte, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("%s: a definition has at most 1 MiB", file)
	}
	return os.ReadFile(file) //nolint:gosec // the operator names the file
}

// Sources are all sources, by name.
func (s *Set) Sources() []*Source {
	all := make([]*Source, 0, len(s.sources))
	for _, name := range slices.Sorted(maps.Keys(s.sources)) {
		all = append(all, s.sources[name])
	}
	return all
}

// Source is the source of that name, nil if there is none.
func (s *Set) Source(name string) *Source { return s.sources[name] }

// Upstreams are all upstreams, by name.
func (s *Set) Upstreams() []*Upstream {
	all := make([]*Upstream, 0, len(s.upstreams))
	for _, name := range slices.Sorted(maps.Keys(s.upstreams)) {
		all = append(all, s.upstreams[name])
	}
	return all
}

// Upstream is the upstream of that name, nil if there is none.
func (s *Set) Upstream(name string) *Upstream { return s.upstreams[name] }

// File is where the upstream is defined, "" if it is not; that of a built-in one begins with
// builtin/.
func (s *Set) File(upstream string) string { return s.texts[upstream].file }

// YAML is the definition of one source, with its upstream's part, as Parse reads it. It is nil
// if there is no such source.
func (s *Set) YAML(name string) ([]byte, error) {
	source := s.sources[name]
	if source == nil {
		return nil, nil
	}
	var definition yaml.Node
	if err := yaml.Unmarshal(s.texts[source.Upstream.Name].text, &definition); err != nil {
		return nil, err
	}
	root := definition.Content[0]
	for i := 0; i+1 < len(root.Content); i += 2 {
		if all := root.Content[i+1]; root.Content[i].Value == "sources" {
			all.Content = only(all.Content, strings.TrimPrefix(name, source.Upstream.Name+"."))
		}
	}
	return yaml.Dump(&definition, yaml.WithIndent(2), yaml.WithLineWidth(-1))
}

// only is the pair of that key.
func only(pairs []*yaml.Node, key string) []*yaml.Node {
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i].Value == key {
			return pairs[i : i+2]
		}
	}
	return nil
}
