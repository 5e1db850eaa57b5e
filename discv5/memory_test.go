package discv5_test

import (
	"runtime"
	"testing"

	"github.com/muster-p2p/muster/discv5"
)

func heap() uint64 {
	for range 3 {
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestIdleNodeIsSmall pins the heap of a node that has nothing to do.
func TestIdleNodeIsSmall(t *testing.T) {
	const n, limit = 50, 64 << 10
	listen(t, discv5.Config{}) // what is made once
	before := heap()
	for range n {
		listen(t, discv5.Config{})
	}
	if per := int(heap()-before) / n; per > limit {
		t.Errorf("an idle node holds %d bytes, want at most %d", per, limit)
	} else {
		t.Logf("an idle node holds %d bytes", per)
	}
}
