package rdv_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/muster-p2p/muster/rdv"
)

// A board is what the directories of one lobby share: the fake of a database.
type board struct {
	mu     sync.Mutex
	secret [32]byte
	claims map[string]rdv.Claim
	away   bool
	slow   chan chan struct{} // if not nil, Claim sends a channel and waits until it is closed
}

func newBoard() *board {
	b := &board{claims: map[string]rdv.Claim{}}
	rand.Read(b.secret[:])
	return b
}

func (b *board) setAway(away bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.away = away
}

func (b *board) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.claims)
}

func (b *board) has(token string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, ok := b.claims[token]
	return ok
}

func (b *board) len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.claims)
}

// A directory is one server's.
type directory struct {
	*board
	url atomic.Value // string
}

var errAway = errors.New("directory is away")

func (d *directory) Secret() [32]byte { return d.secret }

func (d *directory) Claim(ctx context.Context, wanted []rdv.Wanted) ([]rdv.Claim, error) {
	if d.slow != nil {
		goOn := make(chan struct{})
		select {
		case d.slow <- goOn:
			<-goOn
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.away {
		return nil, errAway
	}
	own := d.url.Load().(string)
	var claims []rdv.Claim
	seen := map[string]bool{}
	for _, w := range wanted {
		if seen[w.Token] {
			return nil, fmt.Errorf("BUG: a batch names %q twice", w.Token)
		}
		seen[w.Token] = true
		if c, ok := d.claims[w.Token]; !ok || c.URL == own || c.ID == w.After {
			d.claims[w.Token] = rdv.Claim{Token: w.Token, ID: w.ID, URL: own}
		}
		c := d.claims[w.Token]
		if c.URL == own {
			c.URL = ""
		}
		claims = append(claims, c)
	}
	return claims, nil
}

func (d *directory) Release(_ context.Context, ended []rdv.Claim) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.away {
		return errAway
	}
	for _, c := range ended {
		if d.claims[c.Token].ID == c.ID {
			delete(d.claims, c.Token)
		}
	}
	return nil
}

// join starts a server that shares the lobby of b.
func (b *board) join(t *testing.T, srv *rdv.Server, edit ...func(*http.Server)) *point {
	t.Helper()
	d := &directory{board: b}
	srv.Directory = d
	srv.RefreshEvery(50 * time.Millisecond)
	p := serve(t, srv, edit...)
	d.url.Store("http://" + p.addr.String() + "/")
	return p
}

func (b *board) points(t *testing.T, n int) []*point {
	var ps []*point
	for range n {
		ps = append(ps, b.join(t, &rdv.Server{}))
	}
	return ps
}

// claimed waits until the board has n claims.
func (b *board) claimed(p *point, n int) {
	p.t.Helper()
	p.eventually(func() bool { return b.len() == n }, fmt.Sprintf("%d claims", n))
}

// Peers that ask different servers of one lobby are introduced, see the
// addresses that they were seen at, and can talk with half-closes.
func TestSharedLobby(t *testing.T) {
	b := newBoard()
	ps := b.points(t, 3)
	for i, order := range [][2]string{{rdv.ACCEPT, rdv.DIAL}, {rdv.DIAL, rdv.ACCEPT}} {
		first := ps[0].dialFrom("127.0.0.2").ask(order[0], "t", "Rdv-Self-Addrs: 10.0.0.1:1")
		b.claimed(ps[0], 1)
		second := ps[1+i].dialFrom("127.0.0.3").ask(order[1], "t", "Rdv-Self-Addrs: 10.0.0.2:2")
		r1, r2 := first.wantStatus(101), second.wantStatus(101)
		if got, want := r1.Header.Get("Rdv-Peer-Addrs"), "10.0.0.2:2, "+second.LocalAddr().String(); got != want {
			t.Errorf("the first is told of %q, want %q", got, want)
		}
		if got, want := r2.Header.Get("Rdv-Peer-Addrs"), "10.0.0.1:1, "+first.LocalAddr().String(); got != want {
			t.Errorf("the second is told of %q, want %q", got, want)
		}
		if got, want := r2.Header.Get("Rdv-Observed-Addr"), second.LocalAddr().String(); got != want {
			t.Errorf("observed %q, want %q", got, want)
		}
		d, a := first, second
		if order[0] != rdv.DIAL {
			d, a = second, first
		}
		d.send("CONTINUE\nhello")
		a.want("CONTINUE\nhello")
		a.send("world")
		d.want("world")
		if err := d.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		a.wantEnd()
		a.send("still here")
		d.want("still here")
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		d.wantEnd()
		b.claimed(ps[0], 0)
		for _, p := range ps {
			p.eventually(func() bool { st := p.srv.Stats(); return st.HandedOver+st.Pairs+st.Waiting == 0 }, "nobody left")
		}
	}
}

// What is relayed over two servers arrives as it was sent.
func TestSharedLobbyRelaysAll(t *testing.T) {
	b := newBoard()
	ps := b.points(t, 2)
	a := ps[0].dial().ask(rdv.ACCEPT, "t")
	b.claimed(ps[0], 1)
	d := ps[1].dial().ask(rdv.DIAL, "t")
	d.wantStatus(101)
	a.wantStatus(101)
	d.send("CONTINUE\n")
	a.want("CONTINUE\n")
	data := make([]byte, 4<<20)
	rand.Read(data)
	var wg sync.WaitGroup
	for _, c := range []*caller{d, a} {
		wg.Go(func() {
			_, _ = c.Write(data)
			_ = c.CloseWrite()
		})
		wg.Go(func() {
			got, err := io.ReadAll(c.r)
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes of %d, %v", len(got), len(data), err)
			}
		})
	}
	wg.Wait()
}

