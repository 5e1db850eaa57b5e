package muster

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/muster-p2p/muster/access"
	"github.com/muster-p2p/muster/rdv"
	"github.com/muster-p2p/muster/reach"
	"github.com/muster-p2p/muster/rendezvous"
)

// A Point is what others use of a node: a registry of names, and a server
// that introduces peers and relays for them.
type Point struct {
	cfg        PointConfig
	rendezvous *rendezvous.Point
	gate       *access.Gate
	relay      *relay
	reach      *reach.Server
	host       host.Host
	asked      atomic.Pointer[reach.Server] // what other points ask, nil until reach is there
	listener   net.Listener
	ready      chan struct{} // closed when gate is set, or never will be
}

// startPoint opens what the node serves, the registry first: the secret of the
// tokens is in its store.
func (n *Node) startPoint(ctx context.Context) error {
	p := n.Point
	if p == nil {
		return nil
	}
	p.host = n.inner
	store := &secretStore{Store: p.cfg.Rendezvous.Store}
	if store.Store == nil {
		store.Store = rendezvous.NewMemory()
	}
	if p.cfg.NoRendezvous {
		rand.Read(store.secret[:]) // never fails, by its contract
		return p.openGate(n, store.secret[:])
	}
	cfg := p.cfg.Rendezvous
	cfg.Store, cfg.Access = store, p.mayRendezvous
	if cfg.Logger == nil {
		cfg.Logger = n.cfg.Logger
	}
	if cfg.Registerer == nil {
		cfg.Registerer = n.cfg.Registerer
	}
	// Requests come as soon as the registry is there, and wait for the gate.
	p.ready = make(chan struct{})
	rp, err := rendezvous.OpenPoint(ctx, n.inner, cfg)
	if err != nil {
		return err
	}
	n.onClose(rp.Close)
	p.rendezvous = rp
	err = p.openGate(n, store.secret[:])
	close(p.ready)
	return err
}

// A secretStore learns the secret of a store when that is opened.
type secretStore struct {
	rendezvous.Store
	secret [sha256.Size]byte
}

// Open implements rendezvous.Store.
func (s *secretStore) Open(ctx context.Context, proposal rendezvous.Meta, apply func([]rendezvous.Change)) (rendezvous.Meta, error) {
	meta, err := s.Store.Open(ctx, proposal, apply)
	mac := hmac.New(sha256.New, meta.Secret[:])
	mac.Write([]byte("muster tokens for meetings"))
	mac.Sum(s.secret[:0])
	return meta, err
}

func (p *Point) openGate(n *Node, secret []byte) error {
	if p.cfg.Secret != nil {
		secret = p.cfg.Secret
	}
	minter, err := access.NewMinter(secret)
	if err != nil {
		return err
	}
	cfg := access.Config{
		Policy: p.cfg.Policy, Minter: minter, Tokens: p.cfg.Tokens, Usage: p.cfg.Usage, Hook: p.cfg.Hook, Shared: p.cfg.Shared,
		Logger: n.cfg.Logger, Registerer: n.cfg.Registerer,
	}
	if p.rendezvous != nil {
		cfg.Registered = p.registered
	}
	if p.gate, err = access.NewGate(cfg); err != nil {
		return err
	}
	if _, err := p.Enforce(); err != nil { // a store may have what was registered before a ban
		n.cfg.Logger.Warn("registrations of banned peers not removed", "err", err)
	}
	return nil
}

// registered reports whether a peer is registered here under a name, in either
// protocol.
func (p *Point) registered(name string, id peer.ID) bool {
	return p.rendezvous.Registered(rendezvous.RealmLibp2p, name, id) ||
		p.rendezvous.Registered(rendezvous.RealmWaku, name, id)
}

// mayRendezvous asks the gate, and then the embedding program.
func (p *Point) mayRendezvous(ctx context.Context, r rendezvous.Request) error {
	select {
	case <-p.ready:
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", rendezvous.ErrUndecided, ctx.Err())
	}
	if p.gate == nil {
		return fmt.Errorf("%w: %w", rendezvous.ErrUndecided, ErrNotStarted)
	}
	var err error
	if r.Op == rendezvous.OpRegister {
		err = p.gate.Register(ctx, r.Peer, addrPortOf(toNetAddr(r.Remote)).Addr(), r.NS)
	} else {
		err = p.gate.Discover(ctx, r.Peer, r.NS)
	}
	if err == nil && p.cfg.Rendezvous.Access != nil {
		err = p.cfg.Rendezvous.Access(ctx, r)
	}
	if errors.Is(err, access.ErrUnavailable) {
		err = fmt.Errorf("%w: %w", rendezvous.ErrUndecided, err)
	}
	return err
}

