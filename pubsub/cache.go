package pubsub

import "github.com/libp2p/go-libp2p/core/peer"

// messageCache keeps the messages of the last heartbeats, so that those that
// gossip announced can be sent to who wants them: the spec's mcache. Messages
// lie in windows, the newest first; shift opens a new one.
//
// https://github.com/libp2p/specs/blob/master/pubsub/gossipsub/gossipsub-v1.0.md#message-cache
//
// It has one owner.
type messageCache struct {
	gossip   int // windows that are announced
	maxBytes int
	bytes    int
	windows  []cacheWindow // newest first
	entries  map[string]*cacheEntry
}

type cacheWindow struct {
	order   []*cacheEntry // as they came; those before gone are no longer held
	gone    int
	byTopic map[string][]*cacheEntry
}

type cacheEntry struct {
	id   string
	m    *Message // nil if no longer held
	size int
	sent map[peer.ID]int // how often to whom; nil until someone asks
}

// newMessageCache makes a cache of history windows, gossip of which are
// announced. It holds at most maxBytes of messages and drops the oldest; if
// zero, there is no bound but the windows.
func newMessageCache(gossip, history, maxBytes int) *messageCache {
	return &messageCache{
		gossip:   min(gossip, history),
		maxBytes: maxBytes,
		windows:  make([]cacheWindow, max(history, 1)),
		entries:  map[string]*cacheEntry{},
	}
}

// put keeps m, whose memory counts as size bytes. A second message of the same
// id is ignored, and so is one that is larger than the cache.
func (c *messageCache) put(id, topic string, m *Message, size int) {
	if c.entries[id] != nil || c.maxBytes > 0 && size > c.maxBytes {
		return
	}
	for c.maxBytes > 0 && c.bytes+size > c.maxBytes {
		c.dropOldest()
	}
	e := &cacheEntry{id: id, m: m, size: size}
	c.entries[id] = e
	c.bytes += size
	w := &c.windows[0]
	w.order = append(w.order, e)
	if w.byTopic == nil {
		w.byTopic = map[string][]*cacheEntry{}
	}
	w.byTopic[topic] = append(w.byTopic[topic], e)
}

// get returns the message of an id.
func (c *messageCache) get(id string) (*Message, bool) {
	e := c.entries[id]
	if e == nil {
		return nil, false
	}
	return e.m, true
}

// forPeer returns the message of an id and how often p has been given it, this
// time included.
func (c *messageCache) forPeer(id string, p peer.ID) (m *Message, count int, ok bool) {
	e := c.entries[id]
	if e == nil {
		return nil, 0, false
	}
	if e.sent == nil {
		e.sent = map[peer.ID]int{}
	}
	e.sent[p]++
	return e.m, e.sent[p], true
}

// gossipIDs lists the ids of a topic that are to be announced, in a slice of
// the caller's own.
func (c *messageCache) gossipIDs(topic string) []string {
	var ids []string
	for _, w := range c.windows[:c.gossip] {
		for _, e := range w.byTopic[topic] {
			if e.m != nil {
				ids = append(ids, e.id)
			}
		}
	}
	return ids
}

// shift opens a new window and drops the messages of the oldest.
func (c *messageCache) shift() {
	last := len(c.windows) - 1
	for _, e := range c.windows[last].order[c.windows[last].gone:] {
		c.drop(e)
	}
	copy(c.windows[1:], c.windows[:last])
	c.windows[0] = cacheWindow{}
}

// forgetPeer forgets how often p was given what: it may ask anew after it has
// reconnected.
func (c *messageCache) forgetPeer(p peer.ID) {
	for _, e := range c.entries {
		delete(e.sent, p)
	}
}

func (c *messageCache) dropOldest() {
	for i := len(c.windows) - 1; i >= 0; i-- {
		w := &c.windows[i]
		if w.gone < len(w.order) {
			c.drop(w.order[w.gone])
			w.order[w.gone] = nil
			w.gone++
			return
		}
	}
}

func (c *messageCache) drop(e *cacheEntry) {
	c.bytes -= e.size
	e.m = nil
	delete(c.entries, e.id)
}