// What servers do for each other is counted, where there is a directory.
func TestSharedLobbyMetrics(t *testing.T) {
	b := newBoard()
	reg := prometheus.NewPedanticRegistry()
	ps := []*point{b.join(t, &rdv.Server{}), b.join(t, &rdv.Server{Registerer: reg})}
	a := ps[0].dial().ask(rdv.ACCEPT, "t")
	b.claimed(ps[0], 1)
	d := ps[1].dial().ask(rdv.DIAL, "t")
	d.wantStatus(101)
	a.wantStatus(101)
	d.send("CONTINUE\nhello")
	a.want("CONTINUE\nhello")
	_, _ = d.Close(), a.Close()
	ps[1].eventually(func() bool { return ps[1].srv.Stats().HandOvers["taken"] == 1 }, "taken")
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			got[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	for name, want := range map[string]float64{
		"muster_rdv_handovers_total taken": 1, "muster_rdv_handovers_total failed": 0, "muster_rdv_handed_over": 0,
		"muster_rdv_directory_up": 1, "muster_rdv_directory_errors_total": 0,
	} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s is %v (%v), want %v", name, v, ok, want)
		}
	}
	if n := got["muster_rdv_handover_bytes_total"]; n < float64(len("CONTINUE\nhello")) {
		t.Errorf("%v bytes carried", n)
	}
}

// A pair that connected directly is done at once, on both servers, even if its
// clients do not close.
func TestSharedLobbyDirect(t *testing.T) {
	b := newBoard()
	ps := b.points(t, 2)
	a := ps[0].dial().ask(rdv.ACCEPT, "t")
	b.claimed(ps[0], 1)
	d := ps[1].dial().ask(rdv.DIAL, "t")
	d.wantStatus(101)
	a.wantStatus(101)
	d.send("OTHER 192.0.2.1:1\n")
	a.wantEnd()
	d.wantEnd()
	ps[1].eventually(func() bool { return ps[1].srv.Stats().HandedOver == 0 }, "handed over")
}

// Two servers say of a token that is in use what one says.
func TestSharedLobbyReplaces(t *testing.T) {
	b := newBoard()
	ps := b.points(t, 3)
	old := ps[0].dialFrom("127.0.0.2").ask(rdv.ACCEPT, "t")
	b.claimed(ps[0], 1)
	ps[1].dialFrom("127.0.0.3").ask(rdv.ACCEPT, "t").wantStatus(409) // from elsewhere
	again := ps[1].dialFrom("127.0.0.2").ask(rdv.ACCEPT, "t")
	old.wantStatus(409)
	ps[2].dial().ask(rdv.DIAL, "t").wantStatus(101)
	again.wantStatus(101)
}

