package main

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/muster-p2p/muster/admin"
)

// A daemon makes up numbers: a walk with a seed, so that two runs look alike.
type daemon struct {
	mu      sync.Mutex
	rand    *rand.Rand
	started time.Time
	last    time.Time
	load    float64 // 1 is busy
	frozen  bool
	broken  bool
	links   []admin.Link
	snap    admin.Snapshot
}

// Strangers choose names of topics.
var topics = []string{"lab/news", "lab/metrics", "<img src=x onerror=alert(1)>"}

func newDaemon(now time.Time) *daemon {
	d := &daemon{rand: rand.New(rand.NewPCG(6, 6)), started: now.Add(-26*time.Hour - 13*time.Minute), last: now, load: 1}
	d.snap = admin.Snapshot{
		Rendezvous: &admin.Rendezvous{Registrations: 1840, WakuRegistrations: 122, Namespaces: 63, Peers: 1411, Requests: map[string]uint64{}},
		Relay:      &admin.Relay{Access: "token", PairsDirect: 18231, PairsRelayed: 1204, PairsFailed: 7, RelayedBytes: 381e9, DirectBytes: 12e9},
		Discv5:     &admin.Discv5{Sessions: 211, Requests: map[string]uint64{}},
		Pubsub:     &admin.Pubsub{},
		Points: []admin.Point{
			{Peer: id("Point", 1), Addr: "/dns4/b.point.example.org/tcp/4001", Role: "store", State: "connected", RTT: 11.4},
			{Peer: id("Point", 2), Addr: "/ip4/192.0.2.77/tcp/4001", Role: "reach", State: "waiting", Error: "connection refused"},
		},
		Limits: []admin.Limit{
			{Part: "rendezvous", Limit: "source_limit", Count: 12},
			{Part: "rdv", Limit: "lobby per address", Count: 3},
			{Part: "discv5", Limit: "challenge-rate", Count: 40112},
		},
		Node: admin.Node{
			Peer:    id("Me", 0),
			Addrs:   []string{"/ip4/192.0.2.10/tcp/4001/p2p/" + id("Me", 0), "/ip6/2001:db8::10/tcp/4001/p2p/" + id("Me", 0)},
			ENR:     "enr:-IS4QHCYrYZbAKWCBRlAy5zzaDZXJBGkcnh4MHcBFZntXNFrdvJjX04jRzjzCBOonrkTfj499SZuOh8R33Ls8RRcy5wBgmlkgnY0gmlwhH8AAAGJc2VjcDI1NmsxoQPKY0yuDUmstAHYpMa2_oxVtw0RW_QAdpzBQA8yWM0xOIN1ZHCCdl8",
			URL:     "https://point.example.org/",
			Store:   "postgres",
			Open:    []string{"find: rendezvous, Waku, discv5", "talk: 3 topics"},
			Closed:  []string{"relay: wants a token"},
			Started: d.started,
		},
	}
	for i := range 5 {
		path := "direct"
		if i%3 == 2 {
			path = "relay"
		}
		d.links = append(d.links, admin.Link{
			Peer: id("Peer", i), Service: []string{"ssh", "", "backup", "web", ""}[i], Path: path, Addr: "192.0.2.4:41641",
			Since: now.Add(-time.Duration(i*i*217+40) * time.Second), RTT: 8.2 + 13*float64(i), Switches: uint64(i % 2),
		})
	}
	return d
}

// id is something as long as a peer ID.
func id(name string, n int) string {
	r := rand.New(rand.NewPCG(uint64(n), uint64(len(name))))
	b := []byte("12D3KooW")
	for len(b) < 52 {
		b = append(b, "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"[r.IntN(58)])
	}
	return string(b)
}

func (d *daemon) command(s string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch s {
	case "quiet":
		d.load = 0
	case "busy":
		d.load = 1
	case "freeze":
		d.frozen = true
	case "thaw":
		d.frozen = false
	case "break":
		d.broken = true
	case "mend":
		d.broken = false
	}
}

