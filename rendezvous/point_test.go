package rendezvous_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/record"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/muster-p2p/muster"
	"github.com/muster-p2p/muster/rendezvous"
	"github.com/muster-p2p/muster/rendezvous/wire"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// Started by packages of go-libp2p when they are linked in.
		goleak.IgnoreAnyFunction("github.com/ipfs/go-log/v2/writer.(*MirrorWriter).logRoutine"),
	)
}

func newKey(t testing.TB) crypto.PrivKey {
	t.Helper()
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newHost(t testing.TB, agent ...string) host.Host {
	t.Helper()
	return hostWithKey(t, newKey(t), agent...)
}

func hostWithKey(t testing.TB, key crypto.PrivKey, agent ...string) host.Host {
	t.Helper()
	h, err := muster.NewHost(muster.HostConfig{
		Key: key, Listen: []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/tcp/0")}, UserAgent: strings.Join(agent, ""),
		ResourceManager: &network.NullResourceManager{},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

func newPoint(t testing.TB, cfg rendezvous.Config) (*rendezvous.Point, host.Host) {
	t.Helper()
	h := newHost(t)
	return pointOn(t, h, cfg), h
}

func pointOn(t testing.TB, h host.Host, cfg rendezvous.Config) *rendezvous.Point {
	t.Helper()
	p, err := rendezvous.NewPoint(h, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// open is a point without limits, for floods and benchmarks.
func open(store rendezvous.Store) rendezvous.Config {
	none := rendezvous.Rate{PerSecond: -1}
	return rendezvous.Config{
		Store:      store,
		Limits:     rendezvous.Limits{PerPeer: -1, PerSource: -1, PerNet: -1, PerNamespace: -1, Total: -1, Bytes: -1},
		Rates:      rendezvous.Rates{Peer: none, Source: none, Total: none},
		MaxStreams: -1, MaxPeerStreams: -1,
	}
}

// know lets h find the others.
func know(h host.Host, others ...host.Host) {
	for _, o := range others {
		h.Peerstore().AddAddrs(o.ID(), o.Addrs(), peerstore.PermanentAddrTTL)
	}
}

// A rawClient speaks to a point in bytes, as any implementation might.
type rawClient struct {
	t testing.TB
	h host.Host
	s network.Stream
	r *bufio.Reader
	d wire.Dialect
}

func dialRaw(t testing.TB, h, point host.Host, d wire.Dialect) *rawClient {
	t.Helper()
	know(h, point)
	id := rendezvous.ProtocolID
	if d == wire.Waku {
		id = rendezvous.WakuProtocolID
	}
	s, err := h.NewStream(t.Context(), point.ID(), id)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Reset() })
	return &rawClient{t: t, h: h, s: s, r: bufio.NewReader(s), d: d}
}

func (c *rawClient) send(b []byte) {
	c.t.Helper()
	if _, err := c.s.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

func (c *rawClient) read() (wire.Message, int, error) {
	size, err := binary.ReadUvarint(c.r)
	if err != nil {
		return wire.Message{}, 0, err
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(c.r, b); err != nil {
		return wire.Message{}, 0, err
	}
	var m wire.Message
	err = wire.Parse(c.d, b, &m, 10_000)
	return m, int(size), err
}

func (c *rawClient) ask(m wire.Message) wire.Message {
	c.t.Helper()
	c.send(wire.AppendFrame(nil, c.d, &m))
	res, _, err := c.read()
	if err != nil {
		c.t.Fatalf("%v: %v", m.Kind, err)
	}
	return res
}

func (c *rawClient) wantStatus(want wire.Status, m wire.Message) wire.Message {
	c.t.Helper()
	res := c.ask(m)
	if res.Status != want {
		c.t.Errorf("%v %q ttl %d: %v (%s), want %v", m.Kind, m.NS, m.TTL, res.Status, res.Text, want)
	}
	return res
}

// sign makes a signed record with the given domain and type.
func sign(t testing.TB, key crypto.PrivKey, about peer.ID, seq uint64, addrs ...string) []byte {
	t.Helper()
	rec := &peer.PeerRecord{PeerID: about, Seq: seq}
	for _, a := range addrs {
		rec.Addrs = append(rec.Addrs, ma.StringCast(a))
	}
	return seal(t, key, rec)
}

func seal(t testing.TB, key crypto.PrivKey, rec record.Record) []byte {
	t.Helper()
	env, err := record.Seal(rec, key)
	if err != nil {
		t.Fatal(err)
	}
	b, err := env.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A rustRecord is signed as rust-libp2p does by default.
type rustRecord struct{ peer.PeerRecord }

func (*rustRecord) Domain() string { return "libp2p-routing-state" }
func (*rustRecord) Codec() []byte  { return []byte("/libp2p/routing-state-record") }

// A payload is any record.
type payload struct {
	domain string
	codec  []byte
	body   []byte
}

func (p *payload) Domain() string                 { return p.domain }
func (p *payload) Codec() []byte                  { return p.codec }
func (p *payload) MarshalRecord() ([]byte, error) { return p.body, nil }
func (p *payload) UnmarshalRecord([]byte) error   { return nil }

const someAddr = "/ip4/192.0.2.1/tcp/4001"

func register(ns string, rec []byte, ttl uint64) wire.Message {
	return wire.Message{Kind: wire.Register, NS: ns, Record: rec, TTL: ttl, HasTTL: ttl > 0}
}

func discover(ns string, limit uint64, cookie []byte) wire.Message {
	return wire.Message{Kind: wire.Discover, NS: ns, HasNS: ns != "", Limit: limit, HasLim: limit > 0, Cookie: cookie}
}

func TestRegisterDiscoverUnregister(t *testing.T) {
	_, ph := newPoint(t, rendezvous.Config{})
	key := newKey(t)
	c := dialRaw(t, hostWithKey(t, key), ph, wire.Libp2p)
	rec := sign(t, key, c.h.ID(), 1, someAddr)

	res := c.wantStatus(wire.OK, register("lab", rec, 0))
	if res.Kind != wire.RegisterResponse || !res.HasTTL || res.TTL != 7200 {
		t.Errorf("answer %+v, want a ttl of 2 h", res)
	}
	res = c.wantStatus(wire.OK, discover("lab", 0, nil))
	if len(res.Records) != 1 {
		t.Fatalf("%d records, want 1", len(res.Records))
	}
	got := res.Records[0]
	if got.NS != "lab" || string(got.Record) != string(rec) || !got.HasTTL || got.TTL < 7190 || got.TTL > 7200 {
		t.Errorf("record: ns %q, ttl %d, bytes as sent %v", got.NS, got.TTL, string(got.Record) == string(rec))
	}
	if len(res.Cookie) < 8 || len(res.Cookie) > 200 {
		t.Errorf("cookie of %d bytes", len(res.Cookie))
	}
	if again := c.wantStatus(wire.OK, discover("lab", 0, res.Cookie)); len(again.Records) != 0 || again.Cookie == nil {
		t.Errorf("a poll brought %d records", len(again.Records))
	}
	c.wantStatus(wire.OK, register("lab", rec, 7200)) // refreshed: it comes again
	if again := c.wantStatus(wire.OK, discover("lab", 0, res.Cookie)); len(again.Records) != 1 {
		t.Errorf("after a refresh a poll brought %d records", len(again.Records))
	}
	// No answer to UNREGISTER; the next one on the stream comes after it.
	c.send(wire.AppendFrame(nil, wire.Libp2p, &wire.Message{Kind: wire.Unregister, NS: "lab"}))
	if res := c.wantStatus(wire.OK, discover("lab", 0, nil)); len(res.Records) != 0 {
		t.Error("still there after UNREGISTER")
	}
}

func TestUnregister(t *testing.T) {
	_, ph := newPoint(t, rendezvous.Config{})
	key := newKey(t)
	c := dialRaw(t, hostWithKey(t, key), ph, wire.Libp2p)
	rec := sign(t, key, c.h.ID(), 1, someAddr)
	live := func() (n int) {
		for _, ns := range []string{"a", "b", "c"} {
			n += len(c.wantStatus(wire.OK, discover(ns, 0, nil)).Records)
		}
		return n
	}
	for _, ns := range []string{"a", "b", "c"} {
		c.wantStatus(wire.OK, register(ns, rec, 0))
	}
	for _, step := range []struct {
		name string
		msg  wire.Message
		want int
	}{
		{"an unknown name", wire.Message{NS: "x"}, 3},
		{"somebody else's id", wire.Message{NS: "a", ID: []byte(newHost(t).ID())}, 3},
		{"one name", wire.Message{NS: "a"}, 2},
		{"own id", wire.Message{NS: "b", ID: []byte(c.h.ID())}, 1},
		{"all names", wire.Message{}, 0},
	} {
		step.msg.Kind = wire.Unregister
		c.send(wire.AppendFrame(nil, wire.Libp2p, &step.msg))
		if got := live(); got != step.want {
			t.Errorf("%s: %d left, want %d", step.name, got, step.want)
		}
	}
}

// A status wherever the request could be parsed.
func TestStatuses(t *testing.T) {
	denied := func(_ context.Context, r rendezvous.Request) error {
		if strings.HasPrefix(r.NS, "secret") {
			return errors.New("not on the list")
		}
		if strings.HasPrefix(r.NS, "undecided") {
			return fmt.Errorf("the service is away: %w", rendezvous.ErrUndecided)
		}
		return nil
	}
	_, ph := newPoint(t, rendezvous.Config{Access: denied, Waku: true})
	key := newKey(t)
	h := hostWithKey(t, key)
	me := h.ID()
	good := sign(t, key, me, 10, someAddr)
	otherKey := newKey(t)
	other, err := peer.IDFromPrivateKey(otherKey)
	if err != nil {
		t.Fatal(err)
	}
	flipped := slices.Clone(good)
	flipped[len(flipped)-1] ^= 1
	many := make([]string, 65)
	for i := range many {
		many[i] = fmt.Sprintf("/ip4/192.0.2.1/tcp/%d", i+1)
	}
	var long []string
	for i := range 20 {
		long = append(long, fmt.Sprintf("/dns4/%s%d.example/tcp/1", strings.Repeat("a", 110), i))
	}
	bad := payload{"libp2p-peer-record", []byte{3, 1}, []byte("\x0a\xff")}
	noAddr := payload{"libp2p-peer-record", []byte{3, 1}, append([]byte{0x0a, byte(len(me))}, me...)}
	badAddr := payload{"libp2p-peer-record", []byte{3, 1}, append(slices.Clone(noAddr.body), 0x1a, 4, 0x0a, 2, 0xff, 0xff)}

	for _, tt := range []struct {
		name string
		msg  wire.Message
		want wire.Status
		waku wire.Status
	}{
		{"good", register("ok", good, 7200), wire.OK, wire.InvalidTTL},
		{"same again", register("ok", good, 0), wire.OK, wire.OK},
		{"rust's envelope", register("ok", seal(t, key, &rustRecord{peer.PeerRecord{PeerID: me, Seq: 10, Addrs: []ma.Multiaddr{ma.StringCast(someAddr)}}}), 0), wire.OK, wire.OK},
		{"equal seq", register("ok", sign(t, key, me, 10, someAddr, "/ip4/192.0.2.2/tcp/1"), 0), wire.OK, wire.OK},
		{"stale seq", register("ok", sign(t, key, me, 9, someAddr), 0), wire.InvalidSignedRecord, wire.InvalidSignedRecord},
		{"stale seq, other name", register("ok2", sign(t, key, me, 9, someAddr), 0), wire.InvalidSignedRecord, wire.InvalidSignedRecord},
		{"ns of 255", register(strings.Repeat("n", 255), good, 0), wire.OK, wire.OK},
		{"ns of 256", register(strings.Repeat("n", 256), good, 0), wire.InvalidNamespace, wire.OK},
		{"ns of 257", register(strings.Repeat("n", 257), good, 0), wire.InvalidNamespace, wire.InvalidNamespace},
		{"ns of 255 bytes, 85 runes", register(strings.Repeat("€", 85), good, 0), wire.OK, wire.OK},
		{"ns empty", register("", good, 0), wire.InvalidNamespace, wire.InvalidNamespace},
		{"ns not UTF-8", register("a\xff", good, 0), wire.InvalidNamespace, wire.InvalidNamespace},
		{"ns with NUL", register("a\x00b", good, 0), wire.OK, wire.OK},
		{"ttl 1", register("ok", good, 1), wire.InvalidTTL, wire.OK},
		{"ttl 20", register("ok", good, 20), wire.InvalidTTL, wire.OK},
		{"ttl 21", register("ok", good, 21), wire.InvalidTTL, wire.InvalidTTL},
		{"ttl 59", register("ok", good, 59), wire.InvalidTTL, wire.InvalidTTL},
		{"ttl 60", register("ok", good, 60), wire.OK, wire.InvalidTTL},
		{"ttl 72 h", register("ok", good, 259200), wire.OK, wire.InvalidTTL},
		{"ttl 72 h and 1 s", register("ok", good, 259201), wire.InvalidTTL, wire.InvalidTTL},
		{"ttl 2^63", register("ok", good, 1<<63), wire.InvalidTTL, wire.InvalidTTL},
		{"ttl -1", register("ok", good, 1<<64-1), wire.InvalidTTL, wire.InvalidTTL},
		{"ttl that overflows a Duration", register("ok", good, (1<<63)/1_000_000_000+100), wire.InvalidTTL, wire.InvalidTTL},
		{"no record", register("ok", nil, 0), wire.InvalidSignedRecord, wire.InvalidSignedRecord},
		{"garbage record", register("ok", []byte("garbage"), 0), wire.InvalidSignedRecord, wire.InvalidSignedRecord},
		{"broken signature", register("ok", flipped, 0), wire.InvalidSignedRecord, wire.InvalidSignedRecord},
		{"somebody else's", register("ok", sign(t, otherKey, other, 1, someAddr), 0), wire.NotAuthorized, wire.InvalidSignedRecord},
		{"signed by somebody else", register("ok", sign(t, otherKey, me, 11, someAddr), 0), wire.InvalidSignedRecord, wire.InvalidSignedRecord},
		{"about somebody else", register("ok", sign(t, key, other, 11, someAddr), 0), wire.InvalidSignedRecord, wire.InvalidSignedRecord},
		{"rust's domain, Go's type", register("ok", seal(t, key, &payload{"libp2p-routing-state", []byte{3, 1}, nil}), 0), wire.InvalidSignedRecord, wire.InvalidSignedRecord},
		{"another payload type", register("ok", seal(t, key, &payload{"libp2p-peer-record", []byte{5, 5}, nil}), 0), wire.InvalidSignedRecord, wire.InvalidSignedRecord},
		{"malformed payload", register("ok", seal(t, key, &bad), 0), wire.InvalidSignedRecord, wire.InvalidSignedRecord},
		{"no address", register("ok", seal(t, key, &noAddr), 0), wire.InvalidSignedRecord, wire.InvalidSignedRecord},
		{"address that does not parse", register("ok", seal(t, key, &badAddr), 0), wire.InvalidSignedRecord, wire.InvalidSignedRecord},
		{"65 addresses", register("ok", sign(t, key, me, 11, many...), 0), wire.InvalidSignedRecord, wire.InvalidSignedRecord},
		{"2100 bytes of addresses", register("ok", sign(t, key, me, 11, long...), 0), wire.InvalidSignedRecord, wire.InvalidSignedRecord},
		{"64 addresses", register("ok", sign(t, key, me, 11, many[1:]...), 0), wire.OK, wire.OK},
		{"access", register("secret", good, 0), wire.NotAuthorized, wire.NotAuthorized},
		{"access undecided", register("undecided", good, 0), wire.Unavailable, wire.Unavailable},
		{"discover undecided", discover("undecided", 0, nil), wire.Unavailable, wire.Unavailable},
		{"discover unknown", discover("nobody", 0, nil), wire.OK, wire.OK},
		{"discover all", discover("", 0, nil), wire.NotAuthorized, wire.OK},
		{"discover ns of 256", discover(strings.Repeat("n", 256), 0, nil), wire.InvalidNamespace, wire.OK},
		{"discover ns not UTF-8", discover("\xff", 0, nil), wire.InvalidNamespace, wire.InvalidNamespace},
		{"discover limit 2^64-1", discover("ok", 1<<64-1, nil), wire.OK, wire.OK},
		{"discover with garbage", discover("ok", 0, []byte("garbage")), wire.InvalidCookie, wire.OK},
		{"discover with an empty cookie", discover("ok", 0, []byte{}), wire.OK, wire.OK},
		{"discover without access", discover("secret", 0, nil), wire.NotAuthorized, wire.NotAuthorized},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, d := range []wire.Dialect{wire.Libp2p, wire.Waku} {
				c := dialRaw(t, h, ph, d)
				want := tt.want
				if d == wire.Waku {
					want = tt.waku
				}
				res := c.wantStatus(want, tt.msg)
				if res.Kind == wire.DiscoverResponse && d == wire.Libp2p && want == wire.OK && len(res.Cookie) < 8 {
					t.Error("no cookie")
				}
				// The stream lives on after a refusal.
				c.wantStatus(wire.OK, discover("other", 1, nil))
			}
		})
	}
}

// rust-libp2p ends its side of the stream before it reads the answer.
func TestHalfClose(t *testing.T) {
	_, ph := newPoint(t, rendezvous.Config{})
	key := newKey(t)
	h := hostWithKey(t, key)
	rec := sign(t, key, h.ID(), 1, someAddr)
	for i := range 300 {
		m := register(fmt.Sprint(i%5), rec, 7200)
		if i%2 == 1 {
			m = discover(fmt.Sprint(i%5), 0, nil)
		}
		c := dialRaw(t, h, ph, wire.Libp2p)
		c.send(wire.AppendFrame(nil, wire.Libp2p, &m))
		if err := c.s.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		res, _, err := c.read()
		if err != nil || res.Status != wire.OK {
			t.Fatalf("%d: %v, %v", i, res.Status, err)
		}
		if _, err := c.r.ReadByte(); err != io.EOF {
			t.Fatalf("%d: the stream ends with %v, want EOF", i, err)
		}
	}
}

// A stream is reset for what cannot be parsed, and before memory is spent.
func TestMalformedIsReset(t *testing.T) {
	p, ph := newPoint(t, rendezvous.Config{Waku: true})
	h := newHost(t)
	for _, tt := range []struct {
		name string
		d    wire.Dialect
		b    []byte
	}{
		{"length 65537", wire.Libp2p, binary.AppendUvarint(nil, 65537)},
		{"length 2^31", wire.Libp2p, binary.AppendUvarint(nil, 1<<31)},
		{"length 2^63", wire.Libp2p, binary.AppendUvarint(nil, 1<<63)},
		{"endless length", wire.Libp2p, []byte(strings.Repeat("\xff", 20))},
		{"garbage", wire.Libp2p, []byte("\x0cGET / HTTP/1.1")},
		{"empty message", wire.Libp2p, []byte{0}},
		{"an answer", wire.Libp2p, wire.AppendFrame(nil, wire.Libp2p, &wire.Message{Kind: wire.RegisterResponse})},
		{"unknown type", wire.Libp2p, []byte{2, 8, 100}},
		{"libp2p's DISCOVER in Waku", wire.Waku, wire.AppendFrame(nil, wire.Libp2p, &wire.Message{Kind: wire.Discover, NS: "a"})},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := dialRaw(t, h, ph, tt.d)
			c.send(tt.b)
			if _, err := c.r.ReadByte(); !errors.Is(err, network.ErrReset) {
				t.Errorf("got %v, want a reset", err)
			}
		})
	}
	refused := p.Stats().Refused
	if refused["malformed"] != 5 || refused["too_long"] != 4 {
		t.Errorf("refused %v", refused)
	}
}

// Pages are cut by count and by bytes, and the cookie goes on.
func TestPages(t *testing.T) {
	const peers = 1500
	store := rendezvous.NewMemory()
	_, ph := newPoint(t, rendezvous.Config{Store: store})
	fill(t, store, "lab", peers)
	for _, tt := range []struct {
		agent string
		limit uint64
		most  int // records on the first page
		bytes int
	}{
		{"muster", 0, 1000, rendezvous.MaxAnswer},
		{"muster", 5000, 1000, rendezvous.MaxAnswer},
		{"muster", 77, 77, rendezvous.MaxAnswer},
		{"nim-libp2p/1.0.0", 0, 1000, rendezvous.NimMaxAnswer},
	} {
		t.Run(fmt.Sprintf("%s limit %d", tt.agent, tt.limit), func(t *testing.T) {
			h := newHost(t, tt.agent)
			c := dialRaw(t, h, ph, wire.Libp2p)
			waitAgent(t, ph, h)
			seen := map[string]bool{}
			var cookie []byte
			for page := 0; ; page++ {
				c.send(wire.AppendFrame(nil, wire.Libp2p, ptr(discover("lab", tt.limit, cookie))))
				res, size, err := c.read()
				if err != nil || res.Status != wire.OK {
					t.Fatal(err, res.Status)
				}
				if size > tt.bytes || len(res.Records) > tt.most {
					t.Errorf("page of %d bytes and %d records", size, len(res.Records))
				}
				for _, r := range res.Records {
					if seen[string(r.Record)] {
						t.Error("a record came twice")
					}
					seen[string(r.Record)] = true
				}
				if cookie = res.Cookie; len(res.Records) == 0 {
					break
				}
			}
			if len(seen) != peers {
				t.Errorf("%d records, want %d", len(seen), peers)
			}
		})
	}
}

func ptr[T any](v T) *T { return &v }

// fill registers n peers without signing for them.
func fill(t testing.TB, store rendezvous.Store, ns string, n int) {
	t.Helper()
	for i := range n {
		id := peer.ID(fmt.Sprintf("\x00\x24\x08\x01\x12\x20%032d", i))
		rec := append([]byte(id), make([]byte, 211-len(id))...)
		err := store.Commit(t.Context(), []rendezvous.Change{{Registration: rendezvous.Registration{
			Key: rendezvous.Key{Realm: rendezvous.RealmLibp2p, NS: ns, Peer: id}, Record: rec,
			Form: rendezvous.FormSigned, Seq: 1, TTL: 2 * time.Hour, Expires: time.Now().Add(2 * time.Hour),
		}}})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// waitAgent waits until the point knows what the peer calls itself.
func waitAgent(t testing.TB, ph, h host.Host) {
	t.Helper()
	for range 1000 {
		if v, err := ph.Peerstore().Get(h.ID(), "AgentVersion"); err == nil && v != "" {
			return
		}
		// Identify runs on the same connection: a ping is a round trip of it.
		if _, err := h.NewStream(t.Context(), ph.ID(), "/ipfs/id/1.0.0"); err != nil {
			t.Fatal(err)
		}
	}
	t.Fatal("not identified")
}

func TestWaku(t *testing.T) {
	p, ph := newPoint(t, rendezvous.Config{Waku: true})
	for range 30 {
		key := newKey(t)
		c := dialRaw(t, hostWithKey(t, key), ph, wire.Waku)
		res := c.wantStatus(wire.OK, register("lab", sign(t, key, c.h.ID(), 1, someAddr), 0))
		if res.TTL != 20 {
			t.Errorf("ttl %d, want 20", res.TTL)
		}
	}
	c := dialRaw(t, newHost(t), ph, wire.Waku)
	first := map[string]int{}
	for range 50 {
		res := c.wantStatus(wire.OK, discover("lab", 5, nil))
		if len(res.Records) != 5 || res.Cookie != nil {
			t.Fatalf("%d records, cookie %q", len(res.Records), res.Cookie)
		}
		first[string(res.Records[0].Record)]++
		for _, r := range res.Records {
			if r.TTL < 1 || r.TTL > 20 || r.NS != "lab" {
				t.Errorf("ns %q, ttl %d", r.NS, r.TTL)
			}
		}
	}
	if len(first) < 15 {
		t.Errorf("50 samples began with only %d of 30 peers", len(first))
	}
	for _, limit := range []uint64{0, 1000, 1 << 63, 1<<64 - 1} {
		if res := c.wantStatus(wire.OK, discover("lab", limit, nil)); len(res.Records) != 30 {
			t.Errorf("limit %d: %d records", int64(limit), len(res.Records))
		}
	}
	// The protocols' names are apart.
	lib := dialRaw(t, newHost(t), ph, wire.Libp2p)
	if res := lib.wantStatus(wire.OK, discover("lab", 0, nil)); len(res.Records) != 0 {
		t.Error("Waku's registrations are shown to libp2p")
	}
	if s := p.Stats(); s.Waku != 30 || s.Registrations != 0 {
		t.Errorf("stats %+v", s)
	}
}

func TestCookiesAcrossPoints(t *testing.T) {
	key := newKey(t)
	me := newHost(t)
	cookieOf := func(p host.Host) []byte {
		c := dialRaw(t, me, p, wire.Libp2p)
		return c.wantStatus(wire.OK, discover("lab", 1, nil)).Cookie
	}
	h := hostWithKey(t, key)
	store := rendezvous.NewMemory()
	p := pointOn(t, h, rendezvous.Config{Store: store})
	fill(t, store, "lab", 3)
	cookie := cookieOf(h)
	c := dialRaw(t, me, h, wire.Libp2p)
	c.wantStatus(wire.OK, discover("other", 0, cookie)) // starts again
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	// The same point with its store lost: the listing begins again.
	store = rendezvous.NewMemory()
	pointOn(t, h, rendezvous.Config{Store: store})
	fill(t, store, "lab", 3)
	c = dialRaw(t, me, h, wire.Libp2p)
	if res := c.wantStatus(wire.OK, discover("lab", 0, cookie)); len(res.Records) != 3 {
		t.Errorf("%d records, want all 3", len(res.Records))
	}
	// A stranger's cookie means nothing.
	_, other := newPoint(t, rendezvous.Config{})
	dialRaw(t, me, other, wire.Libp2p).wantStatus(wire.InvalidCookie, discover("lab", 0, cookie))
	// Strict points refuse what does not fit.
	_, strict := newPoint(t, rendezvous.Config{StrictCookies: true})
	c = dialRaw(t, me, strict, wire.Libp2p)
	c.wantStatus(wire.InvalidCookie, discover("other", 0, cookieOf(strict)))
}

func TestStreamLimits(t *testing.T) {
	p, ph := newPoint(t, rendezvous.Config{MaxPeerStreams: 2, MaxStreams: 3})
	a, b := newHost(t), newHost(t)
	ok := func(h host.Host) bool {
		c := dialRaw(t, h, ph, wire.Libp2p)
		c.send(wire.AppendFrame(nil, wire.Libp2p, ptr(discover("lab", 0, nil))))
		_, _, err := c.read()
		return err == nil
	}
	for i, want := range []bool{true, true, false} {
		if got := ok(a); got != want {
			t.Errorf("stream %d of a peer: %v", i+1, got)
		}
	}
	for i, want := range []bool{true, false} {
		if got := ok(b); got != want {
			t.Errorf("stream %d of all: %v", i+3, got)
		}
	}
	if n := p.Stats().Refused["streams"]; n != 2 {
		t.Errorf("%d refused, want 2", n)
	}
}

func TestDiscoverAll(t *testing.T) {
	store := rendezvous.NewMemory()
	_, ph := newPoint(t, rendezvous.Config{Store: store, DiscoverAll: true})
	fill(t, store, "a", 3)
	fill(t, store, "b", 3)
	c := dialRaw(t, newHost(t), ph, wire.Libp2p)
	for _, present := range []bool{false, true} {
		res := c.wantStatus(wire.OK, wire.Message{Kind: wire.Discover, HasNS: present, Limit: 4, HasLim: true})
		rest := c.wantStatus(wire.OK, wire.Message{Kind: wire.Discover, HasNS: present, Cookie: res.Cookie})
		names := map[string]int{}
		for _, r := range append(res.Records, rest.Records...) {
			names[r.NS]++
		}
		if names["a"] != 3 || names["b"] != 3 {
			t.Errorf("found %v", names)
		}
	}
}

// A store's failure is told as what it is.
type failingStore struct {
	rendezvous.Memory
	err error
}

func (s *failingStore) Commit(ctx context.Context, c []rendezvous.Change) error {
	if s.err != nil {
		return s.err
	}
	return s.Memory.Commit(ctx, c)
}

func TestStoreFails(t *testing.T) {
	store := &failingStore{}
	var log logged
	_, ph := newPoint(t, rendezvous.Config{
		Store: store, Limits: rendezvous.Limits{PerPeer: 2}, Logger: slog.New(slog.NewTextHandler(&log, nil)),
	})
	key := newKey(t)
	c := dialRaw(t, hostWithKey(t, key), ph, wire.Libp2p)
	rec := sign(t, key, c.h.ID(), 1, someAddr)
	c.wantStatus(wire.OK, register("before", rec, 0))
	for _, tt := range []struct {
		err  error
		want wire.Status
	}{
		{fmt.Errorf("disk full: %w", rendezvous.ErrUnavailable), wire.Unavailable},
		{context.DeadlineExceeded, wire.Unavailable},
		{errors.New("row 17 of secret table"), wire.InternalError},
	} {
		store.err = tt.err
		if res := c.wantStatus(tt.want, register("lab", rec, 0)); strings.Contains(res.Text, "secret") || strings.Contains(res.Text, "disk") {
			t.Errorf("the peer is told %q", res.Text)
		}
		if res := c.wantStatus(wire.OK, discover("before", 0, nil)); len(res.Records) != 1 {
			t.Error("reads fail as well")
		}
	}
	store.err = nil
	c.wantStatus(wire.OK, register("lab", rec, 0)) // nothing is left reserved
	c.wantStatus(wire.NotAuthorized, register("third", rec, 0))
	// The operator is told when it begins and when it ends, not each time.
	if away, back := log.count("does not take"), log.count("takes changes again"); away != 1 || back != 1 {
		t.Errorf("logged %d times that it fails and %d times that it is back", away, back)
	}
}

// logged is a log that can be read while it is written.
type logged struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), s)
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	_, ph := newPoint(t, rendezvous.Config{Registerer: reg})
	c := dialRaw(t, newHost(t), ph, wire.Libp2p)
	c.wantStatus(wire.OK, discover("lab", 0, nil))
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			names[f.GetName()] += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			for _, l := range m.GetLabel() {
				if !slices.Contains([]string{"protocol", "op", "status", "reason", "cookie"}, l.GetName()) {
					t.Errorf("%s has label %s", f.GetName(), l.GetName())
				}
			}
		}
	}
	for _, want := range []string{"muster_rendezvous_requests_total", "libp2p_rendezvous_discover_total", "muster_rendezvous_streams"} {
		if names[want] != 1 {
			t.Errorf("%s is %v, want 1", want, names[want])
		}
	}
	for _, want := range []string{"libp2p_rendezvous_register_total", "libp2p_rendezvous_registered", "libp2p_rendezvous_namespaces"} {
		if _, ok := names[want]; !ok {
			t.Errorf("%s is missing", want)
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	h := newHost(t)
	for _, cfg := range []rendezvous.Config{{MinTTL: time.Millisecond}, {MinTTL: 100 * time.Hour}, {MaxTTL: -time.Hour}} {
		if _, err := rendezvous.NewPoint(h, cfg); err == nil {
			t.Errorf("%+v accepted", cfg)
		}
	}
	p, err := rendezvous.NewPoint(h, rendezvous.SpecConfig())
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
}
