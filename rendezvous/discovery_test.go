package rendezvous_test

import (
	"bufio"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/discovery"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/discovery/backoff"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/muster-p2p/muster/rendezvous"
	"github.com/muster-p2p/muster/rendezvous/wire"
)

// patience bounds what points and hosts do in tests; nothing takes as long, on
// no machine.
const patience = time.Minute

func newClient(t testing.TB, h host.Host, cfg rendezvous.ClientConfig) *rendezvous.Client {
	t.Helper()
	cfg.Timeout = cmp.Or(cfg.Timeout, patience)
	c := rendezvous.NewClient(h, cfg)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func newDiscovery(t testing.TB, h host.Host, cfg rendezvous.DiscoveryConfig) *rendezvous.Discovery {
	t.Helper()
	cfg.Client.Timeout = cmp.Or(cfg.Client.Timeout, patience)
	d := rendezvous.NewDiscovery(h, cfg)
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func info(h host.Host) peer.AddrInfo { return peer.AddrInfo{ID: h.ID(), Addrs: h.Addrs()} }

func TestClient(t *testing.T) {
	_, ph := newPoint(t, rendezvous.Config{})
	a, b := newHost(t), newHost(t)
	know(a, ph)
	know(b, ph)
	ca, cb := newClient(t, a, rendezvous.ClientConfig{}), newClient(t, b, rendezvous.ClientConfig{})
	ctx := t.Context()
	for range 3 { // on one stream and again
		ttl, err := ca.Register(ctx, ph.ID(), "lab", 0)
		if err != nil || ttl != 2*time.Hour {
			t.Fatal(ttl, err)
		}
	}
	page, err := cb.Discover(ctx, ph.ID(), "lab", rendezvous.Query{})
	if err != nil || len(page.Records) != 1 {
		t.Fatal(page, err)
	}
	f := page.Records[0]
	if f.ID != a.ID() || len(f.Addrs) == 0 || f.NS != "lab" || f.Point != ph.ID() || f.TTL < time.Hour || len(f.Record) == 0 {
		t.Errorf("found %+v", f)
	}
	if page, err = cb.Discover(ctx, ph.ID(), "lab", rendezvous.Query{Cookie: page.Cookie}); err != nil || len(page.Records) != 0 {
		t.Errorf("poll: %v, %v", page.Records, err)
	}
	page, err = cb.Discover(ctx, ph.ID(), "lab", rendezvous.Query{Cookie: []byte("garbage")})
	if err != nil || !page.Restarted || len(page.Records) != 1 {
		t.Errorf("a refused cookie: %+v, %v", page, err)
	}
	if err := ca.Unregister(ctx, ph.ID(), "lab"); err != nil {
		t.Fatal(err)
	}
	if page, err := cb.Discover(ctx, ph.ID(), "lab", rendezvous.Query{}); err != nil || len(page.Records) != 0 {
		t.Errorf("after Unregister: %v, %v", page.Records, err)
	}
	// 30 s are refused: the point's usual time is taken instead, unless strict.
	if ttl, err := ca.Register(ctx, ph.ID(), "lab", 30*time.Second); err != nil || ttl != 2*time.Hour {
		t.Errorf("Register: %v, %v", ttl, err)
	}
	strict := newClient(t, a, rendezvous.ClientConfig{StrictTTL: true})
	_, err = strict.Register(ctx, ph.ID(), "lab", 30*time.Second)
	var status *rendezvous.StatusError
	if !errors.As(err, &status) || status.Status != wire.InvalidTTL {
		t.Errorf("strict: %v", err)
	}
}

func TestClientErrors(t *testing.T) {
	h, plain := newHost(t), newHost(t)
	know(h, plain)
	c := newClient(t, h, rendezvous.ClientConfig{})
	if _, err := c.Register(t.Context(), plain.ID(), "lab", 0); !errors.Is(err, rendezvous.ErrUnsupported) {
		t.Errorf("no point there: %v", err)
	}
	gone := newHost(t)
	know(h, gone)
	_ = gone.Close()
	if _, err := c.Register(t.Context(), gone.ID(), "lab", 0); !errors.Is(err, rendezvous.ErrUnreachable) {
		t.Errorf("nobody there: %v", err)
	}
	silent := newHost(t)
	silent.SetStreamHandler(rendezvous.ProtocolID, func(s network.Stream) { _, _ = io.Copy(io.Discard, s) })
	know(h, silent)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := c.Discover(ctx, silent.ID(), "lab", rendezvous.Query{}); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
	})
	cancel()
	wg.Wait()
	short := newClient(t, h, rendezvous.ClientConfig{Timeout: time.Millisecond})
	if _, err := short.Discover(t.Context(), silent.ID(), "lab", rendezvous.Query{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("timed out: %v", err)
	}
	for _, ns := range []string{"", "\xff", string(make([]byte, 256))} {
		if _, err := c.Register(t.Context(), plain.ID(), ns, 0); err == nil {
			t.Errorf("namespace %q accepted", ns)
		}
	}
}

// A foreign is a server with quirks of its own.
type foreign struct {
	single bool                                   // one message per stream
	limit  int                                    // longest request read
	answer func(wire.Message) *wire.Message       // nil: the stream is reset
	bytes  func(wire.Message) (b []byte, ok bool) // or bytes
}

func (f foreign) serve(t testing.TB) host.Host {
	t.Helper()
	h := newHost(t)
	h.SetStreamHandler(rendezvous.ProtocolID, func(s network.Stream) {
		r := bufio.NewReader(s)
		for {
			size, err := binary.ReadUvarint(r)
			if err != nil || f.limit > 0 && size > uint64(f.limit) {
				_ = s.Reset() // as Go's forks do
				return
			}
			b := make([]byte, size)
			var m wire.Message
			if _, err := io.ReadFull(r, b); err != nil || wire.Parse(wire.Libp2p, b, &m, 0) != nil {
				_ = s.Reset()
				return
			}
			out, ok := []byte(nil), false
			if f.bytes != nil {
				out, ok = f.bytes(m)
			}
			if !ok {
				res := f.answer(m)
				if res == nil {
					_ = s.Reset()
					return
				}
				out = wire.AppendFrame(nil, wire.Libp2p, res)
			}
			if _, err := s.Write(out); err != nil || f.single {
				_ = s.Close()
				return
			}
		}
	})
	return h
}

func TestQuirks(t *testing.T) {
	key := newKey(t)
	other, err := peer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	good := sign(t, key, other, 1, someAddr)
	flipped := slices.Clone(good)
	flipped[len(flipped)-1] ^= 1
	page := func(regs ...wire.Registration) *wire.Message {
		return &wire.Message{Kind: wire.DiscoverResponse, Records: regs}
	}
	reg := func(ns string, rec []byte) wire.Registration {
		return wire.Registration{NS: ns, Record: rec, TTL: 100, HasTTL: true}
	}
	tests := []struct {
		name string
		f    foreign
		ns   string
		want int
		err  bool
	}{
		{"one message per stream", foreign{single: true, answer: func(wire.Message) *wire.Message { return page(reg("lab", good)) }}, "lab", 1, false},
		{"ns left empty", foreign{answer: func(wire.Message) *wire.Message { return page(reg("", good)) }}, "lab", 1, false},
		{"another ns", foreign{answer: func(wire.Message) *wire.Message { return page(reg("other", good)) }}, "lab", 0, false},
		{"a bad record among good ones", foreign{answer: func(wire.Message) *wire.Message {
			return page(reg("lab", flipped), reg("lab", good), reg("lab", nil))
		}}, "lab", 1, false},
		{"more than was asked for", foreign{answer: func(wire.Message) *wire.Message {
			return page(slices.Repeat([]wire.Registration{reg("lab", good)}, 20)...)
		}}, "lab", 5, false},
		{"status left out", foreign{bytes: func(wire.Message) ([]byte, bool) { return []byte{4, 8, 4, 0x32, 0}, true }}, "lab", 0, false},
		{"100 for an unknown name", foreign{answer: func(wire.Message) *wire.Message {
			return &wire.Message{Kind: wire.DiscoverResponse, Status: wire.InvalidNamespace}
		}}, "lab", 0, false},
		{"an old ns for all", foreign{answer: func(m wire.Message) *wire.Message {
			if !m.HasNS {
				return nil
			}
			return page(reg("x", good))
		}}, "", 1, false},
		{"refusal", foreign{answer: func(wire.Message) *wire.Message {
			return &wire.Message{Kind: wire.DiscoverResponse, Status: wire.Unavailable, Text: "\x1b[31m"}
		}}, "lab", 0, true},
		{"the wrong answer", foreign{answer: func(wire.Message) *wire.Message { return &wire.Message{Kind: wire.RegisterResponse} }}, "lab", 0, true},
		{"an answer of 1 GB", foreign{bytes: func(wire.Message) ([]byte, bool) { return binary.AppendUvarint(nil, 1<<30), true }}, "lab", 0, true},
		{"a dropped stream", foreign{answer: func(wire.Message) *wire.Message { return nil }}, "lab", 0, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHost(t)
			ph := tt.f.serve(t)
			know(h, ph)
			c := newClient(t, h, rendezvous.ClientConfig{})
			for range 3 { // kept streams make no difference
				page, err := c.Discover(t.Context(), ph.ID(), tt.ns, rendezvous.Query{Limit: 5})
				if len(page.Records) != tt.want || (err != nil) != tt.err {
					t.Errorf("%d records, %v", len(page.Records), err)
				}
			}
		})
	}
}

