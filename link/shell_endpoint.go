package link

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/muster-p2p/muster/internal/netwatch"
	"github.com/muster-p2p/muster/link/wire"
	"github.com/muster-p2p/muster/rdv"
)

// Defaults of a [Config].
const (
	// DefaultResumeWindow is long enough for a lid that was closed for a walk.
	DefaultResumeWindow = 5 * time.Minute

	// DefaultLinger is how long Close waits for the peer to have everything.
	DefaultLinger = 10 * time.Second

	// maxServers bounds the servers of a meeting: each costs a connection.
	maxServers = 4
)

// Errors of links. They are wrapped in what is returned: use [errors.Is].
var (
	// ErrIdentity is returned when somebody else answered than the peer that
	// was asked for. Nothing of the application was sent to them.
	ErrIdentity = errors.New("link: the peer is not who was asked for")

	// ErrRefused is returned when the peer does not want to talk to us.
	ErrRefused = errors.New("link: the peer refused")

	// ErrLost is returned when every path died and none came back within the
	// resume window. What the peer had not acknowledged may or may not have
	// arrived.
	ErrLost = errors.New("link: lost the peer")

	// ErrPeerClosed is returned by writes after the peer closed the link.
	ErrPeerClosed = errors.New("link: closed by the peer")

	// ErrNoDirect is returned with [DirectOnly] when no direct path came about.
	ErrNoDirect = errors.New("link: no direct path")
)

// Paths says which paths an endpoint takes.
type Paths uint8

// Choices of paths.
const (
	Auto       Paths = iota // through the server at once, directly when it works
	DirectOnly              // never through a server: wait for a direct path
	RelayOnly               // never directly: the peer does not learn our address from us
)

// A Config says how an [Endpoint] works. Key is required; the zero value of
// every other field works.
type Config struct {
	// Key is the private key of this peer.
	Key crypto.PrivKey

	// Paths are the paths to take.
	Paths Paths

	// AddrSpaces are the address spaces of direct paths. If zero,
	// [rdv.DefaultSpaces].
	AddrSpaces rdv.AddrSpace

	// TLS is used with servers at https URLs. If nil, the defaults of
	// crypto/tls. It has nothing to do with the security of the link.
	TLS *tls.Config

	// Proxy returns the HTTP proxy to reach a server by; see
	// [http.ProxyFromEnvironment]. If nil, none is used.
	Proxy func(*http.Request) (*url.URL, error)

	// ResumeWindow is how long a link without a path is kept. If zero,
	// DefaultResumeWindow; if negative, not at all.
	ResumeWindow time.Duration

	// KeepRelay keeps the path through the server while a direct one is used.
	// By default it is given back after a minute.
	KeepRelay bool

	// Linger is how long Close waits for the peer to acknowledge everything.
	// If zero, DefaultLinger; if negative, not at all.
	Linger time.Duration

	// Logger gets debug messages. If nil, there are none. Tokens are never
	// logged.
	Logger *slog.Logger

	// Registerer gets the metrics, muster_link_*. If nil, there are none.
	Registerer prometheus.Registerer
}

// A Meeting is where and by what two peers meet: at any of some rdv servers,
// under one token.
type Meeting struct {
	// Servers are the http or https URLs of one to four rdv servers, which are
	// all tried at once. The first that introduces the peers is used.
	Servers []string

	// Token is known to both peers. It should have 128 bits, and consist of
	// letters, digits and -._~.
	Token string

	// Header goes into the requests to the servers, such as Authorization; may
	// be nil. It must not be changed afterwards: later meetings send it too.
	Header http.Header
}

func (m Meeting) validate() error {
	if len(m.Servers) == 0 || len(m.Servers) > maxServers {
		return fmt.Errorf("link: a meeting has one to %d servers, not %d", maxServers, len(m.Servers))
	}
	if m.Token == "" {
		return errors.New("link: a meeting has a token")
	}
	return nil
}

// An Inviter has a peer come to a meeting.
type Inviter interface {
	// Invite asks remote to meet us for a service and returns where.
	Invite(ctx context.Context, remote peer.ID, service string) (Meeting, error)
}

// An Endpoint makes links with one identity. It may be used by many goroutines
// at once.
type Endpoint struct {
	cfg      Config
	id       peer.ID
	identity *libp2ptls.Identity
	client   rdv.Client
	log      *slog.Logger
	metrics  *metrics

	chunks, holds pool
	wait          time.Duration // waitInLobby, but in tests

	run  func(context.Context, *approach) error // how later paths are got; tests have another way
	look func() netwatch.Snapshot               // at the network; nil: netwatch.Look

	ctx    context.Context // of everything the endpoint does; ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu        sync.Mutex            // of the first of a kind of goroutine, the end, and what follows
	wanderers map[wanderer]struct{} // who is told when the network changes
	unwatch   context.CancelFunc    // ends the watch over the network; nil: never began
}

