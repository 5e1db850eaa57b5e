package pubsub

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"testing"
	"testing/iotest"
)

func TestFrameReader(t *testing.T) {
	for _, tt := range []struct {
		name string
		in   string
		want []string
		err  error
	}{
		{"two", "\x02hi\x01x", []string{"hi", "x"}, io.EOF},
		{"empty ones between", "\x00\x00\x01x\x00", []string{"", "", "x", ""}, io.EOF},
		{"cut in the length", "\x82", nil, io.ErrUnexpectedEOF},
		{"cut in the frame", "\x05hi", nil, io.ErrUnexpectedEOF},
		{"too long", "\x65" + string(make([]byte, 101)), nil, errFrameTooLong},
		{"length without end", string(bytes.Repeat([]byte{0x80}, 20)), nil, errFramePrefix},
	} {
		for _, slow := range []bool{false, true} {
			var r io.Reader = bytes.NewReader([]byte(tt.in))
			if slow {
				r = iotest.OneByteReader(r)
			}
			waits := 0
			fr := newFrameReader(r, 100, func(b bool) { waits += b2i(b)*2 - 1 })
			var got []string
			var err error
			for {
				var f *frame
				var b []byte
				if f, b, err = fr.next(); err != nil {
					break
				}
				got = append(got, string(b))
				if f != nil {
					f.release()
				}
			}
			if !errors.Is(err, tt.err) || len(got) != len(tt.want) {
				t.Errorf("%s: got %q, %v, want %q, %v", tt.name, got, err, tt.want, tt.err)
			}
			if waits != 0 {
				t.Errorf("%s: waiting is off by %d at the end", tt.name, waits)
			}
		}
	}
}

// A length alone reserves nothing: memory comes with the bytes.
func TestFrameLengthReservesNothing(t *testing.T) {
	in := append([]byte{0x80, 0x80, 0x40}, make([]byte, 1000)...) // 1 MiB, of which 1,000 bytes come
	n := testing.AllocsPerRun(10, func() {
		fr := newFrameReader(bytes.NewReader(in), 2<<20, func(bool) {})
		if _, _, err := fr.next(); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatal(err)
		}
	})
	if n > 6 {
		t.Errorf("%v allocations", n)
	}
	const times = 1000
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range times {
		fr := newFrameReader(bytes.NewReader(in), 2<<20, func(bool) {})
		_, _, _ = fr.next()
	}
	runtime.ReadMemStats(&after)
	if got := (after.TotalAlloc - before.TotalAlloc) / times; got > 2*readBuffer {
		t.Errorf("%d bytes allocated for a frame that did not come", got)
	}
}

// A message keeps no more than twice its size alive.
func TestFrameKeep(t *testing.T) {
	for _, tt := range []struct {
		frame, part int
		taken       bool
	}{{100, 50, false}, {100 << 10, 60 << 10, true}, {100 << 10, 40 << 10, false}} {
		f := getFrame(tt.frame)
		part := f.b[:tt.part]
		kept := f.keep(part)
		if f.taken != tt.taken || (&kept[0] == &part[0]) != tt.taken {
			t.Errorf("%d of %d bytes: taken %v, want %v", tt.part, tt.frame, f.taken, tt.taken)
		}
		f.release()
	}
}
