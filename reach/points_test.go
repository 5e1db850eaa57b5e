package reach_test

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/muster-p2p/muster/reach"
	"github.com/muster-p2p/muster/reach/wire"
)

// A town is what points share: the fake of a database, and the ways between
// them.
type town struct {
	mu      sync.Mutex // guards what follows
	callees map[peer.ID][]string
	points  map[string]*reach.Server // nil: nothing comes back from there
	down    bool
	slow    time.Duration
	wg      sync.WaitGroup
}

func newTown() *town {
	return &town{callees: map[peer.ID][]string{}, points: map[string]*reach.Server{}}
}

var errDown = errors.New("down")

// A view is what one point knows of the town.
type view struct {
	*town
	name string
}

func (v view) Park(id peer.ID) <-chan struct{} {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.callees[id] = append([]string{v.name}, slices.DeleteFunc(v.callees[id], func(s string) bool { return s == v.name })...)
	noted := make(chan struct{})
	time.AfterFunc(v.slow, func() { close(noted) })
	return noted
}

func (v view) Leave(id peer.ID) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.callees[id] = slices.DeleteFunc(v.callees[id], func(s string) bool { return s == v.name })
}

func (v view) Find(_ context.Context, id peer.ID) ([]string, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.down {
		return nil, errDown
	}
	return slices.DeleteFunc(slices.Clone(v.callees[id]), func(s string) bool { return s == v.name }), nil
}

func (v view) Health() error { return nil }

// dial connects to a point. One that is there and nil takes the connection and
// says nothing.
func (t *town) dial(_ context.Context, to string) (net.Conn, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s, ok := t.points[to]
	if !ok {
		return nil, errDown
	}
	a, b := net.Pipe()
	if s == nil {
		t.wg.Go(func() { _, _ = io.Copy(io.Discard, b); _ = b.Close() })
		return a, nil
	}
	t.wg.Go(func() { s.ServePoint(b) })
	return a, nil
}

func (t *town) put(name string, s *reach.Server) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.points[name] = s
}

func (t *town) remove(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.points, name)
}

// open serves a point of the town.
func (t *town) open(tb *testing.T, h host.Host, name string, cfg reach.Config) *reach.Server {
	tb.Helper()
	cfg.Directory, cfg.DialPoint = view{t, name}, t.dial
	cfg.Servers = []string{"http://" + name + ".example/"}
	s := serve(tb, h, cfg)
	t.put(name, s)
	return s
}

// Whoever asks one point finds the callee of another: the callee decides, each
// end is sent to its own point's server, and the token is the same.
func TestInviteByAnotherPoint(t *testing.T) {
	inBubble(t, 5, func(t *testing.T, h []host.Host) {
		town := newTown()
		defer town.wg.Wait()
		var asked reach.Request
		a := town.open(t, h[0], "a", reach.Config{Authorize: func(_ context.Context, r reach.Request) error {
			if r.Op == reach.OpInvite {
				asked = r
			}
			return nil
		}})
		defer closing(t, a)
		b := town.open(t, h[1], "b", reach.Config{})
		defer closing(t, b)
		callee := listen(t, h[2], reach.ClientConfig{AccessToken: "own"}, func(_ context.Context, inv reach.Invitation) error {
			if inv.Peer != h[3].ID() {
				return errors.New("not you")
			}
			return nil
		}, info(h[0]))
		defer callee.stop()
		callee.wantParked(t, info(h[0]))
		friend := client(t, h[3], reach.ClientConfig{AccessToken: "friend"})
		inv, err := friend.Invite(t.Context(), h[2].ID(), "ssh", info(h[1]))
		if err != nil {
			t.Fatal(err)
		}
		got := callee.seen()[0]
		if got.Token != inv.Token || got.Call != inv.Call || got.Peer != h[3].ID() || got.Service != "ssh" || got.Point != h[0].ID() || inv.Point != h[1].ID() {
			t.Errorf("callee %+v\ncaller %+v", got, inv)
		}
		if !slices.Equal(got.Servers, []string{"http://a.example/"}) || !slices.Equal(inv.Servers, []string{"http://b.example/"}) {
			t.Errorf("servers %q and %q", got.Servers, inv.Servers)
		}
		if asked.Peer != h[3].ID() || asked.Token != "friend" || !asked.Here || asked.CalleeToken != "own" {
			t.Errorf("authorized %+v", asked)
		}
		for _, tt := range []struct {
			name   string
			by     *reach.Client
			callee peer.ID
			want   wire.Status
		}{
			{"not wanted", client(t, h[4], reach.ClientConfig{}), h[2].ID(), wire.Refused},
			{"nowhere", friend, h[4].ID(), wire.NotHere},
		} {
			if _, err := tt.by.Invite(t.Context(), tt.callee, "", info(h[1])); statusOf(err) != tt.want {
				t.Errorf("%s: %v", tt.name, err)
			}
		}
		// By way of both, which is one call to the callee.
		if _, err := friend.Invite(t.Context(), h[2].ID(), "", info(h[0]), info(h[1])); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if st := b.Stats(); st.Forwards["answered"] < 2 || st.Forwards["nobody"] != 1 || st.Parked != 0 {
			t.Errorf("%+v", st)
		}
		callee.stop()
		synctest.Wait()
		if _, err := friend.Invite(t.Context(), h[2].ID(), "", info(h[1])); statusOf(err) != wire.NotHere {
			t.Errorf("who has left: %v", err)
		}
		view{town, "a"}.Park(h[2].ID()) // what is left of a point that is stopping
		if err := a.Drain(t.Context()); err != nil {
			t.Error(err)
		}
		if _, err := friend.Invite(t.Context(), h[2].ID(), "", info(h[1])); statusOf(err) != wire.Unavailable {
			t.Errorf("at a point that stops: %v", err)
		}
	})
}

