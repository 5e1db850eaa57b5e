package link

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/muster-p2p/muster/internal/bubble"
	"github.com/muster-p2p/muster/internal/netwatch"
)

// A pipe is one direction of a simulated path: bytes arrive after a delay. It
// breaks behind some offset: either it ends, or it is silent from then on.
type pipe struct {
	delay  time.Duration
	breaks int  // at this offset; negative: never
	silent bool // nobody is told

	mu     sync.Mutex
	cond   sync.Cond
	queue  []segment
	sent   int
	closed bool
}

type segment struct {
	at time.Time
	b  []byte
}

// pipeRoom is how many bytes are on their way at most, as in a socket.
const pipeRoom = 256 << 10

var errCut = errors.New("the cable was cut")

func newPipe(delay time.Duration, breaks int, silent bool) *pipe {
	p := &pipe{delay: delay, breaks: breaks, silent: silent}
	p.cond.L = &p.mu
	return p
}

func (p *pipe) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.flying() > pipeRoom && !p.closed {
		p.cond.Wait()
	}
	if p.closed {
		return 0, errCut
	}
	n := len(b)
	if p.breaks >= 0 && p.sent+n > p.breaks {
		b = b[:max(p.breaks-p.sent, 0)]
	}
	p.sent += n
	at := time.Now().Add(p.delay)
	if len(b) > 0 {
		p.queue = append(p.queue, segment{at, bytes.Clone(b)})
	}
	if len(b) < n && !p.silent {
		p.closed = true
	}
	p.cond.Broadcast()
	time.AfterFunc(p.delay, p.wake)
	return n, nil
}

func (p *pipe) flying() (n int) {
	for _, s := range p.queue {
		n += len(s.b)
	}
	return n
}

func (p *pipe) wake() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cond.Broadcast()
}

func (p *pipe) Read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		if len(p.queue) > 0 && !p.queue[0].at.After(time.Now()) {
			n := copy(b, p.queue[0].b)
			if p.queue[0].b = p.queue[0].b[n:]; len(p.queue[0].b) == 0 {
				p.queue = p.queue[1:]
			}
			p.cond.Broadcast()
			return n, nil
		}
		if p.closed && len(p.queue) == 0 {
			return 0, io.EOF
		}
		p.cond.Wait()
	}
}

// end is close, if somebody is told.
func (p *pipe) end() {
	p.mu.Lock()
	silent := p.silent
	p.mu.Unlock()
	if !silent {
		p.close()
	}
}

func (p *pipe) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.cond.Broadcast()
}

// An end is one end of a simulated path: a stream, and its own carrier.
type end struct {
	in, out *pipe
	heard   time.Time
	mu      sync.Mutex
	over    bool
}

func (e *end) Read(b []byte) (int, error) {
	n, err := e.in.Read(b)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.heard = time.Now()
	if e.over {
		return 0, net.ErrClosed
	}
	return n, err
}

func (e *end) Write(b []byte) (int, error) { return e.out.Write(b) }

func (e *end) Close() error {
	e.mu.Lock()
	e.over = true
	e.mu.Unlock()
	e.out.end()
	e.in.mu.Lock()
	defer e.in.mu.Unlock()
	e.in.closed, e.in.queue = true, nil
	e.in.cond.Broadcast()
	return nil
}

func (e *end) CloseWrite() error { e.out.close(); return nil }
func (e *end) hold()             {}
func (e *end) flush() error      { return nil }
func (e *end) lastHeard() time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.heard
}

func (e *end) SetDeadline(t time.Time) error {
	if !t.IsZero() {
		time.AfterFunc(time.Until(t), func() { e.Close() }) //nolint:errcheck // always nil
	}
	return nil
}

// A world is where two simulated peers meet.
type world struct {
	t        *testing.T
	a, b     *Endpoint // a dials
	paths    func(n int) (relay, direct [2]*pipe)
	mu       sync.Mutex
	lobby    map[string]*approach
	waiting  map[string]chan struct{}
	meetings int
	bindings byte
	wg       sync.WaitGroup
	network  [2]atomic.Pointer[netwatch.Snapshot] // of a and of b
}

func newWorld(t *testing.T, cfg Config, paths func(n int) (relay, direct [2]*pipe)) *world {
	w := &world{t: t, paths: paths, lobby: map[string]*approach{}, waiting: map[string]chan struct{}{}}
	w.move(0, 1)
	w.move(1, 1)
	w.a, w.b = w.endpoint(cfg, 0), w.endpoint(cfg, 1)
	return w
}

var simKeys = func() (keys [2]crypto.PrivKey) { //nolint:gochecknoglobals // costly, and the same for every run
	for i := range keys {
		var err error
		if keys[i], _, err = crypto.GenerateEd25519Key(bytes.NewReader(bytes.Repeat([]byte{byte(i)}, 64))); err != nil {
			panic(err)
		}
	}
	return keys
}()

