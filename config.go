package muster

import (
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/muster-p2p/muster/access"
	"github.com/muster-p2p/muster/discv5"
	"github.com/muster-p2p/muster/pubsub"
	"github.com/muster-p2p/muster/rdv"
	"github.com/muster-p2p/muster/reach"
	"github.com/muster-p2p/muster/rendezvous"
)

// Config configures a [Node]. The zero Config is a peer with an identity for
// this run that only dials.
type Config struct {
	// Key is the identity. If nil, one is made for this run. Host has its own.
	Key crypto.PrivKey

	// Host, if not nil, is used in place of a new one; the node does not close
	// it. Listen, Announce and MaxConns are not looked at then.
	Host host.Host

	// Listen lists the TCP multiaddrs to listen on. If empty, the host only dials.
	Listen []ma.Multiaddr

	// Announce, if not empty, are the addresses that others are told in place of
	// those of Listen.
	Announce []ma.Multiaddr

	// MaxConns bounds the connections of the host. If zero, it is what NewHost
	// has by default.
	MaxConns int

	// Points are asked for names, and registered at.
	Points []peer.AddrInfo

	// Find, Reach and Talk configure the wings. Reach.Points are Points if they
	// are nil, and its Logger is Logger.
	Find  FindConfig
	Reach ReachConfig
	Talk  TalkConfig

	// Point, if not nil, makes the node a point.
	Point *PointConfig

	// Logger gets reports. If nil, they are dropped.
	Logger *slog.Logger

	// Registerer gets the metrics of all rooms. If nil, there are none.
	Registerer prometheus.Registerer
}

// FindConfig configures the wing [Find].
type FindConfig struct {
	// Waku speaks Waku's rendezvous protocol with the points.
	Waku bool

	// Interval is the time between two polls of a name that is watched. If zero,
	// rendezvous.DefaultInterval is.
	Interval time.Duration

	// Discv5, if not nil, takes part in Node Discovery v5. Its Key is the node's
	// if that is of secp256k1, and otherwise made for this run, unless it is
	// set. Logger and Registerer are set where they are nil.
	Discv5 *discv5.Config
}

// TalkConfig configures the wing [Talk].
type TalkConfig struct {
	// Off leaves the wing out.
	Off bool

	// PubSub configures the router. Its zero value is gossipsub. Logger,
	// Registerer and Discovery are set where they are nil; the last is by the
	// points, if there are any.
	PubSub pubsub.Config
}

// PointConfig configures a [Point]. The zero PointConfig serves rendezvous from
// memory, and no relay.
type PointConfig struct {
	// NoRendezvous leaves rendezvous out.
	NoRendezvous bool

	// Rendezvous configures the registry. If Store is nil, registrations are
	// kept in memory. Policy is asked before its Access.
	Rendezvous rendezvous.Config

	// HTTP is where the rdv server listens, HOST:PORT, and Listener a listener
	// to use in its place, which the point closes. If both are unset, there is
	// no rdv server.
	HTTP     string
	Listener net.Listener

	// TLS, if not nil, secures HTTP.
	TLS *tls.Config

	// URLs are what others call the rdv server. If empty, peers that are brought
	// together go to the host that they reached this node by.
	URLs []string

	// NoReach leaves out that peers which cannot be dialled are called through
	// this point. It needs the rdv server.
	NoReach bool

	// Reach bounds what callees and callers may have.
	Reach reach.Limits

	// Callees, if not nil, says which callees wait at other points, and has
	// Server's Directory: whoever may be called by way of one point may be
	// called by way of all. The points have to share that and Secret.
	Callees reach.Directory

	// Server and Relayer are the rdv server and its relay with the limits to
	// use. They belong to the point from Start on, which sets the Handler,
	// Access and Aside of the server. If nil, they are those of rdv.
	Server  *rdv.Server
	Relayer *rdv.Relayer

	// Policy says who may register names and use the relay: by its zero value
	// everybody and nobody.
	Policy access.Policy

	// Tokens, Usage and Hook are what the policy works with. Each may be nil.
	Tokens access.Tokens
	Usage  *access.Usage
	Hook   *access.Hook

	// Shared says that other points use the same secret, which they do over one
	// database, with tokens of their own: see access.Config.
	Shared bool

	// Secret is what tokens for meetings are made with, access.MinSecret bytes
	// at least. If nil, it is that of the store: points over one store take each
	// other's tokens.
	Secret []byte
}

// withDefaults returns a copy that is complete.
func (c Config) withDefaults() (Config, error) {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Host != nil {
		c.Key = c.Host.Peerstore().PrivKey(c.Host.ID())
	}
	if c.Key == nil {
		key, _, err := crypto.GenerateEd25519Key(rand.Reader)
		if err != nil {
			return c, fmt.Errorf("muster: make an identity: %w", err)
		}
		c.Key = key
	}
	if c.Reach.Points == nil {
		c.Reach.Points = c.Points
	}
	if c.Reach.Logger == nil {
		c.Reach.Logger = c.Logger
	}
	if c.Find.Discv5 != nil {
		c.Find.Discv5 = new(*c.Find.Discv5)
	}
	if c.Point != nil {
		p := *c.Point
		if p.Server == nil {
			p.Server = &rdv.Server{}
		}
		if p.Relayer == nil {
			p.Relayer = &rdv.Relayer{}
		}
		c.Point = &p
	}
	return c, nil
}

// validate says what cannot work.
func (c *Config) validate() error {
	if c.MaxConns < 0 {
		return fmt.Errorf("muster: %d connections", c.MaxConns)
	}
	if c.Point == nil {
		return nil
	}
	p := c.Point
	if p.Secret != nil && len(p.Secret) < access.MinSecret {
		return fmt.Errorf("muster: the secret is shorter than %d bytes", access.MinSecret)
	}
	if p.Policy.Relay == access.ByName && p.NoRendezvous {
		return errors.New("muster: a relay by namespace needs rendezvous")
	}
	if p.Callees != nil && (p.Server == nil || p.Server.Directory == nil) {
		return errors.New("muster: points that share callees have to share a lobby")
	}
	for _, s := range p.URLs {
		u, err := url.Parse(s)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
			return fmt.Errorf("muster: %q is not the URL of an rdv server", s)
		}
	}
	return nil
}
