package reach

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/muster-p2p/muster/reach/wire"
)

var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// serviceName is the server's name in the resource manager.
const serviceName = "reach"

// ErrClosed is what is returned after Close.
var ErrClosed = errors.New("reach: closed")

// A Server is the part of a point that brings callers and callees together. Its
// methods may be called at once.
type Server struct {
	cfg     Config
	host    host.Host
	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	metrics metrics
	metric  *collector // nil if not registered

	mu       sync.Mutex // guards what follows
	lot      *lot[*parked]
	closed   bool
	draining bool
	streams  map[network.Stream]bool // all that are served
	requests map[peer.ID]int         // streams that are not parked
	sources  map[netip.Addr]int      // the same by source
	asking   int                     // their sum
	asked    map[net.Conn]bool       // of other points
	sent     int                     // requests that are with other points
	empty    chan struct{}           // closed when a drain has nobody left
	wg       sync.WaitGroup
}

// NewServer serves /muster/reach/1.0.0 on h until Close. The caller keeps h.
func NewServer(h host.Host, cfg Config) (*Server, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{
		cfg: cfg, host: h, ctx: ctx, cancel: cancel, lot: newLot[*parked](cfg.Limits),
		streams: map[network.Stream]bool{}, requests: map[peer.ID]int{}, sources: map[netip.Addr]int{}, asked: map[net.Conn]bool{}, empty: make(chan struct{}),
	}
	if r := cfg.Registerer; r != nil {
		c := newCollector(s)
		if err := r.Register(c); err != nil {
			cancel()
			return nil, fmt.Errorf("reach: metrics: %w", err)
		}
		s.metric = c
	}
	h.SetStreamHandler(ProtocolID, s.handle)
	return s, nil
}

// A requester is who has opened a stream.
type requester struct {
	id     peer.ID
	source netip.Addr // invalid: not counted
}

// handle serves a stream until it ends.
func (s *Server) handle(stream network.Stream) {
	who := requester{stream.Conn().RemotePeer(), sourceOf(addrOf(stream.Conn().RemoteMultiaddr()))}
	if !s.track(stream, who) {
		s.metrics.refused[reasonStreams].Add(1)
		_ = stream.Reset()
		return
	}
	asking := true
	leave := func() { // it is no longer a request, but parked or done
		if asking {
			asking = false
			s.untrackRequest(who)
		}
	}
	defer s.untrack(stream)
	defer leave()
	defer func() {
		if v := recover(); v != nil {
			s.metrics.panics.Add(1)
			s.cfg.Logger.Error("BUG: panic while serving a stream", "panic", v, "stack", string(debug.Stack()))
			_ = stream.Reset()
		}
	}()
	if err := s.serve(stream, who, leave); err != nil {
		s.countError(err)
		s.cfg.Logger.Debug("stream reset", "peer", who.id, "err", err)
		_ = stream.Reset()
		return
	}
	_ = stream.Close()
}

// serve reads what is asked and answers.
func (s *Server) serve(stream network.Stream, who requester, parking func()) error {
	r := &messageReader{r: stream}
	m := new(wire.Message)
	if err := within(stream, FirstWait, func() error { return r.read(m) }); err != nil {
		return err
	}
	if m.Kind == wire.Park {
		return s.park(stream, r, who, m.Access, parking)
	}
	return s.request(stream, who, m)
}

// request answers what is no PARK. It is not part of serve, whose stack a parked
// callee keeps.
func (s *Server) request(stream network.Stream, who requester, m *wire.Message) error {
	switch m.Kind {
	case wire.Invite:
		return s.answer(stream, OpInvite, s.invite(who, m, false))
	case wire.Reserve:
		return s.answer(stream, OpReserve, s.reserve(who, m.Access))
	default:
		return s.answer(stream, numOps, wire.Message{Status: wire.Invalid})
	}
}

// answer sends the only message that a request gets.
func (s *Server) answer(stream network.Stream, op Op, m wire.Message) error {
	m.Kind = wire.Answer
	s.metrics.answered(op, m.Status)
	return within(stream, WriteWait, func() error {
		_, err := stream.Write(wire.AppendFrame(nil, &m))
		return err
	})
}