// simAddr is the nth address of a, or of b.
func simAddr(end, n int) netip.Addr { return netip.AddrFrom4([4]byte{10, byte(end), 0, byte(n)}) }

// move gives a, or b, its nth address in place of the others; none, if n is zero.
func (w *world) move(end, n int) {
	s := &netwatch.Snapshot{Known: true}
	if n > 0 {
		s.Addrs = []netip.Addr{simAddr(end, n)}
	}
	w.network[end].Store(s)
}

func (w *world) local(end int) (addr netip.Addr) {
	if s := w.network[end].Load(); len(s.Addrs) > 0 {
		addr = s.Addrs[0]
	}
	return addr
}

func (w *world) endpoint(cfg Config, end int) *Endpoint {
	cfg.Key = simKeys[end]
	e, err := New(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	e.run = w.run
	e.look = func() netwatch.Snapshot { return *w.network[end].Load() }
	return e
}

// ends makes the two ends of a path.
func (w *world) ends(kind Kind, pipes [2]*pipe) (a, b *path) {
	w.mu.Lock()
	w.bindings++
	binding := [exporterLen]byte{w.bindings}
	w.mu.Unlock()
	one := func(local netip.Addr, remote peer.ID, in, out *pipe) *path {
		e := &end{in: in, out: out, heard: time.Now()}
		return &path{
			kind: kind, local: local, since: time.Now(), remote: remote, stream: e, carrier: e, r: bufio.NewReaderSize(e, peekLen),
			binding: binding, origin: secret(sha256.Sum256(binding[:])),
		}
	}
	return one(w.local(0), w.b.id, pipes[1], pipes[0]), one(w.local(1), w.a.id, pipes[0], pipes[1])
}

// link makes the two ends of a link.
func (w *world) link() (a, b *Conn) {
	relay, direct := w.paths(0)
	pa, pb := w.ends(Relay, relay)
	a = w.a.newConn(true, Meeting{}, pa)
	if err := w.hear(pb); err != nil {
		w.t.Fatal(err)
	}
	b = w.b.newConn(false, Meeting{}, pb)
	if direct[0] != nil {
		w.join(Direct, direct, a.join, b.join)
	}
	return a, b
}

// join delivers a path at both ends.
func (w *world) join(kind Kind, pipes [2]*pipe, a, b func(*path) bool) {
	pa, pb := w.ends(kind, pipes)
	w.wg.Go(func() { a(pa) })
	w.wg.Go(func() {
		if w.hear(pb) == nil {
			b(pb)
		}
	})
}

// hear reads the dialer's HELLO, as approach.path does.
func (w *world) hear(p *path) (err error) {
	timer := time.AfterFunc(secureTimeout, p.close)
	if p.hello, err = p.readHello(); err == nil && !timer.Stop() {
		err = os.ErrDeadlineExceeded
	}
	if err != nil {
		timer.Stop()
		p.close()
	}
	p.greeted = true
	return err
}

// run is approach.run in this world.
func (w *world) run(ctx context.Context, a *approach) error {
	w.mu.Lock()
	other := w.lobby[a.token]
	if other == nil || other.dialer == a.dialer {
		done := make(chan struct{})
		w.lobby[a.token], w.waiting[a.token] = a, done
		w.mu.Unlock()
		select {
		case <-done:
			return nil
		case <-ctx.Done():
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.lobby[a.token] == a {
				delete(w.lobby, a.token)
			}
			return ctx.Err()
		}
	}
	close(w.waiting[a.token])
	delete(w.lobby, a.token)
	w.meetings++
	n := w.meetings
	w.mu.Unlock()
	time.Sleep(100 * time.Millisecond)
	if !a.dialer {
		a, other = other, a
	}
	w.mu.Lock()
	relay, direct := w.paths(n)
	w.mu.Unlock()
	if a.relay {
		w.join(Relay, relay, a.deliver, other.deliver)
	}
	if direct[0] != nil {
		w.join(Direct, direct, a.deliver, other.deliver)
	}
	return nil
}

func (w *world) close() {
	w.a.Close() //nolint:errcheck // always nil
	w.b.Close() //nolint:errcheck // always nil
	w.wg.Wait()
}

// exchange sends both ways and compares; it returns the errors of the four
// ends, in the order write a, write b, read a, read b.
func (w *world) exchange(a, b *Conn, there, back []byte) (errs [4]error) {
	var wg sync.WaitGroup
	send := func(i int, c *Conn, data []byte) {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), uint64(len(data))))
			for len(data) > 0 {
				n := min(1+rng.IntN(40_000), len(data))
				if _, errs[i] = c.Write(data[:n]); errs[i] != nil {
					return
				}
				data = data[n:]
				if rng.IntN(4) == 0 {
					time.Sleep(time.Duration(rng.IntN(30)) * time.Millisecond)
				}
			}
			errs[i] = c.CloseWrite()
		})
	}
	receive := func(i int, c *Conn, want []byte) {
		wg.Go(func() {
			got, err := io.ReadAll(c)
			errs[i] = err
			if !bytes.HasPrefix(want, got) {
				w.t.Error("a wrong byte")
			}
			if err == nil && sha256.Sum256(got) != sha256.Sum256(want) {
				w.t.Errorf("read %d bytes of %d, and no error", len(got), len(want))
			}
		})
	}
	send(0, a, there)
	send(1, b, back)
	receive(2, a, back)
	receive(3, b, there)
	wg.Wait()
	return errs
}

