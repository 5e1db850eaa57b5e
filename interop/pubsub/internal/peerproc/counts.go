package peerproc

import (
	"bytes"
	"slices"
	"strings"
	"sync"
)

// A Summary counts what RPCs carried.
type Summary struct {
	RPCs      int `json:"rpcs"`
	Graft     int `json:"graft"`
	Prune     int `json:"prune"`
	PX        int `json:"px"` // signed records in PRUNEs
	IDontWant int `json:"idontwant"`
	IHave     int `json:"ihave"`
	IWant     int `json:"iwant"`
}

func (s *Summary) add(o Summary) {
	s.RPCs++
	s.Graft += o.Graft
	s.Prune += o.Prune
	s.PX += o.PX
	s.IDontWant += o.IDontWant
	s.IHave += o.IHave
	s.IWant += o.IWant
}

// Traffic is what went between us and one peer.
type Traffic struct {
	In  Summary `json:"in"`
	Out Summary `json:"out"`
}

// Counts collects what a node sees. It is safe for concurrent use.
type Counts struct {
	mu       sync.Mutex
	messages map[string]map[string]int // topic → head of message → copies
	corrupt  map[string]int            // by topic
	mesh     map[string][]string       // by topic
	traffic  map[string]*Traffic       // by peer
	rejected map[string]int
	dropped  int
}

// NewCounts returns empty counts.
func NewCounts() *Counts {
	return &Counts{
		messages: map[string]map[string]int{},
		corrupt:  map[string]int{},
		mesh:     map[string][]string{},
		traffic:  map[string]*Traffic{},
		rejected: map[string]int{},
	}
}

// Message counts a delivered message.
func (c *Counts) Message(topic string, data []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	head, rest, found := bytes.Cut(data, []byte{' '})
	if !found || len(bytes.Trim(rest, "x")) > 0 {
		c.corrupt[topic]++
		return
	}
	if c.messages[topic] == nil {
		c.messages[topic] = map[string]int{}
	}
	c.messages[topic][string(head)]++
}

func (c *Counts) received(topic, tag string) Answer {
	c.mu.Lock()
	defer c.mu.Unlock()
	ev := about("received")
	ev.Corrupt = c.corrupt[topic]
	for head, n := range c.messages[topic] {
		if i := strings.LastIndexByte(head, '-'); i >= 0 && head[:i] == tag {
			ev.Count++
			ev.Duplicates += n - 1
		}
	}
	return ev
}

func (c *Counts) fill(ev *Answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ev.Counts = map[string]*Traffic{}
	for id, t := range c.traffic {
		copied := *t
		ev.Counts[id] = &copied
	}
	ev.Rejected = map[string]int{}
	for reason, n := range c.rejected {
		ev.Rejected[reason] = n
	}
	ev.Dropped = c.dropped
}

// RPC counts an RPC from or, if out, to peer.
func (c *Counts) RPC(peer string, out bool, s Summary) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.traffic[peer]
	if t == nil {
		t = new(Traffic)
		c.traffic[peer] = t
	}
	if out {
		t.Out.add(s)
	} else {
		t.In.add(s)
	}
}

// Graft notes that peer is in the mesh of topic.
func (c *Counts) Graft(peer, topic string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.Contains(c.mesh[topic], peer) {
		c.mesh[topic] = append(c.mesh[topic], peer)
	}
}

// Prune notes that peer is no longer in the mesh of topic.
func (c *Counts) Prune(peer, topic string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mesh[topic] = slices.DeleteFunc(c.mesh[topic], func(p string) bool { return p == peer })
}

// Gone notes that peer is in no mesh any more.
func (c *Counts) Gone(peer string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for topic := range c.mesh {
		c.mesh[topic] = slices.DeleteFunc(c.mesh[topic], func(p string) bool { return p == peer })
	}
}

// Mesh returns the peers in the mesh of topic.
func (c *Counts) Mesh(topic string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.mesh[topic])
}

// Reject counts a message that was not accepted.
func (c *Counts) Reject(reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rejected[reason]++
}

// Drop counts something that a full queue lost.
func (c *Counts) Drop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dropped++
}
