package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// env is what a verb may touch of its process. Verbs take it as an argument,
// so that the CLI scripts run the real main without a process.
//
// The rules of the output: stdout is data, stderr is for people, and --json
// turns each into one JSON object per line where the verb documents it.
type env struct {
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer

	drains atomic.Bool // the verb says itself that it is stopping, and how to have it stop at once
}

// run is main without the process: it returns the exit status.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	e := &env{stdin: stdin, stdout: stdout, stderr: stderr}
	root := newRoot(e)
	root.SetArgs(args)
	patience := e.stopping(ctx)
	cmd, err := root.ExecuteContextC(ctx)
	patience()
	if err == nil {
		return exitOK
	}
	if ctx.Err() != nil {
		err = interrupted(ctx)
	}
	f := failureOf(err)
	f.tell(stderr, wantsJSON(cmd, args))
	return f.code
}

// wantsJSON reports whether a verb was told to write for programs. If its flags
// were wrong it may not know.
func wantsJSON(cmd *cobra.Command, args []string) bool {
	asJSON, err := cmd.Flags().GetBool("json")
	return err == nil && asJSON || slices.Contains(args, "--json")
}

// stopAfter is how long a verb that was told to stop may take until it says
// that it does.
const stopAfter = time.Second

// stopping says so on stderr if the verb is not done soon after ctx ended.
// Call done when it is.
func (e *env) stopping(ctx context.Context) (done func()) {
	ended, told := make(chan struct{}), make(chan struct{})
	forget := context.AfterFunc(ctx, func() {
		defer close(told)
		late := time.NewTimer(stopAfter)
		defer late.Stop()
		select {
		case <-late.C:
			if !e.drains.Load() {
				fmt.Fprintln(e.stderr, "muster: stopping; interrupt again to stop at once")
			}
		case <-ended:
		}
	})
	return func() {
		close(ended)
		if !forget() {
			<-told
		}
	}
}

// interrupted says what ended a verb that had not done its work, with the exit
// code that shells give a process that a signal ended.
func interrupted(ctx context.Context) error {
	cause, sig := context.Cause(ctx), syscall.SIGINT
	if strings.Contains(cause.Error(), syscall.SIGTERM.String()) {
		sig = syscall.SIGTERM
	}
	return fail(exitSignal+int(sig), cause, "")
}

func newRoot(e *env) *cobra.Command {
	root := &cobra.Command{
		Use:           "muster",
		Short:         "Find, reach and talk to peers. Names, not addresses.",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          knownVerb,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cmd.Help()
		},

		SuggestionsMinimumDistance: 2,
	}
	root.SetIn(e.stdin)
	root.SetOut(e.stdout)
	root.SetErr(e.stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError(err, "see '"+cmd.CommandPath()+" --help'")
	})
	root.AddCommand(
		newStatusCmd(e),
		newPeersCmd(e),
		newHealthcheckCmd(e),
		newCompletionCmd(e),
		newManCmd(e),
		newServeCmd(e),
		newDoctorCmd(e),
		newNetcheckCmd(e),
		newConfigCmd(e),
		newTokenCmd(e),
		newVersionCmd(e),
		newKeyCmd(e),
		newRdvCmd(e),
		newRendezvousCmd(e),
		newPubCmd(e),
		newSubCmd(e),
		newENRCmd(e),
		newDiscv5Cmd(e),
		newUpCmd(e),
		newFindCmd(e),
		newListenCmd(e),
		newSendCmd(e),
		newRecvCmd(e),
		newCallCmd(e),
		newForwardCmd(e),
		newPingCmd(e),
	)
	return root
}

// knownVerb refuses what is no verb, and names one like it.
func knownVerb(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := "see 'muster --help'"
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		hint = "did you mean 'muster " + near[0] + "'?"
	}
	return usageError(fmt.Errorf("unknown command %q for %q", args[0], cmd.CommandPath()), hint)
}

// exactArgs is cobra.ExactArgs with muster's exit code and a usage line.
func exactArgs(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == len(names) {
			return nil
		}
		want := cmp.Or(strings.Join(names, " "), "no arguments")
		return usageError(fmt.Errorf("%s takes %s, got %d", cmd.CommandPath(), want, len(args)), "see '"+cmd.CommandPath()+" --help'")
	}
}

// group makes a command that only holds others.
func group(use, short string, subs ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use:   use,
		Short: short,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError(fmt.Errorf("unknown command %q for %q", args[0], cmd.CommandPath()),
					"see '"+cmd.CommandPath()+" --help'")
			}
			return cmd.Help()
		},
	}
	cmd.AddCommand(subs...)
	return cmd
}