// startRdv opens the rdv server.
func (n *Node) startRdv(ctx context.Context) error {
	p := n.Point
	if p == nil || p.cfg.Listener == nil && p.cfg.HTTP == "" {
		return nil
	}
	p.listener = p.cfg.Listener
	if p.listener == nil {
		var lc net.ListenConfig
		lc.SetMultipathTCP(false) // which the kernel does not splice
		ln, err := lc.Listen(ctx, "tcp", p.cfg.HTTP)
		if err != nil {
			return err
		}
		p.listener = ln
	}
	s := p.cfg.Server
	p.relay = newRelay(p.gate, p.cfg.Relayer)
	s.Handler, s.Access, s.Aside = p.relay, p.mayRelay, p.servePoint
	if s.Logger == nil {
		s.Logger = n.cfg.Logger
	}
	if s.Registerer == nil {
		s.Registerer = n.cfg.Registerer
	}
	srv := s.HTTPServer()
	srv.ErrorLog = log.New(io.Discard, "", 0) // strangers' mistakes
	serve := func() error { return srv.Serve(p.listener) }
	if p.cfg.TLS != nil {
		srv.TLSConfig = p.cfg.TLS.Clone()
		serve = func() error { return srv.ServeTLS(p.listener, "", "") }
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := serve(); !errors.Is(err, http.ErrServerClosed) {
			n.cfg.Logger.Error("rdv server ended", "err", err)
		}
	})
	s.Start()
	n.onClose(func() error {
		err := errors.Join(srv.Close(), s.Close())
		wg.Wait()
		return err
	})
	return nil
}

// mayRelay asks the gate for the rdv server, in whose words it answers.
func (p *Point) mayRelay(r *http.Request) error {
	_, err := p.gate.Relay(r.Context(), p.relayRequest(r))
	switch {
	case err == nil:
		return nil
	case errors.Is(err, access.ErrUnauthorized):
		return fmt.Errorf("%w: %w", rdv.ErrUnauthorized, err)
	case errors.Is(err, access.ErrUnavailable):
		return fmt.Errorf("%w: %w", rdv.ErrUndecided, err)
	default:
		return err
	}
}

func (p *Point) relayRequest(r *http.Request) access.RelayRequest {
	req := access.RelayRequest{Token: strings.TrimPrefix(r.URL.Path, "/"), Bearer: bearer(r.Header)}
	observe := p.cfg.Server.ObservedAddrFunc
	if observe == nil {
		observe = func(r *http.Request) (netip.AddrPort, error) { return netip.ParseAddrPort(r.RemoteAddr) }
	}
	if ap, err := observe(r); err == nil {
		req.Remote = ap.Addr().Unmap()
	}
	return req
}

// bearer returns the token of "Authorization: Bearer <token>" (RFC 6750,
// section 2.1), empty if there is none.
func bearer(h http.Header) string {
	scheme, token, ok := strings.Cut(h.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// drain sends away who waits and lets pairs finish.
func (p *Point) drain(ctx context.Context) error {
	var errs [2]error
	var wg sync.WaitGroup
	if p.reach != nil {
		wg.Go(func() { errs[0] = p.reach.Drain(ctx) })
	}
	if p.relay != nil {
		wg.Go(func() { errs[1] = p.cfg.Server.Drain(ctx) })
	}
	wg.Wait()
	return errors.Join(errs[:]...)
}

// Gate returns what decides who may use the point, nil before Start.
func (p *Point) Gate() *access.Gate { return p.gate }

// Registry returns the rendezvous point, nil before Start and if there is none.
func (p *Point) Registry() *rendezvous.Point { return p.rendezvous }

// Server returns the rdv server; it is not started if HTTP and Listener were
// unset.
func (p *Point) Server() *rdv.Server { return p.cfg.Server }

// Reach returns what passes invitations on, nil before Start and if there is
// no rdv server for them.
func (p *Point) Reach() *reach.Server { return p.reach }

// RelayStats returns the counters of the relay.
func (p *Point) RelayStats() rdv.RelayStats {
	if p.relay == nil {
		return rdv.RelayStats{}
	}
	return p.relay.Stats()
}

// SetRelayer has pairs from now on relayed by r, with its limits; those under
// way keep theirs. R belongs to the point then.
func (p *Point) SetRelayer(r *rdv.Relayer) {
	if p.relay != nil {
		p.relay.set(r)
	}
}

// URLs are what others call the rdv server, nil if there is none. Where the
// configuration does not say, it is the address that is listened on, with the
// loopback address in place of none.
func (p *Point) URLs() []string {
	switch {
	case p.listener == nil:
		return nil
	case len(p.cfg.URLs) > 0:
		return p.cfg.URLs
	}
	ap := addrPortOf(p.listener.Addr())
	if ap.Addr().IsUnspecified() {
		ap = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), ap.Port())
	}
	return []string{p.scheme() + "://" + ap.String()}
}
