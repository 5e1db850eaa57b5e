package admin

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/pprof"
	rtmetrics "runtime/metrics"
	"strconv"
	"strings"
	"time"
)

const (
	maxProfiles       = 1  // at once: two make each other's numbers wrong
	maxProfileSeconds = 60 // of one that takes time
	maxLevel          = 16 // bytes of a level's name

	// MaxPeers is how many peers /api/peers serves at most, which is more than
	// the connections that a point keeps by default.
	MaxPeers = 5000
)

// snapshot is the daemon's state, made fit to be served. It may be called at once.
func (s *Server) snapshot() (snap Snapshot) {
	if s.cfg.Snapshot != nil {
		if err := guarded(func() error { snap = s.cfg.Snapshot(); return nil }); err != nil {
			s.metrics.panics.Add(1)
			s.log.Error("snapshot failed", "err", err)
			snap = Snapshot{}
		}
	}
	s.complete(&snap, time.Now())
	return snap
}

// complete sets what the server knows and cuts the lists. Lists are never
// null: programs in other languages take that badly.
func (s *Server) complete(snap *Snapshot, now time.Time) {
	if snap.Time.IsZero() {
		snap.Time = now
	}
	snap.Readiness = s.readiness()
	n := &snap.Node
	if n.Started.IsZero() {
		n.Started = s.started
	}
	n.Version = s.cfg.Version
	n.Uptime = now.Sub(n.Started).Seconds()
	n.Goroutines, n.HeapBytes, n.Memory = process()
	n.Addrs = rows(n.Addrs)
	snap.Points, snap.Links = rows(snap.Points), rows(snap.Links)
	snap.Limits = rows(hit(snap.Limits))
	if snap.Discv5 != nil { // copied: the source may return the same one again
		d := *snap.Discv5
		d.Buckets = rows(d.Buckets)
		snap.Discv5 = &d
	}
	if snap.Pubsub != nil {
		p := *snap.Pubsub
		p.Topics = rows(p.Topics)
		snap.Pubsub = &p
	}
}

func hit(limits []Limit) (list []Limit) {
	for _, l := range limits {
		if l.Count > 0 {
			list = append(list, l)
		}
	}
	return list
}

func rows[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list[:min(len(list), MaxRows)]
}

// process reads what the runtime counts anyway; runtime.ReadMemStats would stop the world.
func process() (goroutines int, heap, memory uint64) {
	m := []rtmetrics.Sample{
		{Name: "/sched/goroutines:goroutines"},
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/total:bytes"},
		{Name: "/memory/classes/heap/released:bytes"}, // given back to the system
	}
	rtmetrics.Read(m)
	return int(m[0].Value.Uint64()), m[1].Value.Uint64(), m[2].Value.Uint64() - m[3].Value.Uint64()
}

func (s *Server) serveStatus(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, s.snapshot())
}

func (s *Server) servePeers(w http.ResponseWriter, r *http.Request) {
	limit := MaxPeers
	if q := r.URL.Query().Get("limit"); q != "" {
		n, err := strconv.Atoi(q)
		if err != nil || n < 1 {
			writeText(w, http.StatusBadRequest, "limit is a number from 1 on\n")
			return
		}
		limit = min(n, MaxPeers)
	}
	peers := []Peer{}
	if s.cfg.Peers != nil {
		peers = append(peers, s.cfg.Peers(limit)...)
	}
	writeJSON(w, http.StatusOK, peers[:min(len(peers), limit)])
}

func (s *Server) serveLevel(w http.ResponseWriter, r *http.Request) {
	if s.cfg.LogLevel == nil {
		http.NotFound(w, r)
		return
	}
	writeText(w, http.StatusOK, strings.ToLower(s.cfg.LogLevel.Level().String())+"\n")
}

func (s *Server) setLevel(w http.ResponseWriter, r *http.Request) {
	if s.cfg.LogLevel == nil {
		http.NotFound(w, r)
		return
	}
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxLevel))
	var level slog.Level
	if err == nil {
		err = level.UnmarshalText([]byte(strings.TrimSpace(string(b))))
	}
	if err != nil {
		writeText(w, http.StatusBadRequest, "the body is debug, info, warn or error\n")
		return
	}
	s.cfg.LogLevel.Set(level)
	s.log.Info("log level set", "level", level.String())
	s.serveLevel(w, r)
}

// serveProfile serves Go's profiles. The command line is left out: it says
// nothing that a profile needs, and may hold what somebody should not have put there.
func (s *Server) serveProfile(w http.ResponseWriter, r *http.Request) {
	if q := r.URL.Query().Get("seconds"); q != "" {
		if n, err := strconv.ParseFloat(q, 64); err != nil || !(n > 0 && n <= maxProfileSeconds) {
			writeText(w, http.StatusBadRequest, "seconds is at most "+strconv.Itoa(maxProfileSeconds)+"\n")
			return
		}
	}
	select {
	case s.profiles <- struct{}{}:
		defer func() { <-s.profiles }()
	default:
		w.Header().Set("Retry-After", retrySeconds)
		s.guard.refuse(w, refusedProfiles, unavailable, "a profile is being taken\n")
		return
	}
	switch strings.TrimPrefix(r.URL.Path, "/debug/pprof/") {
	case "cmdline":
		http.NotFound(w, r)
	case "profile":
		pprof.Profile(w, r)
	case "symbol":
		pprof.Symbol(w, r)
	case "trace":
		pprof.Trace(w, r)
	default:
		pprof.Index(w, r)
	}
}
