package netwatch

import (
	"context"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/muster-p2p/muster/internal/bubble"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func snapshot(via string, addrs ...string) Snapshot {
	s := Snapshot{Known: true, Links: []string{"eth0"}}
	for _, a := range addrs {
		s.Addrs = append(s.Addrs, netip.MustParseAddr(a))
	}
	slices.SortFunc(s.Addrs, netip.Addr.Compare)
	if via != "" {
		s.Via[0] = netip.MustParseAddr(via)
	}
	return s
}

func TestGone(t *testing.T) {
	t.Parallel()
	home := snapshot("192.168.1.2", "127.0.0.1", "192.168.1.2", "fe80::1")
	office := snapshot("10.0.0.7", "127.0.0.1", "10.0.0.7")
	unknown := office
	unknown.Known = false
	tests := []struct {
		name          string
		before, after Snapshot
		addr          string
		want          bool
	}{
		{"an address that went", home, office, "192.168.1.2", true},
		{"as IPv6 sees it", home, office, "::ffff:192.168.1.2", true},
		{"with a zone", home, office, "fe80::1%eth0", true},
		{"one that came", home, office, "10.0.0.7", false},
		{"one that stays", home, office, "127.0.0.1", false},
		{"one that was never listed", home, office, "127.0.0.53", false},
		{"nothing known after", home, unknown, "192.168.1.2", false},
		{"nothing known before", unknown, home, "10.0.0.7", false},
	}
	for _, tt := range tests {
		c := Change{Before: tt.before, After: tt.after}
		if got := c.Gone(netip.MustParseAddr(tt.addr)); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
	if (Change{Before: home, After: office}).Gone(netip.Addr{}) {
		t.Error("no address is gone")
	}
}

func TestSlept(t *testing.T) {
	t.Parallel()
	const s = time.Second
	tests := []struct {
		name                  string
		wait, monotonic, wall time.Duration
		want                  time.Duration
	}{
		{"awake", s, s, s, 0},
		{"a busy machine", s, 4 * s, 4 * s, 0},
		{"asleep, the monotonic clock stood still", s, s, 61 * s, 60 * s},
		{"stopped", s, 31 * s, 31 * s, 30 * s},
		{"the clock was set back", s, s, -3600 * s, 0},
	}
	for _, tt := range tests {
		if got := slept(tt.wait, tt.monotonic, tt.wall); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

// TestWatch: a change is told within two seconds, one that follows at once a
// little later and in one piece, and none that is none.
func TestWatch(t *testing.T) {
	t.Parallel()
	bubble.Test(t, func(t *testing.T) {
		var now atomic.Pointer[Snapshot]
		set := func(s Snapshot) { now.Store(&s) }
		home, office, cafe := snapshot("192.168.1.2", "192.168.1.2"), snapshot("10.0.0.7", "10.0.0.7"), snapshot("172.16.0.3", "172.16.0.3")
		set(home)
		ctx, cancel := context.WithCancel(t.Context())
		changes := make(chan Change, 10)
		done := make(chan struct{})
		go func() {
			defer close(done)
			Watch(ctx, func() Snapshot { return *now.Load() }, func(c Change) { changes <- c })
		}()
		wait := func(want Snapshot, limit time.Duration) {
			t.Helper()
			start := time.Now()
			c := <-changes
			if took := time.Since(start); took > limit || !c.After.equal(want) || c.Slept != 0 {
				t.Errorf("after %v: %+v", took, c)
			}
		}
		time.Sleep(time.Minute)
		if len(changes) > 0 {
			t.Fatalf("nothing has changed, and it says %+v", <-changes)
		}
		set(office)
		wait(office, 2*time.Second)
		set(cafe)
		time.Sleep(100 * time.Millisecond)
		set(home)
		wait(home, spacing+2*time.Second)
		set(office) // and back again, before it is told
		time.Sleep(200 * time.Millisecond)
		set(home)
		time.Sleep(time.Minute)
		if len(changes) > 0 {
			t.Errorf("nothing has changed, and it says %+v", <-changes)
		}
		cancel()
		<-done
	})
}

// TestLook: this machine has its loopback address, and looks the same twice.
func TestLook(t *testing.T) {
	t.Parallel()
	s := Look()
	if !s.Known || !s.has(netip.MustParseAddr("127.0.0.1")) || len(s.Links) == 0 {
		t.Errorf("%+v", s)
	}
}

func BenchmarkLook(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		Look()
	}
}
