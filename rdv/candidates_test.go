package rdv_test

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/muster-p2p/muster/rdv"
)

func addrPorts(list ...string) (out []netip.AddrPort) {
	for _, s := range list {
		out = append(out, netip.MustParseAddrPort(s))
	}
	return out
}

func prefixes(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// home is a host at 192.168.1.100 behind a NAT at 203.0.113.7.
var (
	home     = rdv.NewNetwork(prefixes("127.0.0.1/8", "192.168.1.100/24", "2001:db8:1::100/64", "fe80::1/64"), nil)
	observed = netip.MustParseAddrPort("203.0.113.7:40000")
)

const ownPort = 40000

// TestCandidatePolicy names one address at a time, as a lying peer would.
func TestCandidatePolicy(t *testing.T) {
	t.Parallel()
	elsewhere := "198.51.100.9:41000" // where the server saw the peer
	for addr, want := range map[string]bool{
		// Anyone may be at a public address.
		"198.51.100.9:41000":   true,
		"[2001:db8:2::5]:4100": true,
		// The services of others.
		"198.51.100.9:22":   false,
		"198.51.100.9:443":  false,
		"198.51.100.9:1023": false,
		"198.51.100.9:0":    false,
		"198.51.100.9:1024": true,
		// Own machine.
		"127.0.0.1:8080":              false,
		"127.8.8.8:8080":              false,
		"[::1]:8080":                  false,
		"[::ffff:127.0.0.1]:8080":     false,
		"[::127.0.0.1]:8080":          false,
		"[64:ff9b::7f00:1]:8080":      false,
		"[64:ff9b:1::7f00:1]:8080":    false,
		"[2002:7f00:1::]:8080":        false,
		"[2002:7f00:1::1]:8080":       false,
		"0.0.0.0:8080":                false,
		"0.1.2.3:8080":                false,
		"[::]:8080":                   false,
		"[::ffff:0.0.0.0]:8080":       false,
		"192.168.1.100:40000":         false, // itself
		"192.168.1.100:8080":          false, // another program on it
		"[2001:db8:1::100]:8080":      false,
		"[::ffff:192.168.1.100]:8080": false,
		// Link-local, and the metadata services that live there and elsewhere.
		"169.254.1.1:8080":            false,
		"169.254.169.254:8080":        false,
		"[::ffff:169.254.169.254]:80": false,
		"[64:ff9b::a9fe:a9fe]:8080":   false,
		"[fe80::1]:8080":              false,
		"[fd00:ec2::254]:8080":        false,
		"168.63.129.16:8080":          false,
		"100.100.100.200:8080":        false,
		// No unicast address of a peer.
		"224.0.0.1:8080":       false,
		"239.255.255.250:8080": false,
		"255.255.255.255:8080": false,
		"240.0.0.1:8080":       false,
		"[ff02::1]:8080":       false,
		"[ff05::2]:8080":       false,
		"192.0.0.8:8080":       false,
		"198.18.0.1:8080":      false,
		"198.19.255.255:8080":  false,
		"[100::1]:8080":        false,
		"[2001::1]:8080":       false,
		"[fec0::1]:8080":       false,
		// Private addresses are other hosts in other networks: only in a
		// prefix of one's own.
		"10.0.0.1:8080":            false,
		"172.16.0.1:8080":          false,
		"172.31.255.255:8080":      false,
		"192.168.2.1:8080":         false,
		"192.168.1.7:8080":         true,
		"[::ffff:192.168.2.1]:808": false,
		"[::ffff:192.168.1.7]:808": false,
		"[fd00::1]:8080":           false,
		"100.64.0.1:8080":          false,
		"100.127.255.255:8080":     false,
		// Through a translator, the same rules.
		"[64:ff9b::a00:1]:8080":     false,
		"[64:ff9b::c0a8:107]:8080":  false,
		"[64:ff9b::6440:1]:8080":    false,
		"[64:ff9b::e000:1]:8080":    false,
		"[64:ff9b::c633:6409]:8080": true,
		"[2002:a00:1::]:8080":       false,
		"[2002:c633:6409::1]:8080":  true,
	} {
		peer := append(addrPorts(elsewhere), netip.MustParseAddrPort(addr))
		got := rdv.Candidates(rdv.DefaultSpaces, home, ownPort, &observed, peer)
		a := netip.MustParseAddrPort(addr)
		a = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
		if slices.Contains(got, a) != want {
			t.Errorf("%s: candidate %v, want %v", addr, !want, want)
		}
		// Every space does not lift what is never allowed.
		if all := rdv.Candidates(rdv.AllSpaces, home, ownPort, &observed, peer); !want && !a.Addr().IsLoopback() && slices.Contains(all, a) {
			t.Errorf("%s: a candidate with all spaces", addr)
		}
	}
}

func TestPrivateCandidatesBehindOneNAT(t *testing.T) {
	t.Parallel()
	peer := addrPorts("203.0.113.7:41000", "10.0.0.1:41000", "192.168.1.100:41000", "100.64.0.1:41000", "[fd00::1]:41000")
	got := rdv.Candidates(rdv.DefaultSpaces, home, ownPort, &observed, peer)
	want := addrPorts("10.0.0.1:41000", "192.168.1.100:41000", "[fd00::1]:41000", "203.0.113.7:41000", "100.64.0.1:41000")
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestLoopbackCandidates(t *testing.T) {
	t.Parallel()
	peer := addrPorts("127.0.0.1:41000")
	local := netip.MustParseAddrPort("127.0.0.1:40000")
	for _, c := range []struct {
		name     string
		spaces   rdv.AddrSpace
		observed netip.AddrPort
		want     int
	}{
		{"both observed at loopback", rdv.DefaultSpaces, local, 1},
		{"asked for", rdv.AllSpaces, observed, 1},
		{"neither", rdv.DefaultSpaces, observed, 0},
		{"relay only", rdv.NoSpaces, local, 0},
	} {
		if got := rdv.Candidates(c.spaces, home, ownPort, &c.observed, peer); len(got) != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestCandidatesAreBoundedAndOrdered(t *testing.T) {
	t.Parallel()
	var peer []netip.AddrPort
	for i := range 40 {
		peer = append(peer, netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(i / 2)}), 41000))
	}
	if got := rdv.Candidates(rdv.DefaultSpaces, home, ownPort, nil, peer); len(got) != 10 {
		t.Errorf("%d candidates, want 10", len(got))
	}
	got := rdv.Candidates(rdv.DefaultSpaces, home, ownPort, nil,
		addrPorts("198.51.100.9:41000", "[2001:db8:2::5]:41000", "192.168.1.7:41000"))
	want := addrPorts("192.168.1.7:41000", "[2001:db8:2::5]:41000", "198.51.100.9:41000")
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want nearest first: %v", got, want)
	}
}

