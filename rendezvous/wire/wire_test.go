package wire_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/muster-p2p/muster/rendezvous/wire"
)

var update = flag.Bool("update", false, "rewrite testdata")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// vectors are messages of each kind in both dialects; testdata/messages.txt
// holds their bytes.
var vectors = []struct {
	name    string
	dialect wire.Dialect
	msg     wire.Message
}{
	{"register", wire.Libp2p, wire.Message{Kind: wire.Register, NS: "lab", Record: []byte{0xaa, 0xbb}, TTL: 7200, HasTTL: true}},
	{"register without ttl", wire.Libp2p, wire.Message{Kind: wire.Register, NS: "lab", Record: []byte{0xaa, 0xbb}}},
	{"register response", wire.Libp2p, wire.Message{Kind: wire.RegisterResponse, TTL: 7200, HasTTL: true}},
	{"register refused", wire.Libp2p, wire.Message{Kind: wire.RegisterResponse, Status: wire.InvalidTTL, Text: "too long"}},
	{"unregister", wire.Libp2p, wire.Message{Kind: wire.Unregister, NS: "lab", ID: []byte{0x00, 0x01}}},
	{"unregister all", wire.Libp2p, wire.Message{Kind: wire.Unregister}},
	{"discover", wire.Libp2p, wire.Message{Kind: wire.Discover, NS: "lab", HasNS: true, Limit: 10, HasLim: true, Cookie: []byte("cookie")}},
	{"discover all", wire.Libp2p, wire.Message{Kind: wire.Discover}},
	{"discover all, ns empty", wire.Libp2p, wire.Message{Kind: wire.Discover, HasNS: true}},
	{"discover response", wire.Libp2p, wire.Message{Kind: wire.DiscoverResponse, Cookie: []byte("next"), Records: []wire.Registration{
		{NS: "lab", Record: []byte{1, 2, 3}, TTL: 1, HasTTL: true},
		{NS: "lab", Record: bytes.Repeat([]byte{4}, 200), TTL: 259200, HasTTL: true},
	}}},
	{"discover refused", wire.Libp2p, wire.Message{Kind: wire.DiscoverResponse, Status: wire.InvalidCookie, Text: "unknown cookie"}},
	{"waku register", wire.Waku, wire.Message{Kind: wire.Register, NS: "lab", Record: []byte{0xaa}, TTL: 20, HasTTL: true}},
	{"waku register, ttl -1", wire.Waku, wire.Message{Kind: wire.Register, NS: "lab", Record: []byte{0xaa}, TTL: 1<<64 - 1, HasTTL: true}},
	{"waku register response", wire.Waku, wire.Message{Kind: wire.RegisterResponse, TTL: 20, HasTTL: true}},
	{"waku discover", wire.Waku, wire.Message{Kind: wire.Discover, NS: "lab", HasNS: true, Limit: 5, HasLim: true}},
	{"waku discover response", wire.Waku, wire.Message{Kind: wire.DiscoverResponse, Status: wire.Unavailable, Text: "busy", Records: []wire.Registration{
		{NS: "lab", Record: []byte{1}, TTL: 19, HasTTL: true},
	}}},
}

// readVectors reads "# comment" and hex lines.
func readVectors(t *testing.T, name string) map[string][]byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]byte{}
	var title string
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if after, ok := strings.CutPrefix(line, "# "); ok {
			title = after
		} else if line != "" {
			if out[title], err = hex.DecodeString(line); err != nil {
				t.Fatal(err)
			}
		}
	}
	return out
}

