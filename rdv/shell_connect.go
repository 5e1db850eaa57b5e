package rdv

import (
	"bufio"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/muster-p2p/muster/rdv/wire"
)

const (
	// greetTimeout bounds the exchange of hellos on a direct connection: two
	// round trips of the longest kind, and one lost packet.
	greetTimeout = 5 * time.Second

	// chooseTimeout bounds how long an acceptor waits for the dialer's choice.
	// It is longer than any reasonable Picker takes.
	chooseTimeout = 60 * time.Second

	// orphanTimeout is how long an acceptor still waits for a direct
	// connection once the relay is gone: a server closes it when it hears of
	// the dialer's choice, which may be before the acceptor does.
	orphanTimeout = 3 * time.Second

	// maxGreets bounds the strangers that may be silent at a time on the port
	// that a client listens on.
	maxGreets = 32
)

// connect makes direct connections, and gets both sides to agree on one of
// them or on the relay. It owns relay, and closes all but what it returns.
func (s *session) connect(ctx context.Context, relay *Conn) (*Conn, error) {
	h := s.newHunt(ctx)
	defer h.stop()
	if s.method == DIAL {
		return s.choose(ctx, h, relay)
	}
	return s.await(ctx, h, relay)
}

// choose is the dialer's side: it lets the Picker choose and tells the peer.
func (s *session) choose(ctx context.Context, h *hunt, relay *Conn) (*Conn, error) {
	picker := s.client.Picker
	if picker == nil {
		picker = WaitForP2P(defaultWait(s.rtt))
	}
	candidates := make(chan *Conn)
	go func() {
		defer close(candidates)
		candidates <- relay
		for c := range h.found {
			candidates <- c
		}
	}()
	go h.run()
	conns := picker.Pick(candidates, h.cancel)
	h.cancel()
	for c := range candidates { // none, if the Picker kept to its contract
		conns = append(conns, c)
	}
	if ctx.Err() != nil {
		closeAll(conns)
		return nil, context.Cause(ctx)
	}
	return s.tell(conns)
}

// tell writes the choice, conns[0], to the peer and to the server, and closes
// the other connections. If the chosen one has died meanwhile, the next is
// taken.
func (s *session) tell(conns []*Conn) (*Conn, error) {
	for i, chosen := range conns {
		if _, err := chosen.Write(wire.Command{}.AppendTo(nil)); err != nil {
			continue
		}
		if !chosen.IsRelay {
			other := wire.Command{Other: AddrPortFrom(chosen.RemoteAddr())}
			for _, c := range conns {
				if c.IsRelay {
					c.Write(other.AppendTo(nil)) //nolint:errcheck // for the server's statistics
				}
			}
		}
		closeAll(slices.Delete(slices.Clone(conns), i, i+1))
		return chosen, nil
	}
	closeAll(conns)
	return nil, fmt.Errorf("%w: every connection was closed before one was chosen", ErrProtocol)
}

// await is the acceptor's side: the first connection that the dialer says
// CONTINUE on is the one.
func (s *session) await(ctx context.Context, h *hunt, relay *Conn) (*Conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, chooseTimeout, errors.New("the peer chose no connection"))
	defer cancel()
	go h.run()

	type choice struct {
		conn *Conn
		err  error
	}
	choices := make(chan choice)
	var readers sync.WaitGroup
	open := []*Conn{relay}
	read := func(c *Conn) {
		readers.Go(func() { choices <- choice{c, c.readContinue()} })
	}
	read(relay)
	var orphaned <-chan time.Time
	var chosen *Conn
	var err error
	found := h.found
	for chosen == nil && err == nil {
		select {
		case c, ok := <-found:
			if !ok {
				found = nil
				continue
			}
			open = append(open, c)
			read(c)
		case got := <-choices:
			switch {
			case got.err == nil:
				chosen = got.conn
			case got.conn.IsRelay:
				s.log.DebugContext(ctx, "relay closed", "err", got.err)
				orphaned = time.After(orphanTimeout)
			}
		case <-orphaned:
			err = fmt.Errorf("%w: the peer or the server left before a connection was chosen", ErrProtocol)
		case <-ctx.Done():
			err = fmt.Errorf("rdv: %w", context.Cause(ctx))
		}
	}
	h.cancel()
	closeAll(slices.DeleteFunc(open, func(c *Conn) bool { return c == chosen }))
	go func() { readers.Wait(); close(choices) }()
	for range choices { // the readers of the closed connections
	}
	for c := range h.found {
		c.Close() //nolint:errcheck // came too late
	}
	return chosen, err
}

// readContinue reads one line, which must be CONTINUE.
func (c *Conn) readContinue() error {
	line, err := c.br.ReadSlice('\n')
	if err != nil {
		return err
	}
	cmd, err := wire.ParseCommand(line)
	if err != nil || cmd.Other.IsValid() {
		return fmt.Errorf("%w: %q in place of CONTINUE", ErrProtocol, line)
	}
	return nil
}

func closeAll(conns []*Conn) {
	for _, c := range conns {
		c.Close() //nolint:errcheck // not chosen
	}
}

// A hunt looks for direct connections: it dials the peer's candidates, listens,
// and greets whoever answers. One goroutine, run, owns the race.
type hunt struct {
	s      *session
	ctx    context.Context
	cancel context.CancelFunc
	policy policy
	race   *race
	barren bool // nobody can reach this side either

	opening func(*Conn) *Conn // of an Encounter: what to hand over in place of a connection; may be nil

	found   chan *Conn // greeted connections; closed when the hunt is over
	reports chan report
	wg      sync.WaitGroup
}

type report struct {
	candidate int
	conn      bool
	why       outcome
}

