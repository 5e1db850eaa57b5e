// Package storetest is the suite that every [rendezvous.Store] must pass.
//
// Call [Run] from a test of the implementation. The suite holds the store to
// the sentences of the interface's documentation: one order of changes, whole
// commits, nothing lost or changed across a restart, and, for a store that
// several points share, the same history at each of them. It runs on the real
// clock, sleeps nowhere and waits only for what the store promises.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/muster-p2p/muster/rendezvous"
)

// A Maker says how to get stores of one kind.
type Maker struct {
	// Place makes an empty place and returns a function that returns a store
	// at that place, not opened yet. Called again, after the store before it
	// was closed or, if Shared, at any time, it returns one at the same place.
	Place func(testing.TB) func() rendezvous.Store

	// Forgets says that nothing survives Close.
	Forgets bool

	// Shared says that stores at the same place may be open together and see
	// each other's changes.
	Shared bool
}

// Run runs the suite.
func Run(t *testing.T, m Maker) {
	for _, tc := range []struct {
		name string
		test func(*testing.T, Maker)
		skip bool
	}{
		{"Meta", testMeta, false},
		{"CommitIsApplied", testCommitIsApplied, false},
		{"Verbatim", testVerbatim, false},
		{"Groups", testGroups, false},
		{"RemoveUnknown", testRemoveUnknown, false},
		{"Expire", testExpire, false},
		{"ExpireBesideRefresh", testExpireBesideRefresh, false},
		{"Cancelled", testCancelled, false},
		{"Closed", testClosed, false},
		{"OpenCancelled", testOpenCancelled, m.Forgets},
		{"Restart", testRestart, m.Forgets},
		{"PositionsAcrossRestart", testPositionsAcrossRestart, m.Forgets},
		{"ExpiredAcrossRestart", testExpiredAcrossRestart, m.Forgets},
		{"Model", testModel, false},
		{"PollersMissNothing", testPollers, false},
		{"SharedMeta", testSharedMeta, !m.Shared},
		{"SharedFollow", testSharedFollow, !m.Shared},
		{"SharedPollersMissNothing", testSharedPollers, !m.Shared},
		{"SharedSameHistory", testSharedSameHistory, !m.Shared},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.skip {
				t.Skip("not promised by this store")
			}
			tc.test(t, m)
		})
	}
}

// opened is a store with the mirror behind it.
type opened struct {
	rendezvous.Store
	*Mirror
	meta rendezvous.Meta
}

// open opens a store and has it closed, and its mirror checked, at the end.
func open(t testing.TB, s rendezvous.Store, proposal rendezvous.Meta) opened {
	t.Helper()
	m := NewMirror()
	meta, err := s.Open(t.Context(), proposal, m.Apply)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	o := opened{s, m, meta}
	t.Cleanup(func() { o.close(t) })
	return o
}

// close closes the store; it may be called again.
func (o opened) close(t testing.TB) {
	t.Helper()
	if err := o.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	o.Closed()
	for _, f := range o.Faults() {
		t.Error(f)
	}
}

// commit commits changes that must succeed.
func (o opened) commit(t testing.TB, changes ...rendezvous.Change) {
	t.Helper()
	if err := o.Commit(t.Context(), changes); err != nil {
		t.Fatalf("Commit: %v", err)
	}
}

// same reports whether two views of a registration agree. The position does not
// count. A store may translate the time of expiry between clocks, which takes
// its time on a loaded machine.
func same(a, b rendezvous.Change) bool {
	return a.Key == b.Key && a.Removed == b.Removed && bytes.Equal(a.Record, b.Record) && a.Form == b.Form &&
		a.Seq == b.Seq && a.TTL == b.TTL && a.Source == b.Source && a.Expires.Sub(b.Expires).Abs() < 3*time.Second
}

// notLonger fails the test if what a store handed back lives longer than what
// it was given: translated or not, a lifetime never grows.
func notLonger(t testing.TB, got, given rendezvous.Change) {
	t.Helper()
	if more := got.Expires.Sub(given.Expires); more > time.Millisecond {
		t.Errorf("%s lives %v longer than granted", show(got), more)
	}
}

func show(c rendezvous.Change) string {
	return fmt.Sprintf("%s %q of %x at %d: form %d, seq %d, ttl %v until %v, from %v, removed %t, record of %d bytes %x",
		c.Realm, c.NS, string(c.Peer), c.Pos, c.Form, c.Seq, c.TTL, c.Expires, c.Source, c.Removed, len(c.Record), c.Record[:min(16, len(c.Record))])
}

// sameLive compares what a mirror holds with what it should hold. Positions
// are compared too if positions is set.
func sameLive(t testing.TB, got, want map[rendezvous.Key]rendezvous.Change, positions bool) {
	t.Helper()
	for _, k := range slices.SortedFunc(maps.Keys(want), compareKeys) {
		g, ok := got[k]
		switch {
		case !ok:
			t.Errorf("lost: %q of %x", k.NS, string(k.Peer))
		case !same(g, want[k]):
			t.Errorf("changed:\n got %s\nwant %s", show(g), show(want[k]))
		case positions && g.Pos != want[k].Pos:
			t.Errorf("moved: %q of %x from %d to %d", k.NS, string(k.Peer), want[k].Pos, g.Pos)
		}
	}
	for k := range got {
		if _, ok := want[k]; !ok {
			t.Errorf("risen: %q of %x", k.NS, string(k.Peer))
		}
	}
}

// wait blocks until cond holds for the mirror, which is asked each time it has
// grown, or the time is up.
func (o opened) wait(t testing.TB, what string, cond func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for {
		_, grown := o.After(o.Last())
		if cond() {
			return
		}
		select {
		case <-grown:
		case <-ctx.Done():
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

// refused fails the test unless err is one of the errors a Commit that is
// given up may return.
func refused(t testing.TB, err error, want ...error) {
	t.Helper()
	for _, w := range want {
		if errors.Is(err, w) {
			return
		}
	}
	t.Errorf("got error %v, want one of %v", err, want)
}
