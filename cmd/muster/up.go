package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/spf13/cobra"

	"github.com/muster-p2p/muster"
	"github.com/muster-p2p/muster/link"
	"github.com/muster-p2p/muster/reach"
)

const upLong = `Keep this machine registered under a name and reachable through a point, until
interrupted, and give callers its services: each is a TCP address that this machine
can connect to, mostly of its own.

  muster up --ns lab --name nas --expose ssh=127.0.0.1:22

Another machine then does 'muster forward lab/nas:ssh 127.0.0.1:2222'. It needs no open
port here, and no account at the point beyond what the point asks for.

--allow says who may call: a list of peer IDs for all services, or SERVICE=PEERID,… for
one. Without it everybody may who finds the name.

The identity is kept in muster/key in the user's configuration directory, unless --key
says otherwise: callers know this machine by it.`

// upFlags are the flags of 'muster up'.
type upFlags struct {
	pointFlags
	nameFlags
	expose []string
	allow  []string
}

func newUpCmd(e *env) *cobra.Command {
	var f upFlags
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Keep this machine registered and reachable; expose services",
		Long:  upLong,
		Args:  exactArgs(),
		RunE:  func(cmd *cobra.Command, _ []string) error { return f.run(cmd.Context(), e) },
	}
	f.pointFlags.add(cmd)
	f.nameFlags.add(cmd)
	cmd.Flags().StringArrayVar(&f.expose, "expose", nil, "give callers a service, `NAME=HOST:PORT`; may be repeated")
	cmd.Flags().StringArrayVar(&f.allow, "allow", nil, "let in these peers only, `[SERVICE=]PEERID,…`; may be repeated")
	return cmd
}

// A service is what 'up' exposes.
type service struct {
	name  string
	addr  string
	allow []peer.ID
}

// services reads --expose and --allow, and says who may ping.
func (f *upFlags) services() (list []service, ping []peer.ID, err error) {
	allow := map[string][]peer.ID{}
	for _, s := range f.allow {
		name, ids, ok := strings.Cut(s, "=")
		if !ok {
			name, ids = "", s
		}
		some, err := parsePeerIDs("--allow", strings.Split(ids, ","))
		if err != nil {
			return nil, nil, err
		}
		allow[name] = append(allow[name], some...)
	}
	seen := map[string]bool{}
	for _, s := range f.expose {
		name, addr, _ := strings.Cut(s, "=")
		if !validService(name) {
			return nil, nil, usageError(fmt.Errorf("--expose %s: %q is not the name of a service", s, name), serviceHint)
		}
		if _, port, err := net.SplitHostPort(addr); err != nil || port == "" {
			return nil, nil, usageError(fmt.Errorf("--expose %s: %q is not HOST:PORT", s, addr), "such as --expose ssh=127.0.0.1:22")
		}
		if seen[name] {
			return nil, nil, usageError(fmt.Errorf("--expose %s: %s is exposed twice", s, name), "")
		}
		seen[name] = true
		// A list of its own takes the place of the general one.
		ids, own := allow[name]
		if !own {
			ids = allow[""]
		}
		list = append(list, service{name, addr, ids})
	}
	for name := range allow {
		if name != "" && !seen[name] {
			return nil, nil, usageError(fmt.Errorf("--allow names the service %s, which is not exposed", name), "")
		}
	}
	return list, pingers(list, allow[""]), nil
}

// pingers are who may ping: an echo tells an address, so it is for those who may
// use something here.
func pingers(list []service, general []peer.ID) []peer.ID {
	if len(general) > 0 || len(list) == 0 {
		return general
	}
	var all []peer.ID
	for _, s := range list {
		if len(s.allow) == 0 {
			return nil // everybody may
		}
		all = append(all, s.allow...)
	}
	return all
}

