package reach_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	mocknet "github.com/libp2p/go-libp2p/p2p/net/mock"
	manet "github.com/multiformats/go-multiaddr/net"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/muster-p2p/muster/internal/bubble"
	"github.com/muster-p2p/muster/internal/netwatch"
	"github.com/muster-p2p/muster/reach"
	"github.com/muster-p2p/muster/reach/wire"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/ipfs/go-log/v2/writer.(*MirrorWriter).logRoutine"))
}

// inBubble runs f in virtual time with n hosts that are linked in memory.
func inBubble(t *testing.T, n int, f func(t *testing.T, hosts []host.Host)) {
	t.Helper()
	bubble.Test(t, func(t *testing.T) {
		net, err := mocknet.FullMeshLinked(n)
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := net.Close(); err != nil {
				t.Error(err)
			}
		}()
		f(t, net.Hosts())
	})
}

func closing(t *testing.T, c io.Closer) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

func info(h host.Host) peer.AddrInfo { return peer.AddrInfo{ID: h.ID(), Addrs: h.Addrs()} }

const server = "http://198.51.100.1:8080/"

func serve(t *testing.T, h host.Host, cfg reach.Config) *reach.Server {
	t.Helper()
	if cfg.Servers == nil {
		cfg.Servers = []string{server}
	}
	s, err := reach.NewServer(h, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func client(t *testing.T, h host.Host, cfg reach.ClientConfig) *reach.Client {
	t.Helper()
	c, err := reach.NewClient(h, cfg)
	if err != nil {
		t.Fatal(err)
	}
	c.SetLook(func() netwatch.Snapshot { return netwatch.Snapshot{} }) // a network that never changes
	return c
}

// A callee is a client that listens until it is stopped.
type callee struct {
	stop   func()
	events chan reach.Event

	mu      sync.Mutex // guards what follows
	invited []reach.Invitation
}

func (c *callee) seen() []reach.Invitation {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.invited)
}

// listen starts a callee, which answers with what decide returns.
func listen(t *testing.T, h host.Host, cfg reach.ClientConfig, decide func(context.Context, reach.Invitation) error, points ...peer.AddrInfo) *callee {
	t.Helper()
	c := &callee{events: make(chan reach.Event, 100)}
	cfg.Invited = func(ctx context.Context, inv reach.Invitation) error {
		c.mu.Lock()
		c.invited = append(c.invited, inv)
		c.mu.Unlock()
		return decide(ctx, inv)
	}
	cfg.Changed = func(e reach.Event) { c.events <- e }
	cl := client(t, h, cfg)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := cl.Listen(ctx, points...); !errors.Is(err, context.Canceled) {
			t.Errorf("listen: %v", err)
		}
	})
	c.stop = func() { cancel(); wg.Wait() }
	return c
}

func (c *callee) wantParked(t *testing.T, points ...peer.AddrInfo) {
	t.Helper()
	for range points {
		if e := <-c.events; !e.Parked {
			t.Fatalf("not parked: %v", e.Err)
		}
	}
}

func yes(context.Context, reach.Invitation) error { return nil }

func statusOf(err error) wire.Status {
	if e, ok := errors.AsType[*reach.StatusError](err); ok {
		return e.Status
	}
	return wire.OK
}

