package pubsub_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/muster-p2p/muster/interop/internal/lines"
	"github.com/muster-p2p/muster/interop/pubsub/internal/peerproc"
)

// topic is where all tests talk.
const topic = "muster-interop"

// An implementation is a program of peerproc's lines.
type implementation struct {
	name, file string

	countsRPCs bool // it shows GRAFT, PX and IDONTWANT
	graftsLate bool // it waits for its heartbeat

	floodSign string // the policy that its floodsub can keep, if only one
	noAnon    string // why it has no StrictNoSign
	noRegraft string // why others cannot return to its mesh as soon as we can
	noForeign string // why it cannot return to the mesh of an implementation that is not ours
	maxFlood  int    // floodsub's limit of bytes for an RPC, if it has one
}

var (
	muster = implementation{name: "muster", file: "peer-muster", countsRPCs: true}
	goPeer = implementation{name: "go", file: "peer-go", countsRPCs: true, graftsLate: true}
	jsPeer = implementation{name: "js", file: "js-pubsub", countsRPCs: true}
	rust   = implementation{
		name: "rust", file: "rust-pubsub",
		floodSign: "lax", maxFlood: 2048,
		noRegraft: "it backs off for a minute from a peer that unsubscribes before it prunes",
		noForeign: "go-libp2p-pubsub and it have no mesh again after 150 s; measured without us",
	}
	py = implementation{
		name: "py", file: "py-pubsub",
		noAnon:    "its unsigned messages carry from and seqno",
		noRegraft: "it does not hear that go-libp2p-pubsub is back in the topic; measured without us",
	}
	foreigners = []implementation{goPeer, jsPeer, rust, py}
)

// A peer is a running implementation.
type peer struct {
	*lines.Peer[peerproc.Answer]
	implementation
	t    *testing.T
	args []string
}

func start(t *testing.T, impl implementation, args ...string) *peer {
	t.Helper()
	p, err := lines.Start[peerproc.Answer](context.Background(), lines.Log(t), append([]string{lines.Program(t, impl.file, "interop-pubsub")}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return &peer{Peer: p, implementation: impl, t: t, args: args}
}

// do obeys or fails the test.
func (p *peer) do(words ...any) peerproc.Answer {
	p.t.Helper()
	ev, err := p.Do(words...)
	if err != nil {
		p.t.Fatalf("%s: %v: %v", p.name, words, err)
	}
	return ev
}

func (p *peer) state() peerproc.Answer { p.t.Helper(); return p.do("state", topic) }

// publish sends count messages of size bytes.
func (p *peer) publish(tag string, count, size int) {
	p.t.Helper()
	ev := p.do("publish", topic, tag, count, size)
	if ev.Count != count {
		p.t.Errorf("%s published %d of %d: %s", p.name, ev.Count, count, ev.Error)
	}
}

// receives waits for count messages, each once.
func (p *peer) receives(tag string, count int, within time.Duration) {
	p.t.Helper()
	var ev peerproc.Answer
	if !poll(within, func() bool {
		ev = p.do("received", topic, tag)
		return ev.Count >= count
	}) {
		state := p.state()
		p.t.Errorf("%s received %d of %d messages %q; mesh %v, subscribers %v, counts %v, rejected %v, dropped %d",
			p.name, ev.Count, count, tag, state.Mesh, state.Subscribers, state.Counts, state.Rejected, state.Dropped)
	}
	if ev.Duplicates > 0 || ev.Corrupt > 0 {
		p.t.Errorf("%s received %d duplicates and %d corrupt messages %q", p.name, ev.Duplicates, ev.Corrupt, tag)
	}
}

func (p *peer) inMesh(q *peer) bool { return slices.Contains(p.state().Mesh, q.ID) }

func (p *peer) knowsSubscriber(q *peer) bool { return slices.Contains(p.state().Subscribers, q.ID) }

// poll waits until ok or the time is over: foreign processes share no clock
// with us that could be faked.
func poll(within time.Duration, ok func() bool) bool {
	deadline := time.Now().Add(within)
	for !ok() {
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(50 * time.Millisecond)
	}
	return true
}

func waitMesh(t *testing.T, a, b *peer, within time.Duration) {
	t.Helper()
	if !poll(within, func() bool { return a.inMesh(b) && b.inMesh(a) }) {
		t.Fatalf("no mesh: %s has %s: %v, %s has %s: %v; rejected %v, %v",
			a.name, b.name, a.inMesh(b), b.name, a.name, b.inMesh(a), a.state().Rejected, b.state().Rejected)
	}
}

// together runs the functions at once and waits for them.
func together(fs ...func()) {
	var wg sync.WaitGroup
	for _, f := range fs {
		wg.Go(f)
	}
	wg.Wait()
}

func (i implementation) String() string { return fmt.Sprint(i.name) }
