package pebblestore_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/muster-p2p/muster/rendezvous"
	"github.com/muster-p2p/muster/rendezvous/pebblestore"
	"github.com/muster-p2p/muster/rendezvous/storetest"
)

// TestSmallDisk runs on a real file system that is really full: MUSTER_TEST_SMALL_DISK
// names an empty directory on one of a few MiB. Another program fills it, then
// the store does so itself. Each time changes are refused as unavailable, and
// taken again when there is space; nothing acknowledged is lost.
func TestSmallDisk(t *testing.T) {
	at := os.Getenv("MUSTER_TEST_SMALL_DISK")
	if at == "" {
		t.Skip("needs a small file system: run make faults-store as root, or set MUSTER_TEST_SMALL_DISK to a directory on one")
	}
	dir := filepath.Join(at, "store")
	cfg := pebblestore.Config{Dir: dir, Reserve: -1} // so that writes themselves meet the end
	s, _, _ := openStore(t, cfg, rendezvous.Meta{})
	done := map[rendezvous.Key]uint64{}
	n := 0
	commit := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		n++
		c := storetest.Registration("ns"+strconv.Itoa(n%7), n%500, uint64(n), time.Hour)
		err := s.Commit(ctx, []rendezvous.Change{c})
		if err == nil {
			done[c.Key] = c.Seq
		}
		return err
	}
	for range 100 {
		if err := commit(); err != nil {
			t.Fatal(err)
		}
	}

	ballast := filepath.Join(at, "ballast")
	fillDisk(t, ballast)
	var err error
	for range 100_000 {
		if err = commit(); err != nil {
			break
		}
	}
	if !errors.Is(err, rendezvous.ErrUnavailable) {
		t.Fatalf("on a disk that another program filled: %v", err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	awaitHealth(t, s, true)
	if err := commit(); err != nil {
		t.Fatalf("with space again: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	// With the reserve, the store by itself never meets the end: it refuses.
	cfg.Reserve = 0
	s, m, _ := openStore(t, cfg, rendezvous.Meta{})
	for k, seq := range done {
		if got, ok := m.Get(k); !ok || got.Seq < seq {
			t.Errorf("%q: seq %d was acknowledged, there is %d", k.NS, seq, got.Seq)
		}
	}
	for i := range 100_000 {
		big := storetest.Registration("big"+strconv.Itoa(i), i, 1, time.Minute)
		big.Record = []byte(fmt.Sprintf("%04000d", i))
		if err = s.Commit(t.Context(), []rendezvous.Change{big}); err != nil {
			break
		}
	}
	if !errors.Is(err, rendezvous.ErrUnavailable) {
		t.Fatalf("on a disk that the store filled: %v", err)
	}
	t.Logf("refused: %v; %d rows, %+v", err, len(m.Live()), s.Stats())
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for s.Health() != nil { // what expired makes room
		if _, err := s.Expire(t.Context(), time.Now().Add(30*time.Minute)); err != nil {
			t.Fatalf("Expire: %v", err)
		}
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatalf("no room: %v", s.Health())
		}
	}
	if err := commit(); err != nil {
		t.Errorf("when what expired has made room: %v", err)
	}
}

func fillDisk(t *testing.T, name string) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{1 << 16, 1 << 12, 1 << 8} {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
	}
	if err := f.Close(); err != nil {
		t.Logf("ballast: %v", err)
	}
}
