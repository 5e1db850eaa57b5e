package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/spf13/cobra"
	"rsc.io/qr"

	"github.com/muster-p2p/muster"
	"github.com/muster-p2p/muster/link"
	"github.com/muster-p2p/muster/reach"
	"github.com/muster-p2p/muster/ticket"
)

const listenLong = `Wait for one caller and be a pipe to it: stdin goes to the caller, what the caller
sends goes to stdout.

Stderr has a ticket that the caller needs: it names this peer, the server to meet at
and a secret token; give it to nobody else. With a point, the caller can also use
this peer's ID, or its name if --ns and --name give it one. --allow says which peers
may call; a ticket does not get around it.

Without a point, any rdv server will do: --server URL.`

// listenFlags are the flags of 'muster listen'.
type listenFlags struct {
	pointFlags
	nameFlags
	allow   []string
	qr      bool
	timeout time.Duration
}

func newListenCmd(e *env) *cobra.Command {
	var f listenFlags
	cmd := &cobra.Command{
		Use:   "listen",
		Short: "Wait for one caller: stdin to it, stdout from it",
		Long:  listenLong,
		Example: "  muster listen --server http://203.0.113.7:8080 > file\n" +
			"  muster listen --point /dns4/point.example.org/tcp/4001/p2p/12D3Koo… --ns lab --name nas",
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd.Context(), e) },
	}
	f.pointFlags.add(cmd)
	f.nameFlags.add(cmd)
	cmd.Flags().StringSliceVar(&f.allow, "allow", nil, "let in these `PEERID`s only")
	cmd.Flags().BoolVar(&f.qr, "qr", false, "show the ticket as a QR code, too, on a terminal")
	cmd.Flags().DurationVar(&f.timeout, "timeout", 0, "give up if nobody has called after `DUR` (default: wait for ever)")
	return cmd
}

func (f *listenFlags) run(ctx context.Context, e *env) (err error) {
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
	ev := newEvents(e.stderr, f.json)
	c, err := openCaller(o, len(names) > 0, func(event reach.Event) { sayReach(ev, event) })
	if err != nil {
		return err
	}
	defer closing(c, &err)
	wait := ctx
	if f.timeout > 0 {
		var cancel context.CancelFunc
		wait, cancel = context.WithTimeout(ctx, f.timeout)
		defer cancel()
	}
	m, err := c.meeting(wait)
	if err != nil {
		return err
	}
	if err := c.showTicket(e, ev, "call it", "call", m, f.qr); err != nil {
		return err
	}
	l, err := c.listenFor(ctx, pipeService, allow)
	if err != nil {
		return err
	}
	stop, err := c.register(ctx, ev, names)
	if err != nil {
		return err
	}
	defer stop()
	conn, err := c.awaitCaller(wait, pipeService, m, l, allow)
	if err != nil && wait.Err() != nil && ctx.Err() == nil {
		return fail(exitTimeout, fmt.Errorf("nobody called for %s", f.timeout), "")
	}
	if err != nil {
		return linkFailure(err)
	}
	return pipeLink(ctx, e, ev, time.Time{}, conn)
}

// meeting returns where to wait for who has the ticket: at the servers that are
// given, else at those of the point.
func (c *caller) meeting(ctx context.Context) (link.Meeting, error) {
	if len(c.opts.Servers) > 0 {
		token := strings.ToLower(rand.Text()) // 130 bits
		return link.Meeting{Servers: c.opts.Servers, Token: token, Header: c.bearer(token)}, nil
	}
	m, err := c.Reserve(ctx)
	return m, linkFailure(err)
}

// showTicket tells how to reach this peer: by which verb, to do what.
func (c *caller) showTicket(e *env, ev events, what, verb string, m link.Meeting, asQR bool) error {
	text, err := ticket.Ticket{Peer: c.id, Servers: m.Servers, Token: m.Token}.Encode()
	if errors.Is(err, ticket.ErrTooLong) && len(m.Servers) > 1 {
		text, err = ticket.Ticket{Peer: c.id, Servers: m.Servers[:1], Token: m.Token}.Encode()
	}
	if err != nil {
		return fail(exitOther, err, "name a server with a shorter URL with --server")
	}
	ev.say(fmt.Sprintf("this is %s; %s with\n  muster %s %s", c.id, what, verb, text),
		map[string]any{"event": "ticket", "peer": c.id.String(), "ticket": text})
	if asQR && !ev.json && isTerminal(e.stderr) {
		return showQR(e, ev, text)
	}
	return nil
}

