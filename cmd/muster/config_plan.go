package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/muster-p2p/muster/access"
	"github.com/muster-p2p/muster/enr"
	"github.com/muster-p2p/muster/rendezvous"
	"github.com/muster-p2p/muster/rendezvous/pebblestore"
)

// A servePlan is a configuration whose texts have been read and whose parts
// fit each other.
type servePlan struct {
	*configuration

	listen, announce             []ma.Multiaddr
	proxies                      []netip.Prefix
	discv5Listen, discv5Announce []netip.AddrPort
	bootnodes                    []*enr.Record
	policy                       access.Policy
	hook                         *access.Hook // nil if there is none
	durability                   pebblestore.Durability
	level                        slog.Level
}

// plan reads what is text so far. Its error lists all that is wrong, each with
// key and place.
func (c *configuration) plan() (*servePlan, error) {
	p := &servePlan{configuration: c}
	var errs []error
	check := func(key string, err error) {
		if err != nil {
			errs = append(errs, &keyError{key, c.origins[key].origin, err})
		}
	}
	check("node.data_dir", c.setDirs())
	p.planAddrs(check)
	check("tls.mode", c.checkTLS())
	c.planACME(check)
	p.planNames(check)
	p.planPolicy(check)
	p.planStore(check)
	check("log.level", p.level.UnmarshalText([]byte(c.logLevel)))
	if err := errors.Join(errs...); err != nil {
		return nil, usageError(err, "see 'muster config show' for where each value comes from")
	}
	return p, nil
}

// setDirs fills in the places that depend on the user.
func (c *configuration) setDirs() error {
	if c.dataDir == "" {
		dir, err := stateDir()
		if err != nil {
			return err
		}
		c.dataDir = dir
	}
	if c.keyFile == "" {
		c.keyFile = filepath.Join(c.dataDir, "node.key")
	}
	return nil
}

// stateDir is where a daemon of this user keeps its state: what systemd says,
// or else the XDG Base Directory Specification.
func stateDir() (string, error) {
	if dir, _, _ := strings.Cut(os.Getenv("STATE_DIRECTORY"), ":"); dir != "" {
		return dir, nil
	}
	return userStateDir()
}

// userStateDir is stateDir of who is not run by a service manager.
func userStateDir() (string, error) {
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "muster"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil && os.Geteuid() == 0 {
		return "/var/lib/muster", nil // where a service manager would have it
	}
	if err != nil {
		return "", fmt.Errorf("no home directory: %w", err)
	}
	return filepath.Join(home, ".local", "state", "muster"), nil
}

func (p *servePlan) planAddrs(check func(string, error)) {
	var err error
	p.listen, err = readMultiaddrs(p.configuration.listen)
	check("listen.libp2p", err)
	if err == nil && len(p.listen) == 0 {
		check("listen.libp2p", errors.New("there has to be one"))
	}
	p.announce, err = readMultiaddrs(p.configuration.announce)
	check("listen.announce", err)
	if p.http != "" {
		_, _, err = net.SplitHostPort(p.http)
		check("listen.http", err)
	}
	for _, u := range p.urls {
		check("listen.urls", checkURL(u))
	}
	if p.handOver != "" {
		check("relay.hand_over", checkURL(p.handOver))
	}
	for _, s := range p.trustedProxies {
		prefix, err := parsePrefix(s)
		check("tls.trusted_proxies", err)
		p.proxies = append(p.proxies, prefix)
	}
	p.discv5Listen, err = parseAddrPorts("", p.configuration.discv5Listen)
	check("discv5.listen", err)
	if len(p.discv5Listen) > 2 {
		check("discv5.listen", errors.New("more than one of each family"))
	}
	p.discv5Announce, err = parseAddrPorts("", p.configuration.discv5Announce)
	check("discv5.announce", err)
	for _, text := range p.configuration.bootnodes {
		r, err := enr.ParseText(text)
		check("discv5.bootnodes", err)
		p.bootnodes = append(p.bootnodes, r)
	}
}

func readMultiaddrs(texts []string) (out []ma.Multiaddr, err error) {
	for _, s := range texts {
		a, err := ma.NewMultiaddr(s)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s, err)
		}
		out = append(out, a)
	}
	return out, nil
}

func checkURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return fmt.Errorf("%q is not an http or https URL", s)
	}
	return nil
}

// checkTLS says whether the settings of a mode are there.
func (c *serveConfig) checkTLS() error {
	switch {
	case c.tlsMode == "files" && (c.tlsCert == "" || c.tlsKey == ""):
		return errors.New("files needs tls.cert_file and tls.key_file")
	case c.tlsMode == "acme" && len(c.tlsHosts) == 0:
		return errors.New("acme needs tls.hosts, the names to get certificates for")
	case c.tlsMode == "acme" && (c.acmeAccount == "") != (c.acmeKey == ""):
		return errors.New("tls.acme_account and tls.acme_key go together")
	case c.tlsMode != "off" && c.http == "":
		return errors.New("there is nothing to secure: listen.http is empty")
	case c.tlsMode != "off" && len(c.trustedProxies) > 0:
		return errors.New("behind a proxy that ends TLS it is off; tls.trusted_proxies is set")
	default:
		return nil
	}
}