// An invitation gives both ends the same token, and each the other's identity.
func TestInvite(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, h []host.Host) {
		reg := prometheus.NewRegistry()
		s := serve(t, h[0], reach.Config{Registerer: reg, Servers: []string{server, "http://:80/"}})
		defer closing(t, s)
		b := listen(t, h[1], reach.ClientConfig{}, yes, info(h[0]))
		defer b.stop()
		b.wantParked(t, info(h[0]))
		inv, err := client(t, h[2], reach.ClientConfig{}).Invite(t.Context(), h[1].ID(), "ssh", info(h[0]))
		if err != nil {
			t.Fatal(err)
		}
		got := b.seen()[0]
		if got.Token != inv.Token || len(got.Token) < 26 || got.Bearer != got.Token || got.Call != inv.Call ||
			got.Peer != h[2].ID() || inv.Peer != h[1].ID() || got.Service != "ssh" || got.Point != h[0].ID() || inv.Point != h[0].ID() {
			t.Errorf("callee %+v\ncaller %+v", got, inv)
		}
		if len(inv.Servers) != 2 || inv.Servers[0] != server || len(got.Servers) != 2 {
			t.Errorf("servers %q", inv.Servers)
		}
		again, err := client(t, h[2], reach.ClientConfig{}).Invite(t.Context(), h[1].ID(), "ssh", info(h[0]))
		if err != nil || again.Token == inv.Token || again.Call == inv.Call {
			t.Errorf("a second call: %v", err)
		}
		synctest.Wait()
		if st := s.Stats(); st.Parked != 1 || st.Invites != 2 || st.Parks != 1 || st.Requests != 0 {
			t.Errorf("stats %+v", st)
		}
		families, err := reg.Gather()
		if err != nil || len(families) != 7 {
			t.Errorf("%d metrics, %v", len(families), err)
		}
	})
}

func TestInviteAnswers(t *testing.T) {
	inBubble(t, 4, func(t *testing.T, h []host.Host) {
		s := serve(t, h[0], reach.Config{})
		defer closing(t, s)
		block := make(chan struct{})
		defer close(block)
		b := listen(t, h[1], reach.ClientConfig{}, func(_ context.Context, inv reach.Invitation) error {
			switch inv.Service {
			case "none":
				return reach.ErrNoService
			case "busy":
				return reach.ErrBusy
			case "slow":
				<-block
				return nil
			default:
				return errors.New("not you")
			}
		}, info(h[0]))
		defer b.stop()
		b.wantParked(t, info(h[0]))
		defer func() { // the slow decision ends before the callee
			block <- struct{}{}
		}()
		a := client(t, h[2], reach.ClientConfig{})
		for _, tt := range []struct {
			callee  peer.ID
			service string
			want    wire.Status
			after   time.Duration
		}{
			{h[1].ID(), "none", wire.NoService, 0},
			{h[1].ID(), "busy", wire.Busy, 0},
			{h[1].ID(), "", wire.Refused, 0},
			{h[3].ID(), "", wire.NotHere, 0},
			{h[1].ID(), "slow", wire.NoAnswer, reach.ReplyWait},
		} {
			begin := time.Now()
			_, err := a.Invite(t.Context(), tt.callee, tt.service, info(h[0]))
			if got := statusOf(err); got != tt.want || time.Since(begin) != tt.after {
				t.Errorf("%q: %v after %v, want %v after %v", tt.service, err, time.Since(begin), tt.want, tt.after)
			}
		}
		if _, err := a.Invite(t.Context(), h[1].ID(), "a b", info(h[0])); err == nil {
			t.Error("an invalid service")
		}
		if _, err := a.Invite(t.Context(), h[1].ID(), ""); !errors.Is(err, reach.ErrNoPoints) {
			t.Errorf("no points: %v", err)
		}
		if err := h[2].Connect(t.Context(), info(h[3])); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // identify is done
		if _, err := a.Invite(t.Context(), h[1].ID(), "", info(h[3])); !errors.Is(err, reach.ErrUnsupported) {
			t.Errorf("a peer that is no point: %v", err)
		}
	})
}

