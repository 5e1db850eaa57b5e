package link

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
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

	// unreachedPause is the longest pause for a link without a path whose
	// server cannot be reached: it costs that server nothing, and the network
	// may be back at any time. quickReach is how long such an attempt may take;
	// slowReach, every fourth, for networks where a name, TCP, a proxy and TLS
	// take longer.
	unreachedPause = time.Second
	quickReach     = 3 * time.Second
	slowReach      = 10 * time.Second
	slowTurn       = 4

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

// lobbyKeepAlive notices within 11 s that the way to the server is gone on which
// a link without a path waits for its peer.
var lobbyKeepAlive = net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3} //nolint:gochecknoglobals // a constant

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

	mu         sync.Mutex // guards what follows
	epoch      epoch
	gatherings map[*gathering]struct{}
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
	a.epoch, a.gatherings = newEpoch(), map[*gathering]struct{}{}
	defer func() { a.now().end() }()
	defer a.e.enroll(a)()
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
	r := a.newRetry()
	for {
		epoch := a.now()
		enc, err := a.meet(ctx, epoch, server, r.reach())
		if err == nil {
			r.reached = true
			var got bool
			if got, err = a.gather(ctx, enc, r.patience, settled); got {
				return nil
			}
		}
		if ctx.Err() != nil {
			return cmp.Or(r.last, context.Cause(ctx))
		}
		a.e.log.DebugContext(ctx, "no path yet", "server", server, "err", err)
		if epoch.Err() != nil {
			r = a.newRetry() // another network, and nothing that is known of it
			continue
		}
		if !errors.Is(err, rdv.ErrWaiting) {
			r.last = err
		}
		if !a.again(err, r.reached) {
			return err
		}
		select {
		case <-ctx.Done():
		case <-epoch.Done():
		case <-time.After(r.next(err)):
		}
	}
}

// A retry says how often and how long a server is tried.
type retry struct {
	own      bool
	pause    time.Duration
	patience time.Duration // with handshakes
	tries    int
	reached  bool  // the server once let us meet somebody
	last     error // what went wrong
}

func (a *approach) newRetry() retry {
	r := retry{own: a.own, pause: firstPause, patience: secureTimeout, reached: a.stubborn && a.own}
	if a.own {
		r.patience = firstPatience
	}
	return r
}

// reach returns how long it may take to reach the server; zero is for ever. What
// was sent into a dead network is sent again by the system, rarer and rarer; a
// new attempt is soon there when the network is.
func (r *retry) reach() time.Duration {
	r.tries++
	switch {
	case !r.own:
		return 0
	case r.tries%slowTurn == 0:
		return slowReach
	default:
		return quickReach
	}
}

// next returns how long to wait after err.
func (r *retry) next(err error) time.Duration {
	if errors.Is(err, rdv.ErrWaiting) {
		r.pause = firstPause // nothing went wrong
	}
	pause := r.pause
	r.pause, r.patience = min(2*r.pause, lastPause), min(2*r.patience, secureTimeout)
	if r.own && !errors.As(err, new(*statusError)) {
		pause = min(pause, unreachedPause)
	}
	return pause*3/4 + rand.N(pause/4)
}

// statusError is a refusal of a server that another attempt may get past.
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

// meet gets introduced to the peer at a server, which may take some time to be
// reached. It ends with the epoch.
func (a *approach) meet(ctx context.Context, epoch epoch, server string, reach time.Duration) (*rdv.Encounter, error) {
	ctx, end := epoch.bound(ctx)
	defer end()
	if a.stubborn {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, a.e.wait, errors.New("asking again"))
		defer cancel()
	}
	a.waiting.Add(1)
	c := a.e.client
	c.ReachTimeout = reach
	if a.own {
		c.LobbyKeepAlive = lobbyKeepAlive
	}
	enc, resp, err := c.Meet(ctx, a.method(), server, a.token, a.meeting.Header)
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
	c.AddrSpaces, c.ReachTimeout = rdv.NoSpaces, exorcise
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
	g := &gathering{
		a: a, enc: enc, local: rdv.AddrPortFrom(enc.Relay.LocalAddr()).Addr(), patience: patience, settled: settled, cancel: cancel,
		relayGone: !a.relay && a.stubborn,
	}
	a.mu.Lock()
	a.gatherings[g] = struct{}{}
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.gatherings, g)
	}()
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
	local    netip.Addr    // this machine's
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