func (s *session) newHunt(ctx context.Context) *hunt {
	h := &hunt{s: s, found: make(chan *Conn), reports: make(chan report)}
	h.ctx, h.cancel = context.WithCancel(ctx)
	h.policy = newPolicy(s.spaces, s.net, s.sock.port, s.meta.ObservedAddr, s.meta.PeerAddrs)
	lanes := h.policy.lanes(s.meta.PeerAddrs, canPrime && s.ext.Prime)
	if s.sock.port == 0 || s.ext.Relay {
		lanes = nil
		h.barren = true
	} else if len(lanes) == 0 {
		h.barren = !slices.ContainsFunc(s.meta.PeerAddrs, h.policy.admits)
	}
	s.log.DebugContext(ctx, "candidates", "lanes", lanes, "proof", s.ext.Nonce != nil)
	h.race = newRace(time.Now(), s.method, lanes)
	return h
}

// stop ends the hunt and waits until it has.
func (h *hunt) stop() {
	h.cancel()
	for c := range h.found {
		c.Close() //nolint:errcheck // came too late
	}
}

// run hunts until the context ends, or nothing can be found any more.
func (h *hunt) run() {
	defer func() {
		h.cancel()
		h.s.sock.close() //nolint:errcheck // nothing is lost with a listener
		h.wg.Wait()
		close(h.found)
	}()
	if !h.barren {
		h.wg.Go(h.listen)
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		now := time.Now()
		for _, a := range h.race.advance(now) {
			h.wg.Go(func() { h.try(a) })
		}
		if h.s.method == DIAL && h.race.hopeless(h.barren) {
			return
		}
		timer.Stop()
		if next := h.race.next; !next.IsZero() {
			timer.Reset(time.Until(next))
		}
		select {
		case <-h.ctx.Done():
			return
		case <-timer.C:
		case r := <-h.reports:
			if r.conn {
				h.race.connected(r.candidate)
			} else {
				h.race.failed(time.Now(), r.candidate, r.why)
			}
		}
	}
}

// try makes one attempt and reports how it ended.
func (h *hunt) try(a attempt) {
	start := time.Now()
	raw, err := h.s.sock.dial(h.ctx, a)
	if h.ctx.Err() == nil {
		h.s.log.DebugContext(h.ctx, "dial", "addr", a.addr, "ttl", a.ttl, "dur", time.Since(start), "err", err)
	}
	r := report{candidate: a.candidate, conn: err == nil}
	if err != nil {
		r.why = outcomeOf(err)
	}
	if r.conn && !h.greet(raw, true) {
		r = report{candidate: a.candidate, why: outcomeStranger}
	}
	select {
	case h.reports <- r:
	case <-h.ctx.Done():
	}
}

// listen greets those who connect to the socket.
func (h *hunt) listen() {
	defer context.AfterFunc(h.ctx, func() {
		h.s.sock.close() //nolint:errcheck // nothing is lost with a listener
	})()
	slots := make(chan struct{}, maxGreets)
	for {
		raw, err := h.s.sock.ln.Accept()
		if err != nil {
			if h.ctx.Err() == nil {
				h.s.log.DebugContext(h.ctx, "stopped listening", "err", err)
			}
			return
		}
		select {
		case slots <- struct{}{}:
			h.wg.Go(func() {
				h.greet(raw, false)
				<-slots
			})
		default:
			raw.Close() //nolint:errcheck // too many strangers
		}
	}
}

// greet exchanges hellos on a new connection and hands it over. It reports
// whether the peer is at the other end.
func (h *hunt) greet(raw net.Conn, dialled bool) bool {
	c, err := h.hello(raw, dialled)
	if err == nil {
		if h.opening != nil {
			c = h.opening(c)
		}
		select {
		case h.found <- c:
			return true
		case <-h.ctx.Done():
			err = h.ctx.Err()
		}
	}
	h.s.log.DebugContext(h.ctx, "not the peer", "addr", raw.RemoteAddr(), "dialled", dialled, "err", err)
	raw.Close() //nolint:errcheck // not used
	return false
}

func (h *hunt) hello(raw net.Conn, dialled bool) (*Conn, error) {
	remote := AddrPortFrom(raw.RemoteAddr())
	if !dialled && !h.policy.admits(remote) {
		return nil, errors.New("address is in none of the allowed spaces")
	}
	if err := raw.SetDeadline(time.Now().Add(greetTimeout)); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(h.ctx, func() {
		raw.SetDeadline(time.Unix(1, 0)) //nolint:errcheck // a closed connection fails as well
	})
	defer stop()
	own, want := h.s.hello(h.s.method), h.s.hello(wire.Other(h.s.method))
	// A token in clear is not for a stranger who found the port; a proof is
	// of no use to one.
	first := dialled || h.s.ext.Nonce != nil
	if first {
		if _, err := raw.Write(own.AppendTo(nil)); err != nil {
			return nil, err
		}
	}
	br := bufio.NewReaderSize(raw, wire.MaxLine)
	line, err := br.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	got, err := wire.ParseHello(line)
	if err != nil {
		return nil, err
	}
	if got.Method != want.Method || subtle.ConstantTimeCompare([]byte(got.Token), []byte(want.Token)) == 0 {
		return nil, errors.New("wrong hello")
	}
	if !first {
		if _, err := raw.Write(own.AppendTo(nil)); err != nil {
			return nil, err
		}
	}
	if !stop() {
		return nil, h.ctx.Err()
	}
	return &Conn{Conn: raw, Meta: h.s.meta, br: br}, raw.SetDeadline(time.Time{})
}

// hello is what the client with the given method writes.
func (s *session) hello(method string) wire.Hello {
	if s.ext.Nonce != nil {
		return wire.Hello{Method: method, Token: wire.Proof(s.token, method, s.ext.Nonce)}
	}
	return wire.Hello{Method: method, Token: s.token}
}
