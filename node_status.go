package muster

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/muster-p2p/muster/access"
	"github.com/muster-p2p/muster/admin"
)

// Snapshot returns the node's state, for package admin. It may be called at
// any time.
func (n *Node) Snapshot() admin.Snapshot {
	s := admin.Snapshot{Node: admin.Node{Peer: n.ID().String()}}
	h := n.Host()
	if h == nil {
		return s
	}
	for _, a := range n.Addrs() {
		s.Node.Addrs = append(s.Node.Addrs, a.String())
	}
	s.Node.Conns = len(h.Network().Conns())
	s.Node.Open, s.Node.Closed = n.OpenTo()
	if p := n.Point; p != nil {
		p.describe(&s)
	}
	n.describeNodes(&s)
	n.describeTalk(&s)
	slices.SortFunc(s.Limits, func(a, b admin.Limit) int {
		return cmp.Or(strings.Compare(a.Part, b.Part), strings.Compare(a.Limit, b.Limit))
	})
	return s
}

// describe fills in what others use of this node.
func (p *Point) describe(s *admin.Snapshot) {
	if urls := p.URLs(); len(urls) > 0 {
		s.Node.URL = urls[0]
	}
	if r := p.rendezvous; r != nil {
		st := r.Stats()
		s.Rendezvous = &admin.Rendezvous{
			Registrations: st.Registrations, WakuRegistrations: st.Waku, Namespaces: st.Namespaces + st.WakuNames, Peers: st.Peers,
			Requests: map[string]uint64{"register": st.Registers, "unregister": st.Unregisters, "discover": st.Discovers},
			Expired:  st.Expired, Streams: st.Streams,
		}
		for _, why := range slices.Sorted(maps.Keys(st.Refused)) {
			s.Rendezvous.Refused += st.Refused[why]
			s.Limits = append(s.Limits, admin.Limit{Part: "rendezvous", Limit: why, Count: st.Refused[why]})
		}
	}
	if p.relay != nil {
		p.describeRelay(s)
	}
	if p.reach != nil {
		st := p.reach.Stats()
		for _, why := range slices.Sorted(maps.Keys(st.Refused)) {
			s.Limits = append(s.Limits, admin.Limit{Part: "reach", Limit: why, Count: st.Refused[why]})
		}
	}
}

func (p *Point) describeRelay(s *admin.Snapshot) {
	st, rs := p.cfg.Server.Stats(), p.RelayStats()
	s.Relay = &admin.Relay{
		Access: p.gate.Policy().Relay.String(), Waiting: st.Waiting, Pairs: st.Pairs, Relays: int(rs.Relaying),
		Matched: uint64(st.Matched), PairsDirect: uint64(rs.Direct), PairsRelayed: uint64(rs.Relayed),
		PairsFailed: uint64(rs.Failed + rs.Silent), RelayedBytes: uint64(rs.Bytes),
	}
	for _, code := range slices.Sorted(maps.Keys(st.Refused)) {
		n := uint64(st.Refused[code])
		s.Relay.Refused += n
		if why := refusals[code]; why != "" {
			s.Limits = append(s.Limits, admin.Limit{Part: "rdv", Limit: why, Count: n})
		}
	}
}

// refusals says what the statuses of the rdv server mean that are about limits
// and access.
var refusals = map[int]string{
	401: "no token", 403: "not allowed", 408: "nobody came", 409: "token in use", 429: "too many of one source", 503: "full or closing",
}

func (n *Node) describeNodes(s *admin.Snapshot) {
	node := n.Find.Nodes()
	if node == nil {
		return
	}
	s.Node.ENR = node.LocalRecord().String()
	st := node.Stats()
	d := &admin.Discv5{
		Nodes: st.TableNodes, Alive: st.TableAlive, Sessions: st.Sessions, PacketsIn: st.PacketsIn, PacketsOut: st.PacketsOut,
		Requests: map[string]uint64{"ping": st.PingsIn, "findnode": st.FindNodesIn, "talk": st.TalkRequestsIn},
		Dropped:  st.PacketsInvalid + st.ChallengesRateLimited + st.ChallengesDropped + st.HandshakesDropped + st.TalksDropped,
	}
	buckets := map[int]admin.Bucket{}
	for _, e := range node.Table() {
		b := buckets[e.Distance]
		b.Distance = e.Distance
		b.Nodes++
		if e.Alive {
			b.Alive++
		}
		buckets[e.Distance] = b
	}
	for _, dist := range slices.Sorted(maps.Keys(buckets)) {
		d.Buckets = append(d.Buckets, buckets[dist])
	}
	s.Discv5 = d
	for why, count := range map[string]uint64{
		"challenges of one source": st.ChallengesRateLimited, "handshakes at once": st.HandshakesDropped, "nodes of one network": st.NodesRefusedByNetwork,
	} {
		s.Limits = append(s.Limits, admin.Limit{Part: "discv5", Limit: why, Count: count})
	}
}

