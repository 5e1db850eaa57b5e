package discv5

import (
	"errors"
	"log/slog"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/muster-p2p/muster/enr"
)

// Defaults of Config.
const (
	DefaultPort             = 9000
	DefaultBucketIPLimit    = 2                // of a /24: discv5-rationale.md, "Sybil and Eclipse Attacks"
	DefaultTableIPLimit     = 10               // the same
	DefaultHandshakeTimeout = 2 * time.Second  // a lost packet costs a lookup little
	DefaultResponseTimeout  = 4 * time.Second  // mobile networks
	DefaultSessions         = 1000             // 300 bytes each
	DefaultChallengesPerIP  = 5                // a second: a NAT's worth of new peers
	DefaultChallengesTotal  = 500              // a second: 0.2 s of curve arithmetic if all are answered
	DefaultRecordCache      = 1000             // some 250 bytes each
	DefaultRefreshInterval  = 5 * time.Minute  // of the lookups that keep the table filled
	DefaultRevalidateMax    = 10 * time.Second // between pings of the table's nodes
	DefaultVoteInterval     = 5 * time.Minute  // of looking at what peers say our endpoint is
)

// Config configures a Node. Key is required; the rest has defaults.
type Config struct {
	// Key is the node's identity.
	Key *enr.PrivateKey

	// Listen lists the UDP addresses to bind, at most one of each family;
	// port 0 lets the system choose. If it and Conns are empty,
	// 0.0.0.0:9000 is bound.
	Listen []netip.AddrPort

	// Conns are open sockets to use instead of Listen, at most one of each
	// family; a *net.UDPConn that takes both stands for both. The node closes
	// them, also when Listen fails.
	Conns []PacketConn

	// Advertise lists the endpoints for the local record, at most one of
	// each family; port 0 means the socket's own. A family that is not
	// listed gets its socket's address, if that is a specific one, and
	// whatever the node's peers agree on later.
	Advertise []netip.AddrPort

	// Entries are further entries of the local record. Its Seq is ignored.
	Entries enr.Content

	// Bootnodes are where the table begins.
	Bootnodes []*enr.Record

	// DataDir is an existing directory that keeps the nodes seen alive and
	// the sequence number of the local record. If empty, nothing is kept.
	DataDir string

	// BucketIPLimit and TableIPLimit bound the nodes of one /24 (of one /48
	// in IPv6) in a bucket and in the whole table. Negative means no limit.
	// Private and loopback addresses are not limited.
	BucketIPLimit, TableIPLimit int

	// HandshakeTimeout is how long a challenge lives, and how long a peer
	// without a session has to begin and to end the handshake.
	HandshakeTimeout time.Duration

	// ResponseTimeout is how long a peer with a session has to answer.
	ResponseTimeout time.Duration

	// Sessions bounds the sessions kept.
	Sessions int

	// ChallengesPerIP and ChallengesTotal bound the WHOAREYOU packets sent
	// in a second, to one IPv4 address or IPv6 /64 and to all. Those that the
	// address answers with a valid handshake do not count for it, up to ten
	// times the number. Peers that we know are counted apart. Negative means
	// no limit.
	ChallengesPerIP, ChallengesTotal int

	// RecordCache is how many verified records are remembered at least, so
	// that they need not be verified again. Up to twice as many are.
	RecordCache int

	// RefreshInterval, RevalidateMax and VoteInterval pace the upkeep of the
	// table and of the local record.
	RefreshInterval, RevalidateMax, VoteInterval time.Duration

	// Logger gets what happens at levels info and debug. If nil, nothing.
	Logger *slog.Logger

	// Registerer, if not nil, gets the node's metrics, until Close.
	Registerer prometheus.Registerer
}

func (c Config) withDefaults() Config {
	setDefault(&c.BucketIPLimit, DefaultBucketIPLimit)
	setDefault(&c.TableIPLimit, DefaultTableIPLimit)
	setDefault(&c.HandshakeTimeout, DefaultHandshakeTimeout)
	setDefault(&c.ResponseTimeout, DefaultResponseTimeout)
	setDefault(&c.Sessions, DefaultSessions)
	setDefault(&c.ChallengesPerIP, DefaultChallengesPerIP)
	setDefault(&c.ChallengesTotal, DefaultChallengesTotal)
	setDefault(&c.RecordCache, DefaultRecordCache)
	setDefault(&c.RefreshInterval, DefaultRefreshInterval)
	setDefault(&c.RevalidateMax, DefaultRevalidateMax)
	setDefault(&c.VoteInterval, DefaultVoteInterval)
	if len(c.Listen) == 0 && len(c.Conns) == 0 {
		c.Listen = []netip.AddrPort{netip.AddrPortFrom(netip.IPv4Unspecified(), DefaultPort)}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func setDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

func (c *Config) validate() error {
	switch {
	case c.Key == nil:
		return errors.New("discv5: Config.Key is required")
	case c.Sessions < 0, c.RecordCache < 0:
		return errors.New("discv5: Config.Sessions and RecordCache cannot be negative")
	case c.HandshakeTimeout < 0, c.ResponseTimeout < 0, c.RefreshInterval < 0, c.RevalidateMax < 0, c.VoteInterval < 0:
		return errors.New("discv5: intervals cannot be negative")
	}
	return nil
}
