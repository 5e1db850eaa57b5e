package ticket_test

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/muster-p2p/muster/ticket"
)

var update = flag.Bool("update", false, "rewrite testdata/tickets.txt")

// A token as a point mints it: 29 bytes in base32.
const minted = "aea7wzkjn4qxk3tfovzgk5dimfxgk4tpnzsxe2lomfwgs5a"

// testKey is an Ed25519 key whose seed is 32 times b.
func testKey(t testing.TB, b byte) peer.ID {
	t.Helper()
	public := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{b}, 32)).Public().(ed25519.PublicKey)
	key, err := crypto.UnmarshalEd25519PublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// rsaPeer is the peer ID of a key that is too long to be in its ID.
const rsaPeer = "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"

func decodePeer(t testing.TB, s string) peer.ID {
	t.Helper()
	id, err := peer.Decode(s)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// golden are tickets whose text must never change: people keep them.
func golden(t testing.TB) []ticket.Ticket {
	p := testKey(t, 7)
	return []ticket.Ticket{
		{Peer: p, Token: minted, Servers: []string{"https://point.example.org"}},
		{Peer: p, Token: minted, Servers: []string{"https://rendezvous-point-1.example.org:8443"}},
		{Peer: p, Token: minted, Servers: []string{"https://point.example.org/"}},
		{Peer: p, Token: minted, Servers: []string{"http://203.0.113.7:8080", "https://p.example"}},
		{Peer: p, Token: minted, Servers: []string{"http://[2001:db8::7]:8080"}},
		{Peer: p, Token: "aaaaaaaaaaaaaaaaaaaaaaaaaa", Servers: []string{"http://a.example", "https://b.example", "http://c.example", "https://d.example"}},
		{Peer: p, Token: "0123456789-._~ABCxyz01", Servers: []string{"https://Example.org/rdv/"}},
		{Peer: decodePeer(t, rsaPeer), Token: minted, Servers: []string{"https://point.example.org"}},
	}
}

// TestGolden pins the layout: testdata/tickets.txt holds the text of golden.
func TestGolden(t *testing.T) {
	const file = "testdata/tickets.txt"
	var got strings.Builder
	for _, tk := range golden(t) {
		s, err := tk.Encode()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&got, "# peer %s token %s servers %s\n%s\n", tk.Peer, tk.Token, strings.Join(tk.Servers, " "), s)
	}
	if *update {
		if err := os.WriteFile(file, []byte(got.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Errorf("tickets changed (-want +got):\n%s", diff)
	}
}

func TestRoundTrip(t *testing.T) {
	for _, want := range golden(t) {
		text := want.String()
		if len(text) > ticket.MaxText {
			t.Errorf("%d characters: %s", len(text), text)
		}
		for _, form := range []string{text, want.Upper(), "  " + text + "\n", text[:40] + "\r\n  " + text[40:], strings.Title(text)} { //nolint:staticcheck // mixed capitals are the point
			got, err := ticket.Parse(form)
			if err != nil {
				t.Fatalf("%q: %v", form, err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%q (-want +got):\n%s", form, diff)
			}
		}
	}
}

// TestQRAlphabet: "numeric digits, upper-case letters, space, $ % * + - . / :"
// are what a QR code's alphanumeric mode stores (ISO/IEC 18004, 7.4.4).
func TestQRAlphabet(t *testing.T) {
	for _, tk := range golden(t) {
		if i := strings.IndexFunc(tk.Upper(), func(c rune) bool {
			return !strings.ContainsRune("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:", c)
		}); i >= 0 {
			t.Errorf("character %d of %s", i, tk.Upper())
		}
	}
}

// TestTypos makes every slip of one letter, every swap of two neighbours, every
// lost and every doubled letter: the checksum promises the first two, and none
// of the others is read by luck.
func TestTypos(t *testing.T) {
	text := golden(t)[0].String()
	try := func(what, s string) {
		t.Helper()
		if s == text {
			return
		}
		if got, err := ticket.Parse(s); err == nil {
			t.Errorf("%s is read as %+v", what, got)
		} else if errors.Is(err, ticket.ErrMalformed) {
			t.Errorf("%s passes the checksum: %v", what, err)
		}
	}
	for i := len(ticket.Prefix); i < len(text); i++ {
		for _, c := range "abcdefghijklmnopqrstuvwxyz0123456789-" {
			try(fmt.Sprintf("%c at %d", c, i), text[:i]+string(c)+text[i+1:])
		}
		if i+1 < len(text) {
			try(fmt.Sprintf("swap at %d", i), text[:i]+text[i+1:i+2]+text[i:i+1]+text[i+2:])
		}
		try(fmt.Sprintf("lost %d", i), text[:i]+text[i+1:])
		try(fmt.Sprintf("doubled %d", i), text[:i+1]+text[i:])
		try(fmt.Sprintf("cut at %d", i), text[:i])
	}
}

func TestParseErrors(t *testing.T) {
	good := golden(t)[0].String()
	for _, c := range []struct {
		name, in string
		want     error
	}{
		{"empty", "", ticket.ErrNotTicket},
		{"a name", "lab/nas", ticket.ErrNotTicket},
		{"a peer ID", testKey(t, 1).String(), ticket.ErrNotTicket},
		{"the letter l for the digit", "musterl" + good[7:], ticket.ErrNotTicket},
		{"only the name", "muster", ticket.ErrNotTicket},
		{"version 0", "muster0" + good[7:], ticket.ErrNotTicket},
		{"version 2", "muster2" + good[7:], ticket.ErrVersion},
		{"version 9, capitals", "MUSTER9", ticket.ErrVersion},
		{"only the prefix", "muster1", ticket.ErrTypo},
		{"digit of no ticket", good[:20] + "0" + good[21:], ticket.ErrTypo},
		{"Kelvin sign for k", good[:20] + "\u212a" + good[21:], ticket.ErrTypo},
		{"end missing", good[:len(good)-4], ticket.ErrTypo},
		{"too long", good + strings.Repeat("a", ticket.MaxText), ticket.ErrTooLong},
		{"far too long", good + strings.Repeat("a", 1<<16), ticket.ErrTooLong},
		{"far too long and no ticket", strings.Repeat("a", 1<<16), ticket.ErrNotTicket},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := ticket.Parse(c.in)
			if !errors.Is(err, c.want) {
				t.Errorf("got %+v, %v, want %v", got, err, c.want)
			}
		})
	}
}

func TestEncodeErrors(t *testing.T) {
	p := testKey(t, 7)
	server := []string{"https://point.example.org"}
	for _, c := range []struct {
		name string
		in   ticket.Ticket
		want string // in the error
	}{
		{"no peer", ticket.Ticket{Token: minted, Servers: server}, "peer"},
		{"peer of no hash", ticket.Ticket{Peer: "x", Token: minted, Servers: server}, "peer"},
		{"no token", ticket.Ticket{Peer: p, Servers: server}, "guessed"},
		{"short token", ticket.Ticket{Peer: p, Token: "t0ken", Servers: server}, "guessed"},
		{"slash in token", ticket.Ticket{Peer: p, Token: minted + "/", Servers: server}, "'/'"},
		{"no server", ticket.Ticket{Peer: p, Token: minted}, "0 servers"},
		{"five servers", ticket.Ticket{Peer: p, Token: minted, Servers: []string{"http://a", "http://b", "http://c", "http://d", "http://e"}}, "5 servers"},
		{"no scheme", ticket.Ticket{Peer: p, Token: minted, Servers: []string{"point.example.org"}}, "not an http"},
		{"other scheme", ticket.Ticket{Peer: p, Token: minted, Servers: []string{"ftp://a"}}, "not an http"},
		{"capital scheme", ticket.Ticket{Peer: p, Token: minted, Servers: []string{"HTTP://a"}}, "not an http"},
		{"no host", ticket.Ticket{Peer: p, Token: minted, Servers: []string{"http://:80"}}, "not an http"},
		{"password", ticket.Ticket{Peer: p, Token: minted, Servers: []string{"http://u:p@a"}}, "user name"},
		{"query", ticket.Ticket{Peer: p, Token: minted, Servers: []string{"http://a/?b"}}, "query"},
		{"space", ticket.Ticket{Peer: p, Token: minted, Servers: []string{"http://a b"}}, "characters"},
		{"long server", ticket.Ticket{Peer: p, Token: minted, Servers: []string{"http://" + strings.Repeat("a", 60) + ".example"}}, "server http://aaa"},
		{"very long server", ticket.Ticket{Peer: p, Token: minted, Servers: []string{"http://" + strings.Repeat("a", 300)}}, "server http://aaa"},
		{"long token", ticket.Ticket{Peer: p, Token: strings.Repeat("a", 100), Servers: server}, "token (100"},
		{"very long token", ticket.Ticket{Peer: p, Token: strings.Repeat("a", 300), Servers: server}, "token (300"},
		{"many servers", ticket.Ticket{Peer: p, Token: minted, Servers: []string{"http://first.rendezvous.example.org", "http://second.rendezvous.example.org"}}, "leave out one of 2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := c.in.Encode()
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %q, %v, want %q in the error", s, err, c.want)
			}
			if c.in.String() != "" {
				t.Error("String of an invalid ticket is not empty")
			}
			if tooLong := strings.Contains(c.name, "long") || strings.Contains(c.name, "many"); errors.Is(err, ticket.ErrTooLong) != tooLong {
				t.Errorf("ErrTooLong: %v, want %v", !tooLong, tooLong)
			}
		})
	}
}

