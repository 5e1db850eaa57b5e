package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/discovery"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/sec"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/spf13/cobra"

	"github.com/muster-p2p/muster"
	"github.com/muster-p2p/muster/rendezvous"
	"github.com/muster-p2p/muster/rendezvous/wire"
)

func newRendezvousCmd(e *env) *cobra.Command {
	return group("rendezvous", "Raw verbs of libp2p's and Waku's rendezvous protocols",
		newRendezvousServeCmd(e), newRendezvousRegisterCmd(e), newRendezvousUnregisterCmd(e),
		newRendezvousDiscoverCmd(e), newRendezvousWatchCmd(e))
}

// rendezvousFlags are what the client verbs have in common.
type rendezvousFlags struct {
	points  []string
	key     string
	timeout time.Duration
	waku    bool
	legacy  bool
	json    bool
}

func (f *rendezvousFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&f.points, "point", nil, "the point's `MULTIADDR`, with /p2p/ID at its end")
	cmd.Flags().StringVar(&f.key, "key", "", "identity `FILE`, made if missing (default: an identity for this run)")
	cmd.Flags().DurationVar(&f.timeout, "timeout", rendezvous.DefaultTimeout, "give up on a request after `DUR`")
	cmd.Flags().BoolVar(&f.waku, "waku", false, "speak "+string(rendezvous.WakuProtocolID))
	cmd.Flags().BoolVar(&f.legacy, "legacy", false, "speak the older, unsigned form to points that want it")
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON objects, one per line")
}

func (f *rendezvousFlags) config() rendezvous.ClientConfig {
	return rendezvous.ClientConfig{Waku: f.waku, Timeout: f.timeout, LegacyPeerInfo: f.legacy}
}

// parsePoints returns the peers that --point names.
func (f *rendezvousFlags) parsePoints() ([]peer.AddrInfo, error) {
	var addrs []ma.Multiaddr
	for _, s := range f.points {
		a, err := ma.NewMultiaddr(s)
		if err != nil {
			return nil, usageError(fmt.Errorf("--point %s: %w", s, err), "")
		}
		addrs = append(addrs, a)
	}
	infos, err := peer.AddrInfosFromP2pAddrs(addrs...)
	if err != nil {
		return nil, usageError(fmt.Errorf("--point: %w", err), "end the address with /p2p/ and the point's peer ID")
	}
	if len(infos) == 0 {
		return nil, usageError(errors.New("--point is missing"), "give the address that 'muster rendezvous serve' prints")
	}
	return infos, nil
}

// onePoint is parsePoints for verbs that ask one.
func (f *rendezvousFlags) onePoint() (peer.AddrInfo, error) {
	infos, err := f.parsePoints()
	if err == nil && len(infos) != 1 {
		err = usageError(errors.New("--point names more than one peer"), "")
	}
	if err != nil {
		return peer.AddrInfo{}, err
	}
	return infos[0], nil
}

// dial returns a host with the flags' identity that knows the points.
func (f *rendezvousFlags) dial(listen bool, points ...peer.AddrInfo) (host.Host, error) {
	key, err := hostKey(f.key)
	if err != nil {
		return nil, err
	}
	h, err := newRendezvousHost(key, listen)
	if err != nil {
		return nil, err
	}
	for _, p := range points {
		h.Peerstore().AddAddrs(p.ID, p.Addrs, peerstore.PermanentAddrTTL)
	}
	return h, nil
}

func newRendezvousHost(key crypto.PrivKey, listen bool) (host.Host, error) {
	cfg := muster.HostConfig{Key: key}
	if listen {
		cfg.Listen = []ma.Multiaddr{ma.StringCast("/ip4/0.0.0.0/tcp/0")}
	}
	h, err := muster.NewHost(cfg)
	if err != nil {
		return nil, fail(exitLocal, err, "")
	}
	return h, nil
}

// closing closes c and adds what goes wrong to err.
func closing(c io.Closer, err *error) { *err = errors.Join(*err, c.Close()) }

// rendezvousFailure gives an error of the rendezvous client its exit code.
func rendezvousFailure(err error) error {
	if err == nil {
		return nil
	}
	if status, ok := errors.AsType[*rendezvous.StatusError](err); ok {
		code := exitRefused
		if status.Status == wire.InternalError {
			code = exitOther
		}
		return fail(code, err, statusHint(status.Status))
	}
	if wrong, ok := errors.AsType[sec.ErrPeerIDMismatch](err); ok {
		return fail(exitIdentity, fmt.Errorf("the point is %s, not %s", wrong.Actual, wrong.Expected), "check the end of --point")
	}
	switch {
	case errors.Is(err, rendezvous.ErrInvalidNamespace), errors.Is(err, rendezvous.ErrInvalidTTL):
		return usageError(err, "")
	case errors.Is(err, rendezvous.ErrNoAddrs):
		return usageError(err, "give one with --addr")
	case errors.Is(err, rendezvous.ErrUnsupported):
		return fail(exitVersion, err, "")
	case timedOut(err):
		return fail(exitTimeout, err, "allow more time with --timeout")
	case errors.Is(err, rendezvous.ErrUnreachable):
		return fail(exitUnreachable, err, "")
	default:
		return err
	}
}