func (n *Node) describeTalk(s *admin.Snapshot) {
	ps := n.Talk.PubSub()
	if ps == nil {
		return
	}
	st := ps.Stats()
	s.Pubsub = &admin.Pubsub{
		Peers: st.Peers, Published: st.Published, Delivered: st.Delivered, Duplicates: st.Duplicates, Rejected: st.Rejected,
	}
	for _, t := range slices.Sorted(slices.Values(ps.GetTopics())) {
		s.Pubsub.Topics = append(s.Pubsub.Topics, admin.Topic{Name: t, Peers: len(ps.ListPeers(t)), Mesh: len(ps.MeshPeers(t))})
	}
	for why, count := range map[string]uint64{
		"queue to a peer full": st.DroppedFull, "topics of one peer": st.RefusedTopics, "grafts": st.RefusedGraft, "streams of one peer": st.StreamsRefused,
	} {
		s.Limits = append(s.Limits, admin.Limit{Part: "pubsub", Limit: why, Count: count})
	}
}

// OpenTo says in words what strangers may use of this node, and what not.
func (n *Node) OpenTo() (open, closed []string) {
	p := n.Point
	if p == nil || p.gate == nil {
		return nil, nil
	}
	policy := p.gate.Policy()
	if p.rendezvous != nil {
		switch {
		case policy.RegisterByToken:
			closed = append(closed, "rendezvous: peers that a token names may register")
		case len(policy.RegisterNames) > 0:
			open = append(open, "rendezvous: listed names")
		default:
			open = append(open, "rendezvous: any name")
		}
	}
	if p.relay != nil {
		switch policy.Relay {
		case access.Closed:
			closed = append(closed, "relay and reach: nobody")
		case access.ByToken:
			closed = append(closed, "relay and reach: with a token")
		case access.ByName:
			closed = append(closed, "relay and reach: peers of listed names, and with a token")
		case access.OpenToEach:
			open = append(open, "relay and reach: EVERYBODY")
		}
	}
	if n.Find.Nodes() != nil {
		open = append(open, "discv5")
	}
	if n.Talk.PubSub() != nil {
		open = append(open, "pubsub: topics that this node is in")
	}
	return open, closed
}

// Peers returns up to limit of the connected peers.
func (n *Node) Peers(limit int) []admin.Peer {
	h := n.Host()
	if h == nil {
		return nil
	}
	var out []admin.Peer
	for _, c := range h.Network().Conns() {
		if len(out) == limit {
			break
		}
		p := admin.Peer{
			Peer: c.RemotePeer().String(), Addr: c.RemoteMultiaddr().String(), Inbound: c.Stat().Direction == network.DirInbound,
			Since: c.Stat().Opened, Streams: len(c.GetStreams()), RTT: float64(h.Peerstore().LatencyEWMA(c.RemotePeer()).Microseconds()) / 1000,
		}
		if v, err := h.Peerstore().Get(c.RemotePeer(), "AgentVersion"); err == nil {
			p.Agent, _ = v.(string)
		}
		protocols, _ := h.Peerstore().GetProtocols(c.RemotePeer())
		for _, pr := range protocols[:min(len(protocols), maxShownProtocols)] {
			p.Protocols = append(p.Protocols, string(pr))
		}
		out = append(out, p)
	}
	return out
}

// maxShownProtocols bounds what is shown of a peer.
const maxShownProtocols = 32

// Checks returns what has to be well for the node to be ready, by part.
func (n *Node) Checks() map[string]func(context.Context) error {
	checks := map[string]func(context.Context) error{
		"host": func(context.Context) error {
			if h := n.Host(); h == nil || len(n.cfg.Listen) > 0 && len(h.Network().ListenAddresses()) == 0 {
				return errors.New("not listening")
			}
			return nil
		},
	}
	p := n.Point
	if p == nil {
		return checks
	}
	if store, ok := p.cfg.Rendezvous.Store.(interface{ Health() error }); ok {
		checks["store"] = func(context.Context) error { return store.Health() }
	}
	checks["access"] = func(context.Context) error {
		if p.gate == nil {
			return ErrNotStarted
		}
		return p.gate.Health()
	}
	return checks
}
