package admin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// DefaultListen is where a daemon's admin listener is unless it is told
// otherwise, and where the verbs that ask a daemon look for it. The port is
// the end of "muster" on a telephone's keys.
const DefaultListen = "127.0.0.1:7837"

// MinToken is the fewest characters of a token: 22 of base64 hold 128 bits.
const MinToken = 22

// Config configures a [Server]. The zero Config works: it serves the status
// page of a daemon that tells nothing, at [DefaultListen].
type Config struct {
	// Listen is HOST:PORT, where HOST is a loopback address or "localhost", or
	// unix:PATH. Another HOST needs Token and TLS. If empty, DefaultListen.
	Listen string

	// Token, if not empty, is wanted of every request but GET /livez and the
	// bare answer of /readyz: as a bearer token, or as the password of basic
	// authentication, which browsers ask for. At least MinToken characters.
	Token string

	// TLS, if not nil, is how connections are secured. It is not changed.
	TLS *tls.Config

	// Hosts are names besides those of Listen that requests may have in their
	// Host header: the name behind which a proxy or a tunnel serves this. If
	// empty, a listener on another address than loopback takes any name.
	Hosts []string

	// Version is shown to the operator. It may be empty.
	Version string

	// Gatherer has what /metrics serves. If nil, there is nothing.
	Gatherer prometheus.Gatherer

	// Checks are the parts that /readyz asks, by the name it reports. Each is
	// called with a context that ends after CheckTimeout or with Close, one call
	// of each at a time, from a goroutine of its own; nil means ready.
	Checks map[string]func(context.Context) error

	// Snapshot returns the daemon's state. It is called each second by one
	// goroutine, so that the page has a past to show, and by /api/status; it may
	// be called at once, and returns promptly. What it returned must not change any more. If nil, the
	// page shows the process only.
	Snapshot func() Snapshot

	// Peers returns up to limit connected peers, for /api/peers. If nil, none.
	Peers func(limit int) []Peer

	// LogLevel is what /api/loglevel shows and sets. If nil, it answers 404.
	LogLevel *slog.LevelVar

	// Logger gets what the operator should know. If nil, nothing is logged.
	Logger *slog.Logger

	// Registerer gets the server's own metrics, muster_admin_*. If nil, none.
	Registerer prometheus.Registerer
}

// An endpoint is where to listen or to dial.
type endpoint struct {
	network string // tcp or unix
	addr    string
}

// unixPrefix begins the addresses of unix sockets.
const unixPrefix = "unix:"

func parseEndpoint(s string) (endpoint, error) {
	if s == "" {
		s = DefaultListen
	}
	if path, ok := strings.CutPrefix(s, unixPrefix); ok {
		switch {
		case path == "":
			return endpoint{}, errors.New("admin: unix: needs a path")
		case path[0] == '@':
			return endpoint{}, errors.New("admin: abstract unix sockets have no mode that keeps others out")
		}
		return endpoint{"unix", path}, nil
	}
	if _, _, err := net.SplitHostPort(s); err != nil {
		return endpoint{}, fmt.Errorf("admin: listen on HOST:PORT or unix:PATH: %w", err)
	}
	return endpoint{"tcp", s}, nil
}

// host is the endpoint's host without its port, in lower case.
func (e endpoint) host() string {
	if e.network == "unix" {
		return ""
	}
	h, _, _ := net.SplitHostPort(e.addr) // parseEndpoint looked
	return strings.ToLower(h)
}

// private reports whether only this machine can reach e.
func (e endpoint) private() bool {
	return e.network == "unix" || loopback(e.host())
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

func (c *Config) validate() (endpoint, error) {
	e, err := parseEndpoint(c.Listen)
	if err != nil {
		return endpoint{}, err
	}
	if c.Token != "" && len(c.Token) < MinToken {
		return endpoint{}, fmt.Errorf("admin: a token has at least %d characters", MinToken)
	}
	if !e.private() && (c.Token == "" || c.TLS == nil) {
		return endpoint{}, fmt.Errorf("admin: %s can be reached from other machines: that takes a token and TLS; "+
			"or listen on 127.0.0.1 or unix:PATH", e.addr)
	}
	return e, nil
}