// nim-libp2p reads 4096 bytes: a host with many addresses registers some.
func TestRegisterIsShort(t *testing.T) {
	var got wire.Message
	f := foreign{limit: 4096, answer: func(m wire.Message) *wire.Message {
		got = m
		got.Record = slices.Clone(m.Record)
		return &wire.Message{Kind: wire.RegisterResponse, Status: wire.OK}
	}}
	h := newHost(t)
	ph := f.serve(t)
	know(h, ph)
	addrs := []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/tcp/1"), ma.StringCast("/ip4/10.0.0.1/tcp/1")}
	for i := range 500 {
		addrs = append(addrs, ma.StringCast(fmt.Sprintf("/ip4/8.8.8.8/tcp/%d", i+1)))
	}
	c := newClient(t, h, rendezvous.ClientConfig{Addrs: func() []ma.Multiaddr { return addrs }})
	ttl, err := c.Register(t.Context(), ph.ID(), "lab", time.Hour)
	if err != nil || ttl != time.Hour {
		t.Fatalf("%v, %v; an answer without ttl grants what was asked", ttl, err)
	}
	_, ph2 := newPoint(t, rendezvous.Config{})
	know(h, ph2)
	if _, err := c.Register(t.Context(), ph2.ID(), "lab", 0); err != nil {
		t.Fatal(err)
	}
	page, err := c.Discover(t.Context(), ph2.ID(), "lab", rendezvous.Query{})
	if err != nil || len(page.Records) != 1 {
		t.Fatal(err)
	}
	if got := page.Records[0].Addrs; len(got) != rendezvous.MaxRecordAddrs || got[0].String() != "/ip4/8.8.8.8/tcp/1" {
		t.Errorf("%d addresses, first %v", len(got), got[0])
	}
}

