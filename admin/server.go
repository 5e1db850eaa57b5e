package admin

import (
	"context"
	"crypto/tls"
	"errors"
	"log"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	headerTime   = 5 * time.Second  // to read a request's header
	requestTime  = 10 * time.Second // to read a request
	answerTime   = 30 * time.Second // to write an answer that is no stream and no profile
	idleTime     = time.Minute      // between requests
	closeTime    = time.Second      // for answers under way when the server closes
	maxHeader    = 16 << 10
	maxGathers   = 2 // of /metrics at once: Prometheus, and a person
	gatherTime   = 10 * time.Second
	unavailable  = http.StatusServiceUnavailable
	textType     = "text/plain; charset=utf-8"
	jsonType     = "application/json"
	retrySeconds = "5"
)

// A Server is an admin listener. Its methods may be called at once.
type Server struct {
	cfg      Config
	endpoint endpoint
	log      *slog.Logger
	metrics  *metrics
	checks   []*check
	guard    *guard
	hub      *hub
	page     map[string]pageFile
	seen     atomic.Pointer[Readiness] // of the last check, by watch
	profiles chan struct{}             // a place for each profile at once
	started  time.Time
	own      context.Context // ends with Close
	stop     context.CancelFunc

	mu     sync.Mutex
	ln     net.Listener // nil until Start
	http   *http.Server
	closed bool
	wg     sync.WaitGroup
}

// New returns a server that is not listening yet. It fails if cfg.Listen is no
// address, or is one that other machines reach and token or TLS are missing; or
// if cfg.Registerer has another server's metrics.
func New(cfg Config) (*Server, error) {
	e, err := cfg.validate()
	if err != nil {
		return nil, err
	}
	if cfg.Gatherer == nil {
		cfg.Gatherer = prometheus.NewRegistry()
	}
	s := &Server{
		cfg:      cfg,
		endpoint: e,
		log:      cfg.Logger,
		checks:   newChecks(cfg.Checks),
		profiles: make(chan struct{}, maxProfiles),
		page:     loadPage(),
		started:  time.Now(),
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.own, s.stop = context.WithCancel(context.Background())
	s.metrics = newMetrics(s.readiness)
	s.guard = newGuard(cfg, e, s.metrics)
	s.hub = newHub(s.snapshot, s.metrics)
	if cfg.Registerer != nil {
		if err := cfg.Registerer.Register(s.metrics); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Start listens, and serves until Close. The context bounds listening only.
// It may be called once.
func (s *Server) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ln != nil || s.closed {
		return errors.New("admin: started or closed before")
	}
	ln, err := s.endpoint.listen(ctx)
	if err != nil {
		return err
	}
	s.ln = ln
	ln = &limitListener{Listener: ln, refused: func() { s.metrics.refused[refusedConns].Add(1) }}
	if s.cfg.TLS != nil {
		ln = tls.NewListener(ln, s.tlsConfig())
	}
	s.http = s.newHTTP()
	s.wg.Go(func() { s.hub.run(s.own) })
	s.wg.Go(func() { s.watch(s.own) })
	s.wg.Go(func() {
		if err := s.http.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("admin listener ended", "err", err)
		}
	})
	s.log.Debug("admin listener", "addr", s.ln.Addr().String())
	return nil
}

// tlsConfig speaks HTTP/1.1 only, as without TLS.
func (s *Server) tlsConfig() *tls.Config {
	c := s.cfg.TLS.Clone()
	c.NextProtos = []string{"http/1.1"}
	c.MinVersion = max(c.MinVersion, tls.VersionTLS12)
	return c
}

func (s *Server) newHTTP() *http.Server {
	var one http.Protocols
	one.SetHTTP1(true)
	return &http.Server{
		Handler:           s.handler(),
		Protocols:         &one,
		ReadHeaderTimeout: headerTime,
		ReadTimeout:       requestTime,
		WriteTimeout:      answerTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          log.New(logWriter{s.log}, "", 0),
	}
}

// logWriter gives what net/http says to the logger: failed handshakes mostly,
// which anybody can cause.
type logWriter struct{ log *slog.Logger }

func (w logWriter) Write(b []byte) (int, error) {
	w.log.Debug("admin http", "msg", string(b))
	return len(b), nil
}

// Addr is where the server listens, or nil before Start.
func (s *Server) Addr() net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ln == nil {
		return nil
	}
	return s.ln.Addr()
}

// URL is the status page's address for a person, or unix:PATH. It is empty
// before Start.
func (s *Server) URL() string {
	a := s.Addr()
	switch {
	case a == nil:
		return ""
	case a.Network() == "unix":
		return unixPrefix + a.String()
	case s.cfg.TLS != nil:
		return "https://" + a.String() + "/"
	default:
		return "http://" + a.String() + "/"
	}
}

// Close ends event streams and the listener, gives other answers a second, and
// waits for what the server started, but for checks that ignore their context.
// It may be called twice, and before Start.
func (s *Server) Close() error {
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	srv := s.http
	s.mu.Unlock()
	s.stop()
	if first && s.cfg.Registerer != nil {
		s.cfg.Registerer.Unregister(s.metrics)
	}
	if !first || srv == nil {
		s.wg.Wait()
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	err := srv.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = srv.Close()
	}
	s.wg.Wait()
	return err
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.servePage)
	mux.HandleFunc("GET /page/", s.servePage)
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { writeText(w, http.StatusOK, "ok\n") })
	mux.HandleFunc("GET /readyz", s.serveReady)
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.cfg.Gatherer, promhttp.HandlerOpts{
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: maxGathers,
		Timeout:             gatherTime,
	}))
	mux.HandleFunc("GET /api/status", s.serveStatus)
	mux.HandleFunc("GET /api/peers", s.servePeers)
	mux.HandleFunc("GET /api/events", s.serveEvents)
	mux.HandleFunc("GET /api/loglevel", s.serveLevel)
	mux.HandleFunc("PUT /api/loglevel", s.setLevel)
	mux.HandleFunc("GET /debug/pprof/", s.serveProfile)
	return s.guard.wrap(s.contain(mux))
}

// contain keeps a handler's panic from others, counts it, and says so.
func (s *Server) contain(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			err := recover()
			if err == nil {
				return
			}
			if err != http.ErrAbortHandler { //nolint:errorlint // a panic's value
				s.metrics.panics.Add(1)
				s.log.Error("admin handler panicked", "path", r.URL.Path, "panic", err)
			}
			panic(http.ErrAbortHandler)
		}()
		next.ServeHTTP(w, r)
	})
}

func writeText(w http.ResponseWriter, code int, s string) {
	w.Header().Set("Content-Type", textType)
	w.WriteHeader(code)
	_, _ = w.Write([]byte(s)) // the client's loss
}
