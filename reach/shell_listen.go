package reach

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/muster-p2p/muster/internal/netwatch"
	"github.com/muster-p2p/muster/reach/wire"
)

// maxDeciding bounds the invitations of all points that are being decided at a
// time; of one too many the caller is told "busy".
const maxDeciding = 32

// connectWait bounds the dial to a point and the wait for its PARKED.
const connectWait = 10 * time.Second

// doubtWait is how long a point may be silent when the network has changed: a
// lost packet is sent three times in that.
const doubtWait = 2 * time.Second

// An Event says how the stream to a point fares.
type Event struct {
	Point  peer.ID
	Parked bool          // it is there now, and the peer can be invited
	Err    error         // why it is not there
	Retry  time.Duration // when it is tried again, about
}

// Errors of an [Event].
var (
	// ErrReplaced says that another process with this identity has taken the
	// place at the point.
	ErrReplaced = errors.New("reach: another process with this identity listens at the point")

	// ErrDrained says that the point is stopping.
	ErrDrained = errors.New("reach: the point is stopping")

	errSilent = errors.New("reach: the point is silent")
)

// Listen keeps a stream to each of the points, opened again whenever it ends,
// until ctx ends, and then returns its error. Invitations go to
// [ClientConfig.Invited].
func (c *Client) Listen(ctx context.Context, points ...peer.AddrInfo) error {
	if len(points) == 0 {
		return ErrNoPoints
	}
	var wg sync.WaitGroup
	n := newNetworks()
	for _, p := range points {
		wg.Go(func() { c.listen(ctx, p, n) })
	}
	netwatch.Watch(ctx, c.look, n.changed)
	wg.Wait()
	n.end()
	return ctx.Err()
}

// networks tells who is about to wait for one when the machine is on another.
type networks struct {
	mu   sync.Mutex // guards what follows
	now  context.Context
	end  context.CancelFunc // of now
	last netwatch.Change
}

func newNetworks() *networks {
	n := new(networks)
	n.now, n.end = context.WithCancel(context.Background())
	return n
}

func (n *networks) changed(ch netwatch.Change) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.end()
	n.now, n.end = context.WithCancel(context.Background())
	n.last = ch
}

// present returns a context that ends with the network that the machine is on
// now.
func (n *networks) present() context.Context {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.now
}

// left reports whether the machine had the address before the last change, and
// has it no more.
func (n *networks) left(a netip.Addr) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.last.Gone(a)
}

