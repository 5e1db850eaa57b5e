package wire_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/muster-p2p/muster/transfer/wire"
)

// TestBytes pins the layout.
func TestBytes(t *testing.T) {
	sum := [wire.HashSize]byte{0xaa, 0xbb}
	zeroes := strings.Repeat("00", wire.HashSize-2)
	for _, c := range []struct {
		name string
		got  []byte
		want string // hex
	}{
		{"head", wire.AppendHead(nil, wire.Data, 1<<20), "0500100000"},
		{"frame", wire.AppendFrame(nil, wire.Go, nil), "1200000000"},
		{"total", wire.AppendTotal(nil, wire.Total{Files: 1, Dirs: 2, Bytes: 300}), "0102ac02"},
		{"file", wire.AppendEntry(nil, wire.Entry{Perm: 0o644, Modified: 64, Size: 5, Path: "a/b"}), "01a40380010503612f62"},
		{"directory", wire.AppendEntry(nil, wire.Entry{Dir: true, Perm: 0o755, Modified: -1, Path: "a"}), "00ed0301000161"},
		{"span", wire.AppendSpan(nil, wire.Span{Index: 3, Offset: 128}), "038001"},
		{"sum", wire.AppendSum(nil, 1, sum), "01aabb" + zeroes},
		{"error", wire.AppendError(nil, wire.Refused, "no"), "016e6f"},
	} {
		if got := hex.EncodeToString(c.got); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
}

func TestRole(t *testing.T) {
	for in, want := range map[string]error{
		string(wire.RoleSend): nil,
		string(wire.RoleRecv): nil,
		"muster-send/2\n":     wire.ErrVersion,
		"muster-recv/99":      wire.ErrVersion,
		"HTTP/1.1 400 B":      wire.ErrRole,
		"":                    wire.ErrRole,
	} {
		if _, err := wire.ParseRole([]byte(in)); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", in, err, want)
		}
	}
}

func TestHead(t *testing.T) {
	for _, c := range []struct {
		t  wire.Type
		n  int
		ok bool
	}{
		{wire.Data, wire.MaxData, true},
		{wire.Data, wire.MaxData + 1, false},
		{wire.Data, 1<<32 - 1, false},
		{wire.Entries, wire.MaxList, true},
		{wire.Entries, wire.MaxList + 1, false},
		{wire.End, wire.HashSize, true},
		{wire.End, wire.HashSize + 1, false},
		{wire.Go, 0, true},
		{wire.Go, 1, false},
		{0, 0, false},
		{99, 0, false},
	} {
		typ, n, err := wire.ParseHead(wire.AppendHead(nil, c.t, c.n))
		if (err == nil) != c.ok || err == nil && (typ != c.t || n != c.n) {
			t.Errorf("type %d, %d bytes: got %d, %d, %v", c.t, c.n, typ, n, err)
		}
	}
}

func TestRefused(t *testing.T) {
	yield := func(wire.Entry) error { return nil }
	entry := func(e wire.Entry) []byte { return wire.AppendEntry(nil, e) }
	for _, c := range []struct {
		name string
		err  func() error
	}{
		{"kind 2", func() error { return wire.ParseEntries([]byte{2, 0, 0, 0, 1, 'a'}, yield) }},
		{"directory with a size", func() error { return wire.ParseEntries(entry(wire.Entry{Dir: true, Size: 1, Path: "a"}), yield) }},
		{"setuid", func() error { return wire.ParseEntries(entry(wire.Entry{Perm: 0o4755, Path: "a"}), yield) }},
		{"too large", func() error { return wire.ParseEntries(entry(wire.Entry{Size: wire.MaxSize + 1, Path: "a"}), yield) }},
		{"path too long", func() error {
			return wire.ParseEntries(entry(wire.Entry{Path: strings.Repeat("a", wire.MaxPath+1)}), yield)
		}},
		{"path cut", func() error { return wire.ParseEntries([]byte{1, 0, 0, 0, 9, 'a'}, yield) }},
		{"long form of 0", func() error { return wire.ParseEntries([]byte{1, 0x80, 0, 0, 0, 1, 'a'}, yield) }},
		{"bytes behind a span", func() error { _, err := wire.ParseSpan([]byte{0, 0, 0}); return err }},
		{"no span", func() error { _, err := wire.ParseSpan(nil); return err }},
		{"bytes behind a sum", func() error { _, _, err := wire.ParseSum(make([]byte, wire.HashSize+2)); return err }},
		{"short end", func() error { _, err := wire.ParseEnd(make([]byte, wire.HashSize-1)); return err }},
		{"empty error", func() error { _, _, err := wire.ParseError(nil); return err }},
	} {
		if err := c.err(); !errors.Is(err, wire.ErrFrame) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestErrorText(t *testing.T) {
	c, text, err := wire.ParseError(wire.AppendError(nil, 200, strings.Repeat("x", 2*wire.MaxText)))
	if err != nil || c != wire.Other || len(text) != wire.MaxText {
		t.Errorf("got %d, %d bytes, %v", c, len(text), err)
	}
}

// FuzzPayload: what is parsed is written again byte for byte, whatever frame
// it came in.
func FuzzPayload(f *testing.F) {
	f.Add(byte(wire.Offer), wire.AppendTotal(nil, wire.Total{Files: 1, Dirs: 2, Bytes: 300}))
	f.Add(byte(wire.Entries), wire.AppendEntry(wire.AppendEntry(nil, wire.Entry{Dir: true, Path: "a"}), wire.Entry{Perm: 0o644, Modified: -5, Size: 7, Path: "a/b"}))
	f.Add(byte(wire.Want), wire.AppendSpan(wire.AppendSpan(nil, wire.Span{}), wire.Span{Index: 1, Offset: 1 << 40}))
	f.Add(byte(wire.Ask), wire.AppendSpan(nil, wire.Span{Index: 1 << 20}))
	f.Add(byte(wire.Sum), wire.AppendSum(nil, 9, [wire.HashSize]byte{1}))
	f.Add(byte(wire.Error), wire.AppendError(nil, wire.Local, "disk full"))
	f.Fuzz(func(t *testing.T, typ byte, b []byte) {
		var again []byte
		var err error
		switch wire.Type(typ) {
		case wire.Offer:
			var v wire.Total
			v, err = wire.ParseTotal(b)
			again = wire.AppendTotal(nil, v)
		case wire.Entries:
			err = wire.ParseEntries(b, func(e wire.Entry) error { again = wire.AppendEntry(again, e); return nil })
		case wire.Want:
			err = wire.ParseSpans(b, func(s wire.Span) error { again = wire.AppendSpan(again, s); return nil })
		case wire.File, wire.Ask:
			var v wire.Span
			v, err = wire.ParseSpan(b)
			again = wire.AppendSpan(nil, v)
		case wire.Sum:
			var i uint32
			var sum [wire.HashSize]byte
			i, sum, err = wire.ParseSum(b)
			again = wire.AppendSum(nil, i, sum)
		case wire.End:
			var sum [wire.HashSize]byte
			sum, err = wire.ParseEnd(b)
			again = sum[:]
		case wire.Error:
			c, text, e := wire.ParseError(b)
			if e == nil && len(text) != len(b)-1 {
				t.Errorf("%x: %d, %q", b, c, text)
			}
			return
		default:
			_, _, _ = wire.ParseHead(b)
			_, _ = wire.ParseRole(b)
			return
		}
		if err == nil && !bytes.Equal(again, b) {
			t.Error(cmp.Diff(b, again))
		}
	})
}