func TestLegacy(t *testing.T) {
	ctx := t.Context()
	_, bridge := newPoint(t, rendezvous.Config{LegacyPeerInfo: true})
	_, strict := newPoint(t, rendezvous.Config{})
	signed := newHost(t)
	know(signed, bridge)
	if _, err := newClient(t, signed, rendezvous.ClientConfig{}).Register(ctx, bridge.ID(), "lab", 0); err != nil {
		t.Fatal(err)
	}
	old := newHost(t)
	c := dialRaw(t, old, bridge, wire.Libp2p)
	pi := wire.AppendPeerInfo(nil, &wire.PeerRecord{Addrs: [][]byte{ma.StringCast(someAddr).Bytes()}})
	if res := c.wantStatus(wire.OK, discover("lab", 0, nil)); len(res.Records) != 1 {
		t.Fatalf("%d records", len(res.Records))
	}
	c.wantStatus(wire.OK, register("lab", pi, 0))
	whole := wire.AppendPeerInfo(nil, &wire.PeerRecord{ID: []byte(old.ID()), Addrs: [][]byte{ma.StringCast(someAddr).Bytes()}})
	for range 2 { // the second time its bytes are known
		c.wantStatus(wire.OK, register("lab", whole, 0))
	}
	c.wantStatus(wire.NotAuthorized, register("lab", wire.AppendPeerInfo(nil, &wire.PeerRecord{
		ID: []byte(signed.ID()), Addrs: [][]byte{ma.StringCast(someAddr).Bytes()},
	}), 0))
	res := c.wantStatus(wire.OK, discover("lab", 0, nil))
	if len(res.Records) != 2 {
		t.Fatalf("the older peer sees %d records, want 2", len(res.Records))
	}
	for _, r := range res.Records {
		got, err := wire.ParsePeerInfo(r.Record, 64)
		if err != nil || len(got.ID) == 0 || len(got.Addrs) == 0 {
			t.Errorf("not a PeerInfo: %+v, %v", got, err)
		}
	}
	// Others do not see what nobody signed.
	if res := dialRaw(t, newHost(t), bridge, wire.Libp2p).wantStatus(wire.OK, discover("lab", 0, nil)); len(res.Records) != 1 {
		t.Errorf("a stranger sees %d records, want the signed one", len(res.Records))
	}
	page, err := newClient(t, signed, rendezvous.ClientConfig{LegacyPeerInfo: true}).Discover(ctx, bridge.ID(), "lab", rendezvous.Query{})
	if err != nil || len(page.Records) != 1 || page.Records[0].ID != signed.ID() {
		t.Errorf("found %v, %v", page.Records, err)
	}
	dialRaw(t, old, strict, wire.Libp2p).wantStatus(wire.InvalidSignedRecord, register("lab", pi, 0))

	// And our client at a point of the older kind.
	berty := foreign{answer: func(m wire.Message) *wire.Message {
		if m.Kind == wire.Discover {
			return &wire.Message{Kind: wire.DiscoverResponse, Records: []wire.Registration{{Record: wire.AppendPeerInfo(nil, &wire.PeerRecord{ID: []byte(old.ID()), Addrs: [][]byte{ma.StringCast(someAddr).Bytes()}})}}}
		}
		if _, err := wire.ParsePeerInfo(m.Record, 64); err != nil {
			return &wire.Message{Kind: wire.RegisterResponse, Status: wire.InvalidSignedRecord, Text: "bad peer id"}
		}
		return &wire.Message{Kind: wire.RegisterResponse, TTL: 7200, HasTTL: true}
	}}.serve(t)
	know(signed, berty)
	for _, legacy := range []bool{false, true} {
		c := newClient(t, signed, rendezvous.ClientConfig{LegacyPeerInfo: legacy})
		if _, err := c.Register(ctx, berty.ID(), "lab", 0); (err == nil) != legacy {
			t.Errorf("legacy %v: %v", legacy, err)
		}
		page, err := c.Discover(ctx, berty.ID(), "lab", rendezvous.Query{})
		if err != nil || (len(page.Records) == 1) != legacy {
			t.Errorf("legacy %v: found %v, %v", legacy, page.Records, err)
		}
	}
}

