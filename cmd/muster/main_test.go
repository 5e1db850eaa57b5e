//go:build unix

package main

import (
	"bufio"
	"bytes"
	"context"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/muster-p2p/muster/internal/bubble"
)

// TestSecondSignalKills: whatever a verb waits for, who asks twice is obeyed.
func TestSecondSignalKills(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		cmd := exec.CommandContext(t.Context(), "stuck") // of TestMain
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for _, want := range []string{"up", sig.String() + " signal received"} {
			if got := nextLine(t, lines); got != want {
				t.Errorf("said %q, want %q", got, want)
			}
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
		}
		_ = cmd.Wait()
		if status := cmd.ProcessState.Sys().(syscall.WaitStatus); !status.Signaled() || status.Signal() != sig {
			t.Errorf("ended by %v", cmd.ProcessState)
		}
	}
}

// A reluctant writer takes its first bytes when it is let.
type reluctant struct{ asked, let chan struct{} }

func (w reluctant) Write(b []byte) (int, error) {
	close(w.asked)
	<-w.let
	return len(b), nil
}

// TestSlowStopIsSaid: a verb that takes its time to stop says how to have it
// stop at once, and one that does not says nothing.
func TestSlowStopIsSaid(t *testing.T) {
	for _, slow := range []bool{false, true} {
		bubble.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			out := reluctant{make(chan struct{}), make(chan struct{})}
			var errs bytes.Buffer
			done := make(chan int)
			go func() { done <- run(ctx, []string{"version"}, strings.NewReader(""), out, &errs) }()
			<-out.asked
			cancel(signalError{os.Interrupt})
			if slow {
				time.Sleep(stopAfter + 1)
			}
			close(out.let)
			<-done
			if got := strings.Contains(errs.String(), "again to stop at once"); got != slow {
				t.Errorf("slow %v: said %q", slow, errs.String())
			}
		})
	}
}
