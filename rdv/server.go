package rdv

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Bounds of a server, unless its fields say otherwise.
const (
	// DefaultMaxWaiting is how many clients may wait. One costs some 4 KiB and
	// a file descriptor, so that the default holds under the usual limit of
	// 20,000 of these with room for pairs.
	DefaultMaxWaiting = 12288

	// DefaultMaxWaitingPerSource is how many clients of one source may wait:
	// an office behind one address, at its busiest.
	DefaultMaxWaitingPerSource = 256

	// DefaultMaxRequests is how many connections may have a request under way:
	// some 13 KiB each, while one that is honest takes a round trip.
	DefaultMaxRequests = 4096

	// DefaultMaxToken is the longest token, in bytes: a hash of 512 bits in
	// hexadecimal.
	DefaultMaxToken = 128

	// DefaultMaxRefusals is how many requests of one source the access hook may
	// refuse in a minute until it is not asked any more.
	DefaultMaxRefusals = 20

	// refusalWindow is the minute of DefaultMaxRefusals; maxRefused bounds the
	// sources that are remembered for it, at some 100 bytes each.
	refusalWindow = time.Minute
	maxRefused    = 16384

	// deadTimeout is how long what was sent to a client may stay without an
	// acknowledgement, or it without an answer to keepalives, until the kernel
	// gives the connection up (TCP_USER_TIMEOUT, RFC 5482).
	deadTimeout = DefaultWriteTimeout
)

// A Handler serves pairs of clients, one that dials and one that accepts. Ctx
// ends when the server is closed. The handler owns both connections, and
// closes them before it returns.
//
// To conform with the protocol, implementations use a [Relayer].
type Handler interface {
	Serve(ctx context.Context, dc, ac *Conn)
}

// Server is an rdv server, which implements [http.Handler]: mount it under any
// path with [http.StripPrefix], what is left of the path is the token. The
// zero value is valid, open to everyone, and bounded. Fields must not be
// changed after the first use, but see [Server.SetLimits], and a Server must
// not be copied.
//
// Serve it with the [http.Server] of [Server.HTTPServer], or set the limits
// that it documents on your own.
type Server struct {
	// Handler serves the pairs. If nil, a zero [Relayer] is used.
	Handler Handler

	// LobbyTimeout is how long a client may wait for its peer until it is
	// answered 408. If zero, there is no timeout.
	LobbyTimeout time.Duration

	// ObservedAddrFunc tells the address that a request comes from. If nil,
	// r.RemoteAddr is parsed. Behind a reverse proxy use [TrustedProxies].
	// A request for which it returns an error is answered 400. An address
	// whose port is zero counts as a source, and is not passed on to the peer.
	ObservedAddrFunc func(r *http.Request) (netip.AddrPort, error)

	// Access, if not nil, decides who may use the server, before a client
	// gets a seat in the lobby: [BearerTokens], or any function that may be
	// called by several goroutines at once. [ErrUnauthorized] is answered 401,
	// [ErrTooManyRequests] 429, [ErrUndecided] 503, any other error 403.
	Access func(r *http.Request) error

	// MaxRefusals is how many requests of one source Access may refuse in a
	// minute; after that they are answered 429. If zero, DefaultMaxRefusals;
	// if negative, any number.
	MaxRefusals int

	// MaxWaiting bounds the clients in the lobby; who comes too late is
	// answered 503. MaxWaitingPerSource bounds those of one source, which is an
	// IPv4 address or an IPv6 /64; they are answered 429. If zero, the defaults
	// are used; if negative, there is no bound.
	MaxWaiting, MaxWaitingPerSource int

	// MaxPairs bounds the pairs that are introduced or relayed at a time; one
	// too many is answered 503. If zero or negative, there is no bound.
	MaxPairs int

	// MaxRequests bounds the connections of [Server.HTTPServer] that are not
	// upgraded yet; of one too many the oldest is closed. If zero,
	// DefaultMaxRequests; if negative, there is no bound.
	MaxRequests int

	// MaxConns bounds the connections in all, of requests, waiting clients and
	// pairs, so that file descriptors are left for them. An eighth is kept for
	// requests: beyond the rest nobody gets a seat in the lobby. If zero or
	// negative, there is no bound.
	MaxConns int

	// MaxToken bounds the length of a token in bytes. If zero, DefaultMaxToken;
	// if negative, only the size of the request does. AnyToken allows any
	// valid UTF-8 as v0.0.6 does; else a token is of the unreserved characters
	// of RFC 3986: letters, digits, and "-._~". Others are answered 400.
	MaxToken int
	AnyToken bool

	// Directory, if not nil, makes one lobby of those of all servers that have
	// the same: two peers are introduced whichever servers they asked. While it
	// is away those of this server are. See [Server.CheckHandOver].
	Directory Directory

	// MaxHandOvers bounds the clients that meet their peers at other servers,
	// which this one passes their data on to; one too many is answered 503. If
	// zero, [DefaultMaxHandOvers]; if negative, there is no bound.
	MaxHandOvers int

	// Aside, if not nil, serves what other servers of the lobby open with
	// [Server.DialAside]: the applications of the servers have something to say
	// to each other. It owns conn, which it closes; ctx ends when the server is
	// closed. It may be called by several goroutines at once.
	Aside func(ctx context.Context, conn net.Conn)

	// Registerer, if not nil, gets the metrics muster_rdv_*.
	Registerer prometheus.Registerer

	// Logger, if not nil, is logged to. Tokens are shortened.
	Logger *slog.Logger

	start    sync.Once
	stats    serverStats
	handler  Handler
	ctx      context.Context // of the handlers; ended by Shutdown
	cancel   context.CancelFunc
	watcher  *watcher
	wake     chan struct{} // the lobby is not empty any more
	handlers sync.WaitGroup
	wg       sync.WaitGroup // the other goroutines
	carrier  Relayer        // to other servers of the lobby

	refreshEvery time.Duration // DirectoryRefresh, but in tests

	mu       sync.Mutex // guards the following; never held across I/O
	closed   bool
	pairs    int
	maxPairs int // 0 is no bound
	requests requests[net.Conn]
	lobby    lobby[*client]
	guesses  guesses
	shared   sharing
}

