package pebblestore_test

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/muster-p2p/muster/rendezvous"
	"github.com/muster-p2p/muster/rendezvous/pebblestore"
	"github.com/muster-p2p/muster/rendezvous/storetest"
)

// The environment of the child that is killed, and of who wants more rounds.
const (
	childDir        = "MUSTER_TEST_STORE_CHILD"
	childDurability = "MUSTER_TEST_STORE_DURABILITY"
	killRounds      = "MUSTER_TEST_KILL_ROUNDS"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		if err := child(dir, os.Getenv(childDurability)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if os.Getenv(brokenChild) != "" {
		if err := onBrokenDisk(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m,
		// Started by a package of go-libp2p when it is linked in.
		goleak.IgnoreAnyFunction("github.com/ipfs/go-log/v2/writer.(*MirrorWriter).logRoutine"))
}

// removedNames is how many of the child's 50 names are registered and removed
// in turn; the others are only ever refreshed.
const removedNames = 10

var mayBeRemoved = func() map[string]bool {
	names := map[string]bool{}
	for i := range removedNames {
		names["ns"+strconv.Itoa(i)] = true
	}
	return names
}()

// child registers under load until it is killed. It prints a line for each
// acknowledgement, after it: what the parent has read was acknowledged.
func child(dir, durability string) error {
	d, err := pebblestore.ParseDurability(durability)
	if err != nil {
		return err
	}
	s, err := pebblestore.New(pebblestore.Config{Dir: dir, Durability: d})
	if err != nil {
		return err
	}
	m := storetest.NewMirror()
	if _, err := s.Open(context.Background(), rendezvous.Meta{}, m.Apply); err != nil {
		return err
	}
	first := m.Last() + 1 // seq grows from round to round
	var (
		wg  sync.WaitGroup
		out sync.Mutex
	)
	for w := range 8 {
		wg.Go(func() {
			for i := range 1 << 30 {
				c := storetest.Registration("ns"+strconv.Itoa(i%50), w, first+uint64(i), time.Hour)
				c.Removed = i%50 < removedNames && i/50%2 == 1
				if err := s.Commit(context.Background(), []rendezvous.Change{c}); err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
				out.Lock()
				fmt.Printf("%d %d %d %t %d\n", w, i%50, c.Seq, c.Removed, c.Expires.UnixMilli())
				out.Unlock()
			}
		})
	}
	wg.Wait()
	return nil
}

// acked is what the child was told OK for, last, under a key.
type acked struct {
	seq     uint64
	removed bool
	expires time.Time
}

// TestKill kills a process under load, at any moment, again and again over one
// directory: no acknowledged change is lost, none lives longer than its TTL,
// no position is used twice, and the store opens within 2 s.
func TestKill(t *testing.T) {
	rounds, err := strconv.Atoi(os.Getenv(killRounds))
	if err != nil {
		rounds = 3
		t.Logf("%d rounds; %s=50 for all", rounds, killRounds)
	}
	if runtime.GOOS == "windows" {
		t.Skip("needs SIGKILL")
	}
	for _, d := range []pebblestore.Durability{pebblestore.Group, pebblestore.Sync} {
		t.Run(d.String(), func(t *testing.T) {
			dir := t.TempDir()
			last := map[rendezvous.Key]acked{}
			rng := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
			var pos uint64
			total, slowest := 0, time.Duration(0)
			for round := range rounds {
				total += killRound(t, dir, d, 1+rng.IntN(3000), last)
				start := time.Now()
				s, m, _ := openStore(t, pebblestore.Config{Dir: dir, Durability: d}, rendezvous.Meta{})
				slowest = max(slowest, time.Since(start))
				if q := s.Quarantined(); q != "" {
					t.Fatalf("round %d: %s", round, q)
				}
				checkAcked(t, round, m, last)
				if m.Last() < pos {
					t.Errorf("round %d: history ends at %d, had come to %d", round, m.Last(), pos)
				}
				pos = m.Last()
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				if t.Failed() {
					return
				}
			}
			t.Logf("%d rounds, %d acknowledgements, %d keys; slowest open %v", rounds, total, len(last), slowest)
			// Beside other tests the clock tells of them, not of the store.
			if os.Getenv(killRounds) != "" && slowest > 2*time.Second {
				t.Errorf("it took %v to open, want at most 2 s", slowest)
			}
		})
	}
}

// killRound runs a child, reads n acknowledgements, kills it and reads what it
// had still written. It returns how many there were.
func killRound(t *testing.T, dir string, d pebblestore.Durability, n int, last map[rendezvous.Key]acked) int {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), childDir+"="+dir, childDurability+"="+d.String())
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	read := 0
	for lines.Scan() {
		var w, ns int
		var seq uint64
		var removed bool
		var expires int64
		if _, err := fmt.Sscanf(lines.Text(), "%d %d %d %t %d", &w, &ns, &seq, &removed, &expires); err != nil {
			break // the last line, cut
		}
		c := storetest.Registration("ns"+strconv.Itoa(ns), w, seq, time.Hour)
		last[c.Key] = acked{seq, removed, time.UnixMilli(expires)}
		if read++; read == n {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("the child ended by itself")
	}
	if read < n {
		t.Fatalf("the child gave up after %d of %d", read, n)
	}
	return read
}

// checkAcked compares what is there with what was acknowledged. What was not
// acknowledged may be there too: its seq is higher.
func checkAcked(t *testing.T, round int, m *storetest.Mirror, last map[rendezvous.Key]acked) {
	t.Helper()
	for k, a := range last {
		got, ok := m.Get(k)
		switch {
		case a.removed && ok && got.Seq <= a.seq:
			t.Errorf("round %d: %q of peer %x was removed at seq %d and is there with %d", round, k.NS, string(k.Peer), a.seq, got.Seq)
		case !a.removed && ok && got.Seq < a.seq:
			t.Errorf("round %d: %q of peer %x was registered with seq %d and is there with %d", round, k.NS, string(k.Peer), a.seq, got.Seq)
		case !a.removed && !ok:
			if mayBeRemoved[k.NS] { // by a removal that came after and was not acknowledged
				continue
			}
			t.Errorf("round %d: %q of peer %x was registered with seq %d and is lost", round, k.NS, string(k.Peer), a.seq)
		case ok && got.Seq == a.seq && got.Expires.After(a.expires.Add(100*time.Millisecond)):
			t.Errorf("round %d: %q of peer %x lives until %v, %v was granted", round, k.NS, string(k.Peer), got.Expires, a.expires)
		}
	}
}
