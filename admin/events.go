package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
)

const (
	// MaxSubscribers bounds the readers of the event stream. Each holds a
	// connection, and a few references to events that all share.
	MaxSubscribers = 16

	interval    = time.Second
	historyLen  = 600             // ten minutes of the charts' numbers: some 100 KB
	eventQueue  = 4               // events that a reader may be behind before it is dropped
	eventTime   = 5 * time.Second // to write one
	eventsRetry = "retry: 2000\n\n"
)

// columns name what a [sample] holds, in its order.
var columns = [...]string{
	"time", "registrations", "register", "discover", "unregister", "waiting", "pairs", "relays",
	"relayed_bytes", "direct_bytes", "nodes", "alive", "sessions", "mesh", "peers", "delivered", "conns",
	"pairs_direct", "pairs_relayed",
}

// A sample is a snapshot's numbers for the charts, by columns.
type sample [len(columns)]float64

func sampleOf(s *Snapshot) sample {
	v := sample{0: float64(s.Time.UnixMilli()) / 1000, 16: float64(s.Node.Conns)}
	if r := s.Rendezvous; r != nil {
		v[1] = float64(r.Registrations + r.WakuRegistrations)
		v[2], v[3], v[4] = float64(r.Requests["register"]), float64(r.Requests["discover"]), float64(r.Requests["unregister"])
	}
	if r := s.Relay; r != nil {
		v[5], v[6], v[7] = float64(r.Waiting), float64(r.Pairs), float64(r.Relays)
		v[8], v[9] = float64(r.RelayedBytes), float64(r.DirectBytes)
		v[17], v[18] = float64(r.PairsDirect), float64(r.PairsRelayed)
	}
	if d := s.Discv5; d != nil {
		v[10], v[11], v[12] = float64(d.Nodes), float64(d.Alive), float64(d.Sessions)
	}
	if p := s.Pubsub; p != nil {
		for _, t := range p.Topics {
			v[13] += float64(t.Mesh)
		}
		v[14], v[15] = float64(p.Peers), float64(p.Delivered)
	}
	return v
}

// A subscriber reads events. The hub closes the channel when it drops the
// subscriber or ends.
type subscriber chan []byte

// A joining subscriber learns whether there was room for it.
type joining struct {
	sub subscriber
	ok  chan bool
}

// A hub takes a snapshot each second and tells subscribers. Its fields below
// the channels are owned by the goroutine of run.
type hub struct {
	snapshot func() Snapshot
	metrics  *metrics
	join     chan joining
	leave    chan subscriber
	done     chan struct{} // closed when run has ended

	subs    map[subscriber]bool
	history []sample
	last    Snapshot
}

func newHub(snapshot func() Snapshot, m *metrics) *hub {
	return &hub{
		snapshot: snapshot,
		metrics:  m,
		join:     make(chan joining),
		leave:    make(chan subscriber),
		done:     make(chan struct{}),
		subs:     map[subscriber]bool{},
	}
}

// run owns the hub until ctx ends.
func (h *hub) run(ctx context.Context) {
	defer close(h.done)
	tick := time.NewTicker(interval)
	defer tick.Stop()
	h.tick()
	for {
		select {
		case <-ctx.Done():
			for sub := range h.subs {
				h.drop(sub)
			}
			return
		case <-tick.C:
			h.tick()
		case j := <-h.join:
			j.ok <- h.add(j.sub)
		case sub := <-h.leave:
			if h.subs[sub] {
				h.drop(sub)
			}
		}
	}
}

func (h *hub) tick() {
	h.last = h.snapshot()
	s := sampleOf(&h.last)
	switch n := len(h.history); {
	case n > 0 && s[0] < h.history[n-1][0]: // the clock was set back: charts go one way
		h.history = h.history[:0]
	case n == historyLen:
		h.history = append(h.history[:0], h.history[1:]...)
	}
	h.history = append(h.history, s)
	if len(h.subs) == 0 {
		return
	}
	ev := event("status", h.last)
	for sub := range h.subs {
		select {
		case sub <- ev:
		default:
			h.metrics.slow.Add(1)
			h.drop(sub)
		}
	}
}

func (h *hub) add(sub subscriber) bool {
	if len(h.subs) == MaxSubscribers {
		return false
	}
	h.subs[sub] = true
	h.metrics.subscribers.Add(1)
	sub <- event("history", struct {
		Interval float64  `json:"interval_seconds"`
		Columns  []string `json:"columns"`
		Rows     []sample `json:"rows"`
	}{interval.Seconds(), columns[:], h.history})
	sub <- event("status", h.last)
	return true
}

func (h *hub) drop(sub subscriber) {
	delete(h.subs, sub)
	h.metrics.subscribers.Add(-1)
	close(sub)
}

// event is one server-sent event. A value that JSON cannot say, such as a
// source's NaN, makes an event without data, which browsers skip.
// https://html.spec.whatwg.org/multipage/server-sent-events.html
func event(name string, v any) []byte {
	b := append([]byte("event: "), name...)
	data, err := json.Marshal(v)
	if err == nil {
		b = append(append(b, "\ndata: "...), data...)
	}
	return append(b, "\n\n"...)
}

// subscribe returns nil if there is no room or the hub has ended.
func (h *hub) subscribe() subscriber {
	j := joining{make(subscriber, eventQueue), make(chan bool, 1)}
	select {
	case h.join <- j:
	case <-h.done:
		return nil
	}
	if !<-j.ok {
		return nil
	}
	return j.sub
}

func (h *hub) unsubscribe(sub subscriber) {
	select {
	case h.leave <- sub:
	case <-h.done:
	}
}

func (s *Server) serveEvents(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // a proxy's buffer would make it jump
	if r.Method == http.MethodHead {
		return
	}
	sub := s.hub.subscribe()
	if sub == nil {
		w.Header().Set("Retry-After", retrySeconds)
		s.guard.refuse(w, refusedSubscribers, unavailable, "too many readers\n")
		return
	}
	defer s.hub.unsubscribe(sub)
	write := newEventWriter(w)
	if write([]byte(eventsRetry)) != nil {
		return
	}
	for {
		select {
		case <-r.Context().Done():
			return
		case ev, ok := <-sub:
			if !ok || write(ev) != nil {
				return
			}
		}
	}
}

// newEventWriter returns a function that writes an event in eventTime or fails.
func newEventWriter(w http.ResponseWriter) func([]byte) error {
	rc := http.NewResponseController(w)
	return func(b []byte) error {
		if err := rc.SetWriteDeadline(time.Now().Add(eventTime)); err != nil {
			return err
		}
		if _, err := w.Write(b); err != nil {
			return err
		}
		return rc.Flush()
	}
}
