// Package protoskip passes over the values of unknown protobuf fields in a
// stranger's message, without the recursion that nested groups cost elsewhere:
// twenty kilobytes of them leave a megabyte of stack behind.
package protoskip

import "google.golang.org/protobuf/encoding/protowire"

// MaxDepth bounds groups in groups. Groups have been out of use since before
// any of our protocols was written, so none is expected.
const MaxDepth = 16

// Value returns the length of the value at the start of b of a field with the
// given number and type, or a negative number if there is none: the bytes are
// malformed, or hold groups nested deeper than MaxDepth.
func Value(num protowire.Number, typ protowire.Type, b []byte) int {
	if typ != protowire.StartGroupType {
		return protowire.ConsumeFieldValue(num, typ, b)
	}
	const malformed = -1
	open := append(make([]protowire.Number, 0, MaxDepth), num)
	for n := 0; n < len(b); {
		num, typ, k := protowire.ConsumeTag(b[n:])
		if k < 0 {
			return malformed
		}
		n += k
		last := len(open) - 1
		switch {
		case typ == protowire.StartGroupType && len(open) < MaxDepth:
			open = append(open, num)
		case typ == protowire.StartGroupType, typ == protowire.EndGroupType && num != open[last]:
			return malformed
		case typ == protowire.EndGroupType:
			if open = open[:last]; last == 0 {
				return n
			}
		default:
			k := protowire.ConsumeFieldValue(num, typ, b[n:])
			if k < 0 {
				return malformed
			}
			n += k
		}
	}
	return malformed
}
