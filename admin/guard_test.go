package admin_test

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/muster-p2p/muster/admin"
)

// Whatever a Host header holds, what gets through names this machine: it is
// localhost or an address of the loopback interface, with or without a port.
func FuzzHost(f *testing.F) {
	for _, s := range []string{
		"localhost", "LOCALHOST.:80", "127.0.0.1", "[::1]:7837", "::1", "[::ffff:127.0.0.1]", "evil.test", "localhost.evil.test",
		"127.0.0.1.evil.test", "127.1", "0x7f000001", "2130706433", "[::1", "]", ":", "", "a:b:c", "[localhost]:1", "localhost:1:2",
		"[fe80::1%lo]", "[::1%25lo]:1",
	} {
		f.Add(s)
	}
	s, err := admin.New(admin.Config{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, host string) {
		w := do(s, "GET", "/livez", "", "Host", host)
		if w.Code == 403 {
			return
		}
		name := host
		if h, _, err := net.SplitHostPort(host); err == nil {
			name = h
		}
		name = strings.ToLower(strings.TrimSuffix(strings.Trim(name, "[]"), "."))
		if ip, err := netip.ParseAddr(name); name != "localhost" && (err != nil || !ip.Unmap().IsLoopback()) {
			t.Errorf("%q got %d", host, w.Code)
		}
	})
}
