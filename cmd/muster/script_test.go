package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(cleared{m}, map[string]func(){
		"muster": main,
		"stuck":  func() { os.Exit(process(stuck)) },
	})
}

// cleared are the tests without the variables of whoever runs them.
type cleared struct{ *testing.M }

func (m cleared) Run() int {
	for _, v := range []string{envPoint, envServer, envKeyFile, envToken, envTokenFile} {
		_ = os.Unsetenv(v) // fails for no name of ours
	}
	return m.M.Run()
}

// stuck is a verb that does not end.
func stuck(ctx context.Context, _ []string, _ io.Reader, stdout, _ io.Writer) int {
	fmt.Fprintln(stdout, "up")
	<-ctx.Done()
	fmt.Fprintln(stdout, context.Cause(ctx))
	select {}
}

// TestScripts runs the command as a user does: testdata/script holds one
// scenario per file. 'muster …' there is the real main.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script", Setup: func(e *testscript.Env) error {
		e.Setenv("GORACE", "atexit_sleep_ms=10") // at the end of each of a hundred processes; a second if nothing is said
		return nil
	}})
}