func statusHint(s wire.Status) string {
	switch s {
	case wire.InvalidTTL:
		return "ask for another lifetime with --ttl"
	case wire.InvalidSignedRecord:
		return "if the point is of before 2020, try --legacy"
	case wire.Unavailable:
		return "the point is busy or full: try again later"
	default:
		return ""
	}
}

func newRendezvousRegisterCmd(e *env) *cobra.Command {
	var f rendezvousFlags
	var ttl time.Duration
	var addrs []string
	var keep bool
	cmd := &cobra.Command{
		Use:   "register NS",
		Short: "Register under NS at a point and print the granted lifetime in seconds",
		Args:  exactArgs("NS"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.register(cmd.Context(), e, args[0], ttl, addrs, keep)
		},
	}
	f.add(cmd)
	cmd.Flags().DurationVar(&ttl, "ttl", 0, "lifetime to ask for (default 2h; 20s with --waku)")
	cmd.Flags().StringArrayVar(&addrs, "addr", nil, "`MULTIADDR` to register (default: what a listener here has)")
	cmd.Flags().BoolVar(&keep, "keep", false, "stay and refresh; unregister when interrupted")
	return cmd
}

func (f *rendezvousFlags) register(ctx context.Context, e *env, ns string, ttl time.Duration, addrs []string, keep bool) (err error) {
	point, err := f.onePoint()
	if err != nil {
		return err
	}
	cfg := f.config()
	cfg.StrictTTL = ttl != 0
	if len(addrs) > 0 {
		own, err := parseMultiaddrs("--addr", addrs)
		if err != nil {
			return err
		}
		cfg.Addrs = func() []ma.Multiaddr { return own }
	}
	h, err := f.dial(len(addrs) == 0, point)
	if err != nil {
		return err
	}
	defer closing(h, &err)
	c := rendezvous.NewClient(h, cfg)
	granted, err := c.Register(ctx, point.ID, ns, ttl)
	_ = c.Close()
	if err != nil {
		return rendezvousFailure(err)
	}
	if err := f.printGranted(e, granted); err != nil || !keep {
		return err
	}
	return keepRegistered(ctx, h, rendezvous.DiscoveryConfig{Client: cfg, Points: []peer.AddrInfo{point}}, ns, ttl)
}

func (f *rendezvousFlags) printGranted(e *env, granted time.Duration) error {
	seconds := int64(granted / time.Second)
	if f.json {
		return json.NewEncoder(e.stdout).Encode(map[string]int64{"ttl": seconds})
	}
	_, err := fmt.Fprintln(e.stdout, seconds)
	return err
}

// keepRegistered refreshes ns until ctx ends, and then takes it off.
func keepRegistered(ctx context.Context, h host.Host, cfg rendezvous.DiscoveryConfig, ns string, ttl time.Duration) (err error) {
	d := rendezvous.NewDiscovery(h, cfg)
	defer closing(d, &err)
	var opts []discovery.Option
	if ttl > 0 {
		opts = append(opts, discovery.TTL(ttl))
	}
	if _, err := d.Advertise(ctx, ns, opts...); err != nil && ctx.Err() == nil {
		return rendezvousFailure(err)
	}
	<-ctx.Done()
	const farewell = 3 * time.Second
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
	defer cancel()
	return rendezvousFailure(d.Unsubscribe(last, ns))
}

func parseMultiaddrs(flag string, texts []string) (out []ma.Multiaddr, err error) {
	for _, s := range texts {
		a, err := ma.NewMultiaddr(s)
		if err != nil {
			return nil, usageError(fmt.Errorf("%s %s: %w", flag, s, err), "")
		}
		out = append(out, a)
	}
	return out, nil
}

func newRendezvousUnregisterCmd(*env) *cobra.Command {
	var f rendezvousFlags
	cmd := &cobra.Command{
		Use:   "unregister NS",
		Short: "Take the identity of --key off NS at a point",
		Args:  exactArgs("NS"),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			point, err := f.onePoint()
			if err != nil {
				return err
			}
			if f.key == "" {
				return usageError(errors.New("--key is missing"), "give the identity that was registered")
			}
			if f.waku {
				return usageError(errors.New("the Waku protocol has no unregister"), "a registration runs out within 20 seconds")
			}
			h, err := f.dial(false, point)
			if err != nil {
				return err
			}
			defer closing(h, &err)
			c := rendezvous.NewClient(h, f.config())
			defer closing(c, &err)
			return rendezvousFailure(c.Unregister(cmd.Context(), point.ID, args[0]))
		},
	}
	f.add(cmd)
	return cmd
}

