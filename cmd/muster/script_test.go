package main

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"muster": main,
		"stuck":  func() { os.Exit(process(stuck)) },
	})
}

// TestScripts runs the command as a user does: testdata/script holds one
// scenario per file. 'muster …' there is the real main.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script"})
}