// Start starts the goroutines of the server. The first upgrade does so too, so
// that it need not be called. It may be called several times.
func (s *Server) Start() {
	s.start.Do(func() {
		s.handler = s.Handler
		if s.handler == nil {
			s.handler = &Relayer{Logger: s.Logger}
		}
		s.setLimitsLocked(Limits{ // nobody else is here yet
			LobbyTimeout: s.LobbyTimeout, MaxWaiting: s.MaxWaiting, MaxWaitingPerSource: s.MaxWaitingPerSource, MaxPairs: s.MaxPairs,
		})
		s.guesses = guesses{
			limit:  withDefault(s.MaxRefusals, DefaultMaxRefusals),
			window: refusalWindow, sources: maxRefused,
		}
		s.ctx, s.cancel = context.WithCancel(context.Background())
		s.wake = make(chan struct{}, 1)
		s.watcher = newWatcher(s.disturbed)
		s.wg.Go(s.expire)
		s.startSharing()
		if s.Registerer != nil {
			if err := s.Registerer.Register(collector{s}); err != nil {
				s.log().Error("metrics not registered", "err", err)
			}
		}
	})
}

// Limits are those of a [Server] that may change while it runs; they mean what
// its fields of the same names do.
type Limits struct {
	LobbyTimeout                    time.Duration
	MaxWaiting, MaxWaitingPerSource int
	MaxPairs                        int
}

// SetLimits changes limits. The timeout is at once that of all who wait; the
// others are looked at when somebody comes, so that nobody is sent away for
// them who has a seat or a pair. It may be called at any time.
func (s *Server) SetLimits(l Limits) {
	s.Start()
	s.mu.Lock()
	s.setLimitsLocked(l)
	s.mu.Unlock()
	s.rouse()
}

func (s *Server) setLimitsLocked(l Limits) {
	s.lobby.max = withDefault(l.MaxWaiting, DefaultMaxWaiting)
	s.lobby.maxPerKey = withDefault(l.MaxWaitingPerSource, DefaultMaxWaitingPerSource)
	s.lobby.timeout = max(0, l.LobbyTimeout)
	s.maxPairs = max(0, l.MaxPairs)
}

func (s *Server) log() *slog.Logger { return orDiscard(s.Logger) }

// ServeHTTP calls [Server.Upgrade] and logs the error, if any.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := s.Upgrade(w, r); err != nil {
		s.log().Debug("upgrade refused", "addr", r.RemoteAddr, "err", err)
	}
}

// Drain sends away who waits, answers newcomers 503, and waits until the pairs
// that are there are done, or ctx ends, whose cause it then returns. Call
// [Server.Close] after it.
func (s *Server) Drain(ctx context.Context) error {
	s.Start()
	s.evict()
	done := make(chan struct{})
	s.wg.Go(func() {
		s.handlers.Wait()
		close(done)
	})
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Shutdown sends away who waits and ends the context of the handlers. From
// then on clients are answered 503. It does not wait; it may be called several
// times, and suits [http.Server.RegisterOnShutdown].
func (s *Server) Shutdown() {
	s.Start()
	s.evict()
	s.cancel()
	s.watcher.close()
}

// Close calls [Server.Shutdown] and waits until handlers and goroutines have
// ended. It may be called several times.
func (s *Server) Close() error {
	s.Shutdown()
	s.handlers.Wait()
	s.watcher.wait()
	s.wg.Wait()
	return nil
}