// showQR draws text as a QR code; capitals make it smaller, and mean the same in
// a ticket.
func showQR(e *env, ev events, text string) error {
	code, err := qr.Encode(strings.ToUpper(text), qr.L)
	if err != nil {
		return fmt.Errorf("draw the QR code: %w", err)
	}
	// ISO/IEC 18004 wants four light modules around it; readers do with two.
	const margin, least = 4, 2
	columns := columnsOf(e.stderr)
	if code.Size+2*least > columns {
		ev.say(fmt.Sprintf("the QR code is %d columns wide, and this terminal %d", code.Size+2*least, columns), nil)
		return nil
	}
	_, err = fmt.Fprint(e.stderr, drawQR(code, min(margin, (columns-code.Size)/2), coloursOn(e.stderr)))
	return err
}

// drawQR draws a code of half blocks: light ones on the terminal's ground, which
// is dark as a rule, or in colours that say so.
func drawQR(code *qr.Code, margin int, colours bool) string {
	before, after := "", "\n"
	if colours {
		before, after = "\x1b[97;40m", "\x1b[0m\n" // white on black
	}
	var b strings.Builder
	for y := -margin; y < code.Size+margin; y += 2 {
		b.WriteString(before)
		for x := -margin; x < code.Size+margin; x++ {
			b.WriteString([]string{"█", "▀", "▄", " "}[2*bit(code.Black(x, y))+bit(code.Black(x, y+1))])
		}
		b.WriteString(after)
	}
	return b.String()
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

// pipeService is the service of 'muster listen' and 'muster call'.
const pipeService = ""

// listenFor lets the points call this peer for a service. It returns nil if
// there are no points.
func (c *caller) listenFor(ctx context.Context, service string, allow []peer.ID) (*muster.Listener, error) {
	if len(c.opts.Points) == 0 {
		return nil, nil
	}
	l, err := c.Listen(service, allow)
	if err == nil {
		err = c.servePing(ctx, allow)
	}
	if err == nil {
		err = c.Start(ctx)
	}
	return l, err
}

// awaitCaller waits for the first caller, by ticket or, if l is not nil, through
// a point.
func (c *caller) awaitCaller(ctx context.Context, service string, m link.Meeting, l *muster.Listener, allow []peer.ID) (*link.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		conn *link.Conn
		err  error
	}
	results := make(chan result, 2)
	ways := []func() (*link.Conn, error){func() (*link.Conn, error) { return c.awaitTicket(ctx, service, m, allow) }}
	if l != nil {
		defer l.Close() //nolint:errcheck // cannot fail
		ways = append(ways, func() (*link.Conn, error) { return l.Accept(ctx) })
	}
	var wg sync.WaitGroup
	for _, way := range ways {
		wg.Go(func() {
			conn, err := way()
			results <- result{conn, err}
		})
	}
	first := <-results
	if first.err != nil && len(ways) > 1 && ctx.Err() == nil {
		first = <-results // the other way may do
	}
	cancel()
	wg.Wait()
	close(results)
	for late := range results {
		if late.conn != nil {
			_ = late.conn.Close() // there is one stdin
		}
	}
	return first.conn, first.err
}

// awaitTicket waits for who has the ticket. A caller who does not say what it
// wants does not end the wait.
func (c *caller) awaitTicket(ctx context.Context, service string, m link.Meeting, allow []peer.ID) (*link.Conn, error) {
	allowed := map[peer.ID]bool{}
	for _, id := range allow {
		allowed[id] = true
	}
	for {
		conn, err := c.AcceptAt(ctx, service, m, func(id peer.ID) error {
			if len(allowed) > 0 && !allowed[id] {
				return errors.New("not on the access list")
			}
			return nil
		})
		if err == nil || !errors.Is(err, muster.ErrHello) {
			return conn, err
		}
	}
}
