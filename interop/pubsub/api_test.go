package pubsub_test

import (
	"fmt"
	"go/importer"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// The packages whose exported names are compared, theirs and ours.
var apis = [...][2]string{
	{"github.com/libp2p/go-libp2p-pubsub", "github.com/muster-p2p/muster/pubsub"},
	{"github.com/libp2p/go-libp2p-pubsub/pb", "github.com/muster-p2p/muster/pubsub/pb"},
	{"github.com/libp2p/go-libp2p-pubsub/timecache", "github.com/muster-p2p/muster/pubsub/timecache"},
}

// TestAPI compares every exported name of go-libp2p-pubsub, with all methods
// and fields, with ours.
func TestAPI(t *testing.T) {
	load := loader(t)
	for _, pair := range apis {
		theirs, ours := names(load(pair[0])), names(load(pair[1]))
		for name, want := range theirs {
			switch have, ok := ours[name]; {
			case !ok:
				fmt.Println("MISSING", pair[0], name, want)
			case have != want:
				fmt.Println("DIFF", pair[0], name, "\n   ", want, "\n   ", have)
			}
		}
	}
}

// loader returns a function that gives packages from the compiler's export data.
func loader(t *testing.T) func(path string) *types.Package {
	t.Helper()
	args := []string{"list", "-deps", "-export", "-f", "{{.ImportPath}} {{.Export}}"}
	for _, pair := range apis {
		args = append(args, pair[0], pair[1])
	}
	out, err := exec.CommandContext(t.Context(), "go", args...).Output()
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for line := range strings.Lines(string(out)) {
		if path, file, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			files[path] = file
		}
	}
	imp := importer.ForCompiler(token.NewFileSet(), "gc", func(path string) (io.ReadCloser, error) {
		return os.Open(files[path])
	})
	return func(path string) *types.Package {
		p, err := imp.Import(path)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
}

// names returns all exported names of a package, with the methods and fields
// of its types, and what each is; of both libraries in the same words.
func names(p *types.Package) map[string]string {
	out := map[string]string{}
	same := func(q *types.Package) string {
		path := q.Path()
		for _, pair := range apis {
			if path == pair[1] {
				path = pair[0]
			}
		}
		return path
	}
	say := func(t types.Type) string { return types.TypeString(t, same) }
	for _, name := range p.Scope().Names() {
		o := p.Scope().Lookup(name)
		if !o.Exported() {
			continue
		}
		switch o := o.(type) {
		case *types.Const:
			out[name] = "const " + say(o.Type()) + " = " + o.Val().ExactString()
		case *types.Func:
			out[name] = "func " + strings.TrimPrefix(say(o.Signature()), "func")
		case *types.Var:
			out[name] = "var " + say(o.Type())
		case *types.TypeName:
			out[name] = "type " + kind(o.Type().Underlying(), say)
			addMembers(out, name, o.Type(), say)
		}
	}
	return out
}

func kind(u types.Type, say func(types.Type) string) string {
	switch u.(type) {
	case *types.Struct:
		return "struct"
	case *types.Interface:
		return "interface"
	}
	return say(u)
}

func addMembers(out map[string]string, name string, t types.Type, say func(types.Type) string) {
	if s, ok := t.Underlying().(*types.Struct); ok {
		for f := range s.Fields() {
			if f.Exported() {
				out[name+"."+f.Name()] = "field " + say(f.Type())
			}
		}
	}
	set := types.NewMethodSet(t)
	if !types.IsInterface(t) {
		set = types.NewMethodSet(types.NewPointer(t))
	}
	for sel := range set.Methods() {
		if m := sel.Obj(); m.Exported() {
			out[name+"."+m.Name()] = "method " + strings.TrimPrefix(say(sel.Type()), "func")
		}
	}
}
