package main

import (
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/ethereum/go-ethereum/p2p/enode"
)

// settle is how long a server may take to get to know 16 nodes at distance
// 256: go-ethereum verifies a new node every second or two.
const settle = 2 * time.Minute

// scene is a client and a server over loopback.
type scene struct {
	nodes  []node
	client peer // the server as the client sees it
}

func (s *scene) close() {
	for _, n := range s.nodes {
		n.close()
	}
}

func netBench(c config) error {
	db, err := enode.OpenDB("")
	if err != nil {
		return err
	}
	defer db.Close()
	both := stacks(db)
	var pair, crowd [2]*scene
	for i, s := range both {
		if pair[i], err = newScene(s, 0); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		defer pair[i].close()
	}
	payload := make([]byte, 32)
	ping := func(p peer) error { return p.ping() }
	talk := func(p peer) error { _, err := p.talk(payload); return err }
	for _, r := range []struct {
		name    string
		flight  int
		request func(peer) error
		aim     float64
	}{
		{"PING, 1 in flight", 1, ping, 2.5},
		{"PING, 64 in flight", 64, ping, 2.5},
		{"TALKREQ of 32 bytes, 1 in flight", 1, talk, 2.5},
		{"TALKREQ of 32 bytes, 64 in flight", 64, talk, 2.5},
	} {
		if err := c.trips(r.name, pair, r.flight, r.request, r.aim); err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
	}
	for i, s := range both {
		pair[i].close()
		pair[i].nodes = nil
		if crowd[i], err = newScene(s, 48); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		defer crowd[i].close()
		if err := crowd[i].fill(); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	find := func(p peer) error {
		n, err := p.findnode(256)
		if err == nil && n < 16 {
			err = fmt.Errorf("%d records, want 16", n)
		}
		return err
	}
	return c.trips("FINDNODE, 16 records, 1 in flight", crowd, 1, find, 8)
}

// newScene starts a client, a server and others that make themselves known to
// the server.
func newScene(s stack, others int) (*scene, error) {
	sc := &scene{}
	for range others + 2 {
		conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			sc.close()
			return nil, err
		}
		n, err := s.start(conn, conn.LocalAddr().(*net.UDPAddr).AddrPort())
		if err != nil {
			sc.close()
			return nil, err
		}
		sc.nodes = append(sc.nodes, n)
	}
	server := sc.nodes[1].record()
	for i, n := range sc.nodes {
		if i == 1 {
			continue
		}
		p, err := n.dial(server)
		if err != nil {
			return sc, err
		}
		if err := p.ping(); err != nil {
			return sc, err
		}
		if i == 0 {
			sc.client = p
		}
	}
	return sc, nil
}

// fill waits until the server has 16 live nodes to tell of.
func (s *scene) fill() error {
	for deadline := time.Now().Add(settle); ; time.Sleep(250 * time.Millisecond) {
		n, err := s.client.findnode(256)
		if err == nil && n >= 16 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d records after %v (%v)", n, settle, err)
		}
	}
}

// trips measures round trips per second and the CPU time of each, both ends.
func (c config) trips(name string, scenes [2]*scene, flight int, request func(peer) error, aim float64) error {
	var rate, cpu [2]float64
	for range c.rounds {
		for i, s := range scenes {
			r, u, err := c.measure(s.client, flight, request)
			if err != nil {
				return err
			}
			rate[i] = max(rate[i], r)
			if cpu[i] == 0 || u < cpu[i] {
				cpu[i] = u
			}
		}
	}
	c.row(name, "/s", rate[0], rate[1], more, aim)
	c.row("  CPU, both ends", "us", cpu[0], cpu[1], less, 0)
	return nil
}

func (c config) measure(p peer, flight int, request func(peer) error) (rate, cpu float64, err error) {
	var (
		wg     sync.WaitGroup
		done   atomic.Int64
		failed atomic.Pointer[error]
	)
	start, used := time.Now(), cpuTime()
	end := start.Add(c.span)
	for range flight {
		wg.Go(func() {
			for failed.Load() == nil && time.Now().Before(end) {
				if err := request(p); err != nil {
					failed.Store(&err)
					return
				}
				done.Add(1)
			}
		})
	}
	wg.Wait()
	if e := failed.Load(); e != nil {
		return 0, 0, *e
	}
	n := float64(done.Load())
	return n / time.Since(start).Seconds(), float64((cpuTime() - used).Microseconds()) / n, nil
}

// cpuTime is what this process has used so far, user and system.
func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // cannot fail with these arguments
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
