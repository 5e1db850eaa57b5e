package wire_test

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/muster-p2p/muster/rdv/wire"
)

func addrs(list ...string) (out []netip.AddrPort) {
	for _, s := range list {
		out = append(out, netip.MustParseAddrPort(s))
	}
	return out
}

// golden returns the bytes in testdata/name: lines that begin with '#' are
// comments, the others are text in Go's quoting without the quotes.
func golden(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	var out []byte
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		line = strings.TrimSuffix(line, "\n")
		line = strings.NewReplacer(`\r`, "\r", `\n`, "\n").Replace(line)
		out = append(out, line...)
	}
	return out
}

func TestGoldenMessages(t *testing.T) {
	t.Parallel()
	nonce := bytes.Repeat([]byte{7}, wire.NonceLen)
	must := func(b []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for name, got := range map[string][]byte{
		"dial_request.txt": must(wire.Request{
			Method: wire.Dial, Host: "example.com:8080", Token: "MY_TOKEN",
			SelfAddrs: addrs("192.168.1.16:39841", "[2001:db8::5]:39841"),
		}.AppendTo(nil)),
		"accept_request.txt": must(wire.Request{
			Method: wire.Accept, Host: "example.com", Path: "/rdv/", Token: "a/b %?#é",
			Ext:    wire.Ext{Proof: true, Relay: true}.String(),
			Fields: []wire.Field{{"Authorization", "Bearer sesame"}},
		}.AppendTo(nil)),
		"response.txt": must(wire.Response{
			Observed:  netip.MustParseAddrPort("203.0.113.7:51234"),
			PeerAddrs: addrs("10.0.0.2:40001", "198.51.100.9:40001"),
		}.AppendTo(nil)),
		"response_ext.txt": must(wire.Response{
			Observed: netip.MustParseAddrPort("203.0.113.7:51234"),
			PeerExt:  wire.Ext{Proof: true, Nonce: nonce}.String(),
			Fields:   []wire.Field{{"Server", "muster"}},
		}.AppendTo(nil)),
		"hello_dial.txt":   wire.Hello{Method: wire.Dial, Token: "MY_TOKEN"}.AppendTo(nil),
		"hello_accept.txt": wire.Hello{Method: wire.Accept, Token: "a/b %?#é"}.AppendTo(nil),
		"hello_proof.txt":  wire.Hello{Method: wire.Dial, Token: wire.Proof("MY_TOKEN", wire.Dial, nonce)}.AppendTo(nil),
		"continue.txt":     wire.Command{}.AppendTo(nil),
		"other.txt":        wire.Command{Other: netip.MustParseAddrPort("[2001:db8::5]:39841")}.AppendTo(nil),
	} {
		if want := golden(t, name); !bytes.Equal(got, want) {
			t.Errorf("%s:\n got %q\nwant %q", name, got, want)
		}
	}
}

func TestEncodersRefuse(t *testing.T) {
	t.Parallel()
	ok := wire.Request{Method: wire.Dial, Host: "h", Token: "t"}
	for name, c := range map[string]struct {
		change func(*wire.Request)
		want   error
	}{
		"method":          {func(r *wire.Request) { r.Method = "GET" }, wire.ErrMethod},
		"token":           {func(r *wire.Request) { r.Token = "" }, wire.ErrToken},
		"ten self addrs":  {func(r *wire.Request) { r.SelfAddrs = make([]netip.AddrPort, wire.MaxSelfAddrs+1) }, wire.ErrAddrs},
		"host injection":  {func(r *wire.Request) { r.Host = "h\r\nX: y" }, wire.ErrField},
		"path injection":  {func(r *wire.Request) { r.Path = "/ HTTP/1.1\r\n" }, wire.ErrField},
		"value injection": {func(r *wire.Request) { r.Fields = []wire.Field{{"A", "b\nC: d"}} }, wire.ErrField},
		"name injection":  {func(r *wire.Request) { r.Fields = []wire.Field{{"A: b", "c"}} }, wire.ErrField},
		"empty name":      {func(r *wire.Request) { r.Fields = []wire.Field{{"", "c"}} }, wire.ErrField},
		"framing":         {func(r *wire.Request) { r.Fields = []wire.Field{{"content-length", "3"}} }, wire.ErrField},
		"own field":       {func(r *wire.Request) { r.Fields = []wire.Field{{"rdv-self-addrs", ""}} }, wire.ErrField},
	} {
		r := ok
		c.change(&r)
		if _, err := r.AppendTo(nil); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if _, err := (wire.Response{PeerAddrs: make([]netip.AddrPort, wire.MaxPeerAddrs+1)}).AppendTo(nil); !errors.Is(err, wire.ErrAddrs) {
		t.Errorf("11 peer addrs: %v", err)
	}
}

func TestParseAddrs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		values []string
		want   []netip.AddrPort
		err    error
	}{
		{nil, nil, nil},
		{[]string{""}, nil, nil},
		{[]string{" , ,"}, nil, nil},
		{[]string{"1.2.3.4:5, [2001:db8::1]:6"}, addrs("1.2.3.4:5", "[2001:db8::1]:6"), nil},
		{[]string{"1.2.3.4:5", "1.2.3.4:6,\t1.2.3.4:7"}, addrs("1.2.3.4:5", "1.2.3.4:6", "1.2.3.4:7"), nil},
		{[]string{"[::ffff:127.0.0.1]:80"}, addrs("127.0.0.1:80"), nil},
		{[]string{"[fe80::1%eth0]:80"}, nil, wire.ErrAddr},
		{[]string{"example.com:80"}, nil, wire.ErrAddr},
		{[]string{"1.2.3.4"}, nil, wire.ErrAddr},
		{[]string{"1.2.3.4:65536"}, nil, wire.ErrAddr},
		{[]string{"0x7f.1:80"}, nil, wire.ErrAddr},
		{[]string{strings.Repeat("1.2.3.4:5,", 9)}, slices.Repeat(addrs("1.2.3.4:5"), 9), nil},
		{[]string{strings.Repeat("1.2.3.4:5,", 10)}, nil, wire.ErrAddrs},
	} {
		got, err := wire.ParseAddrs(c.values, wire.MaxSelfAddrs)
		if !errors.Is(err, c.err) || !slices.Equal(got, c.want) {
			t.Errorf("ParseAddrs(%q) = %v, %v, want %v, %v", c.values, got, err, c.want, c.err)
		}
	}
}

