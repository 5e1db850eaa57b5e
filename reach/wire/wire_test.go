package wire_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/libp2p/go-libp2p/core/peer"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/muster-p2p/muster/reach/wire"
)

var update = flag.Bool("update", false, "rewrite testdata")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func somePeer(t testing.TB) peer.ID {
	t.Helper()
	id, err := peer.Decode("12D3KooWGzxzKZYveHXtpG6AsrUJBcWxHBFS2HsEoGTxrMLvKXtf")
	if err != nil {
		t.Fatal(err)
	}
	return id
}

type vector struct {
	name string
	msg  wire.Message
}

// vectors are messages of each kind; testdata/messages.txt holds their bytes.
func vectors(t testing.TB) []vector {
	call := [wire.CallSize]byte(bytes.Repeat([]byte{0xc5}, wire.CallSize))
	servers := []string{"http://:8080/", "https://point.example.org/rdv/"}
	const token = "2f4kq3zv7w5y6abcdefghijklm"
	return []vector{
		{"park", wire.Message{Kind: wire.Park}},
		{"park with an access token", wire.Message{Kind: wire.Park, Access: "sesame"}},
		{"parked", wire.Message{Kind: wire.Parked}},
		{"not parked", wire.Message{Kind: wire.Parked, Status: wire.Unauthorized, Text: "token expired"}},
		{"invite", wire.Message{Kind: wire.Invite, Call: call, Peer: somePeer(t), Service: "ssh", Access: "sesame"}},
		{"reserve", wire.Message{Kind: wire.Reserve}},
		{"answer", wire.Message{Kind: wire.Answer, Token: token, Servers: servers}},
		{"answer with a bearer", wire.Message{Kind: wire.Answer, Token: token, Bearer: "b", Servers: servers[:1]}},
		{"answer: not here", wire.Message{Kind: wire.Answer, Status: wire.NotHere}},
		{"invitation", wire.Message{Kind: wire.Invitation, Call: call, Peer: somePeer(t), Token: token, Servers: servers, Number: 300}},
		{"reply", wire.Message{Kind: wire.Reply, Number: 300}},
		{"reply: refused", wire.Message{Kind: wire.Reply, Number: 1, Status: wire.Refused, Text: "not you"}},
		{"ping", wire.Message{Kind: wire.Ping}},
		{"pong", wire.Message{Kind: wire.Pong}},
		{"goaway", wire.Message{Kind: wire.GoAway, Status: wire.Replaced}},
		{"forward", wire.Message{
			Kind: wire.Forward, Call: call, Peer: somePeer(t), Service: "ssh", Access: "sesame",
			Caller: somePeer(t), Source: netip.MustParseAddr("192.0.2.7"),
		}},
	}
}

// TestVectors holds the bytes of each message: they do not change within a
// version of the protocol.
func TestVectors(t *testing.T) {
	const file = "testdata/messages.txt"
	var out strings.Builder
	for _, v := range vectors(t) {
		fmt.Fprintf(&out, "# %s\n%s\n", v.name, hex.EncodeToString(wire.AppendFrame(nil, &v.msg)))
	}
	if *update {
		if err := os.WriteFile(file, []byte(out.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), out.String()); diff != "" {
		t.Errorf("bytes differ (-want +got):\n%s", diff)
	}
	for _, v := range vectors(t) {
		var got wire.Message
		if err := wire.Parse(wire.Append(nil, &v.msg), &got); err != nil {
			t.Errorf("%s: %v", v.name, err)
		} else if diff := cmp.Diff(v.msg, got, sameAddrs); diff != "" {
			t.Errorf("%s (-want +got):\n%s", v.name, diff)
		}
	}
}

var sameAddrs = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

func field(num protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(nil, num, protowire.BytesType), s)
}

func number(num protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, num, protowire.VarintType), v)
}

