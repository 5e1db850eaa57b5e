package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-p2p/muster/discv5"
)

func newDiscv5Cmd(e *env) *cobra.Command {
	return group("discv5", "Speak Node Discovery v5.1",
		newDiscv5ListenCmd(e), newDiscv5PingCmd(e), newDiscv5FindNodeCmd(e), newDiscv5TalkCmd(e),
		newDiscv5LookupCmd(e), newDiscv5ResolveCmd(e), newDiscv5CrawlCmd(e))
}

// rangeArgs is cobra.RangeArgs with muster's exit code; a negative most means
// no limit.
func rangeArgs(least, most int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) >= least && (most < 0 || len(args) <= most) {
			return nil
		}
		return usageError(fmt.Errorf("%s takes %s, got %d arguments", cmd.CommandPath(), what, len(args)),
			"see '"+cmd.CommandPath()+" --help'")
	}
}

// discv5Flags are the flags of all discv5 verbs.
type discv5Flags struct {
	addrs     []string
	keyFile   string
	dir       string
	advertise []string
	bootnodes []string
	timeout   time.Duration
	verbose   bool
	asJSON    bool
}

// add adds the flags that a verb has use for. addr is what to bind if the
// user does not say.
func (f *discv5Flags) add(cmd *cobra.Command, addr string) {
	fs := cmd.Flags()
	fs.StringSliceVar(&f.addrs, "addr", []string{addr}, "UDP address to bind, `HOST:PORT`; at most one of each family")
	fs.StringVar(&f.keyFile, "key", "", "identity `FILE`, made if it is not there; none: an identity for this run")
	fs.StringSliceVar(&f.bootnodes, "bootnode", nil, "`ENR` of a node to begin with; may be repeated")
	fs.BoolVar(&f.asJSON, "json", false, "print one JSON object per line")
	fs.BoolVarP(&f.verbose, "verbose", "v", false, "log to stderr what happens")
}

func (f *discv5Flags) addTimeout(cmd *cobra.Command, d time.Duration) {
	cmd.Flags().DurationVar(&f.timeout, "timeout", d, "give up after this time")
}

// start starts a node. What is wrong with the flags is exit 2, an address
// that cannot be bound exit 9.
func (f *discv5Flags) start(e *env) (*discv5.Node, error) {
	cfg := discv5.Config{DataDir: f.dir}
	var err error
	if cfg.Listen, err = parseAddrPorts("--addr", f.addrs); err != nil {
		return nil, err
	}
	if cfg.Advertise, err = parseAddrPorts("--advertise", f.advertise); err != nil {
		return nil, err
	}
	for _, text := range f.bootnodes {
		r, err := parseRecord(text)
		if err != nil {
			return nil, err
		}
		cfg.Bootnodes = append(cfg.Bootnodes, r)
	}
	if f.verbose {
		cfg.Logger = slog.New(slog.NewTextHandler(e.stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	if f.dir != "" {
		if err := os.MkdirAll(f.dir, 0o700); err != nil {
			return nil, fail(exitLocal, err, "")
		}
	}
	if cfg.Key, err = nodeKey(f.keyFile); err != nil {
		return nil, err
	}
	n, err := discv5.Listen(cfg)
	if _, ok := errors.AsType[*net.OpError](err); ok {
		return nil, fail(exitLocal, err, "is the port in use, or the address not of this machine?")
	}
	if err != nil {
		return nil, fail(exitLocal, err, "")
	}
	return n, nil
}

// parseAddrPorts reads addresses; a host left out means all addresses, a port
// left out the one of the socket.
func parseAddrPorts(flag string, in []string) ([]netip.AddrPort, error) {
	var out []netip.AddrPort
	for _, s := range in {
		if strings.HasPrefix(s, ":") {
			s = "0.0.0.0" + s
		}
		ap, err := parseAddrPort(s)
		if err != nil {
			return nil, usageError(fmt.Errorf("%s %s is not an address and a port", flag, s), "write it like 203.0.113.7:9000 or [2001:db8::7]:9000")
		}
		out = append(out, netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()))
	}
	return out, nil
}

// parseAddrPort reads an address with or without a port, or a host's name
// with one.
func parseAddrPort(s string) (netip.AddrPort, error) {
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap, nil
	}
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.AddrPortFrom(a, 0), nil
	}
	a, err := net.ResolveUDPAddr("udp", s)
	if err != nil {
		return netip.AddrPort{}, err
	}
	return a.AddrPort(), nil
}

func newDiscv5ListenCmd(e *env) *cobra.Command {
	var f discv5Flags
	cmd := &cobra.Command{
		Use:   "listen",
		Short: "Run a node until interrupted; its record is the first line on stdout",
		Long: `Run a node until interrupted. The first line on stdout is its record, with
--json an object, after which events follow, an object each.`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			n, err := f.start(e)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, n.Close()) }()
			return f.report(cmd.Context(), e, n)
		},
	}
	f.add(cmd, "0.0.0.0:"+strconv.Itoa(discv5.DefaultPort))
	cmd.Flags().StringVar(&f.dir, "db", "", "`DIR` that keeps the nodes found and the record's number across restarts")
	cmd.Flags().StringSliceVar(&f.advertise, "advertise", nil, "address for the record, `HOST[:PORT]`; none: the bound address, or what other nodes see")
	return cmd
}

// report prints the node's record and, as JSON, what happens to the node.
func (f *discv5Flags) report(ctx context.Context, e *env, n *discv5.Node) error {
	events, cancel := n.Subscribe(1024)
	defer cancel()
	r := n.LocalRecord()
	if err := printRecord(e, r, f.asJSON); err != nil {
		return err
	}
	_, have4 := r.UDPEndpoint4()
	if _, have6 := r.UDPEndpoint6(); !have4 && !have6 {
		fmt.Fprintln(e.stderr, "muster: the record names no address yet: say --advertise HOST, or wait until other nodes agree on one")
	}
	enc := json.NewEncoder(e.stdout)
	for {
		select {
		case ev := <-events:
			if !f.asJSON {
				continue
			}
			if err := enc.Encode(eventView(ev)); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

func eventView(ev discv5.Event) map[string]any {
	v := map[string]any{"event": ev.Kind.String(), "id": ev.ID}
	if ev.Addr.IsValid() {
		v["addr"] = ev.Addr
	}
	if ev.Record != nil {
		v["enr"], v["seq"] = ev.Record, ev.Record.Seq()
	}
	return v
}