// listen is Listen for one point.
func (c *Client) listen(ctx context.Context, point peer.AddrInfo, n *networks) {
	rng := rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	var b backoff
	for ctx.Err() == nil {
		present := n.present()
		since, err := c.stay(ctx, point, n)
		if ctx.Err() != nil {
			return
		}
		var lasted time.Duration
		if !since.IsZero() {
			lasted = time.Since(since)
		}
		end := endingOf(err)
		wait := b.next(end, lasted, rng)
		// Another network may be a way out of a failure only.
		var changed <-chan struct{}
		if end == endFailed {
			if changed = present.Done(); present.Err() != nil {
				b, wait = backoff{}, 0
			}
		}
		c.cfg.Logger.Debug("not parked", "point", point.ID, "err", err, "retry", wait)
		c.changed(Event{Point: point.ID, Err: err, Retry: wait})
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-changed:
			b = backoff{}
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

func (c *Client) changed(e Event) {
	if c.cfg.Changed != nil {
		c.cfg.Changed(e)
	}
}

func endingOf(err error) ending {
	status := wire.OK
	if e, ok := errors.AsType[*StatusError](err); ok {
		status = e.Status
	}
	switch {
	case errors.Is(err, ErrReplaced):
		return endReplaced
	case errors.Is(err, ErrDrained), status == wire.Unavailable:
		return endDrained
	case status == wire.Unauthorized:
		return endDenied
	default:
		return endFailed
	}
}

// stay parks a stream and serves it until it ends. since is zero if it was not
// parked.
func (c *Client) stay(ctx context.Context, point peer.AddrInfo, n *networks) (since time.Time, err error) {
	s, err := c.park(ctx, point, n.present())
	if err != nil {
		return time.Time{}, err
	}
	since = time.Now()
	c.changed(Event{Point: point.ID, Parked: true})
	l := &listening{c: c, s: s, point: point, heard: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { l.keepAlive(ctx, n) })
	err = l.read(ctx)
	cancel()
	_ = s.Reset()
	wg.Wait()
	if l.silent {
		// The connection is half-open: one more stream on it would hang, too.
		_ = s.Conn().Close()
		err = errSilent
	}
	return since, err
}

// park opens a stream and has it parked, unless the network changes meanwhile.
func (c *Client) park(ctx context.Context, point peer.AddrInfo, present context.Context) (*clientStream, error) {
	ctx, cancel := context.WithTimeout(ctx, connectWait)
	defer cancel()
	defer context.AfterFunc(present, cancel)()
	s, err := c.open(ctx, point)
	if err != nil {
		return nil, err
	}
	var a wire.Message
	err = c.exchange(ctx, s, &wire.Message{Kind: wire.Park, Access: c.cfg.AccessToken}, &a)
	switch {
	case err != nil:
	case a.Kind != wire.Parked:
		err = wire.ErrMalformed
	case a.Status != wire.OK:
		err = &StatusError{Status: a.Status, Text: a.Text, Point: point.ID}
	default:
		return s, nil
	}
	_ = s.Reset()
	if ctx.Err() != nil && s.Conn().Stat().Direction == network.DirOutbound {
		_ = s.Conn().Close() // it has not answered in a long time
	}
	return nil, err
}

// listening is a parked stream at the callee.
type listening struct {
	c     *Client
	s     *clientStream
	point peer.AddrInfo

	heard  chan struct{} // something has come; holds one
	silent bool          // written before the stream is reset, read after
}

// read handles what the point sends until the stream ends.
func (l *listening) read(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = l.s.Reset() })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		var m wire.Message
		if err := l.s.read(&m); err != nil {
			return err
		}
		select {
		case l.heard <- struct{}{}:
		default:
		}
		switch m.Kind {
		case wire.Invitation:
			l.decide(ctx, &wg, m)
		case wire.GoAway:
			if m.Status == wire.Replaced {
				return ErrReplaced
			}
			return ErrDrained
		default: // a PONG, or what a later version may say
		}
	}
}

// decide has an invitation decided, and replies.
func (l *listening) decide(ctx context.Context, wg *sync.WaitGroup, m wire.Message) {
	reply := wire.Message{Kind: wire.Reply, Number: m.Number}
	select {
	case l.c.deciding <- struct{}{}:
	default:
		reply.Status = wire.Busy
		_ = l.s.write(&reply) // an error ends the reading, too
		return
	}
	wg.Go(func() {
		defer func() { <-l.c.deciding }()
		reply.Status = l.status(ctx, &m)
		_ = l.s.write(&reply)
	})
}

func (l *listening) status(ctx context.Context, m *wire.Message) wire.Status {
	inv, err := invitation(m, l.point, l.s.Conn().RemoteMultiaddr())
	if err == nil && inv.Peer == "" {
		err = wire.ErrMalformed
	}
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, ReplyWait)
		defer cancel()
		err = l.c.cfg.Invited(ctx, inv)
	}
	switch {
	case err == nil:
		return wire.OK
	case errors.Is(err, ErrNoService):
		return wire.NoService
	case errors.Is(err, ErrBusy):
		return wire.Busy
	default:
		l.c.cfg.Logger.Debug("invitation refused", "point", l.point.ID, "err", err)
		return wire.Refused
	}
}

// keepAlive pings, and resets the stream when nothing comes any more. When the
// network changes it does so at once if the stream's address is gone, and else
// pings and waits for less than usual.
func (l *listening) keepAlive(ctx context.Context, n *networks) {
	ping := time.NewTicker(PingInterval)
	defer ping.Stop()
	dead := time.NewTimer(DeadAfter)
	defer dead.Stop()
	present := n.present()
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.heard:
			dead.Reset(DeadAfter)
			continue
		case <-dead.C:
			l.giveUp()
			return
		case <-present.Done():
			present = n.present()
			if n.left(addrOf(l.s.Conn().LocalMultiaddr())) {
				l.giveUp()
				return
			}
			dead.Reset(doubtWait)
		case <-ping.C:
		}
		if err := l.s.write(&wire.Message{Kind: wire.Ping}); err != nil {
			return // the reader ends, too
		}
	}
}

// giveUp ends a stream whose connection is dead.
func (l *listening) giveUp() {
	l.silent = true
	_ = l.s.Reset()
}
