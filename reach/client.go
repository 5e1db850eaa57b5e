package reach

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	ma "github.com/multiformats/go-multiaddr"
	msmux "github.com/multiformats/go-multistream"

	"github.com/muster-p2p/muster/internal/netwatch"
	"github.com/muster-p2p/muster/reach/wire"
)

// Errors of a [Client], beside those of contexts and [*StatusError].
var (
	// ErrUnreachable says that there is no connection to the point.
	ErrUnreachable = errors.New("reach: point cannot be reached")

	// ErrUnsupported says that the peer is there and is no point.
	ErrUnsupported = errors.New("reach: peer does not speak the protocol")

	// ErrNoAnswer says that the point ended the stream instead of answering.
	ErrNoAnswer = errors.New("reach: point ended the stream without an answer")

	// ErrNoServers says that the point named no server that may be used.
	ErrNoServers = errors.New("reach: point named no usable server")

	// ErrNoPoints says that no point is given.
	ErrNoPoints = errors.New("reach: no point is known")
)

// What ClientConfig.Invited returns to say more than "refused". Both may be
// wrapped.
var (
	ErrNoService = errors.New("reach: no such service")
	ErrBusy      = errors.New("reach: busy")
)

// A StatusError is a point's answer that is not OK.
type StatusError struct {
	Status wire.Status
	Text   string // the point's or the callee's, at most 128 bytes of UTF-8; not to be trusted
	Point  peer.ID
}

func (e *StatusError) Error() string {
	if e.Text == "" {
		return fmt.Sprintf("reach: point says %v", e.Status)
	}
	return fmt.Sprintf("reach: point says %v (%q)", e.Status, e.Text)
}

// An Invitation is what a caller and a callee get to meet under.
type Invitation struct {
	// Call is the caller's choice: invitations of one call that come from
	// several points have the same.
	Call [wire.CallSize]byte

	// Peer is the other end. To a callee it is the point's claim: pin it.
	Peer peer.ID

	// Service is what the caller wants. To a callee it is the point's claim;
	// the caller says it again on the link (see package wire, AppendHello).
	Service string

	// Servers are the URLs of the rdv servers to meet at, 1 to 4; Token is the
	// rdv token, and Bearer what to present there as a bearer token.
	Servers []string
	Token   string
	Bearer  string

	// Point is where the invitation comes from.
	Point peer.ID
}

// ClientConfig configures a [Client]. The zero ClientConfig is good for a
// caller.
type ClientConfig struct {
	// AccessToken is for points that are not open to everyone.
	AccessToken string

	// Invited decides about an invitation, and begins to wait at its servers
	// before it returns nil. An error that wraps ErrNoService or ErrBusy is
	// told to the caller as such, any other one as "refused". It is called by
	// several goroutines at once, and has less than ReplyWait. If nil, all
	// callers are refused.
	Invited func(ctx context.Context, inv Invitation) error

	// Changed, if not nil, is told how the streams of Listen fare, one event
	// at a time for each point.
	Changed func(Event)

	// Timeout bounds Invite and Reserve. Zero means DefaultTimeout.
	Timeout time.Duration

	// Logger gets the reports. If nil, they are dropped. Tokens are not logged.
	Logger *slog.Logger
}

// DefaultTimeout bounds Invite and Reserve: a dial to the point, and what the
// callee may take.
const DefaultTimeout = 10 * time.Second

// longestAnswer is what a point that lives may take: the callee's reply, and its
// own hooks.
const longestAnswer = ReplyWait + 2*AuthorizeWait

// A Client asks points to have peers invited, and is invited. Its methods may be
// called at once.
type Client struct {
	cfg  ClientConfig
	host host.Host

	deciding chan struct{}            // a place per invitation that is being decided
	look     func() netwatch.Snapshot // at the network; nil: netwatch.Look; tests have another one
}