// track counts a new stream in, unless there are too many.
func (s *Server) track(stream network.Stream, who requester) bool {
	if err := stream.Scope().SetService(serviceName); err != nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.asking >= s.cfg.Limits.Requests || s.requests[who.id] >= s.cfg.Limits.RequestsPerPeer {
		return false
	}
	if who.source.IsValid() && s.sources[who.source] >= s.cfg.Limits.RequestsPerSource {
		return false
	}
	s.streams[stream] = true
	s.asking++
	s.requests[who.id]++
	s.sources[who.source]++
	s.wg.Add(1)
	return true
}

func (s *Server) untrackRequest(who requester) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asking--
	if s.requests[who.id]--; s.requests[who.id] == 0 {
		delete(s.requests, who.id)
	}
	if s.sources[who.source]--; s.sources[who.source] == 0 {
		delete(s.sources, who.source)
	}
}

func (s *Server) untrack(stream network.Stream) {
	s.mu.Lock()
	delete(s.streams, stream)
	if s.draining && len(s.streams) == 0 {
		s.drainedLocked()
	}
	s.mu.Unlock()
	s.wg.Done()
}

func (s *Server) drainedLocked() {
	select {
	case <-s.empty:
	default:
		close(s.empty)
	}
}

func (s *Server) countError(err error) {
	switch {
	case errors.Is(err, wire.ErrMalformed), errors.Is(err, errTooLong):
		s.metrics.refused[reasonMalformed].Add(1)
	case errors.Is(err, context.DeadlineExceeded):
		s.metrics.refused[reasonSlow].Add(1)
	}
}

// authorize asks the hook, which has AuthorizeWait.
func (s *Server) authorize(r Request) error {
	ctx, cancel := context.WithTimeout(s.ctx, AuthorizeWait)
	defer cancel()
	return s.cfg.Authorize(ctx, r)
}

// mint returns a token that is good for a message.
func (s *Server) mint(r Request) (string, error) {
	ctx, cancel := context.WithTimeout(s.ctx, AuthorizeWait)
	defer cancel()
	token, err := s.cfg.Mint(ctx, r)
	if err == nil && !wire.ValidToken(token) {
		err = errMint
	}
	if err != nil {
		s.cfg.Logger.Warn("no token", "err", err)
	}
	return token, err
}

// reserve makes a token for a ticket.
func (s *Server) reserve(who requester, access string) wire.Message {
	if status := s.admit(who); status != wire.OK {
		return wire.Message{Status: status}
	}
	req := Request{Op: OpReserve, Peer: who.id, Token: access}
	if err := s.authorize(req); err != nil {
		return refused(err)
	}
	token, err := s.mint(req)
	if err != nil {
		return notMinted(err)
	}
	return wire.Message{Token: token, Servers: s.cfg.Servers}
}

// admit takes a request's tokens.
func (s *Server) admit(who requester) wire.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		return wire.Unavailable
	}
	status := s.lot.admitCall(time.Now(), who.id, who.source)
	if status != wire.OK {
		s.metrics.refused[reasonRate].Add(1)
	}
	return status
}

// Drain sends the parked callees to their other points and refuses whoever
// comes, until all have gone or ctx ends.
func (s *Server) Drain(ctx context.Context) error {
	s.mu.Lock()
	s.draining = true
	var all []*parked
	for _, spot := range s.lot.spots {
		all = append(all, spot.owner)
	}
	if len(s.streams) == 0 {
		s.drainedLocked()
	}
	s.mu.Unlock()
	for _, p := range all {
		s.sendAway(p, wire.Unavailable)
	}
	select {
	case <-s.empty:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Dismiss ends the stream of a callee that is parked here, and reports whether
// there was one. It comes again if Authorize lets it.
func (s *Server) Dismiss(callee peer.ID) bool {
	p := s.find(callee)
	if p == nil {
		return false
	}
	s.sendAway(p, wire.Unauthorized)
	return true
}

// Close stops serving and resets open streams. It may be called more than once.
func (s *Server) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		s.wg.Wait()
		return nil
	}
	s.closed = true
	s.cancel()
	open := make([]network.Stream, 0, len(s.streams))
	for stream := range s.streams {
		open = append(open, stream)
	}
	for conn := range s.asked {
		_ = conn.Close()
	}
	s.mu.Unlock()
	s.host.RemoveStreamHandler(ProtocolID)
	for _, stream := range open {
		_ = stream.Reset()
	}
	s.wg.Wait()
	if s.metric != nil {
		s.cfg.Registerer.Unregister(s.metric)
	}
	return nil
}
