package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"

	"github.com/muster-p2p/muster/rdv"
)

// Defaults of 'muster rdv serve' where the library has none.
const (
	// serveLobbyTimeout is how long somebody waits who has sent a friend the
	// token.
	serveLobbyTimeout = 10 * time.Minute

	// serveIdleTimeout ends relayed pairs that have nothing to say.
	serveIdleTimeout = 5 * time.Minute

	// serveDrain is how long a stop waits for the pairs that are relayed.
	serveDrain = 30 * time.Second

	// serveGCPercent makes the collector run earlier than by default: what a
	// server keeps for those who wait is small beside what their requests
	// leave behind.
	serveGCPercent = 50
)

// serveOptions are the flags of 'muster rdv serve'.
type serveOptions struct {
	listen    string
	metrics   string
	tokenFile string
	proxies   []string
	verbose   bool
	json      bool
	drain     time.Duration
	server    rdv.Server
	relayer   rdv.Relayer
	rates     [3]string
}

func newRdvServeCmd(e *env) *cobra.Command {
	o := &serveOptions{}
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Introduce peers to each other, and relay for those that need it",
		Long: `Serve introduces two peers that ask for the same token to each other, and relays
for them where they cannot reach each other directly.

The first line on stdout is the server's URL. Without --token-file everyone may
use the server. SIGTERM or an interrupt stops it: newcomers are answered 503,
pairs under way may finish for the time of --drain; a second signal cuts them.`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.limitFiles(maxFiles(), !cmd.Flags().Changed("max-waiting-per-source"))
			return o.run(cmd.Context(), e)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.listen, "listen", "l", ":8080", "address to listen on, HOST:PORT; without a host IPv4 and IPv6")
	f.StringVar(&o.tokenFile, "token-file", "", "let in only who presents a bearer token that is a line of this file")
	f.StringSliceVar(&o.proxies, "trust-proxy", nil, "believe X-Forwarded-For of proxies in these prefixes, such as 10.0.0.0/8")
	f.DurationVar(&o.server.LobbyTimeout, "lobby-timeout", serveLobbyTimeout, "how long a peer may wait for the other; 0 for ever")
	f.IntVar(&o.server.MaxWaiting, "max-waiting", rdv.DefaultMaxWaiting, "peers that may wait; -1 any number")
	f.IntVar(&o.server.MaxWaitingPerSource, "max-waiting-per-source", rdv.DefaultMaxWaitingPerSource,
		"of these from one IPv4 address or IPv6 /64; -1 any number")
	f.IntVar(&o.server.MaxPairs, "max-pairs", 0, "pairs at a time; 0 any number")
	f.IntVar(&o.server.MaxToken, "max-token", rdv.DefaultMaxToken, "longest token in bytes; -1 any length")
	f.BoolVar(&o.server.AnyToken, "any-token", false, "allow any UTF-8 in tokens, not only letters, digits and -._~")
	f.DurationVar(&o.relayer.IdleTimeout, "idle-timeout", serveIdleTimeout, "end a relayed pair after this silence; 0 never")
	f.DurationVar(&o.relayer.WriteTimeout, "write-timeout", rdv.DefaultWriteTimeout, "end a relayed pair when one takes no data for this long; -1s never")
	f.DurationVar(&o.relayer.CommandTimeout, "pick-timeout", rdv.DefaultCommandTimeout, "how long the dialer may take to pick a connection")
	f.StringVar(&o.rates[0], "pair-rate", "", "bytes per second of a relayed pair, such as 10M; empty no limit")
	f.StringVar(&o.rates[1], "source-rate", "", "of all relayed pairs of one IPv4 address or IPv6 /64")
	f.StringVar(&o.rates[2], "total-rate", "", "of all relayed pairs")
	f.DurationVar(&o.drain, "drain", serveDrain, "how long pairs may go on when the server is stopped")
	f.StringVar(&o.metrics, "metrics", "", "serve Prometheus metrics at this HOST:PORT, under /metrics")
	f.BoolVar(&o.json, "json", false, "write events as JSON objects to stderr")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "say on stderr what happens")
	return cmd
}

