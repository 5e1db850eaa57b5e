package discv5

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/muster-p2p/muster/enr"
)

// FuzzHandle throws packets, masked for the node so that they get past its
// first check, at a core with a live session, a challenge and requests under
// way. Whatever comes, the session stays and answers are never longer than
// what they answer, nor go elsewhere.
func FuzzHandle(f *testing.F) {
	f.Add([]byte("discv5\x00\x01\x00............\x00\x20"), uint8(0))
	f.Add(append([]byte("discv5\x00\x01\x01............\x00\x18"), make([]byte, 24)...), uint8(1))
	f.Add(append([]byte("discv5\x00\x01\x02............\x00\x83"), make([]byte, 200)...), uint8(2))
	f.Fuzz(func(t *testing.T, header []byte, from uint8) {
		now := time.Unix(1_800_000_000, 0)
		c, peer := fuzzCore(t, now)
		addr := peer.addr
		if from%2 == 1 {
			addr = netip.MustParseAddrPort("192.0.2.9:1")
		}
		packet := make([]byte, 16, 16+len(header))
		packet = maskFor(c.self, append(packet, header...))
		size := len(packet)
		var out outbox
		c.handle(now, addr, packet, &out)
		for _, p := range out.packets[:out.n] {
			if p.to != addr || len(p.b) > size {
				t.Fatalf("%d bytes from %s answered with %d to %s", size, addr, len(p.b), p.to)
			}
		}
		if s := c.sessions.byPeer[peer]; s == nil || !s.current.live() {
			t.Fatal("the session is gone")
		}
		c.tick(now.Add(time.Minute), &out)
	})
}

func fuzzCore(t testing.TB, now time.Time) (*core, endpoint) {
	t.Helper()
	key, err := enr.NewPrivateKey(slices.Repeat([]byte{1}, 32))
	if err != nil {
		t.Fatal(err)
	}
	other, err := enr.NewPrivateKey(slices.Repeat([]byte{2}, 32))
	if err != nil {
		t.Fatal(err)
	}
	content := enr.Content{Seq: 1}
	local, err := content.Sign(key)
	if err != nil {
		t.Fatal(err)
	}
	content.SetUDPEndpoint(netip.MustParseAddrPort("198.51.100.7:30303"))
	record, err := content.Sign(other)
	if err != nil {
		t.Fatal(err)
	}
	c := newCore(now, Config{Key: key}.withDefaults(), families{v4: true}, local, true)
	peer := endpoint{record.ID(), netip.MustParseAddrPort("198.51.100.7:30303")}
	c.sessions.establish(now, c.sessions.ensure(peer, false), newKeyset([16]byte{1}, [16]byte{2}))
	var out outbox
	for _, addr := range []netip.AddrPort{peer.addr, netip.MustParseAddrPort("192.0.2.9:1")} {
		r := &request{kind: 1, done: make(chan *request, 1)}
		if err := c.begin(now, r, record, addr, &out); err != nil {
			t.Fatal(err)
		}
	}
	return c, peer
}

// maskFor masks b, whose first 16 bytes are the vector, for the node id.
func maskFor(id enr.ID, b []byte) []byte {
	block := newMask(id)
	ctr, key := [16]byte(b), [16]byte{}
	for i := 16; i < len(b); i += 16 {
		block.Encrypt(key[:], ctr[:])
		for j := i; j < min(i+16, len(b)); j++ {
			b[j] ^= key[j-i]
		}
		ctr[15]++
	}
	return b
}

// FuzzNodes reads node files.
func FuzzNodes(f *testing.F) {
	f.Add([]byte("enr:-IS4QHCYrYZbAKWCBRlAy5zzaDZXJBGkcnh4MHcBFZntXNFrdvJjX04jRzjzCBOonrkTfj499SZuOh8R33Ls8RRcy5wBgmlkgnY0gmlwhH8AAAGJc2VjcDI1NmsxoQPKY0yuDUmstAHYpMa2_oxVtw0RW_QAdpzBQA8yWM0xOIN1ZHCCdl8 1800000000\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		now := time.Unix(1_800_000_000, 0)
		nodes := decodeNodes(now, b)
		saved := make([]savedNode, len(nodes))
		for i, r := range nodes {
			saved[i] = savedNode{r, now}
		}
		again := decodeNodes(now, encodeNodes(saved))
		if !slices.EqualFunc(nodes, again, (*enr.Record).Equal) {
			t.Fatalf("%d nodes come back as %d", len(nodes), len(again))
		}
	})
}