func TestIs(t *testing.T) {
	for in, want := range map[string]bool{
		"muster1abc": true, " MUSTER2": true, "muster": false, "muster/nas": false, "": false, "mustera": false,
	} {
		if got := ticket.Is(in); got != want {
			t.Errorf("Is(%q) = %v", in, got)
		}
	}
}

// TestRandom encodes tickets of all shapes: what is encoded is parsed again.
func TestRandom(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	letters := func(alphabet string, low, high int) string {
		b := make([]byte, low+r.IntN(high-low+1))
		for i := range b {
			b[i] = alphabet[r.IntN(len(alphabet))]
		}
		return string(b)
	}
	const base32 = "abcdefghijklmnopqrstuvwxyz234567"
	for range 5000 {
		want := ticket.Ticket{Peer: testKey(t, byte(r.Uint32())), Token: letters(base32, 22, 60)}
		if r.IntN(3) == 0 {
			want.Token = letters(base32+"ABCXYZ0189-._~", 22, 40)
		}
		for range 1 + r.IntN(ticket.MaxServers) {
			s := []string{"http://", "https://"}[r.IntN(2)] + letters(base32, 1, 8) + "." + letters(base32+"ABC", 1, 8)
			want.Servers = append(want.Servers, s+[]string{"", "/", ":8080", ":443/rdv"}[r.IntN(4)])
		}
		text, err := want.Encode()
		if errors.Is(err, ticket.ErrTooLong) {
			continue
		}
		if err != nil || len(text) > ticket.MaxText {
			t.Fatalf("seed %d: %+v: %q, %v", seed, want, text, err)
		}
		got, err := ticket.Parse(text)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Fatalf("seed %d: %v (-want +got):\n%s", seed, err, diff)
		}
	}
}

// FuzzParse: whatever is read is written again with the same letters.
func FuzzParse(f *testing.F) {
	file, err := os.Open("testdata/tickets.txt")
	if err != nil {
		f.Fatal(err)
	}
	defer file.Close() //nolint:errcheck // only read
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if !strings.HasPrefix(lines.Text(), "#") {
			f.Add(lines.Text())
		}
	}
	f.Fuzz(func(t *testing.T, s string) {
		tk, err := ticket.Parse(s)
		if err != nil {
			return
		}
		if got, want := tk.String(), strings.ToLower(strings.Join(strings.Fields(s), "")); got != want {
			t.Errorf("%q is written as %q", want, got)
		}
	})
}

// FuzzSealed is FuzzParse behind the checksum.
func FuzzSealed(f *testing.F) {
	f.Add([]byte{0})
	f.Add(bytes.Repeat([]byte{7}, 60))
	f.Add(append(append([]byte{2}, make([]byte, 32)...), "\x16aaaaaaaaaaaaaaa\x81aa"...))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := ticket.Seal(b)
		tk, err := ticket.Parse(s)
		if err == nil && tk.String() != s {
			t.Errorf("%q is written as %q", s, tk.String())
		}
	})
}
