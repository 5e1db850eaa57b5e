package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-p2p/muster/link"
	"github.com/muster-p2p/muster/reach"
	"github.com/muster-p2p/muster/transfer"
)

const recvLong = `Get the files and directories that a peer sends.

With the ticket that 'muster send' shows, call that peer. Without one, wait for a peer
that sends: stderr has a ticket for 'muster send PATH --to TICKET', and with a point the
sender may also use this peer's ID or name (--ns, --name).

Nothing that is there is overwritten unless --overwrite says so, and nothing outside of
--out is written, whatever names come. Every file is verified before it gets its name.
If the connection breaks, run the same command again: it goes on where it ended.

On a terminal you are asked before anything is written; --yes takes it as it comes.
Stdout has the names of what came, one per line.

Exit codes: 0 all is there, 1 broke off, 2 wrong usage, 3 nobody there, 4 timed out,
5 wrong identity, 6 refused, 7 the point or server cannot be reached, 8 what came is not
what was sent, 9 disk full, no permission, or something is there already, 10 the other
end does not send files.`

// recvFlags are the flags of 'muster recv'.
type recvFlags struct {
	pointFlags
	nameFlags
	out       string
	overwrite bool
	yes       bool
	allow     []string
	qr        bool
	timeout   time.Duration
}

func newRecvCmd(e *env) *cobra.Command {
	var f recvFlags
	cmd := &cobra.Command{
		Use:   "recv [TICKET]",
		Short: "Get the files that a peer sends",
		Long:  recvLong,
		Example: "  muster recv muster1…                 # what 'muster send' shows\n" +
			"  muster recv muster1… --out ~/in --yes\n" +
			"  muster recv --point $POINT --ns lab --name nas --allow 12D3Koo… --yes",
		Args: optionalArg("TICKET"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				return f.fetch(cmd.Context(), e, args[0])
			}
			return f.await(cmd.Context(), e)
		},
	}
	f.pointFlags.add(cmd)
	f.nameFlags.add(cmd)
	cmd.Flags().StringVar(&f.out, "out", ".", "write to `DIR`, made if missing")
	cmd.Flags().BoolVar(&f.overwrite, "overwrite", false, "replace files that are there")
	cmd.Flags().BoolVarP(&f.yes, "yes", "y", false, "do not ask")
	cmd.Flags().StringSliceVar(&f.allow, "allow", nil, "take files from these `PEERID`s only")
	cmd.Flags().BoolVar(&f.qr, "qr", false, "show the ticket as a QR code, too, on a terminal")
	cmd.Flags().DurationVar(&f.timeout, "timeout", 0, "give up if there is no connection after `DUR` (default: 30s with a ticket, else wait for ever)")
	return cmd
}

// fetch calls the peer that has shown the ticket.
func (f *recvFlags) fetch(ctx context.Context, e *env, whom string) (err error) {
	start := time.Now()
	w, o, err := f.whoOptions(whom)
	if err != nil {
		return err
	}
	if w.ticket == nil {
		return usageError(fmt.Errorf("%q is not a ticket", whom), "run 'muster recv' here first, and 'muster send PATH --to "+whom+"' there")
	}
	c, err := openCaller(o, false, nil)
	if err != nil {
		return err
	}
	defer closing(c, &err)
	if f.timeout == 0 {
		f.timeout = callTimeout
	}
	dial, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	conn, err := c.dial(dial, w, filesService)
	if timedOut(err) && ctx.Err() == nil {
		return fail(exitTimeout, fmt.Errorf("nobody is there with that ticket for %s", f.timeout), "is 'muster send' still running there?")
	}
	if err != nil {
		return err
	}
	return f.receive(ctx, e, newTransferShow(e, f.json), start, conn)
}

// await waits for a peer that sends, and again if the connection breaks.
func (f *recvFlags) await(ctx context.Context, e *env) (err error) {
	if !f.yes && !asks(e) {
		return usageError(errors.New("nobody can be asked whether to take what comes"), "say --yes, and which peers may send with --allow")
	}
	o, err := f.options()
	if err == nil {
		err = o.needMeeting()
	}
	if err != nil {
		return err
	}
	names, err := f.names()
	if err != nil {
		return err
	}
	if len(names) > 0 {
		if err := o.needPoint(); err != nil {
			return err
		}
	}
	allow, err := parsePeerIDs("--allow", f.allow)
	if err != nil {
		return err
	}
	show := newTransferShow(e, f.json)
	c, err := openCaller(o, len(names) > 0, func(event reach.Event) { sayReach(show.ev, event) })
	if err != nil {
		return err
	}
	defer closing(c, &err)
	m, err := c.meeting(ctx)
	if err != nil {
		return err
	}
	if err := c.showTicket(e, show.ev, "send to it", "send PATH --to", m, f.qr); err != nil {
		return err
	}
	l, err := c.listenFor(ctx, filesService, allow)
	if err != nil {
		return err
	}
	stop, err := c.register(ctx, show.ev, names)
	if err != nil {
		return err
	}
	defer stop()
	if l != nil && f.yes && len(allow) == 0 {
		show.ev.say("whoever finds this peer at the point may send to it; --allow says who", map[string]any{"event": "open"})
	}
	d := &door{c: c, show: show, m: m, l: l, allow: allow, timeout: f.timeout}
	d.do = func(ctx context.Context, conn *link.Conn) error { return f.receive(ctx, e, show, time.Time{}, conn) }
	return d.serve(ctx)
}

// receive takes what comes over a link, and closes it.
func (f *recvFlags) receive(ctx context.Context, e *env, show *transferShow, start time.Time, conn *link.Conn) error {
	show.begin(start, conn, "receiving")
	res, err := transfer.Receive(ctx, conn, f.out, transfer.ReceiveConfig{
		Accept:    func(o transfer.Offer) error { return f.ask(ctx, e, show, o) },
		Overwrite: f.overwrite,
		Progress:  show.progress,
	})
	hangUp(ctx, conn, err)
	if err := show.end(ctx, res, err); err != nil {
		return err
	}
	return f.printReceived(e, res.Offer)
}

// printReceived prints where the files and directories are now.
func (f *recvFlags) printReceived(e *env, o transfer.Offer) error {
	for _, name := range o.Top {
		path := filepath.Join(f.out, filepath.FromSlash(name))
		var err error
		if f.json {
			err = json.NewEncoder(e.stdout).Encode(map[string]string{"path": path})
		} else {
			_, err = fmt.Fprintln(e.stdout, path)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// asks reports whether there is a person to ask.
func asks(e *env) bool { return isTerminal(e.stdin) && isTerminal(e.stderr) }

var errDeclined = errors.New("you said no")

// ask shows what is offered, and asks the person, if there is one, whether to
// take it.
func (f *recvFlags) ask(ctx context.Context, e *env, show *transferShow, o transfer.Offer) error {
	show.offer(o)
	if f.yes || !asks(e) {
		return nil
	}
	fmt.Fprintf(e.stderr, "write to %s? [Y/n] ", f.out)
	answer := make(chan string, 1)
	go func() { // ends with the process, if nobody types
		line, err := bufio.NewReader(e.stdin).ReadString('\n')
		if err != nil {
			line = "n"
		}
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case a := <-answer:
		if a == "" || a == "y" || a == "yes" {
			return nil
		}
		return errDeclined
	case <-ctx.Done():
		return ctx.Err()
	}
}
