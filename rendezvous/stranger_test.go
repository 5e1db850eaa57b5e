package rendezvous_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/muster-p2p/muster/rendezvous"
	"github.com/muster-p2p/muster/rendezvous/wire"
)

// What follows writes protobuf by hand, as a stranger's encoder may: with
// fields in any order, twice, unknown or of the wrong type.

func field(num int, typ byte, body ...byte) []byte {
	return append(binary.AppendUvarint(nil, uint64(num)<<3|uint64(typ)), body...)
}

func varintField(num int, v uint64) []byte {
	return field(num, 0, binary.AppendUvarint(nil, v)...)
}

func bytesField(num int, v []byte) []byte {
	return field(num, 2, append(binary.AppendUvarint(nil, uint64(len(v))), v...)...)
}

func concat(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func frame(parts ...[]byte) []byte {
	b := concat(parts...)
	return append(binary.AppendUvarint(nil, uint64(len(b))), b...)
}

// unknown is a field of each wire type that no message has.
func unknown() []byte {
	return concat(
		varintField(1000, 1<<63), field(1001, 1, make([]byte, 8)...), bytesField(1002, []byte("x")),
		field(1003, 3, concat(varintField(1, 1), field(1003, 4))...), field(1004, 5, make([]byte, 4)...),
	)
}

// overlong is v as a varint of ten bytes.
func overlong(v byte) []byte {
	return append(append([]byte{v | 0x80}, bytes.Repeat([]byte{0x80}, 8)...), 0)
}

// Whatever protobuf allows is understood, in both dialects.
func TestStrangersProtobuf(t *testing.T) {
	_, ph := newPoint(t, rendezvous.Config{Waku: true})
	key := newKey(t)
	h := hostWithKey(t, key)
	rec := sign(t, key, h.ID(), 1, someAddr)
	other := sign(t, newKey(t), h.ID(), 1, someAddr)
	ns := func(s string) []byte { return bytesField(1, []byte(s)) }
	body := concat(ns("a"), bytesField(2, rec))
	for _, tt := range []struct {
		name string
		msg  func(discover uint64) []byte // the number of DISCOVER's type; its body is one more
		want wire.Status
		kind wire.Kind
	}{
		{"fields the other way round", func(uint64) []byte {
			return concat(bytesField(2, concat(bytesField(2, rec), ns("a"))), varintField(1, 0))
		}, wire.OK, wire.RegisterResponse},
		{"unknown fields everywhere", func(uint64) []byte {
			return concat(unknown(), varintField(1, 0), unknown(), bytesField(2, concat(unknown(), body, unknown())), unknown())
		}, wire.OK, wire.RegisterResponse},
		{"no type but a register", func(uint64) []byte { return bytesField(2, body) }, wire.OK, wire.RegisterResponse},
		{"the last of two types counts", func(d uint64) []byte {
			return concat(varintField(1, d), varintField(1, 0), bytesField(2, body))
		}, wire.OK, wire.RegisterResponse},
		{"the last of two names and records counts", func(uint64) []byte {
			return concat(varintField(1, 0), bytesField(2, concat(ns(""), bytesField(2, other), ns("a"), bytesField(2, rec))))
		}, wire.OK, wire.RegisterResponse},
		{"the first of two records does not count", func(uint64) []byte {
			return concat(varintField(1, 0), bytesField(2, concat(body, bytesField(2, other))))
		}, wire.InvalidSignedRecord, wire.RegisterResponse},
		{"a register in two parts is one", func(uint64) []byte {
			return concat(varintField(1, 0), bytesField(2, ns("a")), bytesField(2, bytesField(2, rec)))
		}, wire.OK, wire.RegisterResponse},
		{"the later part counts", func(uint64) []byte {
			return concat(varintField(1, 0), bytesField(2, body), bytesField(2, ns("")))
		}, wire.InvalidNamespace, wire.RegisterResponse},
		{"overlong varints", func(uint64) []byte {
			return concat(field(1, 0, overlong(0)...), bytesField(2, concat(body, field(3, 0, overlong(0)...))))
		}, wire.OK, wire.RegisterResponse},
		{"type alone", func(uint64) []byte { return varintField(1, 0) }, wire.InvalidNamespace, wire.RegisterResponse},
		{"an empty register", func(uint64) []byte { return concat(varintField(1, 0), bytesField(2, nil)) }, wire.InvalidNamespace, wire.RegisterResponse},
		{"bodies of other kinds beside it", func(d uint64) []byte {
			return concat(varintField(1, d), bytesField(2, body), bytesField(3, nil), bytesField(int(d)+1+int(d)%2, ns("b")))
		}, wire.OK, wire.DiscoverResponse},
		{"a ttl of -1 as int64", func(uint64) []byte {
			return concat(varintField(1, 0), bytesField(2, concat(body, varintField(3, 1<<64-1))))
		}, wire.InvalidTTL, wire.RegisterResponse},
		{"a limit of -1 as int64", func(d uint64) []byte {
			return concat(varintField(1, d), bytesField(int(d)+1+int(d)%2, concat(ns("a"), varintField(2, 1<<64-1))))
		}, wire.OK, wire.DiscoverResponse},
		{"a cookie of 201 bytes", func(d uint64) []byte {
			return concat(varintField(1, d), bytesField(int(d)+1+int(d)%2, concat(ns("a"), bytesField(3, make([]byte, 201)))))
		}, wire.InvalidCookie, wire.DiscoverResponse},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, d := range []wire.Dialect{wire.Libp2p, wire.Waku} {
				c := dialRaw(t, h, ph, d)
				number := uint64(3)
				if d == wire.Waku {
					number = 2
				}
				c.send(frame(tt.msg(number)))
				res, _, err := c.read()
				if d == wire.Waku && tt.want == wire.InvalidCookie {
					tt.want = wire.OK // it has none: an unknown field
				}
				if err != nil || res.Kind != tt.kind || res.Status != tt.want {
					t.Fatalf("dialect %d: %v %v %q, %v; want %v %v", d, res.Kind, res.Status, res.Text, err, tt.kind, tt.want)
				}
				c.wantStatus(wire.OK, discover("lives on", 0, nil))
			}
		})
	}
}

