package simnet_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/muster-p2p/muster/internal/bubble"
	"github.com/muster-p2p/muster/internal/simnet"
)

// lab is a host behind a NAT, and two hosts outside: far with two sockets,
// other with one.
type lab struct {
	net                *simnet.Net
	nat                *simnet.NAT
	in                 *simnet.UDPConn
	far, farTwo, other *simnet.UDPConn
}

func newLab(t *testing.T, cfg simnet.NATConfig) lab {
	n := simnet.New(simnet.Config{Link: simnet.Delay(time.Millisecond)})
	external := []netip.Addr{addr("203.0.113.1")}
	if cfg.Transparent {
		external = nil
	}
	nat := n.NAT(cfg, external...)
	far, other := n.Host(addr("192.0.2.1")), n.Host(addr("198.51.100.1"))
	return lab{
		net: n, nat: nat, in: listen(t, nat.Host(addr("10.0.0.2")), 4000),
		far: listen(t, far, 1), farTwo: listen(t, far, 2), other: listen(t, other, 1),
	}
}

func TestNATKinds(t *testing.T) {
	for _, tt := range []struct {
		name                  string
		cfg                   simnet.NATConfig
		samePort              bool // the same external port towards everyone
		fromFarTwo, fromOther bool // who may answer to the mapping made for far
	}{
		{"full cone", simnet.FullCone, true, true, true},
		{"restricted cone", simnet.RestrictedCone, true, true, false},
		{"port restricted", simnet.PortRestricted, true, false, false},
		{"symmetric", simnet.Symmetric, false, false, false},
		{"address dependent mapping", simnet.NATConfig{Mapping: simnet.AddressDependent, RandomPorts: true}, false, true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				l := newLab(t, tt.cfg)
				defer l.net.Close()
				send(t, l.in, l.far.AddrPort(), "out")
				seen := want(t, l.far, "out")
				if seen.Addr() != addr("203.0.113.1") {
					t.Fatalf("seen from %v", seen)
				}
				send(t, l.far, seen, "reply")
				if from := want(t, l.in, "reply"); from != l.far.AddrPort() {
					t.Errorf("reply from %v", from)
				}
				for _, try := range []struct {
					conn *simnet.UDPConn
					ok   bool
				}{{l.farTwo, tt.fromFarTwo}, {l.other, tt.fromOther}} {
					send(t, try.conn, seen, "unasked")
					if try.ok {
						want(t, l.in, "unasked")
					} else {
						wantNothing(t, l.in)
					}
				}
				send(t, l.in, l.other.AddrPort(), "to other")
				if got := want(t, l.other, "to other") == seen; got != tt.samePort {
					t.Errorf("same external port: %v, want %v", got, tt.samePort)
				}
			})
		})
	}
}

func TestMappingExpires(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		l := newLab(t, simnet.FullCone)
		defer l.net.Close()
		send(t, l.in, l.far.AddrPort(), "out")
		seen := want(t, l.far, "out")
		time.Sleep(simnet.DefaultMappingTimeout - time.Second)
		send(t, l.far, seen, "in time")
		want(t, l.in, "in time")
		time.Sleep(2 * time.Second) // what came in did not renew it: RFC 4787, REQ-6
		send(t, l.far, seen, "late")
		wantNothing(t, l.in)
		send(t, l.in, l.far.AddrPort(), "again")
		want(t, l.far, "again")
		l.nat.Forget()
		send(t, l.far, seen, "after a reboot")
		wantNothing(t, l.in)
	})
}

func TestTwoHostsWithOnePort(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		l := newLab(t, simnet.FullCone)
		defer l.net.Close()
		second := listen(t, l.nat.Host(addr("10.0.0.3")), 4000)
		send(t, l.in, l.far.AddrPort(), "first")
		if p := want(t, l.far, "first").Port(); p != 4000 {
			t.Errorf("port %d, want the inner one kept", p)
		}
		send(t, second, l.far.AddrPort(), "second")
		from := want(t, l.far, "second")
		if from.Port() != 4001 {
			t.Errorf("port %d, want the next free", from.Port())
		}
		send(t, l.far, from, "reply")
		want(t, second, "reply")
		send(t, second, l.in.AddrPort(), "within the segment")
		if from := want(t, l.in, "within the segment"); from != second.AddrPort() {
			t.Errorf("from %v, want it untranslated", from)
		}
	})
}

func TestHairpin(t *testing.T) {
	for _, hairpin := range []bool{false, true} {
		bubble.Test(t, func(t *testing.T) {
			l := newLab(t, simnet.NATConfig{Hairpin: hairpin})
			defer l.net.Close()
			second := listen(t, l.nat.Host(addr("10.0.0.3")), 5000)
			send(t, l.in, l.far.AddrPort(), "out")
			seen := want(t, l.far, "out")
			send(t, second, seen, "by the front door")
			if !hairpin {
				wantNothing(t, l.in)
				return
			}
			if from := want(t, l.in, "by the front door"); from.Addr() != addr("203.0.113.1") {
				t.Errorf("from %v, want the external address", from)
			}
		})
	}
}

func TestNATBehindNAT(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		l := newLab(t, simnet.FullCone)
		defer l.net.Close()
		home := l.nat.NAT(simnet.PortRestricted, addr("10.0.0.9"))
		deep := listen(t, home.Host(addr("192.168.1.2")), 7000)
		send(t, deep, l.far.AddrPort(), "up and out")
		seen := want(t, l.far, "up and out")
		if seen.Addr() != addr("203.0.113.1") {
			t.Errorf("seen from %v", seen)
		}
		send(t, l.far, seen, "down and in")
		want(t, deep, "down and in")
		send(t, l.other, seen, "the inner filter holds")
		wantNothing(t, deep)
	})
}

func TestFirewallKeepsAddresses(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		l := newLab(t, simnet.Firewall)
		defer l.net.Close()
		send(t, l.far, l.in.AddrPort(), "unasked")
		wantNothing(t, l.in)
		send(t, l.in, l.far.AddrPort(), "out")
		if from := want(t, l.far, "out"); from != l.in.AddrPort() {
			t.Errorf("from %v, want %v", from, l.in.AddrPort())
		}
		send(t, l.far, l.in.AddrPort(), "reply")
		want(t, l.in, "reply")
		send(t, l.other, l.in.AddrPort(), "unasked")
		wantNothing(t, l.in)
		if got := l.net.Stats().Filtered; got != 2 {
			t.Errorf("filtered %d, want 2", got)
		}
	})
}
