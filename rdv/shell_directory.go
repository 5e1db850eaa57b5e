package rdv

import (
	"context"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"
)

// A Directory makes one lobby of those of several servers: it says at which
// of them the clients with a token meet, which is the one whose client came
// first. The servers pass clients on to each other by themselves. Package
// pglobby has one in PostgreSQL.
//
// It need not be right, only the same for all: a server that is told of
// another one, and finds that nobody waits there, claims the token anew. So it
// may forget everything at any time, and each server repeats its claims every
// [DirectoryRefresh].
//
// A Server calls Claim and Release from one goroutine.
type Directory interface {
	// Secret returns what the servers of this lobby know and nobody else. By
	// it they know each other. It must not change.
	Secret() [32]byte

	// Claim tells for each wanted token, in their order, the claim that stands:
	// the wanted one, which this server now has, or another server's. A claim
	// must be kept for three times [DirectoryRefresh], and must end after ten
	// of it. An error stands for all of them.
	Claim(ctx context.Context, wanted []Wanted) ([]Claim, error)

	// Release ends claims, where they still stand with the same ID.
	Release(ctx context.Context, ended []Claim) error
}

// A Wanted is a token that a server has a client for.
type Wanted struct {
	Token string
	ID    uint64 // of the claim that is wanted; random
	After uint64 // of another server's claim that is known to be dead and may be replaced, or 0
}

// A Claim says where the clients with a token meet.
type Claim struct {
	Token string
	ID    uint64

	// URL is where the server that has the claim takes clients from others;
	// empty if it is the server that asked. If there is no claim either, since
	// one has just ended, ID is zero: ask again.
	URL string
}

const (
	// DirectoryRefresh is how often a server repeats its claims: the time that
	// a peer waits in vain if the directory forgets, and with the default
	// lobby 800 rows a second.
	DirectoryRefresh = 15 * time.Second

	// directoryTimeout ends a call of the directory.
	directoryTimeout = 10 * time.Second

	// directoryBatch is how many tokens a call has at most: some milliseconds
	// for a database.
	directoryBatch = 512

	// maxEnded bounds the claims that wait to be released. One that is
	// forgotten ends by itself, or when it is found to be dead.
	maxEnded = 1 << 16

	// The bounds of the pause after an error of the directory.
	minDirectoryPause = 50 * time.Millisecond
	maxDirectoryPause = 5 * time.Second
)

// sharing is what a server has that shares its lobby. The server's mu guards
// all but the first six.
type sharing struct {
	open  context.Context // ends when the lobby is closed, before the pairs are
	close context.CancelFunc

	pin     *pin
	wake    chan struct{} // there is something to do
	taking  chan struct{} // holds an element for each client that is being taken over
	handing chan struct{} // and one for each that is being handed over

	pending []*client // whose claim has not been asked for
	ended   []Claim   // to be released
	out     int       // clients that are with another server
	err     error     // of the last call of the directory
}

// startSharing is the part of Start for a server with a directory.
func (s *Server) startSharing() {
	if s.Directory == nil {
		return
	}
	if s.refreshEvery == 0 {
		s.refreshEvery = DirectoryRefresh
	}
	pin, err := newPin(s.Directory.Secret())
	if err != nil {
		s.log().Error("lobby not shared", "err", err)
		s.Directory = nil
		return
	}
	s.shared.open, s.shared.close = context.WithCancel(s.ctx)
	s.shared.pin = pin
	s.shared.wake = make(chan struct{}, 1)
	s.shared.taking = make(chan struct{}, maxTaking)
	s.shared.handing = make(chan struct{}, maxHanding)
	s.wg.Go(s.share)
}

// claimLocked has the token of a client that has a seat claimed, after a
// while. It needs mu.
func (s *Server) claimLocked(c *client, pause time.Duration) {
	if s.Directory == nil {
		return
	}
	c.claim = rand.Uint64() | 1
	if pause == 0 {
		s.pendLocked(c)
		return
	}
	time.AfterFunc(pause, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.lobby.seats[c.seat.token] == &c.seat {
			s.pendLocked(c)
		}
	})
}

func (s *Server) pendLocked(c *client) {
	sh := &s.shared
	if len(sh.pending) > 2*len(s.lobby.seats)+directoryBatch {
		// The directory is slow, and many have left since they came.
		sh.pending = slices.DeleteFunc(sh.pending, func(c *client) bool {
			c.queued = s.lobby.seats[c.seat.token] == &c.seat
			return !c.queued
		})
	}
	if !c.queued { // a batch must not name a token twice
		c.queued = true
		sh.pending = append(sh.pending, c)
	}
	sh.rouse()
}

func (sh *sharing) rouse() {
	select {
	case sh.wake <- struct{}{}:
	default:
	}
}

// unclaimLocked has the claim of a client released that has left the lobby. It
// needs mu.
func (s *Server) unclaimLocked(c *client) {
	if !c.claimed || len(s.shared.ended) >= maxEnded {
		return
	}
	c.claimed = false
	s.shared.ended = append(s.shared.ended, Claim{Token: c.seat.token, ID: c.claim})
	s.shared.rouse()
}