// Who waits at another server, and leaves or speaks too early, loses the seat
// there.
func TestSharedLobbyLeaves(t *testing.T) {
	for name, stir := range map[string]func(*caller){
		"leaves": func(c *caller) { _ = c.Close() },
		"speaks": func(c *caller) { c.send("x").wantStatus(400) },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBoard()
			ps := b.points(t, 2)
			old := ps[0].dial().ask(rdv.ACCEPT, "t")
			b.claimed(ps[0], 1)
			again := ps[1].dial().ask(rdv.ACCEPT, "t")
			old.wantStatus(409)
			ps[0].waiting(1)
			stir(again)
			ps[0].waiting(0)
			b.claimed(ps[0], 0)
			ps[1].eventually(func() bool { return ps[1].srv.Stats().HandedOver == 0 }, "handed over")
		})
	}
}

// Who takes a place and leaves before the server has claimed for it leaves no
// claim behind, neither its own nor that of who was there before.
func TestSharedLobbyLeavesAtOnce(t *testing.T) {
	b := newBoard()
	b.slow = make(chan chan struct{})
	p := b.join(t, &rdv.Server{})
	p.dial().ask(rdv.ACCEPT, "t")
	close(<-b.slow)
	b.claimed(p, 1)
	p.dial().ask(rdv.ACCEPT, "u")
	p.waiting(2)
	claims := <-b.slow // the server waits for an answer
	again := p.dial().ask(rdv.ACCEPT, "t")
	p.eventually(func() bool { return p.srv.Stats().Replaced == 1 }, "replaced")
	_ = again.Close()
	p.waiting(1)
	close(claims)
	go func() {
		for {
			select {
			case claims := <-b.slow:
				close(claims)
			case <-t.Context().Done():
				return
			}
		}
	}()
	p.eventually(func() bool { return b.has("u") && !b.has("t") }, "the claim of who stayed, and no other")
}

// A server that dies with clients of others takes none of them with it that
// has not been introduced.
func TestSharedLobbyServerDies(t *testing.T) {
	b := newBoard()
	ps := b.points(t, 3)
	old := ps[0].dial().ask(rdv.ACCEPT, "t")
	b.claimed(ps[0], 1)
	again := ps[1].dial().ask(rdv.ACCEPT, "t") // waits at the first server
	old.wantStatus(409)
	ps[0].waiting(1)
	other := ps[0].dial().ask(rdv.ACCEPT, "u") // dies with it
	b.claimed(ps[0], 2)

	claims := map[string]rdv.Claim{}
	b.mu.Lock()
	for k, v := range b.claims {
		claims[k] = v
	}
	b.mu.Unlock()
	_, _ = ps[0].http.Close(), ps[0].srv.Close()
	b.mu.Lock()
	for k, v := range claims { // as if it had no time to release them
		b.claims[k] = v
	}
	b.mu.Unlock()

	other.wantStatus(503)
	ps[1].waiting(1) // it is back
	ps[2].dial().ask(rdv.DIAL, "t").wantStatus(101)
	again.wantStatus(101)
	ps[2].dial().ask(rdv.DIAL, "u")
	ps[2].waiting(1)
	ps[1].dial().ask(rdv.ACCEPT, "u").wantStatus(101)
}

// While the directory is away each server matches its own clients; what could
// not be matched is when it is back.
func TestSharedLobbyDirectoryAway(t *testing.T) {
	b := newBoard()
	ps := b.points(t, 2)
	b.setAway(true)
	a := ps[0].dial().ask(rdv.ACCEPT, "t")
	ps[0].waiting(1)
	d := ps[1].dial().ask(rdv.DIAL, "t")
	ps[1].waiting(1)
	ps[0].eventually(func() bool { return ps[0].srv.Stats().DirectoryErrors > 0 }, "an error")
	x, y := ps[0].pair("local")
	_, _ = x.Close(), y.Close()
	b.setAway(false)
	d.wantStatus(101)
	a.wantStatus(101)
}

