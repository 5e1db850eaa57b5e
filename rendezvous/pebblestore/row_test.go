package pebblestore

import (
	"bytes"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/muster-p2p/muster/rendezvous"
)

// FuzzRow reads arbitrary values: no panic, and what is read is written back as
// it was.
func FuzzRow(f *testing.F) {
	f.Add(appendRow(nil, &rendezvous.Change{Pos: 1, Registration: rendezvous.Registration{
		Record: []byte("record"), Form: rendezvous.FormSigned, Seq: 1 << 63, TTL: 2 * time.Hour,
		Source: netip.MustParseAddr("192.0.2.1"),
	}}, 1_800_000_000_000))
	f.Add(appendRow(nil, &rendezvous.Change{}, -1))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		var c rendezvous.Change
		expires, err := parseRow(b, &c)
		if err != nil {
			return
		}
		var again rendezvous.Change
		b2 := appendRow(nil, &c, expires)
		if e, err := parseRow(b2, &again); err != nil || e != expires || again.Pos != c.Pos || again.Seq != c.Seq ||
			again.TTL != c.TTL || again.Form != c.Form || again.Source != c.Source || !bytes.Equal(again.Record, c.Record) {
			t.Errorf("%+v was read, %+v after it was written: %v", c, again, err)
		}
	})
}

func FuzzRowKey(f *testing.F) {
	f.Add(appendRowKey(nil, rendezvous.Key{Realm: 1, NS: "ns\x00", Peer: "\x00peer"}))
	f.Add([]byte("r\x01\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := parseRowKey(b, "ns")
		if err == nil && !bytes.Equal(appendRowKey(nil, k), b) {
			t.Errorf("%x reads as %v, which is written otherwise", b, k)
		}
	})
}

func TestIdentity(t *testing.T) {
	for _, id := range []identity{{}, {Meta: rendezvous.Meta{Epoch: 1<<64 - 1, Secret: [32]byte{1, 31: 2}}, lossy: true}} {
		if got, err := parseIdentity(id.encode()); err != nil || got != id {
			t.Errorf("%v: got %v, %v", id, got, err)
		}
	}
	if _, err := parseIdentity([]byte{layout + 1}); !errors.Is(err, errNewer) {
		t.Errorf("of a later layout: %v, want errNewer", err)
	}
	if damaged(errNewer) {
		t.Error("a store of a later version counts as damaged")
	}
}

// TestClock sets the wall clock forward and back between two runs. A lifetime
// that had 50 minutes left never has more.
func TestClock(t *testing.T) {
	day := 24 * time.Hour
	start := time.Now()
	first := begin(start)
	expires := first.at(start.Add(time.Hour))
	stop := start.Add(10 * time.Minute)
	at := cursor{time: first.at(stop), wall: stop.UnixMilli()}
	for _, tc := range []struct {
		name string
		wall time.Duration // the wall clock at the next start, after stop
		left time.Duration
	}{
		{"at once", 0, 50 * time.Minute},
		{"20 minutes later", 20 * time.Minute, 30 * time.Minute},
		{"two days later", 2 * day, 50*time.Minute - 2*day},
		{"set back a day", -day, 50 * time.Minute},
		{"set back a minute", -time.Minute, 50 * time.Minute},
	} {
		now := stop.Add(tc.wall)
		c := resume(at, now)
		want := tc.left - roundingMillis*time.Millisecond
		if left := c.when(expires).Sub(now).Round(time.Millisecond); left != want {
			t.Errorf("%s: %v left, want %v", tc.name, left, want)
		}
		if got := c.at(c.when(expires)); got != expires {
			t.Errorf("%s: %d back and forth is %d", tc.name, expires, got)
		}
	}
}