// New returns an endpoint. It starts nothing.
func New(cfg Config) (*Endpoint, error) {
	if cfg.Key == nil {
		return nil, errors.New("link: Config.Key is missing")
	}
	id, err := peer.IDFromPrivateKey(cfg.Key)
	if err != nil {
		return nil, fmt.Errorf("link: key: %w", err)
	}
	identity, err := libp2ptls.NewIdentity(cfg.Key)
	if err != nil {
		return nil, fmt.Errorf("link: key: %w", err)
	}
	m, err := newMetrics(cfg.Registerer)
	if err != nil {
		return nil, fmt.Errorf("link: metrics: %w", err)
	}
	cfg.ResumeWindow = max(cmp.Or(cfg.ResumeWindow, DefaultResumeWindow), 0)
	cfg.Linger = max(cmp.Or(cfg.Linger, DefaultLinger), 0)
	e := &Endpoint{
		cfg: cfg, id: id, identity: identity, metrics: m, log: cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler)),
		wait: waitInLobby, chunks: newChunkPool(), holds: newHoldPool(), wanderers: map[wanderer]struct{}{},
	}
	e.client = rdv.Client{AddrSpaces: cfg.AddrSpaces, TlsConfig: cfg.TLS, Proxy: cfg.Proxy, Logger: cfg.Logger}
	if cfg.Paths == RelayOnly {
		e.client.AddrSpaces = rdv.NoSpaces
	}
	e.run = func(ctx context.Context, a *approach) error { return a.run(ctx) }
	e.ctx, e.cancel = context.WithCancel(context.Background())
	return e, nil
}

// ID returns the peer ID of the endpoint.
func (e *Endpoint) ID() peer.ID { return e.id }

// Close breaks off all links, tells their peers, and waits until they are gone:
// a second or two for peers that do not answer. To have them
// delivered what was written, close them first.
func (e *Endpoint) Close() error {
	e.mu.Lock()
	e.cancel()
	e.mu.Unlock()
	e.wg.Wait()
	return nil
}

// Call is Dial at the meeting that inv gets remote to come to.
func (e *Endpoint) Call(ctx context.Context, inv Inviter, remote peer.ID, service string) (*Conn, error) {
	m, err := inv.Invite(ctx, remote, service)
	if err != nil {
		return nil, err
	}
	return e.Dial(ctx, remote, m)
}

// Dial connects to the peer remote, which has to Accept at the same meeting.
// It returns as soon as there is one path on which remote has proved who it
// is; data may be written at once. Whether remote wants to talk to us, the
// first read tells, or [Conn.Confirmed].
//
// The error wraps [ErrIdentity] if somebody else was there, [rdv.ErrBadHandshake]
// if the servers refused, ctx's error if it ended first. ctx has no meaning for
// the link once Dial has returned.
func (e *Endpoint) Dial(ctx context.Context, remote peer.ID, m Meeting) (*Conn, error) {
	if err := remote.Validate(); err != nil {
		return nil, fmt.Errorf("link: peer to dial: %w", err)
	}
	return e.open(ctx, true, remote, m, nil)
}

// Accept waits at the servers of a meeting until a peer dials there, and returns
// the link to it. Allow, if not nil, decides on the peer by its ID, which has
// been proved; one that it returns an error for is told that it is refused, and
// Accept waits on. It may be called by several goroutines at once.
func (e *Endpoint) Accept(ctx context.Context, m Meeting, allow func(peer.ID) error) (*Conn, error) {
	return e.open(ctx, false, "", m, allow)
}

// open gets the first path of a link.
func (e *Endpoint) open(ctx context.Context, dialer bool, remote peer.ID, m Meeting, allow func(peer.ID) error) (*Conn, error) {
	if err := m.validate(); err != nil {
		return nil, err
	}
	life, cancel := context.WithCancel(e.ctx)
	stop := context.AfterFunc(ctx, cancel)
	o := &opener{e: e, dialer: dialer, meeting: m, allow: allow, won: make(chan *Conn, 1)}
	a := &approach{
		e: e, dialer: dialer, remote: remote, meeting: m, token: m.Token,
		relay: e.cfg.Paths != DirectOnly, stubborn: !dialer, deliver: o.deliver,
	}
	done := make(chan error, 1)
	e.mu.Lock() // Close must not wait before this is counted
	e.wg.Go(func() { done <- a.run(life) })
	e.mu.Unlock()
	select {
	case c := <-o.won:
		stop()
		context.AfterFunc(c.ctx, cancel) // the rest of the approach is the link's
		return c, nil
	case err := <-done:
		cancel()
		select {
		case c := <-o.won: // at the last moment
			stop()
			return c, nil
		default:
		}
		if stop(); ctx.Err() != nil && !errors.Is(err, ErrIdentity) {
			err = fmt.Errorf("link: %w: %w", context.Cause(ctx), err)
		}
		if e.ctx.Err() != nil {
			err = fmt.Errorf("link: endpoint is closed: %w", io.ErrClosedPipe)
		}
		return nil, err
	}
}

// An opener makes a link of the first path that comes, and gives it the others.
type opener struct {
	e       *Endpoint
	dialer  bool
	meeting Meeting
	allow   func(peer.ID) error
	won     chan *Conn

	mu   sync.Mutex
	conn *Conn
}

// deliver takes a path; it reports whether it was of use.
func (o *opener) deliver(p *path) bool {
	o.mu.Lock()
	c := o.conn
	o.mu.Unlock()
	if c != nil {
		return c.join(p)
	}
	if !o.dialer {
		if p.hello.Flags&wire.FlagNew == 0 {
			p.close()
			return false
		}
		if o.allow != nil {
			if err := o.allow(p.remote); err != nil {
				o.e.log.Debug("refused a peer", "peer", p.remote, "err", err)
				o.e.metrics.refused.Inc()
				p.refuse(err)
				return false
			}
		}
	}
	return o.begin(p)
}

// begin makes the link, unless another path was faster; p belongs to that link,
// then, or to none.
func (o *opener) begin(p *path) bool {
	o.mu.Lock()
	c := o.conn
	if c == nil {
		o.conn = o.e.newConn(o.dialer, o.meeting, p)
	}
	made := o.conn
	o.mu.Unlock()
	switch {
	case c != nil:
		return c.join(p)
	case made == nil:
		p.close()
		return false
	}
	o.won <- made
	return true
}
