package protoskip_test

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/muster-p2p/muster/internal/protoskip"
)

// nested returns what follows the start of a group: groups to the given depth,
// the first included, around a varint field.
func nested(depth int) []byte {
	b := bytes.Repeat(protowire.AppendTag(nil, 9, protowire.StartGroupType), depth-1)
	b = append(b, 0x08, 0x01)
	return append(b, bytes.Repeat(protowire.AppendTag(nil, 9, protowire.EndGroupType), depth)...)
}

func TestDepth(t *testing.T) {
	for depth, ok := range map[int]bool{1: true, 2: true, protoskip.MaxDepth: true, protoskip.MaxDepth + 1: false, 9999: false} {
		b := nested(depth)
		n := protoskip.Value(9, protowire.StartGroupType, append(b, 0x08)) // and the next field
		if ok != (n == len(b)) {
			t.Errorf("depth %d: %d of %d bytes", depth, n, len(b))
		}
	}
	deep := nested(9999)
	if n := testing.AllocsPerRun(10, func() { protoskip.Value(9, protowire.StartGroupType, deep) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzValue holds Value to what protowire says, but for the depth.
func FuzzValue(f *testing.F) {
	f.Add(nested(1))
	f.Add(nested(3))
	f.Add([]byte{0x4c})
	f.Add([]byte{0x4c, 0x4c})
	f.Add([]byte{0x54})
	f.Add([]byte{0x0a, 0x05, 0x01})
	f.Fuzz(func(t *testing.T, b []byte) {
		for typ := range protowire.Type(8) {
			want, got := protowire.ConsumeFieldValue(9, typ, b), protoskip.Value(9, typ, b)
			if got != want && (got >= 0 || want >= 0) && bytes.Count(b, []byte{0x4b}) < protoskip.MaxDepth && len(b) < 2*protoskip.MaxDepth {
				t.Errorf("type %d of %x: %d, protowire says %d", typ, b, got, want)
			}
		}
	})
}