// Clients that come and go while the directory is slow leave nothing behind.
func TestSharedLobbyChurn(t *testing.T) {
	b := newBoard()
	p := b.join(t, &rdv.Server{MaxWaitingPerSource: -1})
	b.mu.Lock() // it does not answer
	for i := range 2000 {
		c := p.dial().ask(rdv.ACCEPT, fmt.Sprint("t", i))
		if i%100 == 0 {
			p.waiting(1)
		}
		_ = c.Close()
	}
	p.waiting(0)
	n := p.srv.Pending()
	b.mu.Unlock()
	if n > 1100 {
		t.Errorf("%d clients that are gone are remembered", n)
	}
	b.claimed(p, 0)
}

// A directory that forgets is told again.
func TestSharedLobbyDirectoryForgets(t *testing.T) {
	b := newBoard()
	ps := b.points(t, 2)
	a := ps[0].dial().ask(rdv.ACCEPT, "t")
	b.claimed(ps[0], 1)
	b.forget()
	d := ps[1].dial().ask(rdv.DIAL, "t")
	d.wantStatus(101)
	a.wantStatus(101)
}

// Behind TLS, and with a path before the token, it is the same.
func TestSharedLobbyOverPrefix(t *testing.T) {
	b := newBoard()
	ps := []*point{b.join(t, &rdv.Server{}), b.join(t, &rdv.Server{}, func(h *http.Server) {
		h.Handler = http.StripPrefix("/rdv", h.Handler)
	})}
	d, ok := ps[1].srv.Directory.(*directory)
	if !ok {
		t.Fatal("no directory")
	}
	d.url.Store("http://" + ps[1].addr.String() + "/rdv/")
	if err := ps[1].srv.CheckHandOver(t.Context(), "http://"+ps[1].addr.String()+"/rdv/"); err != nil {
		t.Error(err)
	}
	a := ps[1].dial().send("ACCEPT /rdv/t HTTP/1.1\r\n" + upgrade + "\r\n")
	b.claimed(ps[0], 1)
	ps[0].dial().ask(rdv.DIAL, "t").wantStatus(101)
	a.wantStatus(101)
}

// Many pairs at once, over three servers, all meet, and nothing is left of
// them.
func TestSharedLobbyCrowd(t *testing.T) {
	b := newBoard()
	ps := b.points(t, 3)
	const pairs = 60
	var wg sync.WaitGroup
	for i := range pairs {
		token := fmt.Sprintf("t%d", i)
		src := fmt.Sprintf("127.0.1.%d", i%250+1)
		wg.Go(func() {
			c := ps[i%3].dialFrom(src).ask(rdv.ACCEPT, token)
			c.wantStatus(101)
			c.want("CONTINUE\n" + token)
			c.wantEnd()
			_ = c.Close()
		})
		wg.Go(func() {
			c := ps[(i/3)%3].dialFrom(src).ask(rdv.DIAL, token)
			c.wantStatus(101)
			c.send("CONTINUE\n" + token)
			_ = c.CloseWrite()
			c.wantEnd()
			_ = c.Close()
		})
	}
	wg.Wait()
	b.claimed(ps[0], 0)
}

// The URL for other servers is for those of the lobby only.
func TestHandOverIsClosed(t *testing.T) {
	b := newBoard()
	p := b.join(t, &rdv.Server{})
	if err := p.srv.CheckHandOver(t.Context(), "http://"+p.addr.String()); err != nil {
		t.Error(err)
	}
	q := b.join(t, &rdv.Server{})
	if err := p.srv.CheckHandOver(t.Context(), "http://"+q.addr.String()); err == nil {
		t.Error("took another server for itself")
	}
	other := newBoard().join(t, &rdv.Server{})
	if err := other.srv.CheckHandOver(t.Context(), "http://"+p.addr.String()); err == nil {
		t.Error("another lobby's server was let in")
	}
	alone := serve(t, &rdv.Server{})
	for _, p := range []*point{p, alone} {
		const request = "GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: muster-handover/1\r\n"
		p.dial().send(request + "\r\n").wantStatus(426)
		p.dial().send(request + "Authorization: Muster 00\r\n\r\n").wantStatus(426)
	}
}

