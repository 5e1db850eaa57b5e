package rendezvous

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/muster-p2p/muster/rendezvous/wire"
)

// Errors of a [Client], beside those of contexts and [*StatusError].
var (
	// ErrUnreachable says that there is no connection to the point.
	ErrUnreachable = errors.New("rendezvous: point cannot be reached")

	// ErrUnsupported says that the peer is there but does not speak the
	// protocol.
	ErrUnsupported = errors.New("rendezvous: peer does not speak the protocol")

	// ErrNoAnswer says that the point ended the stream instead of answering:
	// rust-libp2p and others do so for requests that they do not like.
	ErrNoAnswer = errors.New("rendezvous: point ended the stream without an answer")

	// ErrEndless says that a point goes on to send records, more than any
	// point keeps, or none that are good.
	ErrEndless = errors.New("rendezvous: point's listing does not end")

	// ErrNoAddrs says that this host has no address to register.
	ErrNoAddrs = errors.New("rendezvous: no address to register")
)

// A StatusError is a point's answer that is not OK.
type StatusError struct {
	Status wire.Status
	Text   string // the point's, at most 256 bytes of UTF-8; not to be trusted
	Point  peer.ID
}

func (e *StatusError) Error() string {
	if e.Text == "" {
		return fmt.Sprintf("rendezvous: point says %v", e.Status)
	}
	return fmt.Sprintf("rendezvous: point says %v (%q)", e.Status, e.Text)
}

func hasStatus(err error, s wire.Status) bool {
	e, ok := errors.AsType[*StatusError](err)
	return ok && e.Status == s
}

// ClientConfig configures a [Client]. The zero ClientConfig is good.
type ClientConfig struct {
	// Waku speaks WakuProtocolID in place of ProtocolID.
	Waku bool

	// Timeout bounds each request to one point. Zero means DefaultTimeout.
	Timeout time.Duration

	// Addrs, if not nil, returns the addresses to register in place of the
	// host's own.
	Addrs func() []ma.Multiaddr

	// StrictTTL keeps Register from asking for a default lifetime when the
	// point refuses the one that was wanted.
	StrictTTL bool

	// LegacyPeerInfo registers with an unsigned PeerInfo at points that refuse
	// the signed record, and believes such points' unsigned records. The
	// addresses in those are anyone's claim.
	LegacyPeerInfo bool

	// Logger gets the client's reports. If nil, they are dropped.
	Logger *slog.Logger

	// Registerer gets the metrics muster_rendezvous_client_*, which clients
	// with the same one share. If nil, there are none.
	Registerer prometheus.Registerer
}

const (
	// DefaultTimeout bounds a request, the dial included.
	DefaultTimeout = 10 * time.Second

	// maxClientAnswer bounds an answer: 1000 records of 4 KiB.
	maxClientAnswer = 4 << 20

	// MaxListing bounds the records that Pages reads: what a full point has.
	MaxListing = DefaultTotal

	// maxUseless bounds the pages in a row of which no record is good: a whole
	// namespace of records that we cannot verify is not worth reading on.
	maxUseless = 32

	// maxCookie bounds a cookie that is kept for a point.
	maxCookie = 4 << 10

	// unregisterWait bounds the wait for a point to end the stream.
	unregisterWait = 2 * time.Second

	// keepStream is how long a stream that has proved good for more than one
	// request stays open; points close it after a minute as a rule.
	keepStream = 30 * time.Second
)

// A Client asks points, one at a time; [Discovery] asks many. Its methods may
// be called at once. Addresses of points are taken from the host's peerstore.
type Client struct {
	cfg   ClientConfig
	host  host.Host
	proto protocol.ID
	d     wire.Dialect

	metrics *clientMetrics

	mu     sync.Mutex // guards what follows
	closed bool
	points map[peer.ID]*pointState

	recordMu sync.Mutex // guards records and checked
	records  [numForms]ownRecord
	checked  []byte // the host's own record, found good
}

// NewClient returns a client that uses h. The caller keeps h.
func NewClient(h host.Host, cfg ClientConfig) *Client {
	if cfg.Timeout == 0 {
		cfg.Timeout = DefaultTimeout
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Client{cfg: cfg, host: h, proto: ProtocolID, d: wire.Libp2p, points: map[peer.ID]*pointState{}}
	var err error
	if c.metrics, err = newClientMetrics(cfg.Registerer); err != nil {
		cfg.Logger.Error("metrics not registered", "err", err)
	}
	if cfg.Waku {
		c.proto, c.d = WakuProtocolID, wire.Waku
	}
	return c
}

// Close closes the streams that are kept open. Requests after it open one
// stream each.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	var idle []*clientStream
	for _, s := range c.points {
		if s.idle != nil {
			idle = append(idle, s.idle)
			s.idle = nil
		}
	}
	c.mu.Unlock()
	for _, s := range idle {
		s.end()
	}
	return nil
}

