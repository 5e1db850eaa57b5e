package rendezvous

import (
	"errors"
	"sync"

	"github.com/libp2p/go-libp2p/core/host"
)

// NewRendezvousDiscovery returns a Discovery that speaks Waku's protocol with
// the points among the peers that h knows. It takes the place of the function
// of this name in go-waku-rendezvous:
//
//	d := rendezvous.NewRendezvousDiscovery(h)
//	ps, err := pubsub.NewGossipSub(ctx, h, pubsub.WithDiscovery(d))
func NewRendezvousDiscovery(h host.Host) *Discovery {
	return NewDiscovery(h, DiscoveryConfig{Client: ClientConfig{Waku: true}})
}

// A Service is a [Point] for both protocols that is started and
// stopped, as in go-waku-rendezvous.
type Service struct {
	host host.Host
	cfg  Config

	mu    sync.Mutex // guards point
	point *Point
}

// NewRendezvousService returns a service on h that is not started yet. store
// keeps the registrations of /rendezvous/1.0.0, and nil is memory; those of
// Waku live for 20 seconds and are not worth keeping.
func NewRendezvousService(h host.Host, store Store) *Service {
	return &Service{host: h, cfg: Config{Store: store, Waku: true}}
}

// Start opens the store and serves. It may be called once.
func (s *Service) Start() (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.point != nil {
		return errors.New("rendezvous: service was started before")
	}
	s.point, err = NewPoint(s.host, s.cfg)
	return err
}

// Stop stops serving and closes the store.
func (s *Service) Stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.point == nil {
		return nil
	}
	return s.point.Close()
}
