package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// defaultProbe bounds the looking as a whole.
const defaultProbe = 15 * time.Second

// A netReport is what a network allows, as 'muster netcheck --json' prints it.
type netReport struct {
	Local   []netip.Addr   `json:"local"`   // of this machine, without loopback and link-local
	Seen    []string       `json:"seen"`    // addresses that others saw, without ports
	NAT     natKind        `json:"nat"`     // of IPv4
	IPv4    bool           `json:"ipv4"`    // somebody was reached by it
	IPv6    bool           `json:"ipv6"`    // somebody was reached by it
	Relay   bool           `json:"relay"`   // bytes went through one
	Points  []pointReport  `json:"points"`  // of --point
	Servers []serverReport `json:"servers"` // of --server, and those that points named
}

// A pointReport is how a point was reached.
type pointReport struct {
	Peer      string   `json:"peer"`
	Addr      string   `json:"addr,omitempty"`     // by which
	Observed  string   `json:"observed,omitempty"` // this machine, as the point saw it
	Millis    float64  `json:"rtt_ms,omitempty"`
	Protocols []string `json:"protocols,omitempty"` // ours that it speaks
	Reach     string   `json:"reach"`               // ok, or why it brings nobody together for us
	Error     string   `json:"error,omitempty"`     // why it was not reached
}

// A serverReport is how an rdv server was reached.
type serverReport struct {
	URL      string  `json:"url"`
	Observed string  `json:"observed,omitempty"`
	Millis   float64 `json:"rtt_ms,omitempty"`
	Skew     float64 `json:"clock_skew_s"` // its clock before ours, to the second
	Relay    string  `json:"relay"`        // ok, or why not
	RelayRTT float64 `json:"relay_rtt_ms,omitempty"`
	Error    string  `json:"error,omitempty"`
}

// A natKind is how a NAT maps a port of ours (RFC 4787, section 4.1).
type natKind string

// The kinds.
const (
	natNone        natKind = "none"                 // the address seen is this machine's
	natIndependent natKind = "endpoint-independent" // the same for all: direct paths work
	natDependent   natKind = "endpoint-dependent"   // another for each: mostly the relay
	natUnknown     natKind = "unknown"              // seen from one place only
)

// An observation is where a connection from a port of ours came from.
type observation struct {
	local  uint16         // port
	target netip.AddrPort // to whom
	seen   netip.AddrPort // as they say
}

// classify tells the kind of NAT by what was seen of IPv4.
func classify(local []netip.Addr, obs []observation) natKind {
	kind := natUnknown
	for i, o := range obs {
		if !o.seen.Addr().Is4() {
			continue
		}
		if o.seen.Addr().IsLoopback() || slices.Contains(local, o.seen.Addr()) {
			return natNone
		}
		for _, p := range obs[:i] {
			if p.local != o.local || p.target == o.target || !p.seen.Addr().Is4() {
				continue
			}
			if p.seen != o.seen {
				return natDependent
			}
			kind = natIndependent
		}
	}
	return kind
}

// localAddrs are the addresses of this machine that may be of use to others.
func localAddrs() (out []netip.Addr) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, a := range addrs {
		prefix, err := netip.ParsePrefix(a.String())
		if ip := prefix.Addr().Unmap(); err == nil && ip.IsGlobalUnicast() {
			out = append(out, ip)
		}
	}
	return out
}

// netFlags are those of netcheck and doctor.
type netFlags struct {
	pointFlags
	timeout time.Duration
}

func (f *netFlags) addNet(cmd *cobra.Command) {
	f.addPoint(cmd)
	fl := cmd.Flags()
	fl.StringArrayVar(&f.servers, "server", nil, "`URL` of an rdv server to look from; may be repeated (default $"+envServer+")")
	fl.StringVar(&f.caFile, "ca-file", "", "trust the certificates in this PEM `FILE` for https URLs")
	fl.DurationVar(&f.timeout, "timeout", defaultProbe, "look for `DUR` at most")
}

// look probes what the flags name.
func (f *netFlags) look(ctx context.Context) (*netReport, pointOptions, error) {
	o, err := f.options()
	if err == nil {
		err = o.needMeeting()
	}
	if err == nil && f.timeout <= 0 {
		err = usageError(errors.New("--timeout is not positive"), "")
	}
	if err != nil {
		return nil, o, err
	}
	probing, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	r, err := probe(probing, o)
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return r, o, err
}

func newNetcheckCmd(e *env) *cobra.Command {
	var f netFlags
	cmd := &cobra.Command{
		Use:   "netcheck",
		Short: "Tell what this network allows: addresses seen, kind of NAT, IPv6, relay",
		Long: `Tell what this network allows, as seen by points and rdv servers. The kind of NAT
takes two of them, or a point that lets this machine use its relay.
Exit 7 if none of them could be reached.`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, _, err := f.look(cmd.Context())
			if err != nil {
				return err
			}
			if f.json {
				err = json.NewEncoder(e.stdout).Encode(r)
			} else {
				err = r.print(e)
			}
			if err == nil && !r.IPv4 && !r.IPv6 {
				err = fail(exitUnreachable, errors.New("none of the points and servers could be reached"), "'muster doctor' says more")
			}
			return err
		},
	}
	f.addNet(cmd)
	return cmd
}

// print writes a fact to a line.
func (r *netReport) print(e *env) error {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-8s "+format+"\n", append([]any{name}, args...)...)
	}
	line("local", "%s", joined(r.Local))
	line("seen", "%s", orNone(strings.Join(r.Seen, " ")))
	line("nat", "%s", r.NAT)
	line("ipv4", "%s", yesNo(r.IPv4))
	line("ipv6", "%s", yesNo(r.IPv6))
	line("relay", "%s", yesNo(r.Relay))
	for _, p := range r.Points {
		if p.Error != "" {
			line("point", "%s: %s", p.Peer, printable(p.Error))
			continue
		}
		line("point", "%s at %s, %.0f ms, reach %s", p.Peer, p.Addr, p.Millis, printable(p.Reach))
	}
	for _, s := range r.Servers {
		if s.Error != "" {
			line("server", "%s: %s", s.URL, printable(s.Error))
			continue
		}
		line("server", "%s, %.0f ms, relay %s", s.URL, s.Millis, printable(s.Relay))
	}
	_, err := fmt.Fprint(e.stdout, b.String())
	return err
}

func joined(addrs []netip.Addr) string {
	var out []string
	for _, a := range addrs {
		out = append(out, a.String())
	}
	return orNone(strings.Join(out, " "))
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
