package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// meshes: every host is subscribed and publishes in turn; four messages are
// under way at a time.
func (r *runner) meshes() error {
	for _, tt := range []struct {
		n, size  int
		unsigned bool
	}{{20, 1024, false}, {50, 1024, false}, {20, 1024, true}, {20, 1000, false}} {
		name := fmt.Sprintf("mesh of %d, %d B, %s", tt.n, tt.size, policyName(tt.unsigned))
		if err := r.compare(name, func(im impl) (result, error) {
			return r.mesh(im, tt.n, tt.size, options{unsigned: tt.unsigned, count: true})
		}); err != nil {
			return err
		}
	}
	return nil
}

const (
	meshDials    = 10
	meshInFlight = 4
)

func (r *runner) mesh(im impl, n, size int, o options) (result, error) {
	c, err := newMesh(im, n, o)
	if err != nil {
		return result{}, err
	}
	defer c.close()
	var (
		mu        sync.Mutex
		left      = map[uint64]int{} // by message: who has not got it
		latencies []time.Duration
		delivered atomic.Int64
		tokens    = make(chan struct{}, meshInFlight)
		wg        sync.WaitGroup
	)
	for _, nd := range c.nodes {
		wg.Go(func() {
			for {
				data, err := nd.next(c.ctx)
				if err != nil {
					return
				}
				now := time.Now().UnixNano()
				delivered.Add(1)
				mu.Lock()
				latencies = append(latencies, time.Duration(now-sentAt(data)))
				id := seqOf(data)
				if left[id]--; left[id] == 0 {
					delete(left, id)
					<-tokens
				}
				mu.Unlock()
			}
		})
	}
	payload := bytes.Repeat([]byte{7}, size)
	var seq uint64
	stuck := time.After(4*r.length + time.Minute)
	send := func(until time.Time) error {
		for time.Now().Before(until) {
			select {
			case tokens <- struct{}{}:
			case <-stuck:
				return fmt.Errorf("stuck: %d messages not everywhere", len(left))
			}
			seq++
			mu.Lock()
			left[seq] = n
			mu.Unlock()
			if err := c.nodes[int(seq)%n].publish(c.ctx, stamp(payload, seq)); err != nil {
				return err
			}
		}
		return nil
	}
	drain := func() error {
		for range meshInFlight {
			select {
			case tokens <- struct{}{}:
			case <-time.After(20 * time.Second):
				return fmt.Errorf("stuck: %d messages not everywhere", len(left))
			}
		}
		for range meshInFlight {
			<-tokens
		}
		return nil
	}
	// Adaptive parts get the time to adapt, in both.
	if err := send(time.Now().Add(r.length)); err != nil {
		return result{}, err
	}
	if err := drain(); err != nil {
		return result{}, err
	}
	dups := c.duplicates()
	m, before := startMeter(), delivered.Load()
	if err := send(time.Now().Add(2 * r.length)); err != nil {
		return result{}, err
	}
	if err := drain(); err != nil {
		return result{}, err
	}
	got := delivered.Load() - before
	res := m.stop(int(got))
	res.duplicates = float64(c.duplicates()-dups) / float64(got)
	mu.Lock()
	latencies = latencies[before:]
	mu.Unlock()
	c.close()
	wg.Wait()
	slices.Sort(latencies)
	res.p50, res.p99 = latencies[len(latencies)/2], latencies[len(latencies)*99/100]
	return res, nil
}

func (c *cluster) duplicates() (sum uint64) {
	for _, n := range c.nodes {
		sum += n.duplicates()
	}
	return sum
}

// newMesh makes n hosts, each of which dials meshDials others, and waits until
// their meshes have settled.
func newMesh(im impl, n int, o options) (*cluster, error) {
	c, err := newCluster(im, n, func(int) options { return o })
	if err != nil {
		return nil, err
	}
	rnd := rand.New(rand.NewPCG(1, uint64(n))) // the same network for both
	for i := range c.hosts {
		for _, j := range rnd.Perm(n)[:min(meshDials+1, n)] {
			if i == j {
				continue
			}
			if err := c.connect(i, j); err != nil {
				c.close()
				return nil, err
			}
		}
	}
	for _, nd := range c.nodes {
		if err := nd.join(c.ctx, topicName, true); err != nil {
			c.close()
			return nil, err
		}
	}
	time.Sleep(4 * time.Second)
	return c, nil
}

func seqOf(data []byte) uint64 {
	var n uint64
	for _, b := range data[8:16] {
		n = n<<8 | uint64(b)
	}
	return n
}
