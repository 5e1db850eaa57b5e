package storetest_test

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/muster-p2p/muster/rendezvous"
)

// A ledger is the simplest place that stores can share: one lock, one map. Its
// bug names the rule that its stores break.
type ledger struct {
	bug string

	mu     sync.Mutex
	meta   *rendezvous.Meta
	pos    uint64
	drawn  uint64 // of the bug that draws before it locks
	rows   map[rendezvous.Key]rendezvous.Change
	points map[*ledgerStore]bool
	n      int // commits
}

func newLedger(bug string) *ledger {
	return &ledger{bug: bug, rows: map[rendezvous.Key]rendezvous.Change{}, points: map[*ledgerStore]bool{}}
}

func (l *ledger) store() rendezvous.Store { return &ledgerStore{ledger: l} }

type ledgerStore struct {
	*ledger
	apply func([]rendezvous.Change)
}

func (s *ledgerStore) Open(ctx context.Context, proposal rendezvous.Meta, apply func([]rendezvous.Change)) (rendezvous.Meta, error) {
	if err := ctx.Err(); err != nil && s.bug != "opens without a context" {
		return rendezvous.Meta{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.meta == nil || s.bug == "takes a new identity" {
		s.meta = &proposal
	}
	meta := *s.meta
	if s.bug == "has a secret per point" {
		meta.Secret = proposal.Secret
	}
	s.apply = apply
	s.points[s] = true
	rows := slices.SortedFunc(maps.Values(s.rows), func(a, b rendezvous.Change) int { return cmp.Compare(a.Pos, b.Pos) })
	switch s.bug {
	case "forgets all":
		rows = nil
	case "loads out of order":
		slices.Reverse(rows)
	case "reuses positions":
		s.pos = 0
		for _, c := range rows {
			s.pos = max(s.pos, c.Pos)
		}
	case "numbers anew":
		for i := range rows {
			rows[i].Pos = uint64(i + 1)
		}
	case "gives time at a start":
		for i := range rows {
			rows[i].Expires = rows[i].Expires.Add(time.Second)
		}
	}
	if len(rows) > 0 {
		apply(rows)
	}
	return meta, nil
}

func (s *ledgerStore) Commit(ctx context.Context, changes []rendezvous.Change) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.bug == "splits groups" && len(changes) > 1 {
		for i := range changes {
			if err := s.Commit(ctx, changes[i:i+1]); err != nil {
				return err
			}
			time.Sleep(rand.N(time.Millisecond))
		}
		return nil
	}
	var early uint64
	if s.bug == "draws positions early" {
		s.mu.Lock()
		s.drawn += uint64(len(changes))
		early = s.drawn - uint64(len(changes))
		s.mu.Unlock()
		time.Sleep(rand.N(time.Millisecond))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.points[s] && s.bug != "commits when closed" {
		if s.bug == "applies after Close" {
			s.apply(changes)
		}
		return fmt.Errorf("ledger: %w", rendezvous.ErrClosed)
	}
	if s.bug == "draws positions early" {
		s.pos = early
	}
	numbered := slices.Clone(changes)
	if s.bug == "numbers the caller's changes" {
		numbered = changes
	}
	for i := range numbered {
		s.pos++
		numbered[i].Pos = s.pos
		s.keep(numbered[i])
	}
	s.n++
	if s.bug == "loses some" && s.n%40 == 0 {
		return nil
	}
	s.tell(numbered)
	return nil
}

// keep writes a change down.
func (l *ledger) keep(c rendezvous.Change) {
	if c.Removed {
		if l.bug != "removals come back" {
			delete(l.rows, c.Key)
		}
		return
	}
	c.Expires = c.Expires.Round(0)
	switch l.bug {
	case "keeps 63 bits of seq":
		c.Seq &= 1<<63 - 1
	case "ends names at NUL":
		if i := slices.Index([]byte(c.NS), 0); i > 0 {
			c.NS = c.NS[:i]
		}
	case "cuts records":
		c.Record = c.Record[:min(len(c.Record), 4096)]
	case "keeps no source":
		c.Source = l.rows[c.Key].Source
	}
	l.rows[c.Key] = c
}

// tell applies changes at all points.
func (s *ledgerStore) tell(changes []rendezvous.Change) {
	switch s.bug {
	case "applies late":
		go func() {
			time.Sleep(time.Millisecond)
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.points[s] {
				s.apply(changes)
			}
		}()
		return
	case "applies twice":
		s.apply(changes)
	case "loses the clock":
		for i := range changes {
			changes[i].Expires = changes[i].Expires.Round(time.Second)
		}
	}
	for p := range s.points {
		if p == s {
			s.apply(changes)
		} else if s.bug != "follows registrations only" || !changes[0].Removed {
			p.apply(slices.Clone(changes))
		}
	}
}

func (s *ledgerStore) Expire(_ context.Context, before time.Time) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.points[s] {
		return 0, fmt.Errorf("ledger: %w", rendezvous.ErrClosed)
	}
	switch s.bug {
	case "drops early":
		before = before.Add(2 * time.Hour)
	case "drops nothing":
		return 0, nil
	}
	var gone []rendezvous.Key
	for k, c := range s.rows {
		if c.Expires.Before(before) {
			gone = append(gone, k)
		}
	}
	if s.bug == "drops what it looked at" {
		s.mu.Unlock()
		time.Sleep(2 * time.Millisecond)
		s.mu.Lock()
	}
	for _, k := range gone {
		delete(s.rows, k)
	}
	return len(gone), nil
}

func (s *ledgerStore) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.points, s)
	return nil
}
