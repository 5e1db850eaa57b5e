package main

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/p2p/enode"
)

// converge is how long a network of a few nodes may take until all know each
// other: go-ethereum looks after new nodes every three seconds, one at a time.
const converge = 40 * time.Second

// pair checks both directions between two implementations.
func pair(ctx context.Context, r *report, a, b kind) {
	if _, err := a.program(); err != nil {
		r.skip(a.title, err)
		return
	}
	if _, err := b.program(); err != nil {
		r.skip(b.title, err)
		return
	}
	requests(ctx, r, a, b)
	requests(ctx, r, b, a)
	network(ctx, r, a, b)
	network(ctx, r, b, a)
}

// requests checks what asker can ask of answerer, on two fresh nodes.
func requests(ctx context.Context, r *report, asker, answerer kind) {
	name := func(what string) string { return asker.name + " → " + answerer.name + ": " + what }
	a, err := asker.start(ctx)
	defer a.stop()
	if err != nil {
		r.check(name("start"), err)
		return
	}
	b, err := answerer.start(ctx)
	defer b.stop()
	if err != nil {
		r.check(name("start"), err)
		return
	}
	r.check(name("ping"), ping(a, b))
	r.check(name("findnode, distance 0"), findSelf(a, b))
	r.check(name("findnode, an empty distance"), findNone(a, b))
	r.check(name("talk, 3 bytes"), talk(a, b, "echo", "010203"))
	r.check(name("talk, 1000 bytes"), talk(a, b, "echo", strings.Repeat("ab", 1000)))
	r.check(name("talk, unknown protocol gets nothing"), talkUnknown(a, b))

	if r.check(name("restart of "+asker.name), a.restart(ctx)) {
		r.check(name("ping with a session that "+asker.name+" has lost"), ping(a, b))
	}
	if r.check(name("restart of "+answerer.name), b.restart(ctx)) {
		r.check(name("ping with a session that "+answerer.name+" has lost"), ping(a, b))
		r.check(name("talk after it"), talk(a, b, "echo", "0a"))
	}
	r.check(name("record updated"), update(a, b))
}

func ping(a, b *peer) error {
	got, err := a.do("ping", b.record)
	if err != nil {
		return err
	}
	n, err := enode.Parse(enode.ValidSchemes, b.record)
	if err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(a.addr)
	if err != nil {
		return err
	}
	if want := []string{strconv.FormatUint(n.Seq(), 10), host, port}; !slices.Equal(got, want) {
		return fmt.Errorf("PONG says %v, want %v", got, want)
	}
	return nil
}

func findSelf(a, b *peer) error {
	got, err := a.do("findnode", b.record, "0")
	if err != nil {
		return err
	}
	if want := []string{"1", b.id}; !slices.Equal(got, want) {
		return fmt.Errorf("got %v, want %v", got, want)
	}
	return nil
}

// findNone asks for distance 1, where there is nobody: an empty NODES must come.
func findNone(a, b *peer) error {
	got, err := a.do("findnode", b.record, "1")
	if err == nil && !slices.Equal(got, []string{"0"}) {
		err = fmt.Errorf("got %v, want 0 nodes", got)
	}
	return err
}

func talk(a, b *peer, protocol, payload string) error {
	got, err := a.do("talk", b.record, protocol, payload)
	if err == nil && strings.Join(got, "") != payload {
		err = fmt.Errorf("got %d bytes back, want the %d sent", len(strings.Join(got, ""))/2, len(payload)/2)
	}
	return err
}

func talkUnknown(a, b *peer) error {
	got, err := a.do("talk", b.record, "no-such-protocol", "01")
	if err == nil && len(got) > 0 {
		err = fmt.Errorf("got %v, want nothing", got)
	}
	return err
}

// update changes b's record, and a must get the new one from b.
func update(a, b *peer) error {
	changed, err := b.do("set", "interop", "2a")
	if err != nil {
		return err
	}
	old := b.record
	if err := b.adopt(changed[0]); err != nil {
		return err
	}
	got, err := a.do("request", old)
	if err != nil {
		return err
	}
	if got[0] != b.record {
		return fmt.Errorf("got %s, want %s", got[0], b.record)
	}
	return nil
}

// network joins three nodes of one kind at a bootnode of the other; a new one
// must find them all, and a change of record must come to be known.
func network(ctx context.Context, r *report, hub, leaf kind) {
	name := func(what string) string { return hub.name + " as bootnode of " + leaf.name + ": " + what }
	h, err := hub.start(ctx)
	defer h.stop()
	if err != nil {
		r.check(name("start"), err)
		return
	}
	var leaves []*peer
	for range 3 {
		l, err := leaf.start(ctx, h.record)
		defer l.stop()
		if err != nil {
			r.check(name("start"), err)
			return
		}
		leaves = append(leaves, l)
	}
	newcomer := leaves[2]
	for i, l := range leaves[:2] {
		r.check(name(fmt.Sprintf("lookup finds leaf %d", i+1)), eventually(func() error { return finds(newcomer, l) }))
	}
	r.check(name("its own lookup finds a leaf"), eventually(func() error { return finds(h, leaves[0]) }))
	r.check(name("a leaf's new record comes to be known"), learns(h, leaves[0]))
}

func finds(a, b *peer) error {
	got, err := a.do("lookup", b.id)
	if err == nil && !slices.Contains(got, b.id) {
		err = fmt.Errorf("%d nodes, not the one looked for", max(len(got)-1, 0))
	}
	return err
}

// learns changes b's record; a, which has b in its table, must notice.
func learns(a, b *peer) error {
	changed, err := b.do("set", "interop", "2b")
	if err != nil {
		return err
	}
	if err := b.adopt(changed[0]); err != nil {
		return err
	}
	n, err := enode.Parse(enode.ValidSchemes, b.record)
	if err != nil {
		return err
	}
	want := strconv.FormatUint(n.Seq(), 10)
	return eventually(func() error {
		if _, err := a.do("ping", b.record); err != nil { // some ping by themselves only every five minutes
			return err
		}
		got, err := a.do("knows", b.id)
		if err == nil && got[0] != want {
			err = fmt.Errorf("knows number %s, want %s", got[0], want)
		}
		return err
	})
}

// eventually asks again until it holds or the network has had its time.
func eventually(holds func() error) error {
	for deadline := time.Now().Add(converge); ; time.Sleep(500 * time.Millisecond) {
		err := holds()
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}
