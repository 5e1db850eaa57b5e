package rdv_test

import (
	"net"
	"net/netip"
	"testing"

	"github.com/muster-p2p/muster/rdv"
)

func TestAddrSpaceFrom(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]rdv.AddrSpace{
		"8.8.8.8":         rdv.SpacePublic4,
		"100.64.0.1":      rdv.SpacePublic4,
		"2001:db8::1":     rdv.SpacePublic6,
		"10.0.0.1":        rdv.SpacePrivate4,
		"172.16.0.1":      rdv.SpacePrivate4,
		"192.168.0.1":     rdv.SpacePrivate4,
		"fd00::1":         rdv.SpacePrivate6,
		"169.254.1.1":     rdv.SpaceLink4,
		"fe80::1":         rdv.SpaceLink6,
		"127.0.0.1":       rdv.SpaceLoopback4,
		"::1":             rdv.SpaceLoopback6,
		"0.0.0.0":         rdv.SpaceInvalid,
		"::":              rdv.SpaceInvalid,
		"224.0.0.1":       rdv.SpaceInvalid,
		"ff02::1":         rdv.SpaceInvalid,
		"255.255.255.255": rdv.SpaceInvalid,
		"::ffff:10.0.0.1": rdv.SpacePrivate6, // as written; AddrPortFrom unmaps
	} {
		ip := netip.MustParseAddr(text)
		if got := rdv.AddrSpaceFrom(ip); got != want {
			t.Errorf("AddrSpaceFrom(%s) = %v, want %v", text, got, want)
		}
		if want != rdv.SpaceInvalid && (!want.MatchesAddr(ip) || !rdv.AllSpaces.IncludesAddr(ip)) {
			t.Errorf("%s is not in its own space", text)
		}
		if rdv.NoSpaces.IncludesAddr(ip) {
			t.Errorf("%s is in NoSpaces", text)
		}
	}
	var none netip.Addr
	if got := rdv.AddrSpaceFrom(none); got != rdv.SpaceInvalid {
		t.Errorf("AddrSpaceFrom(zero) = %v", got)
	}
}

func TestAddrSpaceSets(t *testing.T) {
	t.Parallel()
	if !rdv.DefaultSpaces.Includes(rdv.PublicSpaces) || rdv.PublicSpaces.Includes(rdv.DefaultSpaces) {
		t.Error("PublicSpaces is not a part of DefaultSpaces")
	}
	if rdv.AllSpaces.Includes(rdv.SpaceInvalid) || rdv.AllSpaces.Includes(rdv.NoSpaces) {
		t.Error("AllSpaces includes what is no space")
	}
	if rdv.DefaultSpaces.MatchesAddr(netip.MustParseAddr("8.8.8.8")) {
		t.Error("a set matches an address")
	}
	for s, want := range map[rdv.AddrSpace]string{
		rdv.SpaceInvalid:                     "none",
		rdv.NoSpaces:                         "none",
		rdv.SpaceLoopback6:                   "loopback6",
		rdv.SpacePublic4 | rdv.SpacePrivate4: "public4|private4",
	} {
		if got := s.String(); got != want {
			t.Errorf("String() = %q, want %q", got, want)
		}
	}
}

func TestAddrPortFrom(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		addr net.Addr
		want string
	}{
		{&net.TCPAddr{IP: net.ParseIP("1.2.3.4"), Port: 5}, "1.2.3.4:5"}, // 16 bytes inside
		{&net.UDPAddr{IP: net.ParseIP("2001:db8::1"), Port: 6}, "[2001:db8::1]:6"},
		{&net.UnixAddr{Name: "x"}, "invalid AddrPort"},
	} {
		if got := rdv.AddrPortFrom(c.addr).String(); got != c.want {
			t.Errorf("AddrPortFrom(%v) = %s, want %s", c.addr, got, c.want)
		}
	}
}