// The hooks see who asks for what, and are asked before anybody learns who is
// here.
func TestHooks(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, h []host.Host) {
		var mu sync.Mutex
		var asked []reach.Request
		s := serve(t, h[0], reach.Config{
			Authorize: func(_ context.Context, r reach.Request) error {
				mu.Lock()
				defer mu.Unlock()
				asked = append(asked, r)
				if r.Token != "sesame" && r.CalleeToken != "sesame" {
					return errors.New("no token")
				}
				return nil
			},
			Mint: func(_ context.Context, r reach.Request) (string, error) {
				switch r.Op {
				case reach.OpReserve:
					return "reserved", nil
				default:
					return "minted." + r.CalleeToken, nil
				}
			},
		})
		defer closing(t, s)
		denied := listen(t, h[1], reach.ClientConfig{}, yes, info(h[0]))
		if e := <-denied.events; statusOf(e.Err) != wire.Unauthorized || e.Retry < 30*time.Second {
			t.Errorf("without a token: %+v", e)
		}
		denied.stop()
		stranger := client(t, h[2], reach.ClientConfig{})
		if _, err := stranger.Invite(t.Context(), h[1].ID(), "", info(h[0])); statusOf(err) != wire.Unauthorized {
			t.Errorf("a stranger learns who is here: %v", err)
		}
		if _, err := stranger.Reserve(t.Context(), info(h[0])); statusOf(err) != wire.Unauthorized {
			t.Errorf("a stranger reserves: %v", err)
		}
		b := listen(t, h[1], reach.ClientConfig{AccessToken: "sesame"}, yes, info(h[0]))
		defer b.stop()
		b.wantParked(t, info(h[0]))
		// The callee's token pays for its callers.
		inv, err := stranger.Invite(t.Context(), h[1].ID(), "", info(h[0]))
		if err != nil || inv.Token != "minted.sesame" {
			t.Errorf("%+v, %v", inv, err)
		}
		inv, err = client(t, h[2], reach.ClientConfig{AccessToken: "sesame"}).Reserve(t.Context(), info(h[0]))
		if err != nil || inv.Token != "reserved" || len(inv.Servers) != 1 {
			t.Errorf("%+v, %v", inv, err)
		}
		last := asked[len(asked)-2]
		if last.Op != reach.OpInvite || last.Peer != h[2].ID() || last.Callee != h[1].ID() || last.CalleeToken != "sesame" {
			t.Errorf("asked %+v", last)
		}
	})
}

