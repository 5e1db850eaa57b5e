package pubsub

import (
	"net/netip"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	manet "github.com/multiformats/go-multiaddr/net"
)

// withScorer runs f on the scores, if there are any. f must not call out.
func (ps *PubSub) withScorer(f func(*scorer)) {
	if ps.scorer == nil {
		return
	}
	ps.scoreMu.Lock()
	defer ps.scoreMu.Unlock()
	f(ps.scorer)
}

func (ps *PubSub) scoreOf(now time.Time, id peer.ID) (s float64) {
	ps.withScorer(func(sc *scorer) { s = sc.score(now, id) })
	return s
}

// rescore refreshes the copy of a peer's score that its reader looks at.
func (ps *PubSub) rescore(p *Peer) {
	if ps.scorer != nil {
		p.setScore(ps.scoreOf(ps.now(), p.id))
	}
}

// penalize counts misbehaviour against a peer (P7).
func (ps *PubSub) penalize(_ time.Time, id peer.ID, n int) {
	ps.stats.penalties.Add(uint64(n))
	ps.withScorer(func(s *scorer) { s.penalize(id, n) })
}

// meshed tells the scores who is in a mesh.
func (ps *PubSub) meshed(now time.Time, id peer.ID, topic string, in bool) {
	ps.withScorer(func(s *scorer) {
		if in {
			s.graft(now, id, topic)
		} else {
			s.prune(now, id, topic)
		}
	})
}

// scorePeer starts to score a peer. It runs on the owner.
func (ps *PubSub) scorePeer(id peer.ID) {
	if ps.scorer == nil {
		return
	}
	ips := ps.addrsOf(id)
	ps.withScorer(func(s *scorer) { s.addPeer(ps.now(), id, ips) })
}

func (ps *PubSub) unscorePeer(now time.Time, id peer.ID) {
	ps.withScorer(func(s *scorer) { s.removePeer(now, id) })
}

// addrsOf returns the addresses that a peer is connected from.
func (ps *PubSub) addrsOf(id peer.ID) []netip.Addr {
	var ips []netip.Addr
	for _, c := range ps.host.Network().ConnsToPeer(id) {
		ip, err := manet.ToIP(c.RemoteMultiaddr())
		if err != nil {
			continue
		}
		if a, ok := netip.AddrFromSlice(ip); ok {
			ips = append(ips, a.Unmap())
		}
	}
	return ips
}

// refreshScores is the scores' part of a heartbeat. It runs on the owner.
func (ps *PubSub) refreshScores(now time.Time) {
	if ps.scorer == nil {
		return
	}
	decay := now.Sub(ps.lastDecay) >= ps.cfg.Score.DecayInterval
	if decay {
		ps.lastDecay = now
	}
	for id, p := range ps.peers {
		slow := int(p.stats.slow.Swap(0))
		var ips []netip.Addr
		if decay {
			ips = ps.addrsOf(id)
		}
		ps.withScorer(func(s *scorer) {
			if slow > 0 {
				s.slow(id, slow)
			}
			if decay {
				s.setIPs(id, ips)
			}
		})
	}
	ps.withScorer(func(s *scorer) {
		if decay {
			s.refresh(now)
		}
	})
	for id, p := range ps.peers {
		p.setScore(ps.scoreOf(now, id))
	}
}

// startInspect calls the function that inspects scores.
func (ps *PubSub) startInspect() {
	if ps.cfg.ScoreInspect == nil {
		return
	}
	ps.wg.Go(func() {
		t := time.NewTicker(ps.cfg.ScoreInspectPeriod)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				ps.inspectScores()
			case <-ps.ctx.Done():
				return
			}
		}
	})
}

func (ps *PubSub) inspectScores() {
	now := ps.now()
	switch f := ps.cfg.ScoreInspect.(type) {
	case PeerScoreInspectFn:
		scores := make(map[peer.ID]float64)
		ps.withScorer(func(s *scorer) {
			for id := range s.peersKnown() {
				scores[id] = s.score(now, id)
			}
		})
		f(scores)
	case ExtendedPeerScoreInspectFn:
		scores := make(map[peer.ID]*PeerScoreSnapshot)
		ps.withScorer(func(s *scorer) {
			for id := range s.peersKnown() {
				scores[id] = s.snapshot(now, id)
			}
		})
		f(scores)
	}
}

// PeerFeedbackKind is what an application has to say of a peer's message.
type PeerFeedbackKind int

const (
	// PeerFeedbackUsefulMessage counts as a first delivery.
	PeerFeedbackUsefulMessage PeerFeedbackKind = iota
	// PeerFeedbackInvalidMessage counts as an invalid message.
	PeerFeedbackInvalidMessage
)

// PeerFeedback counts towards a peer's score what only the application knows.
func (ps *PubSub) PeerFeedback(topic string, id peer.ID, kind PeerFeedbackKind) error {
	ps.withScorer(func(s *scorer) {
		switch kind {
		case PeerFeedbackUsefulMessage:
			s.markFirst(id, topic)
		case PeerFeedbackInvalidMessage:
			s.invalid(id, topic)
		}
	})
	return nil
}
