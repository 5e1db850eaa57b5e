package rlp_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"

	"github.com/muster-p2p/muster/internal/rlp"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestUint(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want uint64
		err  error
	}{
		{"80", 0, nil},
		{"01", 1, nil},
		{"7f", 127, nil},
		{"8180", 128, nil},
		{"820400", 1024, nil},
		{"88ffffffffffffffff", 1<<64 - 1, nil},
		{"00", 0, rlp.ErrCanonical},
		{"8100", 0, rlp.ErrCanonical},
		{"817f", 0, rlp.ErrCanonical},
		{"820001", 0, rlp.ErrCanonical},
		{"89ffffffffffffffffff", 0, rlp.ErrRange},
		{"b801", 0, rlp.ErrCanonical},
		{"c0", 0, rlp.ErrKind},
		{"82ff", 0, rlp.ErrShort},
		{"", 0, rlp.ErrShort},
		{"bfffffffffffffffff", 0, rlp.ErrShort},
	} {
		got, _, err := rlp.Uint(unhex(t, tt.in))
		if got != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("Uint(%s) = %d, %v; want %d, %v", tt.in, got, err, tt.want, tt.err)
		}
		if tt.err != nil {
			continue
		}
		if enc := rlp.AppendUint(nil, tt.want); !bytes.Equal(enc, unhex(t, tt.in)) || len(enc) != rlp.UintSize(tt.want) {
			t.Errorf("AppendUint(%d) = %x, want %s", tt.want, enc, tt.in)
		}
	}
}

func TestStringLengths(t *testing.T) {
	for _, n := range []int{0, 1, 55, 56, 255, 256, 70000} {
		s := bytes.Repeat([]byte{0x80}, n)
		enc := rlp.AppendString(nil, s)
		if len(enc) != rlp.StringSize(s) {
			t.Errorf("StringSize(%d bytes) = %d, want %d", n, rlp.StringSize(s), len(enc))
		}
		got, rest, err := rlp.String(append(enc, 1))
		if err != nil || !bytes.Equal(got, s) || len(rest) != 1 {
			t.Errorf("String(%d bytes) = %d bytes, rest %d, %v", n, len(got), len(rest), err)
		}
		list := append(rlp.AppendList(nil, len(enc)), enc...)
		if len(list) != rlp.ListSize(len(enc)) || !rlp.Valid(list) {
			t.Errorf("list of %d bytes: size %d, want %d", n, len(list), rlp.ListSize(len(enc)))
		}
	}
}

func TestValid(t *testing.T) {
	for in, want := range map[string]bool{
		"c0":           true,
		"c20102":       true,
		"c3c20102":     true,
		"c20102ff":     false, // trailing byte
		"c28101":       false, // non-canonical member
		"c3c28101":     false, // and one level down
		"f801":         false,
		"f90000":       false,
		"c3c1c0":       false,
		"b90001ff":     false,
		"c483666f6f":   true,
		"c58366":       false,
		"c1c1":         false,
		"83646f67":     true,
		"8180":         true,
		"ff0000000001": false,
	} {
		if got := rlp.Valid(unhex(t, in)); got != want {
			t.Errorf("Valid(%s) = %t, want %t", in, got, want)
		}
	}
	deep := bytes.Repeat([]byte{0xc1}, 100)
	if rlp.Valid(append(deep, 0xc0)) {
		t.Error("a list nested 100 deep is valid")
	}
}

// FuzzSplit checks that whatever is accepted is written back the same.
func FuzzSplit(f *testing.F) {
	for _, s := range []string{"80", "c0", "b838", "f90102", "820400", "c3c20102"} {
		f.Add(unhex(f, s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		list, payload, rest, err := rlp.Split(b)
		if err != nil {
			return
		}
		var enc []byte
		if list {
			enc = append(rlp.AppendList(nil, len(payload)), payload...)
		} else {
			enc = rlp.AppendString(nil, payload)
		}
		if !bytes.Equal(append(enc, rest...), b) {
			t.Fatalf("%x read as %x %x", b, payload, rest)
		}
	})
}
