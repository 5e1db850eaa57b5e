package discv5_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/muster-p2p/muster/discv5"
	"github.com/muster-p2p/muster/enr"
	"github.com/muster-p2p/muster/internal/bubble"
)

// TestRestart checks what a node keeps in its data directory: the nodes it
// has seen alive, and a record number that does not fall.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	key, err := enr.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	friend := listen(t, discv5.Config{})
	first := listen(t, discv5.Config{Key: key, DataDir: dir, Bootnodes: []*enr.Record{friend.LocalRecord()}})
	events, cancel := first.Subscribe(100)
	defer cancel()
	if !hasAlive(first, friend.ID()) {
		for e := range events {
			if e.Kind == discv5.NodeAlive && e.ID == friend.ID() {
				break
			}
		}
	}
	seq := first.LocalRecord().Seq()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}

	second := listen(t, discv5.Config{Key: key, DataDir: dir})
	if second.LocalRecord().Seq() <= seq {
		t.Errorf("record number %d after %d", second.LocalRecord().Seq(), seq)
	}
	if got := second.Table(); len(got) != 1 || got[0].Record.ID() != friend.ID() {
		t.Errorf("%d nodes in the table after a restart, want the one seen alive", len(got))
	}
	seq = second.LocalRecord().Seq()
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}

	// An old directory is restored, or the file is lost: the clock goes on.
	if err := os.WriteFile(filepath.Join(dir, "discv5-seq"), []byte("17"), 0o600); err != nil {
		t.Fatal(err)
	}
	third := listen(t, discv5.Config{Key: key, DataDir: dir})
	if third.LocalRecord().Seq() <= seq {
		t.Errorf("record number %d after %d with an old directory", third.LocalRecord().Seq(), seq)
	}
	if err := third.Close(); err != nil {
		t.Fatal(err)
	}

	// A number far in the future, as of a clock that was wrong, goes on too.
	if err := os.WriteFile(filepath.Join(dir, "discv5-seq"), []byte("99999999999999"), 0o600); err != nil {
		t.Fatal(err)
	}
	// And a damaged node file costs its damaged lines only.
	nodes := filepath.Join(dir, "discv5-nodes.txt")
	b, err := os.ReadFile(nodes)
	if err != nil {
		t.Fatal(err)
	}
	damaged := "enr:rubbish 1\n" + strings.Repeat("x", 100) + "\n" + friend.LocalRecord().String() + " 1\n" +
		strings.ReplaceAll(string(b), "\n", " field of a later version\n") + string(b[:len(b)/2])
	if err := os.WriteFile(nodes, []byte(damaged), 0o600); err != nil {
		t.Fatal(err)
	}
	fourth := listen(t, discv5.Config{Key: key, DataDir: dir})
	if got := fourth.LocalRecord().Seq(); got != 100000000000000 {
		t.Errorf("record number %d, want 100000000000000", got)
	}
	if n := len(fourth.Table()); n != 1 {
		t.Errorf("%d nodes read of a damaged file, want 1", n)
	}
}

func hasAlive(n *discv5.Node, id enr.ID) bool {
	for _, e := range n.Table() {
		if e.Record.ID() == id && e.Alive {
			return true
		}
	}
	return false
}

func TestDataDirMustExist(t *testing.T) {
	key, err := enr.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	n, err := discv5.Listen(discv5.Config{Key: key, Listen: loopback, DataDir: filepath.Join(t.TempDir(), "nosuch")})
	if err == nil {
		t.Error("a node starts without its data directory")
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestUpdateRecord checks that a change is numbered, and no change is not.
func TestUpdateRecord(t *testing.T) {
	n := listen(t, discv5.Config{})
	events, cancel := n.Subscribe(10)
	defer cancel()
	old := n.LocalRecord()
	same, err := n.UpdateRecord(func(*enr.Content) {})
	if err != nil || same != old {
		t.Errorf("nothing changed and the record is another: %v", err)
	}
	changed, err := n.UpdateRecord(func(c *enr.Content) { c.Set("x", []byte("y")) })
	if err != nil || changed.Seq() <= old.Seq() || !changed.Contains("x", []byte("y")) {
		t.Errorf("record %s, %v", changed, err)
	}
	if e := <-events; e.Kind != discv5.RecordUpdated || e.Record != changed {
		t.Errorf("event %+v", e)
	}
	if _, err := n.UpdateRecord(func(c *enr.Content) { c.Set("x", make([]byte, 300)) }); err == nil {
		t.Error("a record of more than 300 bytes was taken")
	}
	if n.LocalRecord() != changed {
		t.Error("a refused update changed the record")
	}
}

// TestPeersLearnOfANewRecord checks that the table's nodes have the new
// record seconds after an update.
func TestPeersLearnOfANewRecord(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		a, b := w.join(), w.join()
		time.Sleep(time.Minute)
		if !hasAlive(a, b.ID()) || !hasAlive(b, a.ID()) {
			t.Fatal("two nodes have not found each other in a minute")
		}
		want, err := b.UpdateRecord(func(c *enr.Content) { c.Set("x", []byte("y")) })
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if got := a.Table(); len(got) != 1 || !got[0].Record.Equal(want) {
			t.Errorf("ten seconds later a peer has %v, want %v", got, want)
		}
	})
}

func TestClose(t *testing.T) {
	a, b := listen(t, discv5.Config{}), listen(t, discv5.Config{})
	events, _ := a.Subscribe(1)
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	for range events { // ends
	}
	if _, err := a.Ping(t.Context(), b.LocalRecord()); err != discv5.ErrClosed { //nolint:errorlint // returned as it is
		t.Errorf("ping after Close: %v, want %v", err, discv5.ErrClosed)
	}
}
