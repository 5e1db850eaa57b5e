package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// CheckTimeout is how long a part may take to say that it is ready.
const CheckTimeout = 2 * time.Second

// checkInterval is between the checks for the page and for muster_ready, which
// show the last ones: a scrape does not wait for a part that hangs.
const checkInterval = 5 * time.Second

// Readiness is what /readyz tells in JSON.
type Readiness struct {
	Ready bool `json:"ready"`

	// Failing has the error of each part that is not ready. Without the token
	// of a server that wants one, it is empty.
	Failing map[string]string `json:"failing,omitempty"`
	Parts   []string          `json:"parts,omitempty"` // that were asked
}

// A check asks one part, once at a time: who asks meanwhile waits for the same
// answer, and a part that hangs holds one goroutine, however often it is asked.
type check struct {
	name string
	ask  func(context.Context) error

	mu  sync.Mutex
	now *answer // nil if nobody is asking
}

// An answer is there when done is closed.
type answer struct {
	done chan struct{}
	err  error
}

func newChecks(m map[string]func(context.Context) error) []*check {
	var cs []*check
	for _, name := range slices.Sorted(maps.Keys(m)) {
		cs = append(cs, &check{name: name, ask: m[name]})
	}
	return cs
}

// run returns the part's answer. Wait bounds the waiting, own the asking, which
// others may wait for as well.
func (c *check) run(wait, own context.Context) error {
	a := c.begin(own)
	select {
	case <-a.done:
		return a.err
	case <-wait.Done():
		return fmt.Errorf("no answer: %w", wait.Err())
	}
}

// begin asks, unless it is being asked.
func (c *check) begin(own context.Context) *answer {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.now != nil {
		return c.now
	}
	a := &answer{done: make(chan struct{})}
	c.now = a
	go func() {
		ctx, cancel := context.WithTimeout(own, CheckTimeout)
		defer cancel()
		a.err = guarded(func() error { return c.ask(ctx) })
		c.mu.Lock()
		c.now = nil
		c.mu.Unlock()
		close(a.done)
	}()
	return a
}

// guarded returns a panic of f as an error: a broken part is not ready, and
// the rest goes on.
func guarded(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return f()
}

// ready asks all parts at once.
func (s *Server) ready(ctx context.Context) Readiness {
	ctx, cancel := context.WithTimeout(ctx, CheckTimeout)
	defer cancel()
	r := Readiness{Ready: true}
	errs := make([]error, len(s.checks))
	var wg sync.WaitGroup
	for i, c := range s.checks {
		r.Parts = append(r.Parts, c.name)
		wg.Go(func() { errs[i] = c.run(ctx, s.own) })
	}
	wg.Wait()
	for i, err := range errs {
		if err == nil {
			continue
		}
		if r.Failing == nil {
			r.Failing = map[string]string{}
		}
		r.Ready, r.Failing[s.checks[i].name] = false, err.Error()
	}
	return r
}

// watch asks all parts now and then until ctx ends.
func (s *Server) watch(ctx context.Context) {
	tick := time.NewTicker(checkInterval)
	defer tick.Stop()
	for {
		r := s.ready(ctx)
		if ctx.Err() != nil {
			return
		}
		if was := s.seen.Swap(&r); was != nil && was.Ready != r.Ready {
			s.log.Warn("readiness changed", "ready", r.Ready, "failing", r.Failing)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// readiness is what the parts said last; nothing is ready that was not asked.
func (s *Server) readiness() Readiness {
	if r := s.seen.Load(); r != nil {
		return *r
	}
	return Readiness{Ready: len(s.checks) == 0}
}

func (s *Server) serveReady(w http.ResponseWriter, r *http.Request) {
	got := s.ready(r.Context())
	if !s.guard.authorized(r) {
		got = Readiness{Ready: got.Ready}
	}
	code := http.StatusOK
	if !got.Ready {
		code = unavailable
	}
	if r.URL.Query().Get("format") == "json" || strings.Contains(r.Header.Get("Accept"), jsonType) {
		writeJSON(w, code, got)
		return
	}
	writeText(w, code, got.text())
}

func (r Readiness) text() string {
	if r.Ready {
		return "ok\n"
	}
	var b strings.Builder
	b.WriteString("not ready\n")
	for _, name := range slices.Sorted(maps.Keys(r.Failing)) {
		fmt.Fprintf(&b, "%s: %s\n", name, r.Failing[name])
	}
	return b.String()
}

func writeJSON(w http.ResponseWriter, code int, v any) {
	b, err := json.Marshal(v)
	if err != nil { // a NaN from a source
		writeText(w, http.StatusInternalServerError, err.Error()+"\n")
		return
	}
	w.Header().Set("Content-Type", jsonType)
	w.WriteHeader(code)
	_, _ = w.Write(append(b, '\n')) // the client's loss
}
