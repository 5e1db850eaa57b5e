package link

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/muster-p2p/muster/link/wire"
	"github.com/muster-p2p/muster/rdv"
)

const (
	// firstPause and lastPause bound the pause between attempts at a server; it
	// doubles.
	firstPause = 100 * time.Millisecond
	lastPause  = 5 * time.Second

	// orphanPause is how long direct connections are waited for when the relay
	// is gone before anything was heard on it.
	orphanPause = 3 * time.Second

	// waitInLobby is how long a stubborn client waits at a server until it asks
	// again: the connection to the server may have died unnoticed, as those of
	// sleeping machines do.
	waitInLobby = 45 * time.Second

	// exorcise is how long it may take to take one's own ghost out of a lobby.
	exorcise = 2 * time.Second

	// firstPatience is how long the first handshake may take where the peer may
	// be met by its ghost; it doubles up to secureTimeout, for slow networks.
	firstPatience = 3 * time.Second

	// meetFor bounds an attempt at a direct path: the peer was told on the
	// path that is there, and comes at once or not at all.
	meetFor = 20 * time.Second
)

// An approach tries to get paths to a peer that comes to the same meeting under
// the same token.
type approach struct {
	e       *Endpoint
	dialer  bool
	remote  peer.ID // empty: anyone
	meeting Meeting
	token   string

	relay    bool // take the path through the server
	stubborn bool // the peer may come later: go on after what a dialer gives up for
	own      bool // nobody but the two peers knows the token

	// deliver takes a path over and reports whether it was of use.
	deliver func(*path) bool

	waiting atomic.Int32 // visits that are at their server now
}

func (a *approach) method() string {
	if a.dialer {
		return rdv.DIAL
	}
	return rdv.ACCEPT
}

// run tries all servers at once until ctx ends, or a path has come from one
// and that has nothing more to give, or none of them is worth another attempt.
// It returns what went wrong.
func (a *approach) run(ctx context.Context) error {
	n := len(a.meeting.Servers)
	ctxs, cancels := make([]context.Context, n), make([]context.CancelFunc, n)
	for i := range n {
		ctxs[i], cancels[i] = context.WithCancel(ctx)
		defer cancels[i]()
	}
	var first sync.Once
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i, server := range a.meeting.Servers {
		settled := func() {
			first.Do(func() {
				for j, cancel := range cancels {
					if j != i {
						cancel()
					}
				}
			})
		}
		wg.Go(func() {
			errs[i] = a.visit(ctxs[i], server, settled)
			if errors.Is(errs[i], ErrIdentity) && ctx.Err() == nil {
				// One server may lie, or one stranger be early; the other
				// servers have a moment to do better.
				time.AfterFunc(orphanPause, func() { first.Do(func() { cancelAll(cancels) }) })
			}
		})
	}
	wg.Wait()
	return summary(errs)
}

// summary is the errors of all servers in one line; those of servers that were
// only called off are left out, if there are others.
func summary(errs []error) error {
	var all error
	for _, err := range slices.DeleteFunc(slices.Clone(errs), func(err error) bool { return errors.Is(err, context.Canceled) }) {
		switch {
		case err == nil:
		case all == nil:
			all = err
		default:
			all = fmt.Errorf("%w; %w", all, err)
		}
	}
	return cmp.Or(all, cmp.Or(errs...))
}

func cancelAll(cancels []context.CancelFunc) {
	for _, cancel := range cancels {
		cancel()
	}
}