// A point that is dead, silent, or knows nothing costs a bounded time and gives
// a clear answer, and a callee that has gone elsewhere is found there.
func TestInviteByAnotherPointFails(t *testing.T) {
	inBubble(t, 4, func(t *testing.T, h []host.Host) {
		town := newTown()
		defer town.wg.Wait()
		b := town.open(t, h[1], "b", reach.Config{})
		defer closing(t, b)
		id := h[2].ID()
		caller := client(t, h[3], reach.ClientConfig{Timeout: time.Minute})
		invite := func(want wire.Status, within time.Duration) {
			t.Helper()
			start := time.Now()
			_, err := caller.Invite(t.Context(), id, "", info(h[1]))
			if took := time.Since(start); statusOf(err) != want || took > within || want == wire.OK && err != nil {
				t.Errorf("%v after %v, want %v", err, took, want)
			}
		}
		view{town, "a"}.Park(id) // a point that has died, and what is left of it
		invite(wire.Unavailable, 0)
		town.put("a", nil)
		invite(wire.Unavailable, reach.ForwardWait)
		town.remove("a")

		town.down = true
		invite(wire.Unavailable, 0)
		town.down = false

		// It comes to a third point, of which the directory does not know yet
		// that the first is dead.
		c := town.open(t, h[0], "c", reach.Config{})
		there := listen(t, h[2], reach.ClientConfig{}, yes, info(h[0]))
		there.wantParked(t, info(h[0]))
		invite(wire.OK, 0)
		closing(t, c)
		there.stop()
		view{town, "c"}.Park(id)
		invite(wire.Unavailable, 0)

		// It comes to the point that is asked, while that asks the dead one.
		town.put("a", nil)
		view{town, "a"}.Park(id)
		here := make(chan *callee, 1)
		time.AfterFunc(time.Second, func() { here <- listen(t, h[2], reach.ClientConfig{}, yes, info(h[1])) })
		invite(wire.OK, reach.ForwardWait)
		(<-here).stop()
		town.remove("a")
		synctest.Wait()
	})
}

// Points bound what is forwarded; and on a stream of libp2p, where anybody may
// say it, FORWARD means nothing.
func TestForwardsAreBounded(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, h []host.Host) {
		town := newTown()
		defer town.wg.Wait()
		limits := reach.Limits{Forwards: 1}
		b := town.open(t, h[1], "b", reach.Config{Limits: limits})
		defer closing(t, b)
		town.put("a", nil)
		view{town, "a"}.Park(h[2].ID())
		caller := client(t, h[0], reach.ClientConfig{Timeout: time.Minute})
		first := make(chan error, 1)
		go func() {
			_, err := caller.Invite(t.Context(), h[2].ID(), "", info(h[1]))
			first <- err
		}()
		synctest.Wait()
		if _, err := caller.Invite(t.Context(), h[2].ID(), "", info(h[1])); statusOf(err) != wire.Busy {
			t.Errorf("one too many: %v", err)
		}
		if err := <-first; statusOf(err) != wire.Unavailable {
			t.Error(err)
		}
		silent, err := town.dial(t.Context(), "b")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = silent.Close() }()
		synctest.Wait()
		conn, err := town.dial(t.Context(), "b")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		if _, err := conn.Write(wire.AppendFrame(nil, &wire.Message{Kind: wire.Forward, Caller: h[0].ID(), Peer: h[2].ID()})); err != nil {
			t.Fatal(err)
		}
		if got := readAnswer(t, conn); got.Status != wire.Busy {
			t.Errorf("%v while another one is served", got.Status)
		}
		if n := b.Stats().Refused["forwards"]; n != 2 {
			t.Errorf("refused %d", n)
		}
		s, err := h[0].NewStream(t.Context(), h[1].ID(), reach.ProtocolID)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Write(wire.AppendFrame(nil, &wire.Message{Kind: wire.Forward, Caller: h[2].ID(), Peer: h[2].ID()})); err != nil {
			t.Fatal(err)
		}
		if got := readAnswer(t, s); got.Status != wire.Invalid {
			t.Errorf("a stranger's FORWARD: %v", got.Status)
		}
		_ = s.Close()
	})
}

// readAnswer reads one short message.
func readAnswer(t *testing.T, r io.Reader) (m wire.Message) {
	t.Helper()
	var size [1]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, size[0])
	if _, err := io.ReadFull(r, b); err != nil {
		t.Fatal(err)
	}
	if err := wire.Parse(b, &m); err != nil {
		t.Fatal(err)
	}
	return m
}