func TestParseLinesRefuse(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]error{
		"":                               wire.ErrLine,
		"rdv/1 DIAL t":                   wire.ErrLine,
		"rdv/1 DIAL t\nrdv/1 DIAL t\n":   wire.ErrLine,
		"rdv/2 DIAL t\n":                 wire.ErrLine,
		"rdv/1 DIAL\n":                   wire.ErrLine,
		"rdv/1 GET t\n":                  wire.ErrMethod,
		"rdv/1 DIAL \n":                  wire.ErrToken,
		"rdv/1 DIAL a b\n":               wire.ErrToken,
		"rdv/1 DIAL %zz\n":               wire.ErrToken,
		strings.Repeat("x", 4096) + "\n": wire.ErrLine,
	} {
		if _, err := wire.ParseHello([]byte(line)); !errors.Is(err, want) {
			t.Errorf("ParseHello(%.40q): %v, want %v", line, err, want)
		}
	}
	for line, want := range map[string]error{
		"CONTINUE":           wire.ErrLine,
		"CONTINUE \n":        wire.ErrLine,
		"continue\n":         wire.ErrLine,
		"OTHER\n":            wire.ErrLine,
		"OTHER x\n":          wire.ErrAddr,
		"OTHER 1.2.3.4:5 \n": wire.ErrAddr,
	} {
		if _, err := wire.ParseCommand([]byte(line)); !errors.Is(err, want) {
			t.Errorf("ParseCommand(%q): %v, want %v", line, err, want)
		}
	}
}

