package wire_test

import (
	"bytes"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/muster-p2p/muster/rdv/wire"
)

func handOver() wire.HandOver {
	return wire.HandOver{
		Method: wire.Dial, Token: "token",
		Observed:   netip.MustParseAddrPort("192.0.2.7:4711"),
		SelfAddrs:  addrs("10.0.0.7:4711", "[2001:db8::7]:4711"),
		Host:       "rdv.example.org",
		URL:        "/token?x=y",
		RequestURI: "/rdv/token?x=y",
		RemoteAddr: "192.0.2.7:4711",
		Header:     []wire.Field{{Name: "Authorization", Value: "Bearer x"}, {Name: "X-Latin", Value: "\xfc"}},
		Response:   []wire.Field{{Name: "Set-Cookie", Value: "a=b"}},
	}
}

func TestHandOver(t *testing.T) {
	for name, h := range map[string]wire.HandOver{
		"all":   handOver(),
		"least": {Method: wire.Accept, Token: "t"},
		"check": {Method: wire.Check},
		"aside": {Method: wire.Aside},
	} {
		b, err := h.AppendTo([]byte("before"))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := wire.ParseHandOver(bytes.TrimPrefix(b, []byte("before")))
		if err != nil || !reflect.DeepEqual(got, h) {
			t.Errorf("%s: %+v, %v; want %+v", name, got, err, h)
		}
	}
}

func TestHandOverTooLarge(t *testing.T) {
	h := handOver()
	h.Host = strings.Repeat("x", wire.MaxHandOver)
	if b, err := h.AppendTo([]byte("before")); err == nil || string(b) != "before" {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

func FuzzParseHandOver(f *testing.F) {
	b, err := handOver().AppendTo(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte("\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := wire.ParseHandOver(b)
		if err != nil {
			return
		}
		if again, err := h.AppendTo(nil); err != nil || !bytes.Equal(again, b) {
			t.Errorf("%x became %x, %v", b, again, err)
		}
	})
}