// Hooks fail closed.
func TestHooksFail(t *testing.T) {
	inBubble(t, 2, func(t *testing.T, h []host.Host) {
		s := serve(t, h[0], reach.Config{
			Authorize: func(ctx context.Context, r reach.Request) error {
				if r.Token == "hang" {
					<-ctx.Done()
					return ctx.Err()
				}
				if r.Token == "undecided" {
					return fmt.Errorf("%w: 10.1.2.3 is away", reach.ErrUndecided)
				}
				return nil
			},
			Mint: func(context.Context, reach.Request) (string, error) { return "not a token", nil },
		})
		defer closing(t, s)
		begin := time.Now()
		_, err := client(t, h[1], reach.ClientConfig{AccessToken: "hang"}).Reserve(t.Context(), info(h[0]))
		if statusOf(err) != wire.Unauthorized || time.Since(begin) != reach.AuthorizeWait {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		if _, err := client(t, h[1], reach.ClientConfig{}).Reserve(t.Context(), info(h[0])); statusOf(err) != wire.Internal {
			t.Errorf("an invalid token: %v", err)
		}
		undecided := client(t, h[1], reach.ClientConfig{AccessToken: "undecided"})
		_, reserve := undecided.Reserve(t.Context(), info(h[0]))
		_, invite := undecided.Invite(t.Context(), h[0].ID(), "", info(h[0]))
		for _, err := range []error{reserve, invite} {
			if statusOf(err) != wire.Unavailable || strings.Contains(err.Error(), "10.1.2.3") {
				t.Errorf("undecided: %v", err)
			}
		}
		l := listen(t, h[1], reach.ClientConfig{AccessToken: "undecided"}, yes, info(h[0]))
		if e := <-l.events; statusOf(e.Err) != wire.Unavailable || e.Retry > 30*time.Second {
			t.Errorf("undecided: %+v", e)
		}
		l.stop()
	})
}

// Of several points the first that says yes wins; dead and lying ones cost
// nothing, and a no waits a moment for a yes.
func TestSeveralPoints(t *testing.T) {
	inBubble(t, 6, func(t *testing.T, h []host.Host) {
		s := serve(t, h[0], reach.Config{})
		defer closing(t, s)
		other := serve(t, h[1], reach.Config{})
		defer closing(t, other)
		// A point that never answers.
		h[2].SetStreamHandler(reach.ProtocolID, func(s network.Stream) { _, _ = io.Copy(io.Discard, s); _ = s.Reset() })
		// A point that always says no.
		h[3].SetStreamHandler(reach.ProtocolID, answering(wire.Message{Kind: wire.Answer, Status: wire.Refused}))
		b := listen(t, h[4], reach.ClientConfig{}, yes, info(h[0]))
		defer b.stop()
		b.wantParked(t, info(h[0]))
		a := client(t, h[5], reach.ClientConfig{})
		begin := time.Now()
		inv, err := a.Invite(t.Context(), h[4].ID(), "", info(h[3]), info(h[2]), info(h[1]), info(h[0]))
		if err != nil || inv.Point != h[0].ID() || time.Since(begin) > 100*time.Millisecond {
			t.Errorf("%+v, %v after %v", inv, err, time.Since(begin))
		}
		// The other one does not know the callee, and the dead one says nothing.
		begin = time.Now()
		if _, err = a.Invite(t.Context(), h[4].ID(), "", info(h[2]), info(h[1])); statusOf(err) != wire.NotHere || time.Since(begin) != time.Second {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		begin = time.Now()
		_, err = a.Invite(t.Context(), h[4].ID(), "", info(h[2]))
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != reach.DefaultTimeout {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
	})
}

// answering returns a point that has one answer for everything.
func answering(m wire.Message) network.StreamHandler {
	return func(s network.Stream) {
		_, _ = s.Read(make([]byte, wire.MaxMessage))
		_, _ = s.Write(wire.AppendFrame(nil, &m))
		_ = s.Close()
	}
}

// A lying point gets nothing accepted that a client could be hurt by.
func TestLyingPoint(t *testing.T) {
	inBubble(t, 2, func(t *testing.T, h []host.Host) {
		a := client(t, h[1], reach.ClientConfig{})
		for name, m := range map[string]wire.Message{
			"no token":            {Kind: wire.Answer, Servers: []string{server}},
			"no server":           {Kind: wire.Answer, Token: "t"},
			"this machine":        {Kind: wire.Answer, Token: "t", Servers: []string{"http://127.0.0.1:22/"}},
			"metadata":            {Kind: wire.Answer, Token: "t", Servers: []string{"http://169.254.169.254/"}},
			"a message of others": {Kind: wire.Parked, Token: "t", Servers: []string{server}},
			"a status to come":    {Kind: wire.Answer, Status: 200},
		} {
			h[0].SetStreamHandler(reach.ProtocolID, answering(m))
			if inv, err := a.Invite(t.Context(), "callee", "", info(h[0])); err == nil {
				t.Errorf("%s: %+v", name, inv)
			}
		}
		h[0].SetStreamHandler(reach.ProtocolID, func(s network.Stream) {
			_, _ = s.Write(bytes.Repeat([]byte{0xff}, 100))
			_ = s.Close()
		})
		if _, err := a.Invite(t.Context(), "callee", "", info(h[0])); err == nil {
			t.Error("nonsense is taken")
		}
		h[0].SetStreamHandler(reach.ProtocolID, answering(wire.Message{Kind: wire.Answer, Token: "t", Peer: h[0].ID(), Servers: []string{server}}))
		inv, err := a.Invite(t.Context(), "callee", "x", info(h[0]))
		if err != nil || inv.Peer != "callee" || inv.Service != "x" {
			t.Errorf("the point says who is called: %+v, %v", inv, err)
		}
	})
}

// A stream is kept for as long as both ends are there, and opened again when the
// point comes back.
func TestListenStays(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, h []host.Host) {
		s := serve(t, h[0], reach.Config{})
		b := listen(t, h[1], reach.ClientConfig{}, yes, info(h[0]))
		defer b.stop()
		b.wantParked(t, info(h[0]))
		time.Sleep(5 * time.Minute)
		if st := s.Stats(); st.Parked != 1 || st.Parks != 1 {
			t.Errorf("minutes later %+v", st)
		}
		closing(t, s)
		if e := <-b.events; e.Parked || e.Err == nil {
			t.Errorf("%+v", e)
		}
		time.Sleep(2 * time.Minute)
		s = serve(t, h[0], reach.Config{})
		defer closing(t, s)
		time.Sleep(15 * time.Second)
		if st := s.Stats(); st.Parked != 1 {
			t.Errorf("15 s after the restart %+v", st)
		}
		if _, err := client(t, h[2], reach.ClientConfig{}).Invite(t.Context(), h[1].ID(), "", info(h[0])); err != nil {
			t.Error(err)
		}
	})
}

// Both ends notice within 20 s that the other one is gone without a word.
func TestHalfOpen(t *testing.T) {
	t.Run("point", func(t *testing.T) {
		inBubble(t, 2, func(t *testing.T, h []host.Host) {
			h[0].SetStreamHandler(reach.ProtocolID, func(s network.Stream) {
				_, _ = s.Write(wire.AppendFrame(nil, &wire.Message{Kind: wire.Parked}))
				_, _ = io.Copy(io.Discard, s)
				_ = s.Reset()
			})
			b := listen(t, h[1], reach.ClientConfig{}, yes, info(h[0]))
			defer b.stop()
			b.wantParked(t, info(h[0]))
			begin := time.Now()
			if e := <-b.events; e.Parked || time.Since(begin) > 20*time.Second {
				t.Errorf("%+v after %v", e, time.Since(begin))
			}
		})
	})
	t.Run("callee", func(t *testing.T) {
		inBubble(t, 2, func(t *testing.T, h []host.Host) {
			s := serve(t, h[0], reach.Config{})
			defer closing(t, s)
			st := rawStream(t, h[1], h[0])
			say(t, st, wire.Message{Kind: wire.Park})
			time.Sleep(time.Second)
			if n := s.Stats().Parked; n != 1 {
				t.Fatalf("%d parked", n)
			}
			time.Sleep(18 * time.Second)
			if n := s.Stats().Parked; n != 0 {
				t.Errorf("%d parked after 19 s of silence", n)
			}
		})
	})
}

// A callee whose machine is on another network is parked again within 5 s: at once
// if the old address is gone, and else when the point does not answer. It does
// not wait out its back-off, nor for a dial into the old network.
func TestMoves(t *testing.T) {
	other := netip.MustParseAddr("203.0.113.9")
	tests := []struct {
		name   string
		moved  func(old netip.Addr) []netip.Addr // what the machine has then
		silent bool                              // the point's answers do not arrive any more
		limit  time.Duration
	}{
		{"address gone", func(netip.Addr) []netip.Addr { return []netip.Addr{other} }, true, 3 * time.Second},
		{"one more", func(old netip.Addr) []netip.Addr { return []netip.Addr{old, other} }, true, 5 * time.Second},
		{"one more, and the stream is alive", func(old netip.Addr) []netip.Addr { return []netip.Addr{old, other} }, false, 0},
	}
	for _, tt := range tests {
		inBubble(t, 2, func(t *testing.T, h []host.Host) {
			var parks atomic.Int32
			h[0].SetStreamHandler(reach.ProtocolID, func(s network.Stream) {
				first := parks.Add(1) == 1
				_, _ = s.Write(wire.AppendFrame(nil, &wire.Message{Kind: wire.Parked}))
				for b := make([]byte, 64); ; {
					if _, err := s.Read(b); err != nil {
						_ = s.Reset()
						return
					}
					if !first || !tt.silent {
						_, _ = s.Write(wire.AppendFrame(nil, &wire.Message{Kind: wire.Pong}))
					}
				}
			})
			var now atomic.Pointer[netwatch.Snapshot]
			c := client(t, h[1], reach.ClientConfig{})
			set := func(addrs ...netip.Addr) {
				slices.SortFunc(addrs, netip.Addr.Compare)
				now.Store(&netwatch.Snapshot{Known: true, Addrs: addrs})
			}
			ip, err := manet.ToIP(h[1].Addrs()[0])
			if err != nil {
				t.Fatal(err)
			}
			old, _ := netip.AddrFromSlice(ip)
			set(old)
			c.SetLook(func() netwatch.Snapshot { return *now.Load() })
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() { defer close(done); _ = c.Listen(ctx, info(h[0])) }()
			time.Sleep(3 * time.Second)
			if n := parks.Load(); n != 1 {
				t.Fatalf("%s: parked %d times before", tt.name, n)
			}
			set(tt.moved(old)...)
			begin := time.Now()
			for parks.Load() == 1 && time.Since(begin) < 10*time.Second {
				time.Sleep(10 * time.Millisecond)
			}
			if took := time.Since(begin); (parks.Load() > 1) != (tt.limit > 0) || tt.limit > 0 && took > tt.limit {
				t.Errorf("%s: parked %d times, again after %v", tt.name, parks.Load(), took)
			}
			cancel()
			<-done
		})
	}
}

func rawStream(t *testing.T, from, to host.Host) network.Stream {
	t.Helper()
	s, err := from.NewStream(t.Context(), to.ID(), reach.ProtocolID)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func say(t *testing.T, s network.Stream, m wire.Message) {
	t.Helper()
	if _, err := s.Write(wire.AppendFrame(nil, &m)); err != nil {
		t.Fatal(err)
	}
}

// The newest stream of a peer wins, and the older one is told and does not
// fight.
func TestNewestWins(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, h []host.Host) {
		s := serve(t, h[0], reach.Config{})
		defer closing(t, s)
		first := listen(t, h[1], reach.ClientConfig{}, yes, info(h[0]))
		defer first.stop()
		first.wantParked(t, info(h[0]))
		second := listen(t, h[1], reach.ClientConfig{}, yes, info(h[0]))
		defer second.stop()
		second.wantParked(t, info(h[0]))
		if e := <-first.events; !errors.Is(e.Err, reach.ErrReplaced) || e.Retry < time.Minute {
			t.Errorf("the first: %+v", e)
		}
		if _, err := client(t, h[2], reach.ClientConfig{}).Invite(t.Context(), h[1].ID(), "", info(h[0])); err != nil {
			t.Error(err)
		}
		if len(first.seen()) != 0 || len(second.seen()) != 1 {
			t.Errorf("%d invitations to the first, %d to the second", len(first.seen()), len(second.seen()))
		}
	})
}

// A point that drains sends its callees to the other points.
func TestDrain(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, h []host.Host) {
		s := serve(t, h[0], reach.Config{})
		b := listen(t, h[1], reach.ClientConfig{}, yes, info(h[0]))
		defer b.stop()
		b.wantParked(t, info(h[0]))
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := s.Drain(ctx); err != nil {
			t.Errorf("drain: %v", err)
		}
		if e := <-b.events; !errors.Is(e.Err, reach.ErrDrained) || e.Retry > 3*time.Second {
			t.Errorf("%+v", e)
		}
		if _, err := client(t, h[2], reach.ClientConfig{}).Invite(t.Context(), h[1].ID(), "", info(h[0])); statusOf(err) != wire.Unavailable {
			t.Errorf("while it drains: %v", err)
		}
		closing(t, s)
		closing(t, s)
		s = serve(t, h[0], reach.Config{})
		defer closing(t, s)
		time.Sleep(15 * time.Second)
		if n := s.Stats().Parked; n != 1 {
			t.Errorf("%d parked after the restart", n)
		}
	})
}
