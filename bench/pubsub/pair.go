package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/muster-p2p/muster/pubsub/wire"
)

// pairs: one host publishes, the other receives; so many messages are under
// way that neither waits for the other.
func (r *runner) pairs() error {
	for _, unsigned := range []bool{true, false} {
		for _, size := range []int{100, 1 << 10, 64 << 10, 1 << 20} {
			name := fmt.Sprintf("pair %s %s", bytesName(size), policyName(unsigned))
			inFlight := 16
			if size >= 64<<10 {
				inFlight = 8
			}
			if err := r.compare(name, func(im impl) (result, error) {
				return r.pair(im, size, inFlight, options{unsigned: unsigned})
			}); err != nil {
				return err
			}
		}
	}
	return nil
}

func bytesName(n int) string {
	switch {
	case n >= 1<<20:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 1<<10:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d B", n)
}

func policyName(unsigned bool) string {
	if unsigned {
		return "unsigned"
	}
	return "signed"
}

func (r *runner) pair(im impl, size, inFlight int, o options) (result, error) {
	c, err := newPair(im, func(int) options { return o })
	if err != nil {
		return result{}, err
	}
	defer c.close()
	tokens := make(chan struct{}, inFlight)
	var delivered atomic.Int64
	var latencies []time.Duration // of the receiver
	var stopAt atomic.Int64
	var wg sync.WaitGroup
	received := make(chan struct{})
	wg.Go(func() {
		defer close(received)
		for {
			data, err := c.nodes[1].next(c.ctx)
			if err != nil {
				return
			}
			latencies = append(latencies, time.Duration(time.Now().UnixNano()-sentAt(data)))
			<-tokens
			if delivered.Add(1) == stopAt.Load() {
				return
			}
		}
	})
	payload := bytes.Repeat([]byte{7}, size)
	var seq uint64
	stuck := time.After(r.length + time.Minute)
	send := func(until time.Time) error {
		for time.Now().Before(until) {
			select {
			case tokens <- struct{}{}:
			case <-stuck:
				return fmt.Errorf("stuck after %d of %d messages", delivered.Load(), seq)
			}
			seq++
			if err := c.nodes[0].publish(c.ctx, stamp(payload, seq)); err != nil {
				return err
			}
		}
		return nil
	}
	if err := send(time.Now().Add(r.length / 4)); err != nil {
		return result{}, err
	}
	m, before := startMeter(), delivered.Load()
	if err := send(time.Now().Add(r.length)); err != nil {
		return result{}, err
	}
	stopAt.Store(int64(seq))
	for delivered.Load() < int64(seq) {
		time.Sleep(50 * time.Microsecond)
	}
	res := m.stop(int(delivered.Load() - before))
	res.allocs, res.bytes = res.allocs-1, res.bytes-float64(size) // stamp's
	c.close()
	<-received
	wg.Wait()
	latencies = latencies[before:]
	slices.Sort(latencies)
	res.p50, res.p99 = latencies[len(latencies)/2], latencies[len(latencies)*99/100]
	return res, nil
}

// newPair makes two hosts in a mesh: the first relays and publishes, the
// second is subscribed.
func newPair(im impl, o func(int) options) (*cluster, error) {
	c, err := newCluster(im, 2, o)
	if err != nil {
		return nil, err
	}
	for i, n := range c.nodes {
		if err := n.join(c.ctx, topicName, i == 1); err != nil {
			c.close()
			return nil, err
		}
	}
	if err := c.connect(0, 1); err != nil {
		c.close()
		return nil, err
	}
	time.Sleep(2500 * time.Millisecond) // two heartbeats
	return c, nil
}

// stamp makes a payload of its own, with the time and a number in front.
func stamp(payload []byte, seq uint64) []byte {
	data := bytes.Clone(payload)
	binary.BigEndian.PutUint64(data, uint64(time.Now().UnixNano()))
	binary.BigEndian.PutUint64(data[8:], seq)
	return data
}

func sentAt(data []byte) int64 { return int64(binary.BigEndian.Uint64(data)) }

// bursts: 5,000 publishes without a pause, default queues.
func (r *runner) bursts() error {
	const n = 5000
	for _, tt := range []struct {
		name string
		o    options
		size int
	}{
		{"burst of 5,000 100 B signed", options{}, 100},
		{"burst of 5,000 1 KiB unsigned", options{unsigned: true}, 1 << 10},
		{"burst of 5,000 1 KiB unsigned, waiting for room where possible", options{unsigned: true, wait: true}, 1 << 10},
	} {
		if err := r.compare(tt.name, func(im impl) (result, error) {
			c, err := newPair(im, func(int) options { return tt.o })
			if err != nil {
				return result{}, err
			}
			defer c.close()
			var got atomic.Int64
			go func() {
				for {
					if _, err := c.nodes[1].next(c.ctx); err != nil {
						return
					}
					got.Add(1)
				}
			}()
			payload := bytes.Repeat([]byte{7}, tt.size)
			m, refused := startMeter(), 0
			for i := range n {
				if c.nodes[0].publish(c.ctx, stamp(payload, uint64(i))) != nil {
					refused++
				}
			}
			for last := int64(-1); got.Load() < int64(n-refused) && got.Load() != last; {
				last = got.Load()
				time.Sleep(time.Second)
			}
			res := m.stop(int(got.Load()))
			return result{cpu: res.cpu, delivered: float64(got.Load()) / n, refused: refused}, nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// grafts: the time from SUBSCRIBE to the mesh, between connected hosts.
func (r *runner) grafts() error {
	return r.compare("subscribe to graft", func(im impl) (result, error) {
		var times []time.Duration
		for range 10 {
			d, err := graftOnce(im)
			if err != nil {
				return result{}, err
			}
			times = append(times, d)
		}
		slices.Sort(times)
		return result{p50: times[len(times)/2], p99: times[len(times)-1]}, nil
	})
}

// graftOnce lets a peer of our own making, which does nothing by itself, say
// that it is in the topic, and waits for the GRAFT.
func graftOnce(im impl) (time.Duration, error) {
	c, err := newCluster(im, 1, func(int) options { return options{} })
	if err != nil {
		return 0, err
	}
	defer c.close()
	if err := c.nodes[0].join(c.ctx, topicName, true); err != nil {
		return 0, err
	}
	h, err := newHost()
	if err != nil {
		return 0, err
	}
	c.hosts = append(c.hosts, h)
	const proto = "/meshsub/1.1.0"
	grafted := make(chan time.Time, 1)
	h.SetStreamHandler(proto, func(s network.Stream) { awaitGraft(s, grafted) })
	if err := c.connect(1, 0); err != nil {
		return 0, err
	}
	s, err := h.NewStream(c.ctx, c.hosts[0].ID(), proto)
	if err != nil {
		return 0, err
	}
	if _, err := s.Write([]byte{0}); err != nil { // an empty RPC, to be negotiated
		return 0, err
	}
	// Somewhere in a heartbeat.
	time.Sleep(1200*time.Millisecond + time.Duration(time.Now().UnixNano()%int64(time.Second)))
	begin := time.Now()
	if _, err := s.Write(wire.AppendFrame(nil, wire.AppendSubscription(nil, topicName, true))); err != nil {
		return 0, err
	}
	select {
	case at := <-grafted:
		return at.Sub(begin), nil
	case <-time.After(10 * time.Second):
		return 0, errors.New("no graft")
	}
}

// awaitGraft reads RPCs until one has a GRAFT.
func awaitGraft(s network.Stream, grafted chan<- time.Time) {
	br := bufio.NewReader(s)
	lim := wire.Limits{}.WithDefaults()
	var rpc wire.RPC
	for {
		n, err := binary.ReadUvarint(br)
		if err != nil {
			return
		}
		b := make([]byte, n)
		if _, err := io.ReadFull(br, b); err != nil {
			return
		}
		if rpc.Decode(b, &lim) == nil && len(rpc.Graft) > 0 {
			grafted <- time.Now()
			return
		}
	}
}