func collect(ch <-chan peer.AddrInfo) (ids []peer.ID) {
	for p := range ch {
		ids = append(ids, p.ID)
	}
	return ids
}

func TestDiscovery(t *testing.T) {
	for _, waku := range []bool{false, true} {
		t.Run(fmt.Sprintf("waku %v", waku), func(t *testing.T) {
			ctx := t.Context()
			p1, h1 := newPoint(t, rendezvous.Config{Waku: true})
			p2, h2 := newPoint(t, rendezvous.Config{Waku: true})
			dead := newHost(t)
			deadInfo := info(dead)
			_ = dead.Close()
			cfg := rendezvous.DiscoveryConfig{
				Client: rendezvous.ClientConfig{Waku: waku}, Points: []peer.AddrInfo{info(h1), info(h2), deadInfo},
				Interval: time.Millisecond,
			}
			a, b := newHost(t), newHost(t)
			da, db := newDiscovery(t, a, cfg), newDiscovery(t, b, cfg)
			ttl, err := da.Advertise(ctx, "lab")
			want := 2 * time.Hour
			if waku {
				want = 20 * time.Second
			}
			if err != nil || ttl <= want/2 || ttl >= want {
				t.Fatalf("Advertise: %v, %v", ttl, err)
			}
			before := p1.Stats().Registers
			if ttl, err := da.Advertise(ctx, "lab"); err != nil || ttl <= 0 {
				t.Errorf("again: %v, %v", ttl, err)
			}
			if n := p1.Stats().Registers; n != before {
				t.Errorf("a second Advertise registers %d times", n-before)
			}
			for range 2 {
				ch, err := db.FindPeers(ctx, "lab", discovery.Limit(10))
				if err != nil {
					t.Fatal(err)
				}
				if ids := collect(ch); !slices.Equal(ids, []peer.ID{a.ID()}) {
					t.Errorf("found %v, want a alone and once", ids)
				}
			}
			// One does not find oneself.
			ch, err := da.FindPeers(ctx, "lab")
			if err != nil || len(collect(ch)) != 0 {
				t.Error("found itself", err)
			}
			if ids := collect(must(db.FindPeers(ctx, "nobody"))); len(ids) != 0 {
				t.Errorf("found %v", ids)
			}
			if s := p2.Stats(); s.Registrations+s.Waku != 1 {
				t.Errorf("the second point has %d", s.Registrations+s.Waku)
			}
			found, err := db.Request(ctx, "lab", 1)
			if err != nil || len(found) != 1 || len(db.RequestLocally("lab")) != 1 {
				t.Errorf("Request: %v, %v", found, err)
			}
		})
	}
}

