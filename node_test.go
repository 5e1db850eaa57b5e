package muster_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/muster-p2p/muster"
	"github.com/muster-p2p/muster/access"
	"github.com/muster-p2p/muster/discv5"
	"github.com/muster-p2p/muster/rdv"
	"github.com/muster-p2p/muster/reach"
	"github.com/muster-p2p/muster/rendezvous"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// go-libp2p's own, of the process and not of a host.
		goleak.IgnoreTopFunction("github.com/libp2p/go-libp2p/core/transport.init.0.func1"))
}

var loopback = []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/tcp/0")}

func start(t *testing.T, cfg muster.Config) *muster.Node {
	t.Helper()
	n, err := muster.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

func info(n *muster.Node) peer.AddrInfo {
	return peer.AddrInfo{ID: n.ID(), Addrs: n.Host().Addrs()}
}

// TestPointAndPeers: two peers find each other by name at a point, and one
// hears what the other says.
func TestPointAndPeers(t *testing.T) {
	ctx := t.Context()
	point := start(t, muster.Config{
		Listen: loopback, Registerer: prometheus.NewPedanticRegistry(),
		Find:  muster.FindConfig{Discv5: &discv5.Config{Listen: discv5Listen}},
		Point: &muster.PointConfig{HTTP: "127.0.0.1:0"},
	})
	a := start(t, muster.Config{Listen: loopback, Points: []peer.AddrInfo{info(point)}})
	b := start(t, muster.Config{Points: []peer.AddrInfo{info(point)}})

	if err := a.Find.Register(ctx, "lab"); err != nil {
		t.Fatal(err)
	}
	found, err := b.Find.Peers(ctx, "lab", 0)
	if err != nil || len(found) != 1 || found[0].ID != a.ID() {
		t.Fatalf("found %v, %v", found, err)
	}
	if local, err := point.Find.Peers(ctx, "lab", 0); err != nil || len(local) != 1 {
		t.Errorf("the point itself finds %v, %v", local, err)
	}
	if r := point.Find.Nodes().LocalRecord(); r == nil {
		t.Error("the point has no record")
	}

	topic, err := a.Talk.Join("news")
	if err != nil {
		t.Fatal(err)
	}
	sub, err := topic.Subscribe()
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Host().Connect(ctx, found[0].AddrInfo); err != nil {
		t.Fatal(err)
	}
	say, err := b.Talk.Join("news")
	if err != nil {
		t.Fatal(err)
	}
	handler, err := say.EventHandler()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := handler.NextPeerEvent(ctx); err != nil {
		t.Fatal(err)
	}
	if err := say.Publish(ctx, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	msg, err := sub.Next(ctx)
	if err != nil || string(msg.Data) != "hello" {
		t.Errorf("heard %v, %v", msg, err)
	}
}

// TestRelayAccess: nobody uses the rdv server of a point unless the policy
// says so, and quotas end pairs.
func TestRelayAccess(t *testing.T) {
	tokens, err := access.OpenTokens(filepath.Join(t.TempDir(), "tokens"), nil)
	if err != nil {
		t.Fatal(err)
	}
	text, _, err := tokens.Issue(t.Context(), time.Now(), access.Token{Scopes: []access.Scope{access.Relay}, Bytes: 1000})
	if err != nil {
		t.Fatal(err)
	}
	point := start(t, muster.Config{Point: &muster.PointConfig{HTTP: "127.0.0.1:0", Tokens: tokens}})
	url := point.Point.URLs()[0]
	refused := func(what string, h http.Header, status int) {
		t.Helper()
		_, resp, err := new(rdv.Client).Dial(t.Context(), url, "room", h)
		if err == nil || resp == nil || resp.StatusCode != status {
			t.Errorf("%s: %v, %v, want %d", what, resp, err, status)
		}
	}
	withToken := http.Header{"Authorization": {"Bearer " + text}}
	refused("closed", withToken, http.StatusForbidden)
	if err := point.Point.Gate().SetPolicy(access.Policy{Relay: access.ByToken}); err != nil {
		t.Fatal(err)
	}
	refused("without a token", nil, http.StatusUnauthorized)

	d, a := meet(t, url, "room", withToken)
	if _, err := d.Write(make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(a, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Write(make([]byte, 500)); err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, a); n > 500 {
		t.Errorf("%d bytes came beyond the quota, %v", n, err)
	}
	refused("used up", withToken, http.StatusForbidden)

	minted := point.Point.Gate().Mint(access.Grant{}, time.Minute)
	d, a = meet(t, url, minted, nil)
	if _, err := d.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(a, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if st := point.Point.RelayStats(); st.Relayed != 2 || st.Bytes < 1500 { // the last byte may be counted after it came
		t.Errorf("stats %+v", st)
	}
}

// TestSessionBytes: an open relay keeps to its bound for meetings under tokens of
// the peers' own as well.
func TestSessionBytes(t *testing.T) {
	policy := access.Policy{Relay: access.OpenToEach, SessionBytes: 1000}
	point := start(t, muster.Config{Point: &muster.PointConfig{HTTP: "127.0.0.1:0", Policy: policy}})
	d, a := meet(t, point.Point.URLs()[0], "room", nil)
	for range 2 {
		if _, err := d.Write(make([]byte, 1000)); err != nil {
			break
		}
		if _, err := io.ReadFull(a, make([]byte, 1000)); err != nil {
			break
		}
	}
	if n, _ := io.Copy(io.Discard, a); n > 0 { // would hang if the pair went on
		t.Errorf("%d bytes came beyond the bound", n)
	}
}

// meet returns the two ends of a relayed connection.
func meet(t *testing.T, url, token string, h http.Header) (d, a *rdv.Conn) {
	t.Helper()
	type result struct {
		conn *rdv.Conn
		err  error
	}
	accepted := make(chan result, 1)
	c := &rdv.Client{AddrSpaces: rdv.NoSpaces, Picker: rdv.PickFirst()}
	go func() {
		conn, _, err := c.Accept(t.Context(), url, token, h)
		accepted <- result{conn, err}
	}()
	d, _, err := c.Dial(t.Context(), url, token, h)
	if err != nil {
		t.Fatal(err)
	}
	r := <-accepted
	if r.err != nil {
		t.Fatal(r.err)
	}
	t.Cleanup(func() { _, _ = d.Close(), r.conn.Close() })
	return d, r.conn
}

// TestTokensOfOneStore: points with one secret take each other's tokens, others
// do not.
func TestTokensOfOneStore(t *testing.T) {
	secret := []byte(strings.Repeat("s", access.MinSecret))
	policy := access.Policy{Relay: access.ByToken}
	open := func(secret []byte) *access.Gate {
		return start(t, muster.Config{Point: &muster.PointConfig{Policy: policy, Secret: secret}}).Point.Gate()
	}
	token := open(secret).Mint(access.Grant{}, time.Minute)
	if _, err := open(secret).Relay(t.Context(), access.RelayRequest{Token: token}); err != nil {
		t.Errorf("the same secret: %v", err)
	}
	if _, err := open(nil).Relay(t.Context(), access.RelayRequest{Token: token}); !errors.Is(err, access.ErrUnauthorized) {
		t.Errorf("another secret: %v", err)
	}
}

// TestBan: a peer that is banned loses what it has, and gets nothing more; one
// that is not keeps all. A ban holds for what a store has from before.
func TestBan(t *testing.T) {
	store := rendezvous.NewMemory()
	open := access.Policy{Relay: access.OpenToEach}
	point := start(t, muster.Config{
		Listen: loopback, Point: &muster.PointConfig{HTTP: "127.0.0.1:0", Policy: open, Rendezvous: rendezvous.Config{Store: store}},
	})
	events := make(chan reach.Event, 100)
	peerOf := func(changed func(reach.Event)) *muster.Node {
		return start(t, muster.Config{
			Listen: loopback, Points: []peer.AddrInfo{info(point)}, Reach: muster.ReachConfig{Changed: changed}, Talk: muster.TalkConfig{Off: true},
		})
	}
	bad, good := peerOf(func(e reach.Event) { events <- e }), peerOf(nil)
	for _, n := range []*muster.Node{bad, good} {
		for _, name := range []string{"lab", "lab/x"} {
			if err := n.Find.Register(t.Context(), name); err != nil {
				t.Fatal(err)
			}
		}
		if err := n.Reach.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if e := <-events; !e.Parked {
		t.Fatalf("%+v", e)
	}
	banned := open
	banned.Banned = []peer.ID{bad.ID()}
	if err := point.Point.SetPolicy(banned); err != nil {
		t.Fatal(err)
	}
	if e := <-events; e.Parked {
		t.Error("the stream of the banned peer stays")
	}
	if e := <-events; e.Parked {
		t.Error("the banned peer is parked again")
	}
	found, err := point.Find.Peers(t.Context(), "lab", 0) // of its own registry
	if err != nil || len(found) != 1 || found[0].ID != good.ID() {
		t.Errorf("found %v, %v", found, err)
	}
	if err := bad.Find.Register(t.Context(), "other"); err == nil {
		t.Error("the banned peer has registered")
	}
	if st := point.Point.Reach().Stats(); st.Parked != 1 {
		t.Errorf("%d are parked", st.Parked)
	}
	if n, err := point.Point.Enforce(); n != 0 || err != nil {
		t.Errorf("again: %d removed, %v", n, err)
	}
}

// TestOwnHost: the node uses the program's host and leaves it open.
func TestOwnHost(t *testing.T) {
	h, err := muster.NewHost(muster.HostConfig{Key: newKey(t), Listen: loopback})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	n, err := muster.New(muster.Config{Host: h, Point: &muster.PointConfig{}})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n.ID() != h.ID() || len(n.Addrs()) == 0 {
		t.Errorf("%v at %v", n.ID(), n.Addrs())
	}
	if err := errors.Join(n.Close(), n.Close()); err != nil {
		t.Error(err)
	}
	if len(h.Network().ListenAddresses()) == 0 {
		t.Error("the host was closed")
	}
	for _, p := range h.Mux().Protocols() {
		if p == rendezvous.ProtocolID {
			t.Error("the point still serves")
		}
	}
}

// TestPanicStaysInItsHandler has the access hook of a program panic: the
// request is lost, and counted, and the point goes on.
func TestPanicStaysInItsHandler(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	bad := true
	point := start(t, muster.Config{Listen: loopback, Registerer: reg, Point: &muster.PointConfig{
		Rendezvous: rendezvous.Config{Access: func(context.Context, rendezvous.Request) error {
			if bad {
				panic("a mistake")
			}
			return nil
		}},
	}})
	client := start(t, muster.Config{Listen: loopback, Points: []peer.AddrInfo{info(point)}})
	if err := client.Find.Register(t.Context(), "lab"); err == nil {
		t.Error("registered in spite of a panic")
	}
	bad = false
	other := start(t, muster.Config{Listen: loopback, Points: []peer.AddrInfo{info(point)}})
	if err := other.Find.Register(t.Context(), "lab"); err != nil {
		t.Errorf("another peer: %v", err)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "muster_panics_total" && f.GetMetric()[0].GetCounter().GetValue() < 1 {
			t.Errorf("panics: %v", f)
		}
	}
}

func TestLifeCycle(t *testing.T) {
	n, err := muster.New(muster.Config{Talk: muster.TalkConfig{Off: true}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.Find.Peers(t.Context(), "lab", 0); !errors.Is(err, muster.ErrNotStarted) {
		t.Errorf("find before Start: %v", err)
	}
	if _, err := n.Talk.Join("news"); !errors.Is(err, muster.ErrNotStarted) {
		t.Errorf("talk before Start: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := n.Start(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Start with an ended context: %v", err)
	}
	if err := n.Start(t.Context()); err == nil {
		t.Error("started again")
	}
	quiet := start(t, muster.Config{Talk: muster.TalkConfig{Off: true}})
	if _, err := quiet.Talk.Join("news"); !errors.Is(err, muster.ErrOff) {
		t.Errorf("talk that is off: %v", err)
	}
	if err := quiet.Drain(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestStartFailsWhole: what was opened before the part that fails is closed.
func TestStartFailsWhole(t *testing.T) {
	first := start(t, muster.Config{Point: &muster.PointConfig{HTTP: "127.0.0.1:0"}})
	taken := strings.TrimPrefix(first.Point.URLs()[0], "http://")
	n, err := muster.New(muster.Config{Listen: loopback, Point: &muster.PointConfig{HTTP: taken}})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("got %v", err)
	}
}

func TestConfigRefused(t *testing.T) {
	for name, cfg := range map[string]muster.Config{
		"conns":        {MaxConns: -1},
		"short secret": {Point: &muster.PointConfig{Secret: make([]byte, 8)}},
		"URL":          {Point: &muster.PointConfig{URLs: []string{"point.example.org"}}},
		"namespace":    {Point: &muster.PointConfig{NoRendezvous: true, Policy: access.Policy{Relay: access.ByName}}},
	} {
		if _, err := muster.New(cfg); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// TestManyConnections: a host takes more connections of one address than
// go-libp2p's defaults allow, where that is not loopback; here it is counted
// that the limit in all is not theirs of 128.
func TestManyConnections(t *testing.T) {
	if testing.Short() {
		t.Skip("opens 150 connections")
	}
	point := start(t, muster.Config{Listen: loopback, Talk: muster.TalkConfig{Off: true}})
	for range 150 {
		h, err := muster.NewHost(muster.HostConfig{Key: newKey(t)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = h.Close() })
		if err := h.Connect(network.WithForceDirectDial(t.Context(), "test"), info(point)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRelayByName: peers that are registered under a listed name are relayed
// for, and who calls them; others are not.
func TestRelayByName(t *testing.T) {
	point := start(t, muster.Config{Listen: loopback, Point: &muster.PointConfig{
		HTTP: "127.0.0.1:0", Policy: access.Policy{Relay: access.ByName, RelayNames: []string{"lab"}},
	}})
	points := []peer.AddrInfo{info(point)}
	nas := start(t, muster.Config{Listen: loopback, Points: points})
	stranger := start(t, muster.Config{Points: points})
	if err := nas.Find.Register(t.Context(), "lab"); err != nil {
		t.Fatal(err)
	}
	if _, err := nas.Reach.Reserve(t.Context()); err != nil {
		t.Errorf("a peer of the name: %v", err)
	}
	if _, err := stranger.Reach.Reserve(t.Context()); err == nil {
		t.Error("a stranger got a token")
	}
	r := access.ReachRequest{Peer: stranger.ID(), Callee: nas.ID()}
	if _, err := point.Point.Gate().Reach(t.Context(), r); err != nil {
		t.Errorf("who calls a peer of the name: %v", err)
	}
}

// TestSnapshot: the status page of a node that runs has its parts, and its
// checks pass.
func TestSnapshot(t *testing.T) {
	point := start(t, muster.Config{
		Listen: loopback, Find: muster.FindConfig{Discv5: &discv5.Config{Listen: discv5Listen}},
		Point: &muster.PointConfig{HTTP: "127.0.0.1:0"},
	})
	peer := start(t, muster.Config{Listen: loopback, Points: []peer.AddrInfo{info(point)}})
	if err := peer.Find.Register(t.Context(), "lab"); err != nil {
		t.Fatal(err)
	}
	s := point.Snapshot()
	if s.Rendezvous == nil || s.Rendezvous.Registrations != 1 || s.Relay == nil || s.Discv5 == nil || s.Pubsub == nil ||
		s.Node.Peer != point.ID().String() || s.Node.URL == "" || s.Node.ENR == "" || s.Node.Conns != 1 || len(s.Node.Addrs) == 0 {
		t.Errorf("snapshot %+v", s)
	}
	if peers := point.Peers(10); len(peers) != 1 || peers[0].Peer != peer.ID().String() || !peers[0].Inbound {
		t.Errorf("peers %+v", peers)
	}
	if peers := point.Peers(0); len(peers) != 0 {
		t.Errorf("%d peers of 0", len(peers))
	}
	for name, check := range point.Checks() {
		if err := check(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