// run serves until ctx ends, and then drains.
func (o *serveOptions) run(ctx context.Context, e *env) error {
	if err := o.parse(); err != nil {
		return err
	}
	out := &serveEvents{w: e.stderr, json: o.json, verbose: o.verbose}
	if o.verbose && !o.json {
		o.server.Logger = slog.New(slog.NewTextHandler(e.stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	ln, err := listenTCP(ctx, o.listen)
	if err != nil {
		return err
	}
	stopMetrics, err := o.serveMetrics(ctx, out)
	if err != nil {
		return errors.Join(err, ln.Close())
	}
	defer stopMetrics()
	debug.SetGCPercent(serveGCPercent)

	o.server.Handler = &eventHandler{Relayer: &o.relayer, out: out}
	srv := o.server.HTTPServer()
	srv.ErrorLog = log.New(io.Discard, "", 0) // strangers' mistakes
	defer func() { _, _ = srv.Close(), o.server.Close() }()
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(ln) }()

	url := serveURL(ln.Addr())
	out.listening(url, o.server.Access == nil) // before anybody who waits for the URL can have an event
	if _, err := fmt.Fprintln(e.stdout, url); err != nil {
		return err
	}
	select {
	case err := <-failed:
		return fail(exitLocal, err, "")
	case <-ctx.Done():
	}
	e.drains.Store(true)
	return o.stop(out)
}

// stop lets the pairs finish, unless a second signal comes.
func (o *serveOptions) stop(out *serveEvents) error {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	ctx, cancelDrain := context.WithTimeout(ctx, o.drain)
	defer cancelDrain()
	out.draining(o.server.Stats().Pairs)
	if err := o.server.Drain(ctx); err != nil {
		out.cut(o.server.Stats().Pairs)
	}
	return o.server.Close()
}

// limitFiles bounds connections by the descriptors that this process may have,
// 0 if any number: a sixteenth and some are left for pipes, files and
// listeners. Where there are few, no source may wait on more than a sixteenth,
// unless the user said how many.
func (o *serveOptions) limitFiles(files int, perSource bool) {
	const own, part = 32, 16
	if files == 0 {
		return
	}
	o.server.MaxConns = max(1, files-files/part-own)
	if perSource {
		o.server.MaxWaitingPerSource = max(1, min(o.server.MaxWaitingPerSource, files/part))
	}
}

// parse turns the flags that are not of the server's own types into its fields.
func (o *serveOptions) parse() error {
	for i, rate := range []*int64{&o.relayer.PairRate, &o.relayer.SourceRate, &o.relayer.TotalRate} {
		n, err := parseBytes(o.rates[i])
		if err != nil {
			return usageError(err, "give bytes per second, such as 500K, 10M or 1G")
		}
		*rate = n
	}
	if len(o.proxies) > 0 {
		var prefixes []netip.Prefix
		for _, s := range o.proxies {
			p, err := parsePrefix(s)
			if err != nil {
				return usageError(fmt.Errorf("--trust-proxy: %w", err), "give an address or a prefix, such as 10.0.0.0/8")
			}
			prefixes = append(prefixes, p)
		}
		o.server.ObservedAddrFunc = rdv.TrustedProxies(prefixes...)
	}
	if o.tokenFile != "" {
		tokens, err := readTokens(o.tokenFile)
		if err != nil {
			return err
		}
		o.server.Access = rdv.BearerTokens(tokens...)
	}
	return nil
}

// parsePrefix parses a prefix, or an address as the prefix of just itself.
func parsePrefix(s string) (netip.Prefix, error) {
	if ip, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(ip, ip.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	return p.Masked(), err
}

// readTokens reads a token from each line; empty lines and those that begin
// with # are none.
func readTokens(file string) ([]string, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, usageError(fmt.Errorf("read tokens: %w", err), "")
	}
	defer func() { _ = f.Close() }()
	var tokens []string
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		if t := strings.TrimSpace(sc.Text()); t != "" && !strings.HasPrefix(t, "#") {
			tokens = append(tokens, t)
		}
	}
	if err := sc.Err(); err != nil {
		return nil, usageError(fmt.Errorf("read tokens: %w", err), "")
	}
	if len(tokens) == 0 {
		return nil, usageError(fmt.Errorf("%s holds no token", file), "write one to a line, such as the output of 'openssl rand -hex 16'")
	}
	return tokens, nil
}

// parseBytes parses a number of bytes with an optional suffix K, M or G, which
// are powers of 1024. Empty is zero.
func parseBytes(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	num, unit := s, int64(1)
	for i, suffix := range []string{"K", "M", "G"} {
		if n, ok := strings.CutSuffix(strings.ToUpper(s), suffix); ok {
			num, unit = n, 1<<(10*(i+1))
		}
	}
	n, err := strconv.ParseInt(num, 10, 64)
	if err != nil || n < 0 || n > (1<<62)/unit {
		return 0, fmt.Errorf("%q is not a number of bytes", s)
	}
	return n * unit, nil
}

// listenTCP listens on plain TCP: on Linux the default is MPTCP, which the
// kernel does not splice.
func listenTCP(ctx context.Context, addr string) (net.Listener, error) {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	ln, err := lc.Listen(ctx, "tcp", addr)
	if _, ok := errors.AsType[*net.AddrError](err); ok {
		return nil, usageError(err, "an address to listen on is HOST:PORT, such as :8080 or 127.0.0.1:0")
	}
	if err != nil {
		return nil, fail(exitLocal, err, "is the port taken? choose another with --listen, or 0 for any free one")
	}
	return ln, nil
}

// serveURL is where peers on this machine find the server; what others call it
// is the operator's to know.
func serveURL(addr net.Addr) string {
	ap := rdv.AddrPortFrom(addr)
	if ap.Addr().IsUnspecified() {
		ip := netip.IPv6Loopback()
		if ap.Addr().Is4() || ap.Addr() == netip.IPv6Unspecified() { // [::] takes IPv4 too
			ip = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		}
		ap = netip.AddrPortFrom(ip, ap.Port())
	}
	return "http://" + ap.String()
}

// serveMetrics serves the metrics, if there is an address for them.
func (o *serveOptions) serveMetrics(ctx context.Context, out *serveEvents) (stop func(), err error) {
	if o.metrics == "" {
		return func() {}, nil
	}
	ln, err := listenTCP(ctx, o.metrics)
	if err != nil {
		return nil, err
	}
	reg := prometheus.NewRegistry()
	o.server.Registerer = reg
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: rdv.HeaderTimeout, IdleTimeout: time.Minute}
	go func() { _ = srv.Serve(ln) }() // ends with stop
	url := serveURL(ln.Addr()) + "/metrics"
	out.emit(map[string]any{"event": "metrics", "url": url}, "metrics at "+url)
	return func() { _ = srv.Close() }, nil
}