// NewClient returns a client that uses h. The caller keeps h.
func NewClient(h host.Host, cfg ClientConfig) (*Client, error) {
	if !wire.ValidAccess(cfg.AccessToken) {
		return nil, fmt.Errorf("reach: an access token is of at most %d visible ASCII characters", wire.MaxAccess)
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = DefaultTimeout
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Invited == nil {
		cfg.Invited = func(context.Context, Invitation) error { return errors.New("reach: nobody is expected") }
	}
	return &Client{cfg: cfg, host: h, deciding: make(chan struct{}, maxDeciding)}, nil
}

// A clientStream is a stream to a point. The protocol is negotiated with the
// first message, so that a request takes one round trip.
type clientStream struct {
	network.Stream
	reader messageReader
	mux    msmux.LazyConn

	mu sync.Mutex // one message at a time; held for WriteWait at most
}

// open returns a stream to the point. Unlike the host's NewStream it does not
// wait until identify has told what the point speaks.
func (c *Client) open(ctx context.Context, point peer.AddrInfo) (*clientStream, error) {
	c.host.Peerstore().AddAddrs(point.ID, point.Addrs, peerstore.RecentlyConnectedAddrTTL)
	// The swarm refuses to dial for seconds after a failure. That is for callers
	// without patience; a callee has its own, and who calls wants to know now.
	if n, ok := c.host.Network().(interface{ Backoff() *swarm.DialBackoff }); ok {
		n.Backoff().Clear(point.ID)
	}
	if _, err := c.host.Network().DialPeer(ctx, point.ID); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	s, err := c.host.Network().NewStream(ctx, point.ID)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	if err := s.SetProtocol(ProtocolID); err != nil {
		_ = s.Reset()
		return nil, err
	}
	cs := &clientStream{Stream: s, mux: msmux.NewMSSelect(s, ProtocolID)}
	cs.reader.r = cs.mux
	return cs, nil
}

func (s *clientStream) write(m *wire.Message) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return within(s.Stream, WriteWait, func() error {
		_, err := s.mux.Write(wire.AppendFrame(nil, m))
		return err
	})
}

func (s *clientStream) read(m *wire.Message) error {
	err := s.reader.read(m)
	if _, ok := errors.AsType[msmux.ErrNotSupported[protocol.ID]](err); ok {
		return fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	return err
}

// exchange sends a request and reads the answer. ctx ends it.
func (c *Client) exchange(ctx context.Context, s *clientStream, m, answer *wire.Message) error {
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	err := s.write(m)
	if err == nil {
		err = s.read(answer)
	}
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, ErrUnsupported), errors.Is(err, wire.ErrMalformed), errors.Is(err, errTooLong):
		return err
	case c.knownNot(s.Conn().RemotePeer()):
		return fmt.Errorf("%w: %w", ErrUnsupported, err)
	default:
		return fmt.Errorf("%w: %w", ErrNoAnswer, err)
	}
}

// knownNot reports whether the peer has said what it speaks, and that is not
// among it: some reset the stream before their "na" is read.
func (c *Client) knownNot(id peer.ID) bool {
	all, err := c.host.Peerstore().GetProtocols(id)
	return err == nil && len(all) > 0 && !slices.Contains(all, ProtocolID)
}

// ask sends one request to one point.
func (c *Client) ask(ctx context.Context, point peer.AddrInfo, m *wire.Message) (Invitation, error) {
	s, err := c.open(ctx, point)
	if err != nil {
		return Invitation{}, err
	}
	defer s.Reset() //nolint:errcheck // its work is done, or it is broken
	var a wire.Message
	start := time.Now()
	if err := c.exchange(ctx, s, m, &a); err != nil {
		if time.Since(start) > longestAnswer {
			_ = s.Conn().Close() // half-open: the next request needs another one
		}
		return Invitation{}, err
	}
	switch {
	case a.Kind != wire.Answer:
		return Invitation{}, fmt.Errorf("%w: %v in answer", wire.ErrMalformed, a.Kind)
	case a.Status != wire.OK:
		return Invitation{}, &StatusError{Status: a.Status, Text: a.Text, Point: point.ID}
	}
	return invitation(&a, point, s.Conn().RemoteMultiaddr())
}

// invitation makes an Invitation of what a point has sent.
func invitation(m *wire.Message, point peer.AddrInfo, at ma.Multiaddr) (Invitation, error) {
	inv := Invitation{
		Call: m.Call, Peer: m.Peer, Service: m.Service, Token: m.Token, Bearer: m.Bearer, Point: point.ID,
		Servers: usableServers(m.Servers, pointHost{name: domainOf(point.Addrs), addr: addrOf(at)}),
	}
	if inv.Token == "" {
		return inv, fmt.Errorf("%w: no token", wire.ErrMalformed)
	}
	if inv.Bearer == "" {
		inv.Bearer = inv.Token
	}
	if len(inv.Servers) == 0 {
		return inv, ErrNoServers
	}
	return inv, nil
}

// domainOf returns the domain by which a point is known, if it is known by one.
func domainOf(addrs []ma.Multiaddr) string {
	for _, a := range addrs {
		for _, code := range [...]int{ma.P_DNS, ma.P_DNS4, ma.P_DNS6} {
			if name, err := a.ValueForProtocol(code); err == nil {
				return name
			}
		}
	}
	return ""
}
