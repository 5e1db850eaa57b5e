package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-p2p/muster/admin"
)

// Environment of the verbs that ask a daemon. A flag wins over it. It is the
// daemon's own, so that both find each other in one container or unit.
const (
	envAdmin          = "MUSTER_ADMIN"
	envAdminToken     = "MUSTER_ADMIN_TOKEN"
	envAdminTokenFile = "MUSTER_ADMIN_TOKEN_FILE"
)

// adminFlags say which daemon to ask, and how.
type adminFlags struct {
	addr      string
	tokenFile string
	caFile    string
	timeout   time.Duration
	json      bool
}

func (f *adminFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.addr, "admin", "", "the daemon's admin `ADDR`: HOST:PORT, unix:PATH or https://HOST:PORT (default $"+envAdmin+", else "+admin.DefaultListen+")")
	fl.StringVar(&f.tokenFile, "admin-token-file", "", "read the admin token from the first line of `FILE` (default $"+envAdminToken+", or the file $"+envAdminTokenFile+")")
	fl.StringVar(&f.caFile, "ca-file", "", "trust the certificates in this PEM `FILE` for https")
	fl.DurationVar(&f.timeout, "timeout", 5*time.Second, "give up after `DUR`")
}

func (f *adminFlags) addJSON(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON")
}

// ask calls get with a client for the daemon, and gives its error an exit code.
func (f *adminFlags) ask(ctx context.Context, get func(context.Context, *admin.Client) error) error {
	if f.timeout <= 0 {
		return usageError(errors.New("--timeout is not positive"), "")
	}
	token, err := adminToken(f.tokenFile)
	if err != nil {
		return err
	}
	var roots *tls.Config
	if f.caFile != "" {
		if roots, err = trustFile(f.caFile); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	c := &admin.Client{Addr: f.address(), Token: token, TLS: roots}
	return adminFailure(get(ctx, c), f.address())
}

func (f *adminFlags) address() string {
	return cmp.Or(f.addr, os.Getenv(envAdmin), admin.DefaultListen)
}

func adminToken(file string) (string, error) {
	if file = cmp.Or(file, os.Getenv(envAdminTokenFile)); file != "" {
		return secretLine(file)
	}
	return os.Getenv(envAdminToken), nil
}

func adminFailure(err error, addr string) error {
	_, coded := errors.AsType[*failure](err)
	switch {
	case err == nil || coded:
		return err
	case errors.Is(err, os.ErrPermission):
		return fail(exitRefused, err, "ask as the user that the daemon runs as")
	case errors.Is(err, admin.ErrNoDaemon):
		if op, ok := errors.AsType[*net.OpError](err); ok {
			err = op.Err
		}
		return fail(exitUnreachable, fmt.Errorf("no muster daemon at %s: %w", addr, err),
			"start one with 'muster serve', or say where it is with --admin or "+envAdmin)
	case errors.Is(err, admin.ErrRefused):
		return fail(exitRefused, err, "give the token with --admin-token-file or "+envAdminTokenFile)
	case timedOut(err):
		return fail(exitTimeout, err, "allow more time with --timeout")
	default:
		return err
	}
}

func newStatusCmd(e *env) *cobra.Command {
	var f adminFlags
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Print what the daemon on this machine does",
		Long: "Status asks the admin listener of a running daemon, such as 'muster serve', and prints who it is, whether it is\n" +
			"ready, and what each of its parts does. Numbers with \"so far\" count from its start. --json prints the object that\n" +
			"/api/status has.",
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.ask(cmd.Context(), func(ctx context.Context, c *admin.Client) error {
				s, err := c.Status(ctx)
				if err != nil {
					return err
				}
				if f.json {
					return json.NewEncoder(e.stdout).Encode(s)
				}
				ready, err := c.Ready(ctx)
				if err != nil {
					return err
				}
				return printStatus(e.stdout, s, ready)
			})
		},
	}
	f.add(cmd)
	f.addJSON(cmd)
	return cmd
}

// printStatus prints a line per fact: its name, and what it is.
func printStatus(w io.Writer, s admin.Snapshot, ready admin.Readiness) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) {
		fmt.Fprintf(t, "%s\t%s\n", name, printable(fmt.Sprintf(format, args...)))
	}
	n := s.Node
	line("peer", "%s", cmp.Or(n.Peer, "-"))
	line("version", "%s, up %s", cmp.Or(n.Version, "-"), time.Duration(n.Uptime)*time.Second)
	line("ready", "%s", readyText(ready))
	each := func(name string, list ...string) {
		for _, v := range list {
			if v != "" {
				line(name, "%s", v)
			}
		}
	}
	each("address", n.Addrs...)
	each("rdv", n.URL)
	each("enr", n.ENR)
	each("open", n.Open...)
	each("closed", n.Closed...)
	printWings(line, s)
	for _, p := range s.Points {
		line("point", "%s %s %s %s", p.Peer, p.Role, p.State, p.Addr)
	}
	for _, l := range s.Links {
		line("link", "%s %s %s, %s sent, %s received, since %s", l.Peer, cmp.Or(l.Service, "pipe"), l.Path,
			byteText(l.Sent), byteText(l.Received), l.Since.Local().Format(time.DateTime))
	}
	for _, l := range s.Limits {
		line("limit hit", "%s %s: %d so far", l.Part, l.Limit, l.Count)
	}
	line("process", "%d connections, %s of memory, %d goroutines", n.Conns, byteText(n.Memory), n.Goroutines)
	return t.Flush()
}

func printWings(line func(name, format string, args ...any), s admin.Snapshot) {
	if r := s.Rendezvous; r != nil {
		line("rendezvous", "%d registrations in %d namespaces; %s; %d refused so far",
			r.Registrations+r.WakuRegistrations, r.Namespaces, requestsText(r.Requests), r.Refused)
	}
	if r := s.Relay; r != nil {
		line("relay", "%d waiting, %d pairs, %d relayed now; %d pairs direct, %d relayed, %s relayed so far",
			r.Waiting, r.Pairs, r.Relays, r.PairsDirect, r.PairsRelayed, byteText(r.RelayedBytes))
	}
	if d := s.Discv5; d != nil {
		line("discv5", "%d nodes, %d of them answer, %d sessions", d.Nodes, d.Alive, d.Sessions)
	}
	if p := s.Pubsub; p != nil {
		line("pubsub", "%d peers, %d topics; %d messages delivered so far", p.Peers, len(p.Topics), p.Delivered)
	}
}

func readyText(r admin.Readiness) string {
	switch {
	case r.Ready:
		return "yes"
	case len(r.Failing) == 0:
		return "no"
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(r.Failing)) {
		parts = append(parts, name+": "+r.Failing[name])
	}
	return "no: " + strings.Join(parts, "; ")
}

func requestsText(m map[string]uint64) string {
	if len(m) == 0 {
		return "no requests"
	}
	var parts []string
	for _, kind := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, fmt.Sprintf("%d %s", m[kind], kind))
	}
	return strings.Join(parts, ", ")
}

// byteText is n in the unit that people read it in, of powers of 1000.
func byteText(n uint64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	v, i := float64(n)/1000, 0
	for ; v >= 1000; i++ {
		v /= 1000
	}
	return fmt.Sprintf("%.1f %cB", v, "kMGTPE"[i])
}