func TestCarriageReturnIsTolerated(t *testing.T) {
	t.Parallel()
	h, err := wire.ParseHello([]byte("rdv/1 ACCEPT x%2Fy\r\n"))
	if want := (wire.Hello{Method: wire.Accept, Token: "x/y"}); err != nil || h != want {
		t.Errorf("got %v, %v, want %v", h, err, want)
	}
	if c, err := wire.ParseCommand([]byte("CONTINUE\r\n")); err != nil || c.Other.IsValid() {
		t.Errorf("got %v, %v", c, err)
	}
}

func TestExt(t *testing.T) {
	t.Parallel()
	nonce := bytes.Repeat([]byte{1}, wire.NonceLen)
	for _, e := range []wire.Ext{{}, {Proof: true}, {Prime: true}, {Relay: true}, {Proof: true, Prime: true, Relay: true, Nonce: nonce}} {
		if got := wire.ParseExt(e.String()); got.String() != e.String() {
			t.Errorf("got %v, want %v", got, e)
		}
	}
	// What is not understood is left out.
	for _, s := range []string{"nonce=short", "future; x=y", strings.Repeat("proof; ", 100), "nonce"} {
		if e := wire.ParseExt(s); e.Proof || e.Prime || e.Relay || e.Nonce != nil {
			t.Errorf("ParseExt(%q) = %+v", s, e)
		}
	}
}

func TestProofDependsOnAll(t *testing.T) {
	t.Parallel()
	n1, n2 := bytes.Repeat([]byte{1}, wire.NonceLen), bytes.Repeat([]byte{2}, wire.NonceLen)
	seen := map[string]bool{
		wire.Proof("t", wire.Dial, n1): true, wire.Proof("t", wire.Accept, n1): true,
		wire.Proof("u", wire.Dial, n1): true, wire.Proof("t", wire.Dial, n2): true,
	}
	if len(seen) != 4 {
		t.Errorf("proofs are equal: %v", seen)
	}
}

func FuzzParseHello(f *testing.F) {
	f.Add([]byte("rdv/1 DIAL a%20b\n"))
	f.Add([]byte("rdv/1 ACCEPT MY_TOKEN\r\n"))
	f.Fuzz(func(t *testing.T, line []byte) {
		h, err := wire.ParseHello(line)
		if err != nil {
			return
		}
		again, err := wire.ParseHello(h.AppendTo(nil))
		if err != nil || again != h {
			t.Errorf("%q: parsed %v, then %v, %v", line, h, again, err)
		}
	})
}

func FuzzParseCommand(f *testing.F) {
	f.Add([]byte("CONTINUE\n"))
	f.Add([]byte("OTHER [2001:db8::1]:5\n"))
	f.Fuzz(func(t *testing.T, line []byte) {
		c, err := wire.ParseCommand(line)
		if err != nil {
			return
		}
		again, err := wire.ParseCommand(c.AppendTo(nil))
		if err != nil || again != c {
			t.Errorf("%q: parsed %v, then %v, %v", line, c, again, err)
		}
	})
}

func FuzzParseAddrs(f *testing.F) {
	f.Add("1.2.3.4:5, [2001:db8::1]:6")
	f.Add("[::ffff:1.2.3.4]:5,,")
	f.Fuzz(func(t *testing.T, value string) {
		got, err := wire.ParseAddrs([]string{value}, wire.MaxPeerAddrs)
		if err != nil {
			return
		}
		again, err := wire.ParseAddrs([]string{string(wire.AppendAddrs(nil, got))}, wire.MaxPeerAddrs)
		if err != nil || !slices.Equal(again, got) {
			t.Errorf("%q: parsed %v, then %v, %v", value, got, again, err)
		}
	})
}

func FuzzParseExt(f *testing.F) {
	f.Add("proof; relay; nonce=AQEBAQEBAQEBAQEBAQEBAQ")
	f.Fuzz(func(t *testing.T, value string) {
		e := wire.ParseExt(value)
		if again := wire.ParseExt(e.String()); again.String() != e.String() {
			t.Errorf("%q: parsed %v, then %v", value, e, again)
		}
	})
}

func BenchmarkParseHello(b *testing.B) {
	line := wire.Hello{Method: wire.Dial, Token: "MY_TOKEN"}.AppendTo(nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := wire.ParseHello(line); err != nil {
			b.Fatal(err)
		}
	}
}