func newRendezvousDiscoverCmd(e *env) *cobra.Command {
	var f rendezvousFlags
	var limit int
	var cookie string
	cmd := &cobra.Command{
		Use:   "discover NS",
		Short: "Print the peers registered under NS: peer, addresses, seconds left, NS",
		Long: "Print the peers registered under NS at a point, one per line: peer, addresses\n" +
			"(joined by commas), seconds left, NS, with tabs between. An empty NS asks for\n" +
			"all names, which few points allow. With --json the last line is the cookie.",
		Args: exactArgs("NS"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.discover(cmd.Context(), e, args[0], limit, cookie)
		},
	}
	f.add(cmd)
	cmd.Flags().IntVar(&limit, "limit", 0, "print at most `N` (default: all)")
	cmd.Flags().StringVar(&cookie, "cookie", "", "print what is new since the `HEX` of an earlier answer")
	return cmd
}

func (f *rendezvousFlags) discover(ctx context.Context, e *env, ns string, limit int, cookieHex string) (err error) {
	point, err := f.onePoint()
	if err != nil {
		return err
	}
	cookie, err := hex.DecodeString(cookieHex)
	if err != nil {
		return usageError(fmt.Errorf("--cookie: %w", err), "")
	}
	if limit < 0 {
		return usageError(errors.New("--limit is negative"), "")
	}
	h, err := f.dial(false, point)
	if err != nil {
		return err
	}
	defer closing(h, &err)
	c := rendezvous.NewClient(h, f.config())
	defer closing(c, &err)
	n := 0
	q := rendezvous.Query{Limit: limit, Cookie: cookie}
	cookie, err = c.Pages(ctx, point.ID, ns, q, func(page rendezvous.Page) error {
		n += len(page.Records)
		for _, found := range page.Records {
			if err := f.printFound(e, found, ""); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return rendezvousFailure(err)
	}
	if f.json {
		if err := json.NewEncoder(e.stdout).Encode(map[string]string{"cookie": hex.EncodeToString(cookie)}); err != nil {
			return err
		}
	}
	if n == 0 && cookieHex == "" {
		return fail(exitNotFound, fmt.Errorf("nobody is registered under %q", ns), "")
	}
	return nil
}

// printFound prints one peer; event is empty but for watch.
func (f *rendezvousFlags) printFound(e *env, found rendezvous.Found, event string) error {
	addrs := make([]string, len(found.Addrs))
	for i, a := range found.Addrs {
		addrs[i] = a.String()
	}
	ttl := int64(found.TTL / time.Second)
	if f.json {
		return json.NewEncoder(e.stdout).Encode(struct {
			Event     string   `json:"event,omitempty"`
			Peer      string   `json:"peer"`
			Addresses []string `json:"addresses"`
			TTL       int64    `json:"ttl"`
			NS        string   `json:"ns"`
			Signed    bool     `json:"signed"`
		}{event, found.ID.String(), addrs, ttl, found.NS, found.Record != nil})
	}
	if event != "" {
		event += "\t"
	}
	_, err := fmt.Fprintf(e.stdout, "%s%s\t%s\t%d\t%s\n", event, found.ID, printable(strings.Join(addrs, ",")), ttl, printable(found.NS))
	return err
}

// printable keeps a stranger's name from being more than one field of a line.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '\ufffd'
		}
		return r
	}, s)
}

func newRendezvousWatchCmd(e *env) *cobra.Command {
	var f rendezvousFlags
	var interval time.Duration
	cmd := &cobra.Command{
		Use:   "watch NS",
		Short: "Print who is under NS and then who joins, changes and leaves, until interrupted",
		Args:  exactArgs("NS"),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			points, err := f.parsePoints()
			if err != nil {
				return err
			}
			if interval <= 0 {
				return usageError(errors.New("--interval is not positive"), "")
			}
			h, err := f.dial(false, points...)
			if err != nil {
				return err
			}
			defer closing(h, &err)
			d := rendezvous.NewDiscovery(h, rendezvous.DiscoveryConfig{Client: f.config(), Points: points, Interval: interval})
			defer closing(d, &err)
			events, err := d.Watch(cmd.Context(), args[0])
			if err != nil {
				return rendezvousFailure(err)
			}
			for ev := range events {
				if err := f.printFound(e, ev.Found, ev.Kind.String()); err != nil {
					return err
				}
			}
			return nil
		},
	}
	f.add(cmd)
	cmd.Flags().DurationVar(&interval, "interval", rendezvous.DefaultInterval, "poll every `DUR`")
	return cmd
}
