// Command muster finds, reaches and talks to peers.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() { os.Exit(process(run)) }

// process runs the command as a process does. The first interrupt or SIGTERM
// ends the context; from then on they do what they do to any program, so that a
// second one ends a verb at once that takes its time.
func process(run func(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int) int {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	sigs := make(chan os.Signal, 1)
	signal.Notify(sigs, os.Interrupt, syscall.SIGTERM)
	go func() {
		s := <-sigs
		signal.Stop(sigs)
		cancel(signalError{s})
	}()
	return run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
}

// A signalError says that a signal ended a context.
type signalError struct{ os.Signal }

func (e signalError) Error() string { return e.String() + " signal received" }