// share is the goroutine that talks to the directory, until the server is shut
// down.
func (s *Server) share() {
	refresh := time.NewTicker(s.refreshEvery)
	defer refresh.Stop()
	pause := time.Duration(0)
	for s.ctx.Err() == nil {
		select {
		case <-s.shared.wake:
		case <-refresh.C:
			s.claimAll()
		case <-s.ctx.Done():
		}
		err := s.exchange(s.ctx)
		if err == nil {
			pause = 0
			continue
		}
		// What was asked for is lost; so is what the directory has, maybe.
		pause = min(max(2*pause, minDirectoryPause), maxDirectoryPause)
		select {
		case <-time.After(pause/2 + rand.N(pause/2)):
		case <-s.ctx.Done():
		}
		s.claimAll()
	}
	// Others need not find out that nobody is here any more.
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	for ended := s.takeEnded(); len(ended) > 0 && s.Directory.Release(ctx, ended) == nil; {
		ended = s.takeEnded()
	}
}

// exchange claims and releases until there is nothing left to do.
func (s *Server) exchange(ctx context.Context) error {
	for ctx.Err() == nil {
		clients, wanted := s.takePending()
		ended := s.takeEnded()
		if len(wanted)+len(ended) == 0 {
			return nil
		}
		err := s.ask(ctx, clients, wanted)
		if err == nil && len(ended) > 0 {
			err = s.release(ctx, ended)
		}
		s.noteDirectory(err)
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) ask(ctx context.Context, clients []*client, wanted []Wanted) error {
	if len(wanted) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, directoryTimeout)
	defer cancel()
	claims, err := s.Directory.Claim(ctx, wanted)
	if err != nil {
		return err
	}
	for i, claim := range claims[:min(len(claims), len(clients))] {
		if claim.ID == 0 || claim.URL != "" {
			s.elsewhere(clients[i], claim)
		}
	}
	return nil
}

func (s *Server) release(ctx context.Context, ended []Claim) error {
	ctx, cancel := context.WithTimeout(ctx, directoryTimeout)
	defer cancel()
	return s.Directory.Release(ctx, ended)
}

// noteDirectory counts a call, and logs when the directory goes and comes.
func (s *Server) noteDirectory(err error) {
	s.stats.exchanges.Add(1)
	s.mu.Lock()
	was := s.shared.err
	s.shared.err = err
	s.mu.Unlock()
	switch {
	case err != nil && s.ctx.Err() == nil:
		s.stats.directoryErrors.Add(1)
		if was == nil {
			s.log().Error("directory away, only clients of this server are matched", "err", err)
		}
	case err == nil && was != nil:
		s.log().Info("directory back")
	}
}

// takePending returns clients whose token is to be claimed, up to a batch.
func (s *Server) takePending() (clients []*client, wanted []Wanted) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sh := &s.shared
	n := 0
	for _, c := range sh.pending {
		n++
		c.queued = false
		if s.lobby.seats[c.seat.token] != &c.seat {
			continue
		}
		c.claimed = true
		clients = append(clients, c)
		wanted = append(wanted, Wanted{Token: c.seat.token, ID: c.claim, After: c.dead})
		c.dead = 0
		if len(wanted) == directoryBatch {
			break
		}
	}
	if sh.pending = sh.pending[n:]; len(sh.pending) == 0 {
		sh.pending = nil // lets the array go
	}
	return clients, wanted
}

func (s *Server) takeEnded() []Claim {
	s.mu.Lock()
	defer s.mu.Unlock()
	sh := &s.shared
	n := min(len(sh.ended), directoryBatch)
	ended := sh.ended[:n:n]
	if sh.ended = sh.ended[n:]; len(sh.ended) == 0 {
		sh.ended = nil
	}
	return ended
}

// claimAll has all claims made again: they end where that is not done.
func (s *Server) claimAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for seat := s.lobby.first; seat != nil; seat = seat.next {
		s.pendLocked(seat.client)
	}
}

// elsewhere takes a client out of the lobby that is to meet its peer at
// another server, and passes it on.
func (s *Server) elsewhere(c *client, claim Claim) {
	s.mu.Lock()
	waits := s.lobby.seats[c.seat.token] == &c.seat
	switch {
	case !waits || s.closed:
		s.mu.Unlock()
		return
	case claim.ID == 0: // nobody's any more, or not yet
		s.pendLocked(c)
		s.mu.Unlock()
		return
	case !c.handed && s.MaxHandOvers >= 0 && s.shared.out >= withDefault(s.MaxHandOvers, DefaultMaxHandOvers):
		s.lobby.leave(&c.seat)
		s.mu.Unlock()
		s.watcher.remove(c)
		s.stats.handOvers[handOverFull].Add(1)
		s.answer(c, http.StatusServiceUnavailable, "too many clients are with other points")
		return
	}
	s.lobby.leave(&c.seat)
	c.claimed = false
	if !c.handed {
		s.shared.out++
		s.handlers.Add(1) // under mu, so never after the Wait of Close
	}
	s.mu.Unlock()
	s.watcher.remove(c)
	if c.handed {
		// Whoever has the client claims for it again, and is told the same.
		_ = c.conn.Close()
		return
	}
	go s.handOver(c, claim)
}