// Register registers this host at a point under ns for ttl, and returns the
// lifetime that the point grants. Zero asks for the usual 2 hours, or 20
// seconds in Waku. It is up to the caller to register again before the time is
// over; [Discovery] does.
//
// If the point refuses the lifetime, 2 and then 72 hours are asked for (see
// [ClientConfig.StrictTTL]).
func (c *Client) Register(ctx context.Context, point peer.ID, ns string, ttl time.Duration) (time.Duration, error) {
	if err := c.checkNS(ns); err != nil {
		return 0, err
	}
	if ttl < 0 || ttl > 0 && ttl < time.Second {
		return 0, fmt.Errorf("%w: below one second", ErrInvalidTTL)
	}
	tries := []time.Duration{ttl}
	if ttl == 0 {
		tries[0] = c.defaultTTL()
	}
	if !c.cfg.StrictTTL && !c.cfg.Waku {
		for _, d := range []time.Duration{DefaultTTL, MaxTTL} {
			if d != tries[0] {
				tries = append(tries, d)
			}
		}
	} else if c.cfg.Waku && !c.cfg.StrictTTL && ttl > WakuTTL {
		tries = append(tries, WakuTTL)
	}
	var err error
	for _, d := range tries {
		var granted time.Duration
		if granted, err = c.register(ctx, point, ns, d); err == nil {
			return granted, nil
		}
		if !hasStatus(err, wire.InvalidTTL) {
			break
		}
	}
	return 0, err
}

func (c *Client) defaultTTL() time.Duration {
	if c.cfg.Waku {
		return WakuTTL
	}
	return DefaultTTL
}

func (c *Client) checkNS(ns string) error {
	longest := MaxNamespace
	if c.cfg.Waku {
		longest = MaxWakuNamespace
	}
	if ns == "" || len(ns) > longest || !utf8.ValidString(ns) {
		return fmt.Errorf("%w: 1 to %d bytes of UTF-8 are wanted", ErrInvalidNamespace, longest)
	}
	return nil
}

// register asks with the form of record that the point took last, and with the
// others if it refuses: rust-libp2p ends the stream on a record that is signed
// as the spec says, berty and py-libp2p want none that is signed.
func (c *Client) register(ctx context.Context, point peer.ID, ns string, ttl time.Duration) (time.Duration, error) {
	first := c.formOf(point)
	granted, err := c.registerForm(ctx, point, ns, ttl, first)
	for form := specForm; form < numForms && mayBeForm(err) && !c.cfg.Waku; form++ {
		if form == first || form == peerInfoForm && !c.cfg.LegacyPeerInfo ||
			form == rustForm && hasStatus(err, wire.NotAuthorized) {
			continue
		}
		if other, otherErr := c.registerForm(ctx, point, ns, ttl, form); otherErr == nil {
			c.setPoint(point, func(s *pointState) { s.form = form })
			return other, nil
		}
	}
	return granted, err // what the point said first
}

// mayBeForm reports whether a point may have refused the form of the record.
func mayBeForm(err error) bool {
	return hasStatus(err, wire.InvalidSignedRecord) || hasStatus(err, wire.NotAuthorized) || errors.Is(err, ErrNoAnswer)
}

func (c *Client) registerForm(ctx context.Context, point peer.ID, ns string, ttl time.Duration, form recordForm) (time.Duration, error) {
	rec, err := c.ownRecord(ns, form)
	if err != nil {
		return 0, err
	}
	req := wire.Message{Kind: wire.Register, NS: ns, Record: rec, TTL: uint64(ttl / time.Second), HasTTL: true}
	var res wire.Message
	if err := c.ask(ctx, point, &req, &res, 0); err != nil {
		return 0, fmt.Errorf("register: %w", err)
	}
	if res.Kind != wire.RegisterResponse {
		return 0, fmt.Errorf("register: %w: %v in answer", wire.ErrMalformed, res.Kind)
	}
	if res.Status != wire.OK {
		return 0, &StatusError{Status: res.Status, Text: res.Text, Point: point}
	}
	if !res.HasTTL || res.TTL == 0 || res.TTL > uint64(MaxTTL/time.Second) {
		return ttl, nil
	}
	return time.Duration(res.TTL) * time.Second, nil
}

// Unregister takes this host off ns at a point, or off all namespaces if ns is
// empty. The protocol has no answer; it returns nil when the point has read
// the request, as far as can be known. In Waku there is no such request.
func (c *Client) Unregister(ctx context.Context, point peer.ID, ns string) (err error) {
	if c.cfg.Waku {
		return fmt.Errorf("unregister: %w", errors.ErrUnsupported)
	}
	defer func() { c.metrics.asked(wire.Unregister, &wire.Message{}, err) }()
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	s, err := c.open(ctx, point)
	if err != nil {
		return fmt.Errorf("unregister: %w", err)
	}
	stop := context.AfterFunc(ctx, s.abort)
	defer stop()
	// Without an id py-libp2p ignores the request.
	req := wire.Message{Kind: wire.Unregister, NS: ns, ID: []byte(c.host.ID())}
	if err := s.write(wire.AppendFrame(nil, c.d, &req)); err != nil {
		s.abort()
		return fmt.Errorf("unregister: %w", err)
	}
	// The point ends the stream when it has read ours to the end; one that
	// does not is not waited for.
	_ = s.s.CloseWrite()
	_ = s.s.SetReadDeadline(time.Now().Add(unregisterWait))
	if _, err := s.r.ReadByte(); err == nil {
		s.abort()
		return nil
	}
	s.end()
	return nil
}
