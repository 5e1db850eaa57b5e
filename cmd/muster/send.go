package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-p2p/muster/link"
	"github.com/muster-p2p/muster/transfer"
)

const sendLong = `Send files and directories to one peer.

Without --to, stderr has a ticket, and the peer gets the files with 'muster recv TICKET'.
With --to, the peer runs 'muster recv' already: --to is the ticket that it shows, its
name like lab/nas, or its peer ID.

Every file is verified by its SHA-256 at the other end. If the connection breaks, this
command waits for the receiver to come again, and goes on where it ended. Symbolic links,
devices and sockets in a directory are left out.

Without a point, any rdv server will do: --server URL.

Exit codes: 0 the receiver has it all, 1 broke off or changed while it was sent, 2 wrong
usage, 3 nobody there, 4 timed out, 5 wrong identity, 6 refused, 7 the point or server
cannot be reached, 8 the receiver got something else, 9 a file cannot be read.`

// sendFlags are the flags of 'muster send'.
type sendFlags struct {
	pointFlags
	to      string
	qr      bool
	allow   []string
	timeout time.Duration
}

func newSendCmd(e *env) *cobra.Command {
	var f sendFlags
	cmd := &cobra.Command{
		Use:   "send PATH...",
		Short: "Send files and directories to a peer",
		Long:  sendLong,
		Example: "  muster send holiday/ notes.txt --point /dns4/point.example.org/tcp/4001/p2p/12D3Koo…\n" +
			"  muster send disk.img --server https://point.example.org --qr\n" +
			"  muster send report.pdf --to lab/nas",
		Args: someArgs("PATH"),
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd.Context(), e, args) },
	}
	f.add(cmd)
	cmd.Flags().StringVar(&f.to, "to", "", "send to `WHO`, who runs 'muster recv': a ticket, a name like lab/nas or a peer ID")
	cmd.Flags().BoolVar(&f.qr, "qr", false, "show the ticket as a QR code, too, on a terminal")
	cmd.Flags().StringSliceVar(&f.allow, "allow", nil, "send to these `PEERID`s only, whoever else has the ticket")
	cmd.Flags().DurationVar(&f.timeout, "timeout", 0, "give up if there is no connection after `DUR` (default: 30s with --to, else wait for ever)")
	return cmd
}

func (f *sendFlags) run(ctx context.Context, e *env, paths []string) (err error) {
	src, err := transfer.Scan(ctx, paths, transfer.Limits{})
	if err != nil {
		return scanFailure(ctx, err)
	}
	defer closing(src, &err)
	show := newTransferShow(e, f.json)
	show.skipped(src.Skipped)
	if f.to != "" {
		return f.sendTo(ctx, show, src)
	}
	return f.serve(ctx, e, show, src)
}

// sendTo calls a peer that waits for files.
func (f *sendFlags) sendTo(ctx context.Context, show *transferShow, src *transfer.Source) (err error) {
	start := time.Now()
	w, o, err := f.whoOptions(f.to)
	if err != nil {
		return err
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
	if err != nil {
		return err
	}
	return sendOver(ctx, show, start, conn, src)
}

// serve waits for who has the ticket, and again if the connection breaks.
func (f *sendFlags) serve(ctx context.Context, e *env, show *transferShow, src *transfer.Source) (err error) {
	o, err := f.options()
	if err == nil {
		err = o.needMeeting()
	}
	if err != nil {
		return err
	}
	allow, err := parsePeerIDs("--allow", f.allow)
	if err != nil {
		return err
	}
	c, err := openCaller(o, false, nil)
	if err != nil {
		return err
	}
	defer closing(c, &err)
	m, err := c.meeting(ctx)
	if err != nil {
		return err
	}
	if err := c.showTicket(e, show.ev, "get "+offerText(src.Offer()), "recv", m, f.qr); err != nil {
		return err
	}
	d := &door{c: c, show: show, m: m, allow: allow, timeout: f.timeout}
	d.do = func(ctx context.Context, conn *link.Conn) error { return sendOver(ctx, show, time.Time{}, conn, src) }
	if len(o.Servers) == 0 {
		d.renew = func(ctx context.Context) (link.Meeting, error) {
			m, err := c.meeting(ctx)
			if err == nil {
				err = c.showTicket(e, show.ev, "the ticket has run out; now get it", "recv", m, f.qr)
			}
			return m, err
		}
	}
	return d.serve(ctx)
}

// sendOver sends src over a link, and closes it.
func sendOver(ctx context.Context, show *transferShow, start time.Time, conn *link.Conn, src *transfer.Source) error {
	show.begin(start, conn, "sending")
	res, err := transfer.Send(ctx, conn, src, transfer.SendConfig{Progress: show.progress})
	hangUp(ctx, conn, err)
	return show.end(ctx, res, err)
}