// What no decoder can read, or what is no request, is reset, and the point
// goes on.
func TestStrangersGarbage(t *testing.T) {
	_, ph := newPoint(t, rendezvous.Config{Waku: true})
	h := newHost(t)
	reg := varintField(1, 0)
	for _, tt := range []struct {
		name string
		b    []byte
	}{
		{"type as bytes", frame(bytesField(1, []byte{0}), bytesField(2, nil))},
		{"register as varint", frame(reg, varintField(2, 1))},
		{"ns as varint", frame(reg, bytesField(2, varintField(1, 1)))},
		{"record as fixed64", frame(reg, bytesField(2, field(2, 1, make([]byte, 8)...)))},
		{"ttl as bytes", frame(reg, bytesField(2, bytesField(3, []byte{1})))},
		{"a varint of eleven bytes", frame(field(1, 0, append(bytes.Repeat([]byte{0xff}, 10), 1)...))},
		{"a varint beyond 64 bits", frame(field(1, 0, append(bytes.Repeat([]byte{0xff}, 9), 2)...))},
		{"a varint without an end", frame([]byte{8, 0x80})},
		{"field number 0", frame(reg, []byte{0, 0})},
		{"wire type 6", frame(reg, []byte{0x0e})},
		{"a group without an end", frame(reg, field(9, 3))},
		{"an end without a group", frame(reg, field(9, 4))},
		{"groups in groups", frame(reg, bytes.Repeat(field(9, 3), 60_000))},
		{"a length past the end", frame(reg, field(2, 2, 100))},
		{"a length of 2^64-1", frame(reg, field(2, 2, binary.AppendUvarint(nil, 1<<64-1)...))},
		{"no type, no body", frame(unknown())},
		{"type 2^32, which is 0 for some", frame(varintField(1, 1<<32), bytesField(2, nil))},
		{"type -1", frame(varintField(1, 1<<64-1))},
		{"an answer", frame(varintField(1, 1), bytesField(3, varintField(1, 0)))},
		{"a length over five bytes", append(overlong(4), "1234"...)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, d := range []wire.Dialect{wire.Libp2p, wire.Waku} {
				c := dialRaw(t, h, ph, d)
				c.send(tt.b)
				if b, err := c.r.ReadByte(); !errors.Is(err, network.ErrReset) {
					t.Errorf("dialect %d: %x, %v, want a reset", d, b, err)
				}
			}
		})
	}
	dialRaw(t, h, ph, wire.Libp2p).wantStatus(wire.OK, discover("lab", 0, nil))
}

