package storetest_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/muster-p2p/muster/rendezvous"
	"github.com/muster-p2p/muster/rendezvous/storetest"
)

func ledgers(bug string) storetest.Maker {
	return storetest.Maker{Shared: true, Place: func(testing.TB) func() rendezvous.Store { return newLedger(bug).store }}
}

// The simplest store that keeps all rules passes.
func TestLedger(t *testing.T) { storetest.Run(t, ledgers("")) }

const bugVar = "MUSTER_TEST_STORE_BUG"

// TestMutant is run by TestSuiteCatches in a process of its own, to fail.
func TestMutant(t *testing.T) {
	bug := os.Getenv(bugVar)
	if bug == "" {
		t.Skip("for TestSuiteCatches")
	}
	storetest.Run(t, ledgers(bug))
}

// A store that breaks one rule fails the test of that rule.
func TestSuiteCatches(t *testing.T) {
	if testing.Short() {
		t.Skip("a process for each of two dozen bugs")
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ bug, caught string }{
		{"takes a new identity", "Meta"},
		{"has a secret per point", "SharedMeta"},
		{"opens without a context", "OpenCancelled"},
		{"forgets all", "Restart"},
		{"loads out of order", "Restart"},
		{"numbers anew", "Restart"},
		{"removals come back", "Restart"},
		{"reuses positions", "PositionsAcrossRestart"},
		{"gives time at a start", "ExpiredAcrossRestart"},
		{"splits groups", "Groups"},
		{"numbers the caller's changes", "Groups"},
		{"draws positions early", "PollersMissNothing"},
		{"draws positions early", "SharedPollersMissNothing"},
		{"loses some", "PollersMissNothing"},
		{"loses some", "Model"},
		{"applies late", "CommitIsApplied"},
		{"applies twice", "CommitIsApplied"},
		{"loses the clock", "CommitIsApplied"},
		{"applies after Close", "Closed"},
		{"commits when closed", "Closed"},
		{"keeps 63 bits of seq", "Verbatim"},
		{"ends names at NUL", "Verbatim"},
		{"cuts records", "Verbatim"},
		{"keeps no source", "Verbatim"},
		{"drops early", "Expire"},
		{"drops what it looked at", "ExpireBesideRefresh"},
		{"drops nothing", "Expire"},
		{"follows registrations only", "SharedFollow"},
	} {
		t.Run(tt.bug+" at "+tt.caught, func(t *testing.T) {
			t.Parallel()
			// A test that waits for what never comes gives up after 10 s.
			cmd := exec.CommandContext(t.Context(), exe, "-test.run=^TestMutant$/^"+tt.caught+"$", "-test.timeout=60s")
			// Not every walk of the model comes by every bug.
			cmd.Env = append(os.Environ(), bugVar+"="+tt.bug, "MUSTER_TEST_SEED=1")
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), "--- FAIL: TestMutant/"+tt.caught) {
				t.Errorf("not caught: %v\n%s", err, out)
			}
		})
	}
}