func (f *upFlags) run(ctx context.Context, e *env) (err error) {
	services, allow, err := f.services()
	if err != nil {
		return err
	}
	names, err := f.names()
	if err != nil {
		return err
	}
	if f.key == "" && os.Getenv(envKeyFile) == "" {
		if f.key, err = ownKeyFile(); err != nil {
			return err
		}
	}
	o, err := f.options()
	if err == nil {
		err = o.needPoint()
	}
	if err != nil {
		return err
	}
	ev := newEvents(e.stderr, f.json)
	c, err := openCaller(o, true, func(event reach.Event) { sayReach(ev, event) })
	if err != nil {
		return err
	}
	defer closing(c, &err)
	ev.say("this is "+c.id.String(), map[string]any{"event": "up", "peer": c.id.String()})
	return f.serve(ctx, c, ev, names, services, allow)
}

// serve is what 'up' does until ctx ends, which is how it is meant to end.
func (f *upFlags) serve(ctx context.Context, c *caller, ev events, names []string, services []service, allow []peer.ID) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for _, s := range services {
		l, err := c.Listen(s.name, s.allow)
		if err != nil {
			return err
		}
		wg.Go(func() { serveLinks(ctx, l, func(conn *link.Conn) { expose(ctx, ev, s, conn) }) })
	}
	if err := c.servePing(ctx, allow); err != nil {
		return err
	}
	if err := c.Start(ctx); err != nil {
		return linkFailure(err)
	}
	stop, err := c.register(ctx, ev, names)
	if err != nil {
		return err
	}
	defer stop()
	<-ctx.Done()
	return nil
}

// maxServed bounds the links of a service that are served at a time.
const maxServed = 256

// serveLinks has each caller served until the listener or ctx ends.
func serveLinks(ctx context.Context, l *muster.Listener, serve func(*link.Conn)) {
	var wg sync.WaitGroup
	defer wg.Wait()
	places := make(chan struct{}, maxServed)
	for {
		conn, err := l.Accept(ctx)
		if err != nil {
			_ = l.Close()
			return
		}
		select {
		case places <- struct{}{}:
		default:
			conn.Abort("busy")
			continue
		}
		wg.Go(func() {
			defer func() { <-places }()
			serve(conn)
		})
	}
}

// expose joins a caller with the service's address.
func expose(ctx context.Context, ev events, s service, conn *link.Conn) {
	const dialWait = 10 * time.Second
	prefix := s.name + ": "
	report := reportLink(ev, time.Time{}, conn, prefix)
	dialer := net.Dialer{Timeout: dialWait}
	local, err := dialer.DialContext(ctx, "tcp", s.addr)
	if err != nil {
		conn.Abort("the service is down")
		report.closed(prefix, 0, 0, err)
		return
	}
	sent, received, err := splice(ctx, conn, local.(*net.TCPConn))
	report.closed(prefix, sent, received, err)
}

// sayReach tells how a point's stream fares.
func sayReach(ev events, e reach.Event) {
	if e.Parked {
		ev.say(fmt.Sprintf("reachable through the point %s", e.Point), map[string]any{"event": "reachable", "point": e.Point.String()})
		return
	}
	why := statusLine(e.Err)
	ev.say(fmt.Sprintf("not reachable through the point %s: %s; next attempt in %s", shortID(e.Point), why, e.Retry.Round(time.Second)),
		map[string]any{"event": "unreachable", "point": e.Point.String(), "error": why, "retry_ms": millis(e.Retry)})
}

// statusLine says in a few words what linkFailure would.
func statusLine(err error) string {
	switch {
	case errors.Is(err, reach.ErrReplaced), errors.Is(err, reach.ErrDrained):
		return strings.TrimPrefix(err.Error(), "reach: ")
	case errors.Is(err, reach.ErrUnreachable):
		return "it cannot be reached"
	}
	if known, ok := errors.AsType[*failure](linkFailure(err)); ok {
		return known.Error()
	}
	return "the connection broke"
}

// ownKeyFile returns where a verb that comes back under the same name keeps its
// identity if no --key says so, and makes the directory.
func ownKeyFile() (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fail(exitLocal, err, "name a file for the identity with --key")
	}
	dir = filepath.Join(dir, "muster")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fail(exitLocal, err, "name a file for the identity with --key")
	}
	return filepath.Join(dir, "key"), nil
}