func TestGolden(t *testing.T) {
	const file = "testdata/messages.txt"
	if *update {
		var b strings.Builder
		for _, v := range vectors {
			fmt.Fprintf(&b, "# %s\n%x\n", v.name, wire.Append(nil, v.dialect, &v.msg))
		}
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	golden := readVectors(t, file)
	for _, v := range vectors {
		t.Run(v.name, func(t *testing.T) {
			want, ok := golden[v.name]
			if !ok {
				t.Fatal("no golden bytes; run with -update")
			}
			if got := wire.Append(nil, v.dialect, &v.msg); !bytes.Equal(got, want) {
				t.Errorf("Append\n got %x\nwant %x", got, want)
			}
			var got wire.Message
			if err := wire.Parse(v.dialect, want, &got, 1000); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(v.msg, got); diff != "" {
				t.Errorf("Parse (-want +got)\n%s", diff)
			}
		})
	}
}

// Bytes that other writers send: zeros left out by proto3, unknown fields,
// fields in another order.
func TestParseForeign(t *testing.T) {
	tests := []struct {
		name    string
		dialect wire.Dialect
		hex     string
		want    wire.Message
	}{
		{"REGISTER without a type", wire.Libp2p, "1207" + "0a03" + "6c6162" + "1801", wire.Message{NS: "lab", TTL: 1, HasTTL: true}},
		{"answer without status", wire.Libp2p, "0801" + "1a03" + "18a038", wire.Message{Kind: wire.RegisterResponse, TTL: 7200, HasTTL: true}},
		{"empty answer of proto3", wire.Libp2p, "0804" + "3200", wire.Message{Kind: wire.DiscoverResponse}},
		{"type last", wire.Libp2p, "2a05" + "0a03" + "6c6162" + "0803", wire.Message{Kind: wire.Discover, NS: "lab", HasNS: true}},
		{"unknown fields", wire.Libp2p, "0803" + "2a07" + "0a03" + "6c6162" + "7801" + "a20602" + "abcd", wire.Message{Kind: wire.Discover, NS: "lab", HasNS: true}},
		{"present but empty ns and cookie", wire.Libp2p, "0803" + "2a04" + "0a00" + "1a00", wire.Message{Kind: wire.Discover, HasNS: true, Cookie: []byte{}}},
		{"an UNREGISTER reads as Waku's DISCOVER", wire.Waku, "0802" + "2205" + "0a03" + "6c6162", wire.Message{Kind: wire.Discover, NS: "lab", HasNS: true}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b, err := hex.DecodeString(tt.hex)
			if err != nil {
				t.Fatal(err)
			}
			var got wire.Message
			if err := wire.Parse(tt.dialect, b, &got, 10); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestParseMalformed(t *testing.T) {
	tests := []struct {
		name    string
		dialect wire.Dialect
		hex     string
	}{
		{"empty", wire.Libp2p, ""},
		{"text", wire.Libp2p, hex.EncodeToString([]byte("GET / HTTP/1.1"))},
		{"cut length", wire.Libp2p, "0800" + "12ff"},
		{"length of 2^63", wire.Libp2p, "0800" + "12ffffffffffffffffff01"},
		{"type is bytes", wire.Libp2p, "0a01" + "00"},
		{"body is a varint", wire.Libp2p, "0800" + "1001"},
		{"unknown type", wire.Libp2p, "0805"},
		{"subscribe of older peers", wire.Libp2p, "0864"},
		{"libp2p's DISCOVER_RESPONSE type in Waku", wire.Waku, "0804"},
		{"field number 0", wire.Libp2p, "0000"},
		{"varint of 11 bytes", wire.Libp2p, "08ffffffffffffffffffff01"},
		{"group without an end", wire.Libp2p, "0800" + "7b"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b, err := hex.DecodeString(tt.hex)
			if err != nil {
				t.Fatal(err)
			}
			var m wire.Message
			if err := wire.Parse(tt.dialect, b, &m, 10); !errors.Is(err, wire.ErrMalformed) {
				t.Errorf("got %v, want ErrMalformed", err)
			}
		})
	}
}

func TestParseBounds(t *testing.T) {
	m := wire.Message{Kind: wire.DiscoverResponse, Text: strings.Repeat("ä", 400)}
	for range 20 {
		m.Records = append(m.Records, wire.Registration{NS: "lab", Record: []byte{1}})
	}
	var got wire.Message
	if err := wire.Parse(wire.Libp2p, wire.Append(nil, wire.Libp2p, &m), &got, 7); err != nil {
		t.Fatal(err)
	}
	if len(got.Records) != 7 || !got.More {
		t.Errorf("%d records, more %v; want 7, true", len(got.Records), got.More)
	}
	if len(got.Text) > wire.MaxText {
		t.Errorf("text of %d bytes", len(got.Text))
	}
	// Two bytes of input cost nothing when no records are wanted.
	flood := wire.Append(nil, wire.Libp2p, &wire.Message{Kind: wire.DiscoverResponse, Records: make([]wire.Registration, 10_000)})
	if n := testing.AllocsPerRun(10, func() { _ = wire.Parse(wire.Libp2p, flood, &got, 0) }); n > 0 {
		t.Errorf("%v allocations for records that were not asked for", n)
	}
}

func TestPage(t *testing.T) {
	rec := wire.Registration{NS: "lab", Record: bytes.Repeat([]byte{7}, 211), TTL: 7000, HasTTL: true}
	cookie := bytes.Repeat([]byte{'c'}, 72)
	for _, d := range []wire.Dialect{wire.Libp2p, wire.Waku} {
		for _, limit := range []int{400, 1000, 60 << 10, 1<<20 - 1024} {
			var p wire.Page
			p.Reset(d)
			want := wire.Message{Kind: wire.DiscoverResponse, Cookie: cookie}
			for p.Room(&rec, len(cookie), limit) {
				p.Add(&rec)
				want.Records = append(want.Records, rec)
			}
			got := p.Finish(cookie, wire.OK, "")
			if frame := wire.AppendFrame(nil, d, &want); !bytes.Equal(got, frame) {
				t.Fatalf("limit %d: page differs from the message", limit)
			}
			_, n := binary.Uvarint(got)
			size := len(got) - n
			if size > limit {
				t.Errorf("limit %d: %d bytes", limit, size)
			}
			if more := size + 300; more < limit {
				t.Errorf("limit %d: stopped at %d bytes", limit, size)
			}
		}
	}
}

func TestPageAllocations(t *testing.T) {
	rec := wire.Registration{NS: "lab", Record: make([]byte, 211), TTL: 7000, HasTTL: true}
	cookie := make([]byte, 72)
	var p wire.Page
	fill := func() {
		p.Reset(wire.Libp2p)
		for range 1000 {
			p.Add(&rec)
		}
		p.Finish(cookie, wire.OK, "")
	}
	fill()
	if n := testing.AllocsPerRun(10, fill); n != 0 {
		t.Errorf("%v allocations for 1000 records, want 0", n)
	}
}

func TestParseAllocations(t *testing.T) {
	req := wire.Append(nil, wire.Libp2p, &wire.Message{Kind: wire.Register, NS: "lab", Record: make([]byte, 211)})
	page := wire.Message{Kind: wire.DiscoverResponse}
	for range 1000 {
		page.Records = append(page.Records, wire.Registration{NS: "lab", Record: make([]byte, 211), TTL: 1, HasTTL: true})
	}
	res := wire.Append(nil, wire.Libp2p, &page)
	var m wire.Message
	if n := testing.AllocsPerRun(100, func() { _ = wire.Parse(wire.Libp2p, req, &m, 0) }); n > 1 {
		t.Errorf("REGISTER: %v allocations, want 1 (the ns)", n)
	}
	if n := testing.AllocsPerRun(100, func() { _ = wire.Parse(wire.Libp2p, res, &m, 1000) }); n > 1 {
		t.Errorf("1000 records: %v allocations, want 1 (the ns)", n)
	}
}

func TestEnvelope(t *testing.T) {
	if _, err := wire.ParseEnvelope(nil); !errors.Is(err, wire.ErrMalformed) {
		t.Errorf("empty: %v", err)
	}
	info := wire.AppendPeerInfo(nil, &wire.PeerRecord{ID: []byte{0, 1, 2}, Addrs: [][]byte{{4, 127, 0, 0, 1}}})
	if _, err := wire.ParseEnvelope(info); !errors.Is(err, wire.ErrMalformed) {
		t.Errorf("a PeerInfo is not an envelope: %v", err)
	}
	got, err := wire.ParsePeerInfo(info, 1)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(wire.PeerRecord{ID: []byte{0, 1, 2}, Addrs: [][]byte{{4, 127, 0, 0, 1}}}, got); diff != "" {
		t.Error(diff)
	}
	if _, err := wire.ParsePeerInfo(info, 0); err == nil {
		t.Error("more addresses than allowed accepted")
	}
}
