package muster_test

import (
	"bytes"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/muster-p2p/muster"

// layers says how high each package stands. A package imports only packages
// that stand strictly lower; a package that is not listed fails the test, so
// the map stays a true picture of the tree.
var layers = map[string]int{
	"internal/protoskip":     -1,
	"internal/rlp":           -1,
	"internal/secp":          -1,
	"enr":                    0,
	"discv5/wire":            0,
	"rendezvous/wire":        0,
	"rdv/wire":               0,
	"reach/wire":             0,
	"link/wire":              0,
	"pubsub/pb":              0,
	"pubsub/timecache":       0,
	"pubsub/wire":            0,
	"ticket":                 0,
	"transfer/wire":          0,
	"internal/balancer":      0,
	"internal/bubble":        0,
	"internal/simnet":        0,
	"internal/groupcommit":   0,
	"internal/netwatch":      0,
	"internal/pgmigrate":     0,
	"discv5":                 1,
	"rendezvous":             1,
	"rdv":                    1,
	"reach":                  1,
	"pubsub":                 1,
	"admin":                  1,
	"access":                 1,
	"transfer":               1,
	"access/accesstest":      2,
	"access/pgaccess":        2,
	"rdv/pglobby":            2,
	"reach/pglot":            2,
	"rendezvous/pebblestore": 2,
	"rendezvous/pgstore":     2,
	"rendezvous/storetest":   2,
	"link":                   2,
	"rdvtransport":           3,
	".":                      4, // the façade
	"cmd/muster":             5,
}

// banned names say nothing about what a package holds.
var banned = []string{"util", "utils", "common", "helper", "helpers", "misc", "base", "types", "shared"}

// TestArchitecture reads the source rather than run go list: the test cache
// notices a file that the test opened, and not one that a child process read.
func TestArchitecture(t *testing.T) {
	docs := map[string]int{} // directory to files with a package comment
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name != "." && (d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".") || ownModule(name)) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		dir := path.Dir(filepath.ToSlash(name))
		docs[dir] += 0
		if f.Doc != nil {
			docs[dir]++
		}
		if slices.Contains(banned, f.Name.Name) {
			t.Errorf("%s: %q names no room", name, f.Name.Name)
		}
		for _, spec := range f.Imports {
			imp, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			dep, ok := strings.CutPrefix(imp, module)
			if !ok {
				continue
			}
			dep = path.Clean("./" + dep)
			if layers[dep] >= layerOf(dir) {
				t.Errorf("%s (layer %d) must not import %s (layer %d)", name, layerOf(dir), imp, layers[dep])
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for dir, n := range docs {
		if n != 1 {
			t.Errorf("%s: %d package comments, want 1", dir, n)
		}
		if _, ok := layers[dir]; !ok && !isExample(dir) {
			t.Errorf("%s: give it a layer here and a line in ARCHITECTURE.md", dir)
		}
	}
}

// ownModule reports whether dir holds a go.mod of its own: interop and bench
// do, to keep other people's code out of the product's module graph.
func ownModule(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "go.mod"))
	return err == nil
}

// Examples stand above everything, one folder each.
func isExample(dir string) bool { return strings.HasPrefix(dir, "examples/") }

func layerOf(dir string) int {
	if isExample(dir) {
		return 6
	}
	return layers[dir]
}

// TestBubbles: package internal/bubble tells why.
func TestBubbles(t *testing.T) {
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != "." && ownModule(name):
			return filepath.SkipDir
		case !strings.HasSuffix(name, "_test.go"):
			return nil
		}
		b, err := os.ReadFile(name)
		if bytes.Contains(b, []byte("synctest"+".Test(")) {
			t.Errorf("%s: call bubble.Test, which stands in for synctest's", name)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
