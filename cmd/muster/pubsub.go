package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/libp2p/go-libp2p/core/discovery"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/lmittmann/tint"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/spf13/cobra"

	"github.com/muster-p2p/muster"
	"github.com/muster-p2p/muster/pubsub"
	"github.com/muster-p2p/muster/rendezvous"
)

// Pace of keeping connections to the peers named with --peer.
const (
	minRedial   = 250 * time.Millisecond
	maxRedial   = 10 * time.Second
	dialTimeout = 10 * time.Second
)

// pubsubFlags are what 'pub' and 'sub' share.
type pubsubFlags struct {
	listen   []string
	peers    []string
	key      string
	sign     string
	idPreset string
	points   []string
	ns       string
	waku     bool
	floodsub bool
	maxSize  int
	verbose  bool
	find     findFlags
}

func (f *pubsubFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringArrayVar(&f.peers, "peer", nil, "multiaddr of a peer, ending in /p2p/ID; may be repeated")
	fl.StringArrayVar(&f.points, "point", nil, "multiaddr of a rendezvous point to find peers at, ending in /p2p/ID; may be repeated")
	fl.StringVar(&f.ns, "ns", "", "namespace to find peers in (default: floodsub:TOPIC, as go-libp2p has it)")
	fl.BoolVar(&f.waku, "waku", false, "speak the Waku dialect with the points")
	fl.StringArrayVar(&f.listen, "listen", nil, "multiaddr to listen on; may be repeated")
	fl.StringVar(&f.key, "key", "", "identity file, made if it is not there (default: a new identity)")
	fl.StringVar(&f.sign, "sign", "strict", "signature policy: strict, or none for messages without author")
	fl.StringVar(&f.idPreset, "message-id", "", "message ids as in go, rust, nim or js, or sha256 (default: go, or sha256 with --sign none)")
	fl.BoolVar(&f.floodsub, "floodsub", false, "speak floodsub only")
	fl.IntVar(&f.maxSize, "max-size", pubsub.DefaultMaxMessageSize, "the longest RPC in bytes, both ways")
	fl.BoolVarP(&f.verbose, "verbose", "v", false, "say on stderr what goes on")
	f.find.add(cmd)
}

// A session is a host that speaks pubsub.
type session struct {
	host  host.Host
	ps    *pubsub.PubSub
	finds *rendezvous.Discovery // nil without --point
	peers []peer.AddrInfo

	published int // messages
}

// open starts a host and pubsub on it.
func (f *pubsubFlags) open(e *env) (*session, error) {
	cfg, err := f.config(e)
	if err != nil {
		return nil, err
	}
	peers, err := parsePeers("--peer", f.peers)
	if err != nil {
		return nil, err
	}
	points, err := parsePeers("--point", f.points)
	if err != nil {
		return nil, err
	}
	if f.ns != "" && len(points) == 0 {
		return nil, usageError(errors.New("--ns without a point to ask"), "name one with --point")
	}
	listen, err := parseAddrs(f.listen)
	if err != nil {
		return nil, err
	}
	key, err := f.find.identity(f.key)
	if err != nil {
		return nil, err
	}
	h, err := muster.NewHost(muster.HostConfig{Key: key, Listen: listen})
	if err != nil {
		return nil, fail(exitLocal, err, "is the address in use?")
	}
	s := &session{host: h, peers: peers}
	if len(points) > 0 {
		s.finds = rendezvous.NewDiscovery(h, rendezvous.DiscoveryConfig{
			Client: rendezvous.ClientConfig{Waku: f.waku}, Points: points, Logger: cfg.Logger, UnregisterOnCancel: true,
		})
		cfg.Discovery = &pubsub.DiscoveryConfig{Discovery: namespace{s.finds, f.ns}}
	}
	if s.ps, err = pubsub.New(h, cfg); err != nil {
		return nil, errors.Join(err, s.closeHost())
	}
	return s, nil
}

// A namespace is a discovery in which all topics are found under one name,
// unless that is empty.
type namespace struct {
	*rendezvous.Discovery
	ns string
}

func (n namespace) name(ns string) string {
	if n.ns != "" {
		return n.ns
	}
	return ns
}

// Advertise implements discovery.Advertiser.
func (n namespace) Advertise(ctx context.Context, ns string, opts ...discovery.Option) (time.Duration, error) {
	return n.Discovery.Advertise(ctx, n.name(ns), opts...)
}

// FindPeers implements discovery.Discoverer.
func (n namespace) FindPeers(ctx context.Context, ns string, opts ...discovery.Option) (<-chan peer.AddrInfo, error) {
	return n.Discovery.FindPeers(ctx, n.name(ns), opts...)
}

func (f *pubsubFlags) config(e *env) (pubsub.Config, error) {
	cfg := pubsub.Config{FloodSub: f.floodsub, MaxMessageSize: f.maxSize, Backpressure: true}
	if f.maxSize <= 0 {
		return cfg, usageError(fmt.Errorf("--max-size %d", f.maxSize), "give a number of bytes above zero")
	}
	if f.verbose {
		cfg.Logger = slog.New(tint.NewTextHandler(e.stderr, &tint.Options{Level: slog.LevelDebug, NoColor: true}))
	}
	switch f.sign {
	case "strict":
	case "none":
		policy := pubsub.StrictNoSign
		cfg.Signatures = &policy
		// Ours have no author, as the specification has it; those of
		// go-libp2p-pubsub do unless it is told otherwise.
		cfg.NoAuthor, cfg.UnsignedAuthors = true, true
	default:
		return cfg, usageError(fmt.Errorf("--sign %q", f.sign), "one of: strict, none")
	}
	presets := map[string]pubsub.MsgIdFunction{
		"": nil, "go": pubsub.MessageIDGo, "rust": pubsub.MessageIDRust, "nim": pubsub.MessageIDNim,
		"js": pubsub.MessageIDJS, "sha256": pubsub.MessageIDSHA256,
	}
	id, ok := presets[f.idPreset]
	if !ok {
		return cfg, usageError(fmt.Errorf("--message-id %q", f.idPreset), "one of: go, rust, nim, js, sha256")
	}
	cfg.MessageID = id
	return cfg, nil
}