// Clients count what points answer, and those with one registerer do so
// together.
func TestClientMetrics(t *testing.T) {
	_, ph := newPoint(t, rendezvous.Config{})
	reg := prometheus.NewPedanticRegistry()
	for range 2 {
		h := newHost(t)
		know(h, ph)
		c := newClient(t, h, rendezvous.ClientConfig{Registerer: reg})
		if _, err := c.Register(t.Context(), ph.ID(), "lab", 0); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Discover(t.Context(), ph.ID(), "lab", rendezvous.Query{}); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Discover(t.Context(), newHost(t).ID(), "lab", rendezvous.Query{}); err == nil {
			t.Fatal("an unknown point answers")
		}
		if err := c.Unregister(t.Context(), ph.ID(), "other"); err != nil {
			t.Fatal(err)
		}
	}
	got := map[string]float64{}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := strings.TrimPrefix(f.GetName(), "muster_rendezvous_client_")
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			got[name] = m.GetCounter().GetValue()
		}
	}
	want := map[string]float64{
		"requests_total register OK": 2, "requests_total discover OK": 2, "requests_total discover failed": 2, "requests_total unregister OK": 2,
		"records_total good": 3, "records_total dropped": 0,
	}
	if !maps.Equal(got, want) {
		t.Errorf("counted %v, want %v", got, want)
	}
}