// visit meets the peer at one server, again and again.
func (a *approach) visit(ctx context.Context, server string, settled func()) error {
	pause, patience := firstPause, secureTimeout
	if a.own {
		patience = firstPatience
	}
	var last error
	reached := a.stubborn && a.own
	for {
		enc, err := a.meet(ctx, server)
		if err == nil {
			reached = true
			var got bool
			if got, err = a.gather(ctx, enc, patience, settled); got {
				return nil
			}
		}
		if ctx.Err() != nil {
			return cmp.Or(last, context.Cause(ctx))
		}
		a.e.log.DebugContext(ctx, "no path yet", "server", server, "err", err)
		if errors.Is(err, rdv.ErrWaiting) {
			pause = firstPause // nothing went wrong
		} else {
			last = err
		}
		if !a.again(err, reached) {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause, patience = min(2*pause, lastPause), min(2*patience, secureTimeout)
	}
}

// errStatus is a refusal of a server that another attempt may get past.
type statusError struct {
	code int
	err  error
}

func (e *statusError) Error() string { return e.err.Error() }
func (e *statusError) Unwrap() error { return e.err }

// again reports whether another attempt is worth it after err.
func (a *approach) again(err error, reached bool) bool {
	if errors.Is(err, ErrIdentity) {
		return !a.dialer || a.own
	}
	if errors.Is(err, ErrNoDirect) || errors.Is(err, rdv.ErrWaiting) {
		return a.stubborn
	}
	if s := (*statusError)(nil); errors.As(err, &s) {
		switch s.code {
		case http.StatusRequestTimeout, http.StatusConflict:
			return true
		case http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusBadGateway, http.StatusGatewayTimeout:
			return a.stubborn
		default:
			return a.own // what was admitted once will be again
		}
	}
	return reached
}

// meet gets introduced to the peer at a server.
func (a *approach) meet(ctx context.Context, server string) (*rdv.Encounter, error) {
	if a.stubborn {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, a.e.wait, errors.New("asking again"))
		defer cancel()
	}
	a.waiting.Add(1)
	enc, resp, err := a.e.client.Meet(ctx, a.method(), server, a.token, a.meeting.Header)
	others := a.waiting.Add(-1)
	if err == nil {
		return enc, nil
	}
	if resp == nil {
		return nil, err
	}
	// Two of the servers may share a lobby, and then it is our own other visit
	// that sits there.
	if resp.StatusCode == http.StatusConflict && a.own && others == 0 {
		a.exorcise(ctx, server)
	}
	return nil, &statusError{resp.StatusCode, err}
}

// exorcise takes our own seat in the lobby, from before our address changed,
// away from the connection that is gone: by meeting it. Nobody but the two
// peers knows the token, and if the other one were there, it would have met the
// ghost itself.
func (a *approach) exorcise(ctx context.Context, server string) {
	ctx, cancel := context.WithTimeout(ctx, exorcise)
	defer cancel()
	method := rdv.DIAL
	if a.dialer {
		method = rdv.ACCEPT
	}
	c := a.e.client
	c.AddrSpaces = rdv.NoSpaces
	if enc, _, err := c.Meet(ctx, method, server, a.token, a.meeting.Header); err == nil {
		enc.Relay.Close() //nolint:errcheck // that was all
		enc.Close()       //nolint:errcheck // always nil
	}
}

// gather secures the connections of an encounter and delivers them. It reports
// whether one was of use.
func (a *approach) gather(ctx context.Context, enc *rdv.Encounter, patience time.Duration, settled func()) (got bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g := &gathering{a: a, enc: enc, patience: patience, settled: settled, cancel: cancel, relayGone: !a.relay && a.stubborn}
	defer context.AfterFunc(ctx, func() {
		enc.Close() //nolint:errcheck // always nil
	})()
	if a.relay {
		g.wg.Go(func() { g.take(ctx, enc.Relay) })
	} else {
		defer enc.Relay.Close() //nolint:errcheck // was not used
	}
	turn := make(chan struct{}, 1) // the dialer needs one direct path
	for c := range enc.Direct() {
		g.wg.Go(func() {
			if a.dialer {
				turn <- struct{}{}
				defer func() { <-turn }()
			}
			if a.dialer && g.direct() {
				c.Close() //nolint:errcheck // one is enough
				return
			}
			g.take(ctx, c)
		})
	}
	g.wg.Wait()
	if g.err == nil && !g.got {
		g.err = ErrNoDirect
	}
	return g.got, g.err
}