// both is the two directions of a path that never breaks.
func both(delay time.Duration) [2]*pipe {
	return [2]*pipe{newPipe(delay, -1, false), newPipe(delay, -1, false)}
}

// TestSimulation cuts the paths of a link at a thousand places, in one
// direction or both, so that the ends are told or not, and in every second run
// again and again. The two paths have different delays, so that the stream's
// bytes come late, twice and out of order.
func TestSimulation(t *testing.T) {
	t.Parallel()
	const size = 200_000
	runs := 1000
	var sum Stats
	if testing.Short() || raceEnabled {
		runs = 100
		t.Log("100 places of 1000: the race detector takes ten times as long, and -short asks for less")
	}
	for i := range runs {
		bubble.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, uint64(i)))
			at := i * size * 6 / 5 / runs
			paths := func(n int) (relay, direct [2]*pipe) {
				one := func(delay time.Duration, breaks bool) (p [2]*pipe) {
					silent := rng.IntN(2) == 0
					for d := range p {
						off := -1
						if breaks && rng.IntN(3) > 0 {
							off = at
							if n > 0 || rng.IntN(4) == 0 {
								off = rng.IntN(size)
							}
						}
						p[d] = newPipe(delay, off, silent)
					}
					return p
				}
				breaks := n == 0 || i%2 == 0 && n < 6
				relay = one(time.Duration(10+rng.IntN(80))*time.Millisecond, breaks)
				if rng.IntN(3) > 0 {
					direct = one(time.Duration(1+rng.IntN(60))*time.Millisecond, breaks)
				}
				return relay, direct
			}
			w := newWorld(t, Config{}, paths)
			defer w.close()
			if err := w.simulate(rng, size, &sum); err != nil {
				t.Errorf("place %d: %v", i, err)
			}
		})
		if t.Failed() {
			break
		}
	}
	t.Logf("%+v", sum)
	if sum.Switches < uint64(runs)/4 || sum.Resumes < uint64(runs)/4 {
		t.Errorf("%d runs, and so few changes: %+v", runs, sum)
	}
}

// simulate runs one exchange. The first path may break before the acceptor
// hears of the link; then there is nothing to compare.
func (w *world) simulate(rng *rand.Rand, size int, sum *Stats) error {
	w.mu.Lock()
	relay, direct := w.paths(0)
	after := time.Duration(rng.IntN(400)) * time.Millisecond
	there, back := make([]byte, size), make([]byte, size/3)
	for i := range there {
		there[i] = byte(rng.Uint32())
	}
	copy(back, there[size/2:])
	w.mu.Unlock()
	pa, pb := w.ends(Relay, relay)
	a := w.a.newConn(true, Meeting{}, pa)
	if w.hear(pb) != nil {
		return nil
	}
	b := w.b.newConn(false, Meeting{}, pb)
	if direct[0] != nil {
		w.wg.Go(func() {
			time.Sleep(after)
			w.join(Direct, direct, a.join, b.join)
		})
	}
	errs := w.exchange(a, b, there, back)
	if err := errors.Join(errs[:]...); err != nil {
		return fmt.Errorf("%w; %+v, %+v", err, a.Stats(), b.Stats())
	}
	for _, c := range []*Conn{a, b} {
		s := c.Stats()
		sum.Switches += s.Switches
		sum.Resumes += s.Resumes
		sum.RelaySent += s.RelaySent
		sum.DirectSent += s.DirectSent
	}
	// What matters is compared. The ends may part in any order; who comes
	// late finds the other gone.
	var wg sync.WaitGroup
	for _, c := range []*Conn{a, b} {
		wg.Go(func() {
			if err := c.Close(); err != nil && !errors.Is(err, ErrPeerClosed) && !errors.Is(err, os.ErrDeadlineExceeded) {
				w.t.Errorf("close: %v", err)
			}
		})
	}
	wg.Wait()
	return nil
}
