package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"time"

	"github.com/muster-p2p/muster"
	"github.com/muster-p2p/muster/rdv"
	"github.com/muster-p2p/muster/rdv/pglobby"
	"github.com/muster-p2p/muster/reach/pglot"
)

// handOverCheck is how long the daemon's own hand-over URL may take to answer.
const handOverCheck = 5 * time.Second

// shareLobby makes one lobby of those of all points over a database, and has the
// callees of each called by way of all. The listener has to be there first: the
// others are told where it is.
func (d *daemon) shareLobby(ctx context.Context, pc *muster.PointConfig) error {
	p := d.plan
	if kindOfStore(p.store) != "postgres" || p.http == "" {
		return nil
	}
	if p.handOver == "" && d.acme != nil {
		p.handOver = pc.URLs[0] // its certificate is for a name
	}
	if p.handOver == "" {
		p.handOver = ownURL(pc.Listener.Addr(), pc.TLS != nil)
	}
	dir, err := pglobby.Open(ctx, pglobby.Config{URL: p.store, HandOver: p.handOver})
	if err != nil {
		_ = pc.Listener.Close()
		return fail(exitLocal, err, "check --store and --relay-hand-over")
	}
	d.lobby, pc.Server.Directory = dir, dir
	if !p.rendezvous { // else it is the registry's, which is shared as well
		pc.Secret = lobbySecret(dir)
	}
	if !p.reach {
		return nil
	}
	lot, err := pglot.Open(ctx, pglot.Config{URL: p.store, Point: p.handOver, Logger: d.log})
	if err != nil {
		return errors.Join(fail(exitLocal, err, "check --store"), pc.Listener.Close(), d.leaveLobby())
	}
	d.lot, pc.Callees = lot, lot
	return nil
}

// openHTTP opens the listener of the rdv server where its port has to be known
// before the server starts: the other points of a lobby are told of it, and
// with a certificate for names so is everybody.
func (d *daemon) openHTTP(ctx context.Context, pc *muster.PointConfig) error {
	p := d.plan
	if p.http == "" || kindOfStore(p.store) != "postgres" && d.acme == nil {
		return nil
	}
	ln, err := listenTCP(ctx, p.http)
	if err != nil {
		return fail(exitLocal, err, "choose another with --http")
	}
	pc.Listener = ln
	if d.acme != nil && len(pc.URLs) == 0 {
		for _, host := range p.tlsHosts {
			pc.URLs = append(pc.URLs, namedURL(host, rdv.AddrPortFrom(ln.Addr()).Port()))
		}
	}
	return nil
}

// namedURL is an https URL, without the port that it has anyway.
func namedURL(host string, port uint16) string {
	const usual = 443
	if port != usual {
		host = net.JoinHostPort(host, strconv.Itoa(int(port)))
	}
	return (&url.URL{Scheme: "https", Host: host, Path: "/"}).String()
}

// lobbySecret is what points without a registry make tokens for meetings with:
// those of one are to be good at all.
func lobbySecret(dir *pglobby.Directory) []byte {
	secret := dir.Secret()
	mac := hmac.New(sha256.New, secret[:])
	mac.Write([]byte("muster tokens for meetings"))
	return mac.Sum(nil)
}

// leaveLobby ends the sharing, after the node has.
func (d *daemon) leaveLobby() error {
	var err error
	if d.lot != nil {
		err = d.lot.Close()
	}
	if d.lobby != nil {
		err = errors.Join(err, d.lobby.Close())
	}
	return err
}

// checkLobby warns if the other points are told of an address that does not
// lead here. It does not keep the daemon from being ready.
func (d *daemon) checkLobby() {
	if d.lobby == nil {
		return
	}
	d.wg.Go(func() {
		ctx, cancel := context.WithTimeout(d.ctx, handOverCheck)
		defer cancel()
		if err := d.node.Point.Server().CheckHandOver(ctx, d.plan.handOver); err != nil && d.ctx.Err() == nil {
			d.log.Warn("the hand-over URL does not lead here: peers at other points may not be matched", "url", d.plan.handOver, "err", err)
		}
	})
}

// ownURL is a URL of a listener with an address that other machines may have a
// way to.
func ownURL(addr net.Addr, secured bool) string {
	ap := rdv.AddrPortFrom(addr)
	if ap.Addr().IsUnspecified() {
		ap = netip.AddrPortFrom(firstAddr(), ap.Port())
	}
	u := url.URL{Scheme: "http", Host: ap.String(), Path: "/"}
	if secured {
		u.Scheme = "https"
	}
	return u.String()
}

// firstAddr is the first address of this machine that is not of itself only,
// and IPv4 before IPv6.
func firstAddr() netip.Addr {
	best := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return best
	}
	for _, a := range addrs {
		prefix, err := netip.ParsePrefix(a.String())
		ip := prefix.Addr().Unmap()
		if err != nil || !ip.IsGlobalUnicast() {
			continue
		}
		if ip.Is4() {
			return ip
		}
		if best.IsLoopback() {
			best = ip
		}
	}
	return best
}