func parsePeers(flag string, in []string) ([]peer.AddrInfo, error) {
	out := make([]peer.AddrInfo, 0, len(in))
	for _, s := range in {
		pi, err := peer.AddrInfoFromString(s)
		if err != nil {
			return nil, usageError(fmt.Errorf("%s %q: %w", flag, s, err), "a peer looks like /ip4/192.0.2.1/tcp/4001/p2p/12D3KooW…")
		}
		out = append(out, *pi)
	}
	return out, nil
}

func parseAddrs(in []string) ([]ma.Multiaddr, error) {
	out := make([]ma.Multiaddr, 0, len(in))
	for _, s := range in {
		a, err := ma.NewMultiaddr(s)
		if err != nil {
			return nil, usageError(fmt.Errorf("--listen %q: %w", s, err), "an address looks like /ip4/0.0.0.0/tcp/4001")
		}
		out = append(out, a)
	}
	return out, nil
}

// How long the end waits for peers to read what was sent to them. Some close
// their end when they have; js- and py-libp2p do not, and take some
// milliseconds for a message. So it grows with what was sent.
const (
	drainTime    = 2 * time.Second
	drainPerMsg  = 10 * time.Millisecond
	maxDrainTime = 30 * time.Second
)

// close sends what waits and closes everything.
func (s *session) close(ctx context.Context) error {
	wait := drainTime
	if ctx.Err() == nil {
		wait = min(wait+time.Duration(s.published)*drainPerMsg, maxDrainTime)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), wait)
	defer cancel()
	err := s.ps.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = nil // a peer that does not read does not keep us
	}
	return errors.Join(err, s.closeHost())
}

func (s *session) closeHost() error {
	var err error
	if s.finds != nil {
		err = s.finds.Close()
	}
	return errors.Join(err, s.host.Close())
}

// stay keeps trying to be connected to a peer until ctx is done.
func (s *session) stay(ctx context.Context, pi peer.AddrInfo) {
	wait := minRedial
	for {
		if s.host.Network().Connectedness(pi.ID) == network.Connected {
			wait = minRedial
		} else {
			dctx, cancel := context.WithTimeout(ctx, dialTimeout)
			err := s.host.Connect(dctx, pi)
			cancel()
			if err != nil {
				wait = min(2*wait, maxRedial)
			}
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

// meet finds peers by discv5 and stays connected to them until ctx is done; wait
// returns when that has ended.
func (s *session) meet(ctx context.Context, f *findFlags) (wait func() error, err error) {
	var wg sync.WaitGroup
	found, err := f.find(ctx, s.host, func(pi peer.AddrInfo) {
		wg.Go(func() { s.stay(ctx, pi) })
	})
	if err != nil {
		return nil, err
	}
	return func() error {
		err := found()
		wg.Wait()
		return err
	}, nil
}

// dial connects to the peers once; it fails if none can be reached.
func (s *session) dial(ctx context.Context) error {
	var errs []error
	for _, pi := range s.peers {
		dctx, cancel := context.WithTimeout(ctx, dialTimeout)
		if err := s.host.Connect(dctx, pi); err != nil {
			errs = append(errs, dialError(pi, err))
		}
		cancel()
	}
	if len(errs) > 0 && len(errs) == len(s.peers) {
		return errors.Join(errs...)
	}
	return nil
}

func dialError(pi peer.AddrInfo, err error) error {
	if _, ok := errors.AsType[sec.ErrPeerIDMismatch](err); ok {
		return fail(exitIdentity, fmt.Errorf("dial %s: %w", pi.ID, err), "the address belongs to another peer")
	}
	return fail(exitUnreachable, fmt.Errorf("dial %s: %w", pi.ID, err), "is it running, and is the address right?")
}

// A received is a message as 'sub --json' prints it.
type received struct {
	Topic string `json:"topic"`
	From  string `json:"from,omitempty"`
	Via   string `json:"via"`
	ID    string `json:"id"` // hex
	Seqno uint64 `json:"seqno,omitempty"`
	// Data is the payload if it is UTF-8 text, and Base64 if it is not.
	Data   *string `json:"data,omitempty"`
	Base64 []byte  `json:"base64,omitempty"`
}

// printMessage writes a message to stdout.
func printMessage(w io.Writer, m *pubsub.Message, asJSON, raw bool) error {
	switch {
	case asJSON:
		r := received{Topic: m.GetTopic(), Via: m.ReceivedFrom.String(), ID: fmt.Sprintf("%x", m.ID)}
		if from := m.GetFrom(); from != "" {
			r.From = from.String()
		}
		for _, b := range m.GetSeqno() {
			r.Seqno = r.Seqno<<8 | uint64(b)
		}
		if utf8.Valid(m.Data) {
			r.Data = new(string(m.Data))
		} else {
			r.Base64 = m.Data
		}
		return json.NewEncoder(w).Encode(r)
	case raw:
		_, err := w.Write(m.Data)
		return err
	default:
		_, err := fmt.Fprintf(w, "%s\n", m.Data)
		return err
	}
}
