package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/muster-p2p/muster/admin"
)

func newHealthcheckCmd(e *env) *cobra.Command {
	var f adminFlags
	cmd := &cobra.Command{
		Use:   "healthcheck",
		Short: "Exit 0 if the daemon on this machine is ready, 1 if not",
		Long: "Healthcheck asks the admin listener of a running daemon whether all of its parts are ready, as /readyz does. It is\n" +
			"for a container's HEALTHCHECK, where there is no other program to ask with. Exit 1 means not ready, whatever the reason.",
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := f.ask(cmd.Context(), func(ctx context.Context, c *admin.Client) error {
				ready, err := c.Ready(ctx)
				if err == nil && !ready.Ready {
					err = errors.New("not ready: " + printable(readyText(ready)))
				}
				return err
			})
			if err != nil {
				// Container engines know 0 and 1 only, and reserve 2.
				return notReady(err)
			}
			_, err = fmt.Fprintln(e.stdout, "ready")
			return err
		},
	}
	f.add(cmd)
	return cmd
}

// notReady keeps err's text and hint and makes its exit code 1; wrong usage
// stays what it is.
func notReady(err error) error {
	f, ok := errors.AsType[*failure](err)
	if !ok {
		return fail(exitOther, err, "")
	}
	if f.code == exitUsage {
		return err
	}
	return fail(exitOther, f.err, f.hint)
}
