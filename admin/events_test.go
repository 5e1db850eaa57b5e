package admin_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/muster-p2p/muster/admin"
	"github.com/muster-p2p/muster/internal/bubble"
)

// A stream reads server-sent events.
type stream struct {
	resp *http.Response
	scan *bufio.Scanner
}

func openStream(t *testing.T, s *admin.Server) *stream {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", s.URL()+"api/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = resp.Body.Close()
		http.DefaultClient.CloseIdleConnections()
	})
	sc := bufio.NewScanner(resp.Body)
	sc.Buffer(nil, 1<<20)
	return &stream{resp, sc}
}

// next returns the next event that has data; an empty name at the end.
func (s *stream) next() (name string, data []byte) {
	for s.scan.Scan() {
		line := s.scan.Text()
		if v, ok := strings.CutPrefix(line, "event: "); ok {
			name = v
		}
		if v, ok := strings.CutPrefix(line, "data: "); ok {
			return name, []byte(v)
		}
	}
	return "", nil
}

type history struct {
	Interval float64     `json:"interval_seconds"`
	Columns  []string    `json:"columns"`
	Rows     [][]float64 `json:"rows"`
}

func TestEvents(t *testing.T) {
	s := start(t, admin.Config{Snapshot: func() admin.Snapshot {
		return admin.Snapshot{Rendezvous: &admin.Rendezvous{Registrations: 7, WakuRegistrations: 1}}
	}})
	st := openStream(t, s)
	if ct := st.resp.Header.Get("Content-Type"); ct != "text/event-stream" {
		t.Errorf("type %q", ct)
	}
	name, data := st.next()
	var h history
	if err := json.Unmarshal(data, &h); err != nil || name != "history" {
		t.Fatal(name, err)
	}
	if h.Interval != 1 || len(h.Columns) != len(h.Rows[0]) || h.Rows[0][1] != 8 {
		t.Errorf("%+v", h)
	}
	name, data = st.next()
	var snap admin.Snapshot
	if err := json.Unmarshal(data, &snap); err != nil || name != "status" || snap.Rendezvous.Registrations != 7 {
		t.Error(name, err)
	}
	if name, _ := st.next(); name != "status" {
		t.Errorf("a second later: %q", name)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if name, _ := st.next(); name == "status" {
		t.Error("the stream went on after Close")
	}
}

func TestEventsBound(t *testing.T) {
	s := start(t, admin.Config{})
	for range admin.MaxSubscribers {
		if st := openStream(t, s); st.resp.StatusCode != 200 {
			t.Fatal(st.resp.Status)
		}
	}
	if st := openStream(t, s); st.resp.StatusCode != 503 {
		t.Errorf("one more: %s", st.resp.Status)
	}
}

// A recorder that takes nothing while it is closed to writes.
type stuckWriter struct {
	http.ResponseWriter
	mu   sync.Mutex
	gate chan struct{}
	buf  bytes.Buffer
}

func (w *stuckWriter) Write(b []byte) (int, error) {
	<-w.gate
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.Write(b)
}
func (w *stuckWriter) Flush()                           {}
func (w *stuckWriter) SetWriteDeadline(time.Time) error { return nil }

// A reader that is too slow is dropped and counted; the snapshots go on.
func TestSlowReader(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		reg := prometheus.NewRegistry()
		var taken atomic.Int64
		s := newServer(t, admin.Config{
			Registerer: reg, Gatherer: reg,
			Snapshot: func() admin.Snapshot { taken.Add(1); return admin.Snapshot{} },
		})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { s.RunHub(ctx) })
		w := &stuckWriter{ResponseWriter: httptest.NewRecorder(), gate: make(chan struct{})}
		wg.Go(func() {
			s.Handler().ServeHTTP(w, httptest.NewRequest("GET", "http://localhost/api/events", nil))
		})
		time.Sleep(10*time.Second + time.Second/2)
		if n := taken.Load(); n != 11 {
			t.Errorf("%d snapshots in ten seconds", n)
		}
		metrics := do(s, "GET", "/metrics", "").Body.String()
		for _, want := range []string{"muster_admin_slow_subscribers_total 1\n", "muster_admin_subscribers 0\n"} {
			if !strings.Contains(metrics, want) {
				t.Errorf("no %q", want)
			}
		}
		close(w.gate)
		cancel()
		wg.Wait()
	})
}

// pastOf returns the history that a reader gets after d.
func pastOf(t *testing.T, cfg admin.Config, d time.Duration) (h history) {
	s := newServer(t, cfg)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { s.RunHub(ctx) })
	time.Sleep(d)
	w := httptest.NewRecorder()
	reqCtx, stop := context.WithTimeout(ctx, 500*time.Millisecond)
	defer stop()
	s.Handler().ServeHTTP(flusher{w}, httptest.NewRequestWithContext(reqCtx, "GET", "http://localhost/api/events", nil))
	cancel()
	wg.Wait()
	st := stream{scan: bufio.NewScanner(w.Body)}
	st.scan.Buffer(nil, 256<<10)
	_, data := st.next()
	if err := json.Unmarshal(data, &h); err != nil {
		t.Fatal(err)
	}
	return h
}

// The charts' past is bounded.
func TestHistory(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		h := pastOf(t, admin.Config{}, 2*admin.HistoryLen*time.Second)
		if len(h.Rows) != admin.HistoryLen || len(h.Columns) != len(admin.Columns) {
			t.Errorf("%d rows of %d", len(h.Rows), len(h.Columns))
		}
	})
}

// A clock that is set back begins a new past.
func TestHistoryClock(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		begun := time.Now()
		h := pastOf(t, admin.Config{Snapshot: func() admin.Snapshot {
			now := time.Now()
			if now.Sub(begun) >= 60*time.Second {
				now = now.Add(-24 * time.Hour)
			}
			return admin.Snapshot{Time: now}
		}}, 65*time.Second+time.Second/2)
		if len(h.Rows) != 6 {
			t.Errorf("%d rows", len(h.Rows))
		}
	})
}

type flusher struct{ *httptest.ResponseRecorder }

func (flusher) SetWriteDeadline(time.Time) error { return nil }

// Connections beyond the bound are closed at once.
func TestConnections(t *testing.T) {
	s := start(t, admin.Config{})
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	for range admin.MaxConns {
		c, err := net.Dial("tcp", s.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	c, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conns = append(conns, c)
	if err := c.SetDeadline(time.Now().Add(4 * time.Second)); err != nil { // less than the header's time
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("one more connection lives: %d, %v", n, err)
	}
}

func isTimeout(err error) bool {
	ne, ok := err.(net.Error) //nolint:errorlint // straight from a connection
	return ok && ne.Timeout()
}