// A host that gets another address while it is advertised is listed with it
// soon, long before the registration is due, and one that loses one without
// it.
func TestAdvertiseNewAddress(t *testing.T) {
	p, ph := newPoint(t, rendezvous.Config{})
	h := newHost(t)
	d := newDiscovery(t, h, rendezvous.DiscoveryConfig{Points: []peer.AddrInfo{info(ph)}})
	if _, err := d.Advertise(t.Context(), "lab"); err != nil {
		t.Fatal(err)
	}
	first := p.Local(rendezvous.RealmLibp2p, "lab", 1)
	if len(first) != 1 || len(first[0].Addrs) != 1 {
		t.Fatalf("registered %v", first)
	}
	listed := func(want int) func() bool {
		return func() bool {
			now := p.Local(rendezvous.RealmLibp2p, "lab", 1)
			return len(now) == 1 && len(now[0].Addrs) == want && now[0].Seq > first[0].Seq
		}
	}
	more := ma.StringCast("/ip4/127.0.0.2/tcp/0")
	if err := h.Network().Listen(more); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new address is listed", listed(2))
	sw, ok := h.Network().(interface{ ListenClose(...ma.Multiaddr) })
	if !ok {
		t.Fatal("this host cannot lose an address")
	}
	sw.ListenClose(first[0].Addrs[0])
	eventually(t, "the old one is not", listed(1))
	if n := p.Stats().Registers; n > 5 {
		t.Errorf("%d registrations for two changes", n)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// What the README of go-waku-rendezvous shows, with connected peers as points.
func TestWakuReadme(t *testing.T) {
	ctx := t.Context()
	ph := newHost(t)
	service := rendezvous.NewRendezvousService(ph, nil)
	if err := service.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := service.Stop(); err != nil {
			t.Error(err)
		}
	}()
	a, b := newHost(t), newHost(t)
	for _, h := range []host.Host{a, b} {
		if err := h.Connect(ctx, info(ph)); err != nil {
			t.Fatal(err)
		}
	}
	da, db := rendezvous.NewRendezvousDiscovery(a), rendezvous.NewRendezvousDiscovery(b)
	defer closing(t, da)
	defer closing(t, db)
	if _, err := da.Advertise(ctx, "topic"); err != nil {
		t.Fatal(err)
	}
	// As pubsub does with a discovery of its own making.
	bd, err := backoff.NewBackoffDiscovery(db, backoff.NewFixedBackoff(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	ch, err := bd.FindPeers(ctx, "topic", discovery.Limit(5))
	if err != nil {
		t.Fatal(err)
	}
	if ids := collect(ch); !slices.Equal(ids, []peer.ID{a.ID()}) {
		t.Errorf("found %v", ids)
	}
}

func TestAdvertiseFails(t *testing.T) {
	d := newDiscovery(t, newHost(t), rendezvous.DiscoveryConfig{})
	if ttl, err := d.Advertise(t.Context(), "lab"); !errors.Is(err, rendezvous.ErrNoPoints) || ttl <= 0 {
		t.Errorf("no points: %v, %v", ttl, err)
	}
	if _, err := d.Request(t.Context(), "lab", 0); !errors.Is(err, rendezvous.ErrNoPoints) {
		t.Errorf("Request without points: %v", err)
	}
	if ids := collect(must(d.FindPeers(t.Context(), "lab"))); len(ids) != 0 {
		t.Error(ids)
	}
	for _, ns := range []string{"", "\xff", string(make([]byte, 256))} {
		if ttl, err := d.Advertise(t.Context(), ns); err == nil || ttl <= 0 {
			t.Errorf("namespace %q: %v, %v", ns, ttl, err)
		}
	}
	_, ph := newPoint(t, rendezvous.Config{Access: func(context.Context, rendezvous.Request) error { return errors.New("no") }})
	d = newDiscovery(t, newHost(t), rendezvous.DiscoveryConfig{Points: []peer.AddrInfo{info(ph)}})
	var status *rendezvous.StatusError
	for range 2 { // the point is not asked again so soon; what it said still holds
		if ttl, err := d.Advertise(t.Context(), "lab"); !errors.As(err, &status) || ttl <= 0 {
			t.Errorf("refused: %v, %v", ttl, err)
		}
	}
	_ = d.Close()
	if ttl, err := d.Advertise(t.Context(), "lab"); err == nil || ttl <= 0 {
		t.Errorf("closed: %v, %v", ttl, err)
	}
}

// A name that was left can be advertised again, and is kept up.
func TestAdvertiseAgain(t *testing.T) {
	inBubble(t, 2, func(t *testing.T, h []host.Host) {
		p, err := rendezvous.NewPoint(h[0], rendezvous.Config{})
		if err != nil {
			t.Fatal(err)
		}
		defer closing(t, p)
		d := rendezvous.NewDiscovery(h[1], rendezvous.DiscoveryConfig{
			Points: []peer.AddrInfo{{ID: h[0].ID(), Addrs: h[0].Addrs()}}, UnregisterOnCancel: true,
		})
		defer closing(t, d)
		for range 3 {
			ctx, cancel := context.WithCancel(t.Context())
			for range 3 {
				if _, err := d.Advertise(ctx, "lab"); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(5 * time.Hour)
			if n := p.Stats().Registrations; n != 1 {
				t.Fatalf("%d registrations after 5 h", n)
			}
			if err := d.Unsubscribe(ctx, "lab"); err != nil {
				t.Fatal(err)
			}
			if _, err := d.Advertise(ctx, "lab"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Hour)
			if n := p.Stats().Registrations; n != 1 {
				t.Fatalf("%d registrations 5 h after the second beginning", n)
			}
			cancel()
			time.Sleep(time.Second)
			if n := p.Stats().Registrations; n != 0 {
				t.Fatalf("%d registrations after the end", n)
			}
		}
	})
}

// Both ends of an advertisement: it stops with its context, and with Unsubscribe.
func TestUnsubscribe(t *testing.T) {
	p, ph := newPoint(t, rendezvous.Config{})
	h := newHost(t)
	own := pointOn(t, h, rendezvous.Config{})
	d := newDiscovery(t, h, rendezvous.DiscoveryConfig{Points: []peer.AddrInfo{info(ph)}, Point: own, UnregisterOnCancel: true})
	ctx, cancel := context.WithCancel(t.Context())
	for _, ns := range []string{"a", "b"} {
		if _, err := d.Advertise(ctx, ns); err != nil {
			t.Fatal(err)
		}
	}
	if n, m := p.Stats().Registrations, own.Stats().Registrations; n != 2 || m != 2 {
		t.Errorf("%d there and %d here, want 2", n, m)
	}
	d.UnsubscribeLocally("a")
	if n, m := p.Stats().Registrations, own.Stats().Registrations; n != 2 || m != 1 {
		t.Errorf("%d there and %d here, want 2 and 1", n, m)
	}
	if err := d.Unsubscribe(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if n := p.Stats().Registrations; n != 1 {
		t.Errorf("%d there, want 1", n)
	}
	cancel()
	_ = d.Unsubscribe(t.Context(), "b") // the end of its context does the same, a moment later
	if n := p.Stats().Registrations; n != 0 {
		t.Errorf("%d there, want 0", n)
	}
}

// A host's own point grants no more than it would to others.
func TestOwnPointGrants(t *testing.T) {
	h := newHost(t)
	own := pointOn(t, h, rendezvous.Config{Waku: true})
	for _, tt := range []struct {
		strict, waku bool
		ttl, granted time.Duration
		refused      bool
	}{
		{ttl: 0, granted: rendezvous.DefaultTTL},
		{ttl: 3 * time.Hour, granted: 3 * time.Hour},
		{ttl: 1000 * time.Hour, granted: rendezvous.DefaultTTL},
		{ttl: 1000 * time.Hour, strict: true, refused: true},
		{ttl: -time.Second, strict: true, refused: true},
		{ttl: time.Second, strict: true, refused: true},
		{ttl: 0, waku: true, granted: rendezvous.WakuTTL},
		{ttl: time.Hour, waku: true, granted: rendezvous.WakuTTL},
	} {
		d := newDiscovery(t, h, rendezvous.DiscoveryConfig{Point: own, Client: rendezvous.ClientConfig{StrictTTL: tt.strict, Waku: tt.waku}})
		results, err := d.Register(t.Context(), "lab", tt.ttl)
		if err != nil || len(results) != 1 || results[0].TTL != tt.granted || errors.Is(results[0].Err, rendezvous.ErrInvalidTTL) != tt.refused {
			t.Errorf("%+v: %+v, %v", tt, results, err)
		}
	}
}

func TestWatch(t *testing.T) {
	store := rendezvous.NewMemory()
	_, ph := newPoint(t, rendezvous.Config{Store: store})
	d := newDiscovery(t, newHost(t), rendezvous.DiscoveryConfig{Points: []peer.AddrInfo{info(ph)}, Interval: time.Millisecond})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	events, err := d.Watch(ctx, "lab")
	if err != nil {
		t.Fatal(err)
	}
	key := newKey(t)
	h := hostWithKey(t, key)
	know(h, ph)
	addrs := []ma.Multiaddr{ma.StringCast(someAddr)}
	c := newClient(t, h, rendezvous.ClientConfig{Addrs: func() []ma.Multiaddr { return addrs }})
	for _, want := range []rendezvous.EventKind{rendezvous.Joined, rendezvous.Updated} {
		if _, err := c.Register(ctx, ph.ID(), "lab", 0); err != nil {
			t.Fatal(err)
		}
		if e := <-events; e.Kind != want || e.ID != h.ID() || !e.Addrs[0].Equal(addrs[0]) {
			t.Errorf("%v %v, want %v", e.Kind, e.AddrInfo, want)
		}
		addrs = []ma.Multiaddr{ma.StringCast("/ip4/192.0.2.9/tcp/9")}
	}
	cancel()
	for range events {
		t.Error("an event after the end")
	}
}

// rust-libp2p and js-libp2p lose a whole answer for one record whose signature
// they cannot verify, so they are shown only theirs; all others are shown all.
func TestClientsSeeWhatTheyCanRead(t *testing.T) {
	_, ph := newPoint(t, rendezvous.Config{})
	both := []string{"rust", "spec"}
	recs := map[string]string{}
	for _, kind := range both {
		key := newKey(t)
		c := dialRaw(t, hostWithKey(t, key), ph, wire.Libp2p)
		own := peer.PeerRecord{PeerID: c.h.ID(), Seq: 1, Addrs: []ma.Multiaddr{ma.StringCast(someAddr)}}
		rec := seal(t, key, &own)
		if kind == "rust" {
			rec = seal(t, key, &rustRecord{own})
		}
		c.wantStatus(wire.OK, register("lab", rec, 0))
		recs[string(rec)] = kind
	}
	for _, tt := range []struct {
		agent string
		want  []string
	}{
		{"rust-libp2p/0.47.0", both[:1]},
		{"js-libp2p/3.1.0 node/20", both[1:]},
		{"nim-libp2p", both},
		{"github.com/libp2p/go-libp2p", both},
		{"", both}, // NewHost says muster
	} {
		c := dialRaw(t, newHost(t, tt.agent), ph, wire.Libp2p)
		var got []string
		var cookie []byte
		for range 3 { // pages of one
			res := c.wantStatus(wire.OK, discover("lab", 1, cookie))
			for _, r := range res.Records {
				got = append(got, recs[string(r.Record)])
			}
			cookie = res.Cookie
		}
		slices.Sort(got)
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s sees %v, want %v", tt.agent, got, tt.want)
		}
	}
	// One that says nothing of itself is known by what it registered.
	key := newKey(t)
	c := dialRaw(t, hostWithKey(t, key, "something"), ph, wire.Libp2p)
	if res := c.wantStatus(wire.OK, discover("lab", 0, nil)); len(res.Records) != 2 {
		t.Errorf("an unknown client sees %d", len(res.Records))
	}
	rec := seal(t, key, &rustRecord{peer.PeerRecord{PeerID: c.h.ID(), Seq: 1, Addrs: []ma.Multiaddr{ma.StringCast(someAddr)}}})
	c.wantStatus(wire.OK, register("other", rec, 0))
	if res := c.wantStatus(wire.OK, discover("lab", 0, nil)); len(res.Records) != 1 || recs[string(res.Records[0].Record)] != "rust" {
		t.Errorf("a client with rust's signature sees %d", len(res.Records))
	}
}

// rust-libp2p's points end the stream on a record that is signed as the spec
// says: the client signs again as they do, and remembers.
func TestRegisterAtRust(t *testing.T) {
	var asked []string
	ph := foreign{single: true, answer: func(m wire.Message) *wire.Message {
		env, err := wire.ParseEnvelope(m.Record)
		if err != nil {
			return nil
		}
		asked = append(asked, string(env.PayloadType))
		if string(env.PayloadType) != "/libp2p/routing-state-record" {
			return nil
		}
		return &wire.Message{Kind: wire.RegisterResponse, TTL: 7200, HasTTL: true}
	}}.serve(t)
	h := newHost(t)
	know(h, ph)
	c := newClient(t, h, rendezvous.ClientConfig{})
	for range 2 {
		if ttl, err := c.Register(t.Context(), ph.ID(), "lab", 0); err != nil || ttl != 2*time.Hour {
			t.Fatal(ttl, err)
		}
	}
	const spec, rust = "\x03\x01", "/libp2p/routing-state-record"
	if len(asked) < 3 || asked[0] != spec || slices.Contains(asked[1:], spec) || asked[1] != rust {
		t.Errorf("asked with %q", asked)
	}
}

// A point whose pages repeat, as one that lists the newest first, is read once.
func TestPagesEnd(t *testing.T) {
	key := newKey(t)
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	rec := sign(t, key, id, 1, someAddr)
	n := byte(0)
	ph := foreign{answer: func(wire.Message) *wire.Message {
		n++
		return &wire.Message{Kind: wire.DiscoverResponse, Cookie: []byte{n}, Records: []wire.Registration{{NS: "lab", Record: rec, TTL: 9, HasTTL: true}}}
	}}.serve(t)
	h := newHost(t)
	know(h, ph)
	found := 0
	_, err = newClient(t, h, rendezvous.ClientConfig{}).Pages(t.Context(), ph.ID(), "lab", rendezvous.Query{Limit: 100}, func(p rendezvous.Page) error {
		found += len(p.Records)
		return nil
	})
	if err != nil || found != 1 || n != 2 {
		t.Errorf("%d records of %d pages, %v", found, n, err)
	}
}

// eventually waits for what a host does by itself.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}
