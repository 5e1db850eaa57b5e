package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"
)

// callTimeout is how long a verb tries to reach a peer, unless told otherwise:
// more than a slow network needs, less than patience.
const callTimeout = 30 * time.Second

const callLong = `Call a peer that runs 'muster listen', and be a pipe to it: stdin goes to the peer,
what the peer sends goes to stdout. The end of stdin ends that direction only; the
command is done when both directions are.

WHO is a ticket, as 'muster listen' prints it; or a name like lab/nas, or a peer ID,
which a point is asked for (--point or $MUSTER_POINT).

The link is encrypted from end to end, and the peer must have the identity that the
ticket, the name's record or the peer ID says. It begins on the relay and moves to a
direct path when there is one; stderr tells when.

Exit codes: 0 done, 2 wrong usage, 3 nobody there, 4 timed out, 5 wrong identity,
6 refused, 7 the point or server cannot be reached.`

func newCallCmd(e *env) *cobra.Command {
	var f pointFlags
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "call WHO",
		Short: "Call a peer: stdin to it, stdout from it",
		Long:  callLong,
		Example: "  muster call muster1…                       # by ticket\n" +
			"  muster call lab/nas < file                 # by name\n" +
			"  muster call 12D3Koo… --relay --json        # by peer ID",
		Args: exactArgs("WHO"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.call(cmd.Context(), e, args[0], timeout)
		},
	}
	f.add(cmd)
	cmd.Flags().DurationVar(&timeout, "timeout", callTimeout, "give up if there is no connection after `DUR`")
	return cmd
}

func (f *pointFlags) call(ctx context.Context, e *env, whom string, timeout time.Duration) (err error) {
	start := time.Now()
	w, o, err := f.whoOptions(whom)
	if err != nil {
		return err
	}
	c, err := openCaller(o, false, nil)
	if err != nil {
		return err
	}
	defer closing(c, &err)
	dial, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	conn, err := c.dial(dial, w, "")
	if err != nil {
		return err
	}
	return pipeLink(ctx, e, events{w: e.stderr, json: f.json}, start, conn)
}

// whoOptions reads WHO and the options, which together have to lead somewhere.
func (f *pointFlags) whoOptions(whom string) (who, pointOptions, error) {
	w, err := parseWho(whom)
	if err != nil {
		return w, pointOptions{}, err
	}
	o, err := f.options()
	if err != nil {
		return w, o, err
	}
	err = o.fits(w)
	return w, o, err
}

// fits returns a usage error if the options do not lead to w. Servers that are
// given win over those of a ticket.
func (o *pointOptions) fits(w who) error {
	if w.ticket == nil {
		if len(o.Servers) > 0 && len(o.Points) == 0 {
			return usageError(errors.New("--server alone leads to peers by ticket only"), "give the ticket that 'muster listen' prints, or a point with --point")
		}
		return o.needPoint()
	}
	if len(o.Servers) > 0 {
		w.ticket.Servers = o.Servers
	}
	o.Points = nil // the ticket says all
	return nil
}