// eventHandler relays as a Relayer does, and tells of it.
type eventHandler struct {
	*rdv.Relayer
	out *serveEvents
}

func (h *eventHandler) Serve(ctx context.Context, dc, ac *rdv.Conn) {
	defer func() { _, _ = dc.Close(), ac.Close() }()
	begun := time.Now()
	err := h.Continue(ctx, dc, ac)
	if other, ok := errors.AsType[rdv.ErrOther](err); ok {
		h.out.pair(pairEvent{Event: "direct", Addr: other.Addr.String()}, dc, begun, nil)
		return
	}
	if err != nil {
		h.out.pair(pairEvent{Event: "failed"}, dc, begun, err)
		return
	}
	n1, n2, err := h.Relay(ctx, ac, dc, dc, ac)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	h.out.pair(pairEvent{Event: "relayed", DialBytes: n1, AcceptBytes: n2}, dc, begun, err)
}

// serveEvents writes what happens to stderr: a JSON object or a line for
// people. Tokens are shortened.
type serveEvents struct {
	json, verbose bool

	mu sync.Mutex // guards w
	w  io.Writer
}

type pairEvent struct {
	Event       string `json:"event"` // direct, relayed, failed
	Token       string `json:"token"`
	Addr        string `json:"addr,omitempty"`
	DialBytes   int64  `json:"dial_bytes"`
	AcceptBytes int64  `json:"accept_bytes"`
	Millis      int64  `json:"ms"`
	Error       string `json:"error,omitempty"`
}

// emit writes a line; nobody is left to tell if that fails.
func (s *serveEvents) emit(event any, text string) {
	b := []byte(text + "\n")
	if s.json {
		var err error
		if b, err = json.Marshal(event); err != nil {
			return
		}
		b = append(b, '\n')
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, _ = s.w.Write(b)
}

func (s *serveEvents) listening(url string, open bool) {
	text := "listening on " + url
	if open {
		text += "\nopen to everyone: --token-file closes it"
	}
	s.emit(map[string]any{"event": "listening", "url": url, "open": open}, text)
}

func (s *serveEvents) draining(pairs int) {
	s.emit(map[string]any{"event": "draining", "pairs": pairs},
		fmt.Sprintf("stopping: %d pairs may finish, interrupt again to cut them", pairs))
}

func (s *serveEvents) cut(pairs int) {
	s.emit(map[string]any{"event": "cut", "pairs": pairs}, fmt.Sprintf("%d pairs cut", pairs))
}

func (s *serveEvents) pair(ev pairEvent, dc *rdv.Conn, begun time.Time, err error) {
	if !s.json && !s.verbose {
		return
	}
	ev.Token = rdv.ShortToken(dc.Token)
	ev.Millis = time.Since(begun).Milliseconds()
	if err != nil {
		ev.Error = err.Error()
	}
	s.emit(ev, fmt.Sprintf("pair %s %s %s dial_bytes=%d accept_bytes=%d ms=%d %s",
		ev.Token, ev.Event, ev.Addr, ev.DialBytes, ev.AcceptBytes, ev.Millis, ev.Error))
}
