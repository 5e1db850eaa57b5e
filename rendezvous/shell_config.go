package rendezvous

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/prometheus/client_golang/prometheus"
)

// The protocols' IDs.
const (
	// ProtocolID is libp2p's rendezvous.
	// Spec: https://github.com/libp2p/specs/blob/master/rendezvous/README.md
	ProtocolID protocol.ID = "/rendezvous/1.0.0"

	// WakuProtocolID is Waku's.
	// Spec: https://github.com/waku-org/go-waku-rendezvous
	WakuProtocolID protocol.ID = "/vac/waku/rendezvous/0.0.1"
)

// Lifetimes of registrations.
const (
	// DefaultTTL and MaxTTL are the spec's 2 and 72 hours.
	DefaultTTL = 2 * time.Hour
	MaxTTL     = 72 * time.Hour

	// DefaultMinTTL is what peers in the wild ask for at the least; the spec
	// recommends 2 hours, see [SpecConfig].
	DefaultMinTTL = time.Minute

	// WakuTTL is both default and maximum of the Waku protocol. A registration
	// lives WakuGrace longer, for the refresh that is on its way.
	WakuTTL   = 20 * time.Second
	WakuGrace = 500 * time.Millisecond
)

// Config configures a [Point]. The zero Config is a point for
// /rendezvous/1.0.0 that keeps registrations in memory.
type Config struct {
	// Store remembers the registrations of /rendezvous/1.0.0. The point closes
	// it. If nil, a new [Memory] is used.
	Store Store

	// Waku serves WakuProtocolID as well. Its registrations live for seconds
	// and are kept in memory only, apart from the others.
	Waku bool

	// LegacyPeerInfo lets peers of before 2020 register with an unsigned
	// PeerInfo. Such registrations are shown only to peers that have one
	// themselves, and those see signed records as PeerInfo. Addresses in them
	// are anyone's claim, so it is off by default.
	LegacyPeerInfo bool

	// MinTTL, MaxTTL and DefaultTTL bound the lifetimes of /rendezvous/1.0.0,
	// in whole seconds. What is outside is refused, never cut. Zero means
	// DefaultMinTTL, MaxTTL and DefaultTTL; DefaultTTL is raised or lowered to
	// the bounds.
	MinTTL, MaxTTL, DefaultTTL time.Duration

	// Limits bound what is kept, Rates how often the point is asked.
	Limits Limits
	Rates  Rates

	// DiscoverAll lets peers list all namespaces, by asking for none. If
	// false, they are told E_NOT_AUTHORIZED. Access is asked as well.
	DiscoverAll bool

	// Access, if not nil, is asked before anything is registered or listed,
	// by several goroutines at once. An error refuses the request with
	// E_NOT_AUTHORIZED, ErrUndecided with E_UNAVAILABLE; the peer is not told
	// its text.
	Access func(context.Context, Request) error

	// StrictCookies refuses a cookie of another namespace or of a store that
	// was lost. Otherwise it starts the listing again: several clients keep
	// one cookie for all namespaces, or keep a refused one for ever.
	StrictCookies bool

	// AcceptStale lets a record replace a newer one, as servers do that ignore
	// sequence numbers.
	AcceptStale bool

	// MaxStreams and MaxPeerStreams bound the open streams in all and per
	// peer. Zero means DefaultMaxStreams and DefaultMaxPeerStreams, negative
	// no limit.
	MaxStreams, MaxPeerStreams int

	// Logger gets the point's reports. If nil, they are dropped.
	Logger *slog.Logger

	// Registerer gets the point's metrics, muster_rendezvous_* and nim-libp2p's
	// names for four of them. If nil, there are none.
	Registerer prometheus.Registerer
}

// Bounds of streams and requests.
const (
	// DefaultMaxStreams allows each of a host's usual 4000 connections two.
	DefaultMaxStreams = 8192

	// DefaultMaxPeerStreams allows for clients that open one per request.
	DefaultMaxPeerStreams = 64

	// MaxRequestSize bounds a request; most are below 1 KiB.
	MaxRequestSize = 64 << 10

	// FirstDeadline is how long a stream's first request may take, and any
	// one from its first byte to its last; IdleDeadline is how long a stream
	// may stay open without one. WriteDeadline is for an answer.
	FirstDeadline = 10 * time.Second
	IdleDeadline  = time.Minute
	WriteDeadline = 30 * time.Second

	// MaxRecords bounds a page, as the spec recommends.
	MaxRecords = 1000

	// MaxAnswer is what rust-libp2p reads, less its framing. NimMaxAnswer is
	// what nim-libp2p reads before v1.10.
	MaxAnswer    = 1<<20 - 1<<10
	NimMaxAnswer = 60 << 10

	// commitTimeout bounds how long a request waits for the store.
	commitTimeout = 5 * time.Second
)

// SpecConfig returns a Config with the spec's recommendations to the letter:
// registrations live 2 hours at least.
func SpecConfig() Config { return Config{MinTTL: DefaultTTL} }

// A Request is what [Config.Access] decides on.
type Request struct {
	Op     Op
	Realm  Realm
	Peer   peer.ID
	Remote ma.Multiaddr // where the peer's connection comes from
	NS     string       // empty for DISCOVER of all namespaces
}

// An Op is a kind of request.
type Op uint8

// The ops that access is asked for. Leaving is free.
const (
	OpRegister Op = iota + 1
	OpDiscover
)

func (o Op) String() string {
	if o == OpRegister {
		return "register"
	}
	return "discover"
}

func (c Config) withDefaults() Config {
	if c.Store == nil {
		c.Store = NewMemory()
	}
	if c.MinTTL == 0 {
		c.MinTTL = DefaultMinTTL
	}
	if c.MaxTTL == 0 {
		c.MaxTTL = MaxTTL
	}
	if c.DefaultTTL == 0 {
		c.DefaultTTL = DefaultTTL
	}
	c.DefaultTTL = min(max(c.DefaultTTL, c.MinTTL), c.MaxTTL)
	unlimited := func(v *int, def int) {
		if *v == 0 {
			*v = def
		} else if *v < 0 {
			*v = int(^uint(0) >> 1)
		}
	}
	unlimited(&c.MaxStreams, DefaultMaxStreams)
	unlimited(&c.MaxPeerStreams, DefaultMaxPeerStreams)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func (c Config) validate() error {
	for _, d := range []time.Duration{c.MinTTL, c.MaxTTL, c.DefaultTTL} {
		if d < time.Second || d%time.Second != 0 {
			return errors.New("rendezvous: a TTL is not a whole number of seconds")
		}
	}
	if c.MinTTL > c.MaxTTL {
		return errors.New("rendezvous: MinTTL is above MaxTTL")
	}
	return nil
}
