package discv5

import (
	"crypto/cipher"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/muster-p2p/muster/discv5/wire"
)

// TestColdSessionIsSmall pins the memory of a session without its ciphers.
func TestColdSessionIsSmall(t *testing.T) {
	const n, limit = 4096, 320
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	c := newSessionCache(time.Unix(1, 0), n, rand.NewChaCha8([32]byte{}))
	now := time.Unix(1, 0)
	for i := range n {
		at := endpoint{addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{1, 2, byte(i >> 8), byte(i)}), 1)}
		at.id[0], at.id[1] = byte(i>>8), byte(i)
		c.establish(now, c.ensure(at, false), newKeyset([16]byte{}, [16]byte{}))
	}
	per := int(heap()-before) / n
	if per > limit {
		t.Errorf("a cold session holds %d bytes, want at most %d", per, limit)
	}
	t.Logf("a cold session holds %d bytes", per)
	runtime.KeepAlive(c)
}

func newMask(id [32]byte) cipher.Block { return wire.NewMask(id) }

// TurnsTaken is how often callers have had the turn to read n's socket.
func TurnsTaken(n *Node) uint32 { return n.turn.taken.Load() }
