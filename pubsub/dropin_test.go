package pubsub_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestDropIn compiles a program that was written for go-libp2p-pubsub, with
// nothing but its import paths changed. bench/pubsub compiles it as it is.
func TestDropIn(t *testing.T) {
	src, err := os.ReadFile("testdata/dropin/program.go")
	if err != nil {
		t.Fatal(err)
	}
	src = bytes.ReplaceAll(src, []byte("github.com/libp2p/go-libp2p-pubsub"), []byte("github.com/muster-p2p/muster/pubsub"))
	dir := t.TempDir()
	file := filepath.Join(dir, "program.go")
	here, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(here, "dropin", "program.go"): file}})
	if err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, src, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(list, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "go", "build", "-overlay", list, "./dropin").CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
