package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/muster-p2p/muster/access"
)

// An announcer tells people, or programs, what the daemon does. Logs are
// another thing: they go to the same place, by another way.
type announcer struct {
	json bool

	mu sync.Mutex // guards w
	w  io.Writer
}

// emit writes a line; nobody is left to tell if that fails.
func (a *announcer) emit(event map[string]any, text string) {
	b := []byte(text + "\n")
	if a.json {
		var err error
		if b, err = json.Marshal(event); err != nil {
			return
		}
		b = append(b, '\n')
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	_, _ = a.w.Write(b)
}

// addrs are the daemon's multiaddrs, those first that are of most use to
// others.
func (d *daemon) addrs() []string {
	all := d.node.Addrs()
	slices.SortStableFunc(all, func(a, b ma.Multiaddr) int { return nearness(a) - nearness(b) })
	var out []string
	for _, a := range all {
		out = append(out, a.String())
	}
	return out
}

// nearness orders addresses by from how far away they can be reached.
func nearness(a ma.Multiaddr) int {
	switch {
	case manet.IsIPLoopback(a):
		return 3
	case manet.IsPublicAddr(a):
		return 0
	case strings.HasPrefix(a.String(), "/ip4/"):
		return 1
	default:
		return 2
	}
}

// rdvURLs are what others call the rdv server: with the host of the first
// address where the configuration does not say.
func (d *daemon) rdvURLs(addrs []string) []string {
	urls := slices.Clone(d.node.Point.URLs())
	if len(d.plan.urls) > 0 || d.acme != nil || len(urls) == 0 {
		return urls
	}
	host, _, err := net.SplitHostPort(d.plan.http)
	if err != nil || host != "" && !isUnspecified(host) {
		return urls
	}
	a, err := ma.NewMultiaddr(addrs[0])
	if err != nil {
		return urls
	}
	name, err := manet.ToIP(a)
	u, uerr := url.Parse(urls[0])
	if err != nil || uerr != nil {
		return urls
	}
	u.Host = net.JoinHostPort(name.String(), u.Port())
	return []string{u.String()}
}

func isUnspecified(host string) bool {
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsUnspecified()
}

// ready says what there is, for whom, and what to try.
func (a *announcer) ready(d *daemon, addrs []string, took time.Duration) {
	open, closed := d.node.OpenTo()
	urls := d.rdvURLs(addrs)
	record, adminURL := "", ""
	if n := d.node.Find.Nodes(); n != nil {
		record = n.LocalRecord().String()
	}
	if d.admin != nil {
		adminURL = d.admin.URL()
	}
	event := map[string]any{
		"event": "ready", "peer": d.node.ID().String(), "addrs": addrs, "rdv": urls, "enr": record, "admin": adminURL,
		"data_dir": d.plan.dataDir, "store": kindOfStore(d.plan.store), "open": open, "closed": closed, "ms": took.Milliseconds(),
		"version": buildVersion(), "try": tryOut(d, addrs[0]),
	}
	var b strings.Builder
	fmt.Fprintf(&b, "point %s is ready (%d ms)\n", d.node.ID(), took.Milliseconds())
	list := func(name string, values []string) {
		for _, v := range values {
			if v != "" {
				fmt.Fprintf(&b, "  %-8s %s\n", name, v)
				name = ""
			}
		}
	}
	list("address", addrs)
	list("rdv", urls)
	list("record", []string{record})
	list("admin", []string{adminURL})
	list("data", []string{d.plan.dataDir + " (registrations: " + kindOfStore(d.plan.store) + ")"})
	list("open", open)
	list("closed", closed)
	if d.node.Point.Reach() != nil && d.node.Point.Gate().Policy().Relay == access.ByToken {
		b.WriteString("\nMake a token for those who may use the relay:\n  muster token issue " + dataDirFlag(d) + "> token\n")
	}
	b.WriteString("\nTry from two other machines:\n  " + strings.Join(tryOut(d, addrs[0]), "\n  "))
	a.emit(event, strings.TrimSuffix(b.String(), "\n"))
	a.warn(d)
}

// tryOut is what to type on other machines.
func tryOut(d *daemon, addr string) []string {
	switch {
	case !d.plan.rendezvous:
		return []string{"muster netcheck --point " + addr}
	case d.node.Point.Reach() == nil:
		return []string{"muster rendezvous register lab --keep --point " + addr, "muster find lab --point " + addr}
	}
	with := ""
	if d.node.Point.Gate().Policy().Relay == access.ByToken {
		with = " --token-file token"
	}
	return []string{
		"muster up --ns lab --name nas --expose ssh=127.0.0.1:22 --point " + addr + with,
		"muster find lab --point " + addr,
		"muster forward lab/nas:ssh 127.0.0.1:2222 --point " + addr + with,
	}
}

// dataDirFlag is --data-dir where the command would look elsewhere: in a shell
// there is no $STATE_DIRECTORY, which a service manager gives the daemon alone.
func dataDirFlag(d *daemon) string {
	if dir, err := userStateDir(); err == nil && dir == d.plan.dataDir {
		return ""
	}
	return "--data-dir " + d.plan.dataDir + " "
}

// warn says at every start what an operator should not forget.
func (a *announcer) warn(d *daemon) {
	if d.node.Point.Gate().Policy().Relay == access.OpenToEach {
		a.emit(map[string]any{"event": "warning", "warning": "open relay"},
			"WARNING: this is an open relay: strangers can send anything through this machine, and it will look like yours")
	}
	if url := d.now.configuration.hook; d.now.hook != nil && strings.HasPrefix(url, "http://") && !strings.Contains(url, "127.0.0.1") {
		d.log.Warn("the access hook is asked without TLS")
	}
}

func (a *announcer) draining(pairs int) {
	a.emit(map[string]any{"event": "draining", "pairs": pairs},
		fmt.Sprintf("stopping: %d pairs may finish, interrupt again to cut them", pairs))
}

func (a *announcer) cut(pairs int) {
	a.emit(map[string]any{"event": "cut", "pairs": pairs}, fmt.Sprintf("%d pairs cut", pairs))
}

func (a *announcer) reloaded() {
	a.emit(map[string]any{"event": "reloaded"}, "configuration reloaded")
}