// What servers have to say to each other goes where clients are handed over,
// and nobody else gets there.
func TestAside(t *testing.T) {
	b := newBoard()
	p := b.join(t, &rdv.Server{Aside: func(_ context.Context, conn net.Conn) {
		_, _ = io.Copy(conn, conn)
		_ = conn.Close()
	}})
	q := b.join(t, &rdv.Server{})
	conn, err := q.srv.DialAside(t.Context(), "http://"+p.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	got := make([]byte, 5)
	if _, err := conn.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != "hello" {
		t.Errorf("%q, %v", got, err)
	}
	_ = conn.Close()
	// One that has nothing to say ends the connection.
	conn, err = p.srv.DialAside(t.Context(), "http://"+q.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	if n, err := conn.Read(got); err == nil {
		t.Errorf("read %d", n)
	}
	_ = conn.Close()
	other := newBoard().join(t, &rdv.Server{})
	if _, err := other.srv.DialAside(t.Context(), "http://"+p.addr.String()); err == nil {
		t.Error("another lobby's server was let in")
	}
	if _, err := serve(t, &rdv.Server{}).srv.DialAside(t.Context(), "http://"+p.addr.String()); !errors.Is(err, rdv.ErrAlone) {
		t.Errorf("without a lobby: %v", err)
	}
}

// Whoever knows the gate, having read along, gets no further.
func TestHandOverNeedsTheKey(t *testing.T) {
	b := newBoard()
	p := b.join(t, &rdv.Server{})
	a := p.dial().ask(rdv.ACCEPT, "t")
	p.waiting(1)
	c := p.dial().send("GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: muster-handover/1\r\nAuthorization: " + p.srv.Gate() + "\r\n\r\n")
	c.wantStatus(101)
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	c.send("\x00\x00\x00\x00\x00\x00\x00\x00")
	c.wantEnd()
	p.eventually(func() bool { return p.srv.Stats().HandOvers["refused"] == 1 }, "refused")
	if p.srv.Stats().Waiting != 1 {
		t.Error("the client that waits was disturbed")
	}
	_ = a.Close()
}

// Clients beyond the bound are told so, others are not disturbed.
func TestHandOverBound(t *testing.T) {
	b := newBoard()
	ps := []*point{b.join(t, &rdv.Server{}), b.join(t, &rdv.Server{MaxHandOvers: 1})}
	var as, ds []*caller
	for i := range 2 {
		as = append(as, ps[0].dial().ask(rdv.ACCEPT, fmt.Sprint("t", i)))
		b.claimed(ps[0], 1)
		d := ps[1].dial().ask(rdv.DIAL, fmt.Sprint("t", i))
		ds = append(ds, d)
		if i == 0 {
			d.wantStatus(101)
			as[0].wantStatus(101)
			b.claimed(ps[0], 0)
		}
	}
	ds[1].wantStatus(503)
	_ = slices.Concat(as, ds)[0].Close()
}

// A server that drains sends away who waits, at another server as well.
func TestSharedLobbyDrain(t *testing.T) {
	b := newBoard()
	ps := b.points(t, 2)
	old := ps[0].dial().ask(rdv.ACCEPT, "t")
	b.claimed(ps[0], 1)
	again := ps[1].dial().ask(rdv.ACCEPT, "t") // waits at the first server
	old.wantStatus(409)
	ps[0].waiting(1)
	if err := ps[1].srv.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	again.wantStatus(503)
	ps[0].waiting(0)
}

// A server that is shut down lets go of what it carries.
func TestSharedLobbyShutdown(t *testing.T) {
	b := newBoard()
	ps := b.points(t, 2)
	a := ps[0].dial().ask(rdv.ACCEPT, "t")
	b.claimed(ps[0], 1)
	d := ps[1].dial().ask(rdv.DIAL, "t")
	d.wantStatus(101)
	a.wantStatus(101)
	d.send("CONTINUE\n")
	a.want("CONTINUE\n")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := ps[1].srv.Drain(ctx); err == nil {
		t.Error("drained with a client under way")
	}
	if err := ps[1].srv.Close(); err != nil {
		t.Error(err)
	}
	d.wantEnd()
	a.wantEnd()
}

var _ net.Conn = (*caller)(nil)
