package wire_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/muster-p2p/muster/link/wire"
)

// frames are one of each kind, by the name of the golden file.
func frames() map[string][]byte {
	hello := wire.Hello{Version: wire.Version, Flags: wire.FlagNew, Ack: wire.Ack{Next: 0, Limit: 1 << 20}}
	copy(hello.Session[:], "0123456789abcdef")
	copy(hello.Proof[:], strings.Repeat("p", wire.ProofLen))
	later := hello
	later.Version, later.Flags, later.Rest = 2, 0x80, []byte("more")
	data := make([]byte, wire.DataHeaderLen, 32)
	wire.PutDataHeader(data, 1<<40, 5)
	return map[string][]byte{
		"hello.txt":       hello.AppendTo(nil),
		"hello_later.txt": later.AppendTo(nil),
		"data.txt":        append(data, "hello"...),
		"fin.txt":         wire.AppendFin(nil, 7),
		"ack.txt":         wire.Ack{Next: 7, Limit: 1<<20 + 7}.AppendTo(nil),
		"ping.txt":        wire.AppendEcho(nil, wire.PING, 1),
		"pong.txt":        wire.AppendEcho(nil, wire.PONG, 1<<63),
		"meet.txt":        wire.AppendMeet(nil, 3),
		"close.txt":       wire.Close{Code: wire.CodeRefused, Reason: "not on the list"}.AppendTo(nil),
		"close_done.txt":  wire.Close{}.AppendTo(nil),
	}
}