// errUseless is what becomes of a path that nobody wants.
var errUseless = errors.New("link: a path was of no use")

// A gathering is what comes of one encounter.
type gathering struct {
	a        *approach
	enc      *rdv.Encounter
	patience time.Duration // with the handshakes
	settled  func()
	cancel   context.CancelFunc
	wg       sync.WaitGroup

	mu      sync.Mutex
	got     bool
	gotNear bool // a direct one
	err     error

	// Of the acceptor: who came was refused, by whichever connection, or looks
	// for somebody else. If the relay is gone too, nothing better will come.
	relayGone, unwanted bool
}

func (g *gathering) direct() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.gotNear
}

// take makes a path of one connection and delivers it.
func (g *gathering) take(ctx context.Context, c *rdv.Conn) {
	p, err := g.a.path(ctx, c, g.patience)
	if err == nil {
		// First, as the others are not worth a deliverance any more.
		g.mu.Lock()
		g.gotNear = g.gotNear || p.kind == Direct && g.a.dialer
		g.mu.Unlock()
		kind := p.kind
		if g.a.deliver(p) {
			g.settled()
			g.mu.Lock()
			g.got = true
			g.mu.Unlock()
			if kind == Direct {
				g.enc.Close() //nolint:errcheck // always nil; one direct path is enough
			}
			return
		}
		err = fmt.Errorf("%w: %v", errUseless, kind)
	}
	g.failed(ctx, c.IsRelay, err)
}

// failed notes why a connection became no path, and ends the gathering if
// nothing better is to be expected.
func (g *gathering) failed(ctx context.Context, relay bool, err error) {
	g.a.e.log.DebugContext(ctx, "no path", "relay", relay, "err", err)
	g.mu.Lock()
	defer g.mu.Unlock()
	if !relay {
		g.gotNear = false
	}
	if g.err == nil || errors.Is(err, ErrIdentity) {
		g.err = err
	}
	g.relayGone = g.relayGone || relay
	g.unwanted = g.unwanted || (errors.Is(err, errUseless) || alerted(err)) && !g.a.own
	switch {
	case g.got:
	case errors.Is(err, ErrIdentity) && relay && g.a.dialer:
		g.cancel()
	case g.relayGone && (relay || g.unwanted) && !g.a.dialer:
		pause := orphanPause
		if errors.Is(err, errMute) || g.unwanted {
			pause = 0 // the direct connections had that time as well, or are of the same peer
		}
		time.AfterFunc(pause, func() {
			g.mu.Lock()
			defer g.mu.Unlock()
			if !g.got {
				g.cancel()
			}
		})
	}
}

// alerted reports whether the peer ended the handshake with an alert, as who
// looks for somebody else does.
func alerted(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "remote error"
}

// path secures a connection. The acceptor reads the HELLO, too: only then it
// knows what the path is for.
func (a *approach) path(ctx context.Context, c *rdv.Conn, patience time.Duration) (*path, error) {
	p, err := a.e.secure(ctx, c, a.dialer, a.remote, patience)
	if err != nil || a.dialer {
		return p, err
	}
	stop := context.AfterFunc(ctx, p.close)
	defer stop()
	if err = p.stream.SetDeadline(time.Now().Add(secureTimeout)); err == nil {
		if p.hello, err = p.readHello(); err == nil {
			err = p.stream.SetDeadline(time.Time{})
		}
	}
	if err == nil && p.hello.Flags&wire.FlagNew != 0 && !p.origin.proves(p.hello, true, p.binding) {
		err = fmt.Errorf("%w: wrong proof", errPeer)
	}
	if err == nil && !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		p.close()
		return nil, err
	}
	p.greeted = true
	return p, nil
}