func TestSelfAddrs(t *testing.T) {
	t.Parallel()
	// A host with a dead-end default route and many bridges still tells the
	// address that the server was reached from first.
	n := rdv.NewNetwork(
		prefixes("127.0.0.1/8", "10.9.9.2/24", "172.30.1.1/24", "172.30.2.1/24", "172.30.3.1/24", "172.30.4.1/24",
			"172.30.5.1/24", "172.30.6.1/24", "172.30.7.1/24", "172.30.8.1/24", "192.168.2.100/24", "169.254.3.4/16"),
		[]netip.Addr{netip.MustParseAddr("192.168.2.100"), netip.MustParseAddr("10.9.9.2")})
	got := n.SelfAddrs(rdv.DefaultSpaces, ownPort)
	if len(got) != 9 || got[0] != addrPorts("192.168.2.100:40000")[0] || got[1] != addrPorts("10.9.9.2:40000")[0] {
		t.Errorf("got %v", got)
	}
	for _, a := range got {
		if a.Addr().IsLoopback() || a.Addr().IsLinkLocalUnicast() {
			t.Errorf("tells %v", a)
		}
	}
	if got := n.SelfAddrs(rdv.NoSpaces, ownPort); got != nil {
		t.Errorf("relay only, tells %v", got)
	}
	if got := n.SelfAddrs(rdv.PublicSpaces, ownPort); got != nil {
		t.Errorf("no public address, tells %v", got)
	}
	if got := n.SelfAddrs(rdv.AllSpaces, ownPort); len(got) != 9 {
		t.Errorf("all spaces, tells %v", got)
	}
	six := rdv.NewNetwork(prefixes("2001:db8::1/64", "2001:db8::2/64", "2001:db8::3/64", "10.0.0.1/8"), nil)
	if got, want := six.SelfAddrs(rdv.DefaultSpaces, 5000), addrPorts("[2001:db8::1]:5000", "[2001:db8::2]:5000", "10.0.0.1:5000"); !slices.Equal(got, want) {
		t.Errorf("got %v, want two of a prefix: %v", got, want)
	}
}
