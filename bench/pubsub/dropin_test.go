package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestDropIn compiles the program that muster's pubsub is a drop-in for
// against what it was written for.
func TestDropIn(t *testing.T) {
	here, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(t.TempDir(), "overlay.json")
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{
		filepath.Join(here, "dropin", "program.go"): filepath.Join(here, "../../pubsub/testdata/dropin/program.go"),
	}})
	if err != nil {
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