// planACME checks what only an authority is told.
func (c *serveConfig) planACME(check func(string, error)) {
	if c.tlsMode != "acme" {
		return
	}
	for _, h := range c.tlsHosts {
		check("tls.hosts", checkHost(h))
	}
	if c.tlsACME != "" {
		if u, err := url.Parse(c.tlsACME); err != nil || u.Scheme != "https" || u.Host == "" {
			check("tls.acme_url", fmt.Errorf("%q is not an https URL", c.tlsACME))
		}
	}
	if c.acmeHTTP != "" {
		_, _, err := net.SplitHostPort(c.acmeHTTP)
		check("tls.acme_http", err)
	}
}

// checkHost says whether an authority can give a certificate for a name by
// asking this machine.
func checkHost(h string) error {
	_, err := netip.ParseAddr(h)
	switch {
	case err == nil:
		return fmt.Errorf("%q is an address, and certificates are for names", h)
	case strings.HasPrefix(h, "*."):
		return fmt.Errorf("%q: a certificate for all names below one takes DNS records; use certificate files", h)
	case strings.Trim(strings.ToLower(h), "abcdefghijklmnopqrstuvwxyz0123456789-.") != "":
		return fmt.Errorf("%q is not a host name; names of other letters are written as xn--…", h)
	case !strings.Contains(h, "."), strings.Contains(h, ".."), strings.Trim(h, ".") != h:
		return fmt.Errorf("%q is not a whole host name, such as point.example.org", h)
	default:
		return nil
	}
}

func (p *servePlan) planNames(check func(string, error)) {
	if p.minTTL < time.Second || p.minTTL%time.Second != 0 || p.minTTL > rendezvous.MaxTTL {
		check("rendezvous.min_ttl", fmt.Errorf("%v is not between 1s and 72h in whole seconds", p.minTTL))
	}
	if p.maxTTL < p.minTTL || p.maxTTL%time.Second != 0 || p.maxTTL > rendezvous.MaxTTL {
		check("rendezvous.max_ttl", fmt.Errorf("%v is not between min_ttl and 72h in whole seconds", p.maxTTL))
	}
	for key, n := range map[string]int{
		"rendezvous.max_per_peer": p.maxPerPeer, "rendezvous.max_total": p.maxTotal, "limits.connections": p.maxConns,
		"relay.max_waiting": p.maxWaiting, "relay.max_waiting_per_source": p.maxWaitingPerSource,
	} {
		if n == 0 {
			check(key, errors.New("0 is nobody; leave it out for the default"))
		}
	}
	const leastMessage = 1 << 10
	if p.maxMessage < leastMessage || p.maxMessage > 1<<30 {
		check("pubsub.max_message", errors.New("not between 1K and 1G"))
	}
	const leastMemory = 32 << 20
	if p.memory != 0 && p.memory < leastMemory {
		check("limits.memory", errors.New("less than 32M is not enough to start"))
	}
}

func (p *servePlan) planPolicy(check func(string, error)) {
	mode, err := access.ParseMode(p.relayAccess)
	check("relay.access", err)
	switch {
	case mode == access.OpenToEach && !p.openRelay:
		check("relay.access", errors.New("open lets strangers send anything through this machine: "+
			"if that is meant, say relay.i_know_this_is_an_open_relay as well"))
	case mode == access.ByName && len(p.relayNames) == 0:
		check("relay.access", errors.New("namespace needs relay.namespaces"))
	case mode == access.ByName && !p.rendezvous:
		check("relay.access", errors.New("namespace needs rendezvous"))
	}
	for _, n := range p.relayNames {
		if strings.Contains(n, "*") {
			check("relay.namespaces", fmt.Errorf("%q: whole names only", n))
		}
	}
	p.policy = access.Policy{
		Relay: mode, RelayNames: p.relayNames, RegisterNames: p.names, RegisterByToken: p.registerToken, SessionBytes: p.sessionBytes,
	}
	for _, s := range p.banned {
		id, err := peer.Decode(s)
		if err != nil {
			err = fmt.Errorf("%q is not a peer ID", s)
		}
		check("access.banned", err)
		p.policy.Banned = append(p.policy.Banned, id)
	}
	if p.configuration.hook != "" {
		p.hook, err = access.NewHook(p.configuration.hook)
		check("access.hook_url", err)
	}
}

func (p *servePlan) planStore(check func(string, error)) {
	var err error
	p.durability, err = pebblestore.ParseDurability(p.configuration.durability)
	check("store.durability", err)
	if p.store == "" {
		p.store = "pebble:" + filepath.Join(p.dataDir, "rendezvous")
	}
	if kindOfStore(p.store) == "" {
		check("store.url", errors.New("want memory, pebble:DIR or postgres://…")) // it may hold a password
	}
}

// kindOfStore names the kind of a store without what is secret of it, empty if
// it is none.
func kindOfStore(s string) string {
	switch dir, isPebble := strings.CutPrefix(s, "pebble:"); {
	case s == "memory":
		return "memory"
	case isPebble && dir != "":
		return "pebble"
	case strings.HasPrefix(s, "postgres://"), strings.HasPrefix(s, "postgresql://"):
		return "postgres"
	default:
		return ""
	}
}