// However the bytes of requests arrive, each is answered, in order.
func TestStrangersPieces(t *testing.T) {
	_, ph := newPoint(t, rendezvous.Config{})
	key := newKey(t)
	h := hostWithKey(t, key)
	rec := sign(t, key, h.ID(), 1, someAddr)
	one := frame(varintField(1, 3), bytesField(5, bytesField(1, []byte("a"))))
	var many []byte
	want := []wire.Kind{}
	for i := range 50 {
		name := bytesField(1, fmt.Append(nil, "n", i))
		many = append(many, frame(varintField(1, 0), bytesField(2, concat(name, bytesField(2, rec))))...)
		many = append(many, frame(varintField(1, 2), bytesField(4, name))...) // never answered
		many = append(many, frame(varintField(1, 3), bytesField(5, name))...)
		want = append(want, wire.RegisterResponse, wire.DiscoverResponse)
	}
	for _, tt := range []struct {
		name  string
		b     []byte
		piece int
		want  []wire.Kind
		end   error // after the answers, once our side is closed
	}{
		{"byte by byte", one, 1, []wire.Kind{wire.DiscoverResponse}, io.EOF},
		{"many at once", many, len(many), want, io.EOF},
		{"many in pieces of 7", many, 7, want, io.EOF},
		{"nothing", nil, 1, nil, io.EOF},
		{"half a length", []byte{0x80}, 1, nil, network.ErrReset},
		{"half a request", one[:len(one)-1], 100, nil, network.ErrReset},
		{"one and a half", concat(one, one[:4]), 100, []wire.Kind{wire.DiscoverResponse}, network.ErrReset},
		{"UNREGISTER, which has no answer", frame(varintField(1, 2), bytesField(4, nil)), 100, nil, io.EOF},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := dialRaw(t, h, ph, wire.Libp2p)
			for b := tt.b; len(b) > 0; b = b[min(tt.piece, len(b)):] {
				c.send(b[:min(tt.piece, len(b))])
			}
			if err := c.s.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			for i, kind := range tt.want {
				res, _, err := c.read()
				if errors.Is(tt.end, network.ErrReset) && errors.Is(err, network.ErrReset) {
					return // a reset may overtake the answer before it
				}
				if err != nil || res.Kind != kind || res.Status != wire.OK || len(res.Records) != 0 {
					t.Fatalf("answer %d: %v %v with %d records, %v", i, res.Kind, res.Status, len(res.Records), err)
				}
			}
			if _, err := c.r.ReadByte(); !errors.Is(err, tt.end) {
				t.Errorf("the stream ends with %v, want %v", err, tt.end)
			}
		})
	}
}

// A client that is gone before its answer is, or that resets within it, leaves
// nothing behind.
func TestStrangersLeave(t *testing.T) {
	store := rendezvous.NewMemory()
	p, ph := newPoint(t, rendezvous.Config{Store: store})
	fill(t, store, "lab", 1000)
	h := newHost(t)
	ask := frame(varintField(1, 3), bytesField(5, bytesField(1, []byte("lab"))))
	for i := range 60 {
		c := dialRaw(t, h, ph, wire.Libp2p)
		c.send(ask)
		if i%2 == 0 {
			if _, err := io.ReadFull(c.r, make([]byte, 100)); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.s.Reset(); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "no stream is open", func() bool { return p.Stats().Streams == 0 })
	dialRaw(t, h, ph, wire.Libp2p).wantStatus(wire.OK, discover("lab", 0, nil))
}

// Statuses and numbers are there even when they are zero: decoders of nim and
// rust want them. The bytes are read by hand.
func TestStrangersRead(t *testing.T) {
	_, ph := newPoint(t, rendezvous.Config{Waku: true})
	key := newKey(t)
	h := hostWithKey(t, key)
	rec := sign(t, key, h.ID(), 1, someAddr)
	raw := func(d wire.Dialect, request []byte) string {
		c := dialRaw(t, h, ph, d)
		c.send(request)
		size, err := binary.ReadUvarint(c.r)
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, size)
		if _, err := io.ReadFull(c.r, b); err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	reg := concat(bytesField(1, []byte("a")), bytesField(2, rec))
	granted := func(ttl uint64) string {
		return string(concat(varintField(1, 1), bytesField(3, concat(varintField(1, 0), varintField(3, ttl)))))
	}
	if got := raw(wire.Libp2p, frame(varintField(1, 0), bytesField(2, reg))); got != granted(7200) {
		t.Errorf("REGISTER_RESPONSE %x", got)
	}
	if got := raw(wire.Waku, frame(varintField(1, 0), bytesField(2, reg))); got != granted(20) {
		t.Errorf("Waku's REGISTER_RESPONSE %x", got)
	}
	got := raw(wire.Libp2p, frame(varintField(1, 3), bytesField(5, bytesField(1, []byte("a")))))
	if !strings.HasPrefix(got, "\x08\x04\x32") || !strings.Contains(got, string(reg)+"\x18") ||
		!strings.HasSuffix(got, string(varintField(3, 0))) {
		t.Errorf("DISCOVER_RESPONSE %x", got)
	}
	got = raw(wire.Waku, frame(varintField(1, 2), bytesField(4, bytesField(1, []byte("a")))))
	if !strings.HasPrefix(got, "\x08\x03\x2a") || !strings.Contains(got, string(reg)+"\x18") ||
		!strings.HasSuffix(got, string(varintField(3, 0))) {
		t.Errorf("Waku's DISCOVER_RESPONSE %x", got)
	}
}