func (d *daemon) check(context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.broken {
		return errors.New("no space left on device")
	}
	return nil
}

func (d *daemon) snapshot() admin.Snapshot {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	if !d.frozen {
		d.step(now, now.Sub(d.last).Seconds())
		d.last = now
	}
	return d.copy()
}

// wander is a slow wave with noise around 1.
func (d *daemon) wander(now time.Time, period float64) float64 {
	t := now.Sub(d.started).Seconds()
	return d.load * max(0, 1+0.5*math.Sin(2*math.Pi*t/period)+0.25*d.rand.NormFloat64())
}

func (d *daemon) step(now time.Time, dt float64) {
	s := &d.snap
	r, l, p := s.Rendezvous, s.Relay, s.Pubsub
	r.Registrations = max(0, r.Registrations+int(d.load*6*d.rand.NormFloat64()))
	r.Requests["discover"] += uint64(140 * dt * d.wander(now, 37))
	r.Requests["register"] += uint64(45 * dt * d.wander(now, 53))
	r.Requests["unregister"] += uint64(9 * dt * d.wander(now, 29))
	l.Waiting, l.Relays = int(18*d.wander(now, 31)), int(7*d.wander(now, 71))
	l.Pairs = l.Relays + int(3*d.wander(now, 19))
	l.PairsDirect += uint64(9 * dt * d.wander(now, 43))
	l.PairsRelayed += uint64(0.7 * dt * d.wander(now, 47))
	l.RelayedBytes += uint64(21e6 * dt * d.wander(now, 61))
	l.DirectBytes += uint64(64e6 * dt * d.wander(now, 83))
	s.Node.Conns = 410 + int(30*d.wander(now, 97))
	d.table()
	p.Peers, p.Topics = 38+int(4*d.wander(now, 41)), nil
	for i, name := range topics {
		p.Topics = append(p.Topics, admin.Topic{Name: name, Peers: 30 - 7*i, Mesh: 5 + d.rand.IntN(4)})
	}
	p.Delivered += uint64(80 * dt * d.wander(now, 13))
	if d.load > 0 && d.rand.IntN(5) == 0 {
		s.Limits[0].Count++
	}
	for i := range d.links {
		k := &d.links[i]
		k.Sent += uint64(4e6 * dt * d.wander(now, 61) / float64(i+1))
		k.Received += uint64(9e5 * dt * d.wander(now, 23))
		k.RTT = max(0.3, k.RTT+0.4*d.rand.NormFloat64())
	}
}

// table is like that of a node in a large network: full where half, a quarter,
// an eighth of all nodes are, and empty where nobody is.
func (d *daemon) table() {
	t := d.snap.Discv5
	t.Buckets, t.Nodes, t.Alive = nil, 0, 0
	for dist := 245; dist <= 256; dist++ {
		n := int(min(16, 3000*math.Pow(2, float64(dist-257))))
		b := admin.Bucket{Distance: dist, Nodes: n, Alive: max(0, n-d.rand.IntN(3))}
		t.Buckets = append(t.Buckets, b)
		t.Nodes, t.Alive = t.Nodes+b.Nodes, t.Alive+b.Alive
	}
	t.Sessions = 200 + d.rand.IntN(20)
}

// copy is what the server may keep.
func (d *daemon) copy() admin.Snapshot {
	s := d.snap
	r, l, t, p := *s.Rendezvous, *s.Relay, *s.Discv5, *s.Pubsub
	requests := map[string]uint64{}
	for k, v := range r.Requests {
		requests[k] = v
	}
	r.Requests = requests
	s.Rendezvous, s.Relay, s.Discv5, s.Pubsub = &r, &l, &t, &p
	s.Limits, s.Links = slices.Clone(s.Limits), slices.Clone(d.links)
	return s
}