// TestGolden pins the bytes of every frame. UPDATE=1 writes them anew.
func TestGolden(t *testing.T) {
	t.Parallel()
	for name, got := range frames() {
		file := filepath.Join("testdata", name)
		if os.Getenv("UPDATE") != "" {
			if err := os.WriteFile(file, []byte(hex.EncodeToString(got)+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if want := strings.TrimSpace(string(text)); hex.EncodeToString(got) != want {
			t.Errorf("%s:\n got %x\nwant %s", name, got, want)
		}
		if again, err := reencode(got); err != nil || !bytes.Equal(again, got) {
			t.Errorf("%s: parsed and encoded again: %x, %v", name, again, err)
		}
	}
}

// reencode parses one frame and encodes it again.
func reencode(b []byte) ([]byte, error) {
	if len(b) < wire.HeaderLen {
		return nil, wire.ErrLength
	}
	h, err := wire.ParseHeader([wire.HeaderLen]byte(b))
	if err != nil {
		return nil, err
	}
	p := b[wire.HeaderLen:]
	if len(p) != h.Len {
		return nil, wire.ErrLength
	}
	switch h.Type {
	case wire.HELLO:
		v, err := wire.ParseHello(p)
		return v.AppendTo(nil), err
	case wire.DATA:
		off, err := wire.ParseOffset(p[:wire.OffsetLen], len(p)-wire.OffsetLen)
		out := make([]byte, wire.DataHeaderLen)
		wire.PutDataHeader(out, off, len(p)-wire.OffsetLen)
		return append(out, p[wire.OffsetLen:]...), err
	case wire.FIN:
		off, err := wire.ParseOffset(p, 1)
		return wire.AppendFin(nil, off), err
	case wire.ACK:
		v, err := wire.ParseAck(p)
		return v.AppendTo(nil), err
	case wire.PING, wire.PONG:
		id, err := wire.ParseEcho(p)
		return wire.AppendEcho(nil, h.Type, id), err
	case wire.MEET:
		n, err := wire.ParseMeet(p)
		return wire.AppendMeet(nil, n), err
	case wire.CLOSE:
		v, err := wire.ParseClose(p)
		return v.AppendTo(nil), err
	default:
		return append(h.AppendTo(nil), p...), nil
	}
}

// FuzzFrame: what a parser takes, the encoders write the same.
func FuzzFrame(f *testing.F) {
	for _, b := range frames() {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := reencode(b)
		if err == nil && !bytes.Equal(got, b) {
			t.Errorf("parsed %x, wrote %x", b, got)
		}
	})
}

func TestRefused(t *testing.T) {
	t.Parallel()
	all := frames()
	change := func(name string, at int, v byte) []byte {
		b := bytes.Clone(all[name])
		b[at] = v
		return b
	}
	for name, c := range map[string]struct {
		frame []byte
		want  error
	}{
		"type zero":               {[]byte{0, 0, 0, 0}, wire.ErrType},
		"type nine":               {[]byte{9, 0, 0, 0}, wire.ErrType},
		"ignored, too long":       {[]byte{128, 0, 0x40, 0}, wire.ErrLength},
		"huge":                    {[]byte{2, 0xff, 0xff, 0xff}, wire.ErrLength},
		"no data":                 {append([]byte{2, 0, 0, 8}, make([]byte, 8)...), wire.ErrLength},
		"short hello":             {[]byte{1, 0, 0, 2, 1, 1}, wire.ErrLength},
		"version zero":            {change("hello.txt", 4, 0), wire.ErrHello},
		"unknown flag":            {change("hello.txt", 5, 0x80), wire.ErrHello},
		"offset of data":          {change("data.txt", 4, 0x40), wire.ErrOffset},
		"offset of fin":           {change("fin.txt", 4, 0x40), wire.ErrOffset},
		"next of ack":             {change("ack.txt", 4, 0x80), wire.ErrOffset},
		"limit of hello":          {change("hello.txt", 4+2+16+32+8, 0x80), wire.ErrOffset},
		"reason is no text":       {change("close.txt", 8, 0xff), wire.ErrReason},
		"reason is too long":      {[]byte{8, 0, 2, 0}, wire.ErrLength},
		"ping of the wrong size":  {[]byte{5, 0, 0, 4, 0, 0, 0, 0}, wire.ErrLength},
		"meet of the wrong size":  {[]byte{7, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0}, wire.ErrLength},
		"close without its code":  {[]byte{8, 0, 0, 1, 0}, wire.ErrLength},
		"fin of the wrong length": {[]byte{3, 0, 0, 0}, wire.ErrLength},
	} {
		if _, err := reencode(c.frame); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// TestIgnored: a type from 128 on passes, with any payload.
func TestIgnored(t *testing.T) {
	t.Parallel()
	h, err := wire.ParseHeader([wire.HeaderLen]byte{200, 0, 0x3f, 0xfc})
	if err != nil || h.Type < wire.Ignored || h.Len != wire.MaxFrame-wire.HeaderLen {
		t.Errorf("%+v, %v", h, err)
	}
}

// TestReasonIsMended: whatever text goes in, what is written can be parsed.
func TestReasonIsMended(t *testing.T) {
	t.Parallel()
	for _, reason := range []string{"", "é", strings.Repeat("é", 200), "a" + strings.Repeat("é", 200), "\xff\xfe", strings.Repeat("\xf0", 300)} {
		b := wire.Close{Reason: reason}.AppendTo(nil)
		c, err := wire.ParseClose(b[wire.HeaderLen:])
		if err != nil || len(c.Reason) > wire.MaxReason {
			t.Errorf("%.10q: %v, %d bytes", reason, err, len(c.Reason))
		}
		if utf8.ValidString(reason) && !strings.HasPrefix(reason, c.Reason) {
			t.Errorf("%.10q became %.10q", reason, c.Reason)
		}
	}
}

// TestNoAllocation: frames that come with the data cost no memory.
func TestNoAllocation(t *testing.T) {
	b := make([]byte, 0, 256)
	n := testing.AllocsPerRun(100, func() {
		b = wire.Ack{Next: 1, Limit: 2}.AppendTo(b[:0])
		b = wire.AppendEcho(b, wire.PING, 3)
		b = wire.AppendFin(b, 4)
		if _, err := wire.ParseAck(b[wire.HeaderLen:20]); err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}