func TestParseRefuses(t *testing.T) {
	kind := number(1, uint64(wire.Invite))
	for name, b := range map[string][]byte{
		"nothing":          {},
		"no kind":          field(4, "ssh"),
		"a tag alone":      {0x0a},
		"a cut field":      {0x22, 5, 'a'},
		"kind as text":     field(1, "a"),
		"service a number": number(4, 1),
		"kind 256":         number(1, 256),
		"long":             append(kind, field(99, strings.Repeat("x", wire.MaxMessage))...),
		"call of 15":       append(kind, field(2, strings.Repeat("x", 15))...),
		"no peer":          append(kind, field(3, "xyz")...),
		"a long peer":      append(kind, field(3, strings.Repeat("x", wire.MaxPeer+1))...),
		"a long service":   append(kind, field(4, strings.Repeat("x", wire.MaxService+1))...),
		"service a/b":      append(kind, field(4, "a/b")...),
		"access, a space":  append(kind, field(5, "a b")...),
		"text not UTF-8":   append(kind, field(7, "\xff")...),
		"token a/b":        append(kind, field(8, "a/b")...),
		"bearer\\n":        append(kind, field(9, "a\n")...),
		"server\\r\\n":     append(kind, field(10, "http://a\r\n")...),
		"five servers":     append(kind, bytes.Repeat(field(10, "http://a"), wire.MaxServers+1)...),
		"no caller":        append(kind, field(12, "xyz")...),
		"source of 5":      append(kind, field(13, "xxxxx")...),
	} {
		var m wire.Message
		if err := wire.Parse(b, &m); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%s: %v, %+v", name, err, m)
		}
	}
}

// What a later version may send is passed over.
func TestParseLater(t *testing.T) {
	var m wire.Message
	b := append(number(1, 200), field(99, "new")...)
	b = append(b, number(6, 77)...)
	if err := wire.Parse(b, &m); err != nil || m.Kind != 200 || m.Status != 77 {
		t.Errorf("%+v, %v", m, err)
	}
	if m.Kind.String() == "" || m.Status.String() != "status 77" {
		t.Errorf("%v, %v", m.Kind, m.Status)
	}
}

// The longest message that Append may be given fits MaxMessage.
func TestLongest(t *testing.T) {
	long := func(n int) string { return strings.Repeat("x", n) }
	m := wire.Message{
		Kind: 255, Call: [wire.CallSize]byte{1}, Peer: somePeer(t), Service: long(wire.MaxService), Access: long(wire.MaxAccess),
		Status: 255, Text: long(wire.MaxText), Token: long(wire.MaxToken), Bearer: long(wire.MaxBearer), Number: 1<<64 - 1,
		Caller: somePeer(t), Source: netip.IPv6Loopback(),
	}
	for range wire.MaxServers {
		m.Servers = append(m.Servers, long(wire.MaxServer))
	}
	if n := len(wire.Append(nil, &m)); n > wire.MaxMessage {
		t.Errorf("%d bytes", n)
	}
}

func TestHello(t *testing.T) {
	for _, service := range []string{"", "ssh", strings.Repeat("x", wire.MaxService)} {
		b := wire.AppendHello(nil, service)
		n, err := wire.ParseHelloHead([wire.HelloHead]byte(b))
		if err != nil || string(b[wire.HelloHead:]) != service || n != len(service) {
			t.Errorf("%q: %x, %d, %v", service, b, n, err)
		}
	}
	for _, head := range [][wire.HelloHead]byte{{0, 0}, {2, 1}, {1, wire.MaxService + 1}, {'S', 'S'}} {
		if _, err := wire.ParseHelloHead(head); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%v: %v", head, err)
		}
	}
}

// FuzzParse: what is parsed can be written, and read again as the same.
func FuzzParse(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add(wire.Append(nil, &v.msg))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var m, again wire.Message
		if err := wire.Parse(b, &m); err != nil {
			if !errors.Is(err, wire.ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		out := wire.Append(nil, &m)
		if len(out) > wire.MaxMessage {
			t.Fatalf("%d bytes", len(out))
		}
		if err := wire.Parse(out, &again); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(m, again, sameAddrs); diff != "" {
			t.Fatal(diff)
		}
	})
}
