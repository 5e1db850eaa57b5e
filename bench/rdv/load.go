package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// settle is how long a server may tidy up before its memory is read.
const settle = 2 * time.Second

// perItem is the growth of the server's memory since before, for n items.
func perItem(s *server, before float64, n int) (figures, error) {
	time.Sleep(settle)
	after, err := s.rss()
	return figures{"kib": (after - before) / float64(n)}, err
}

func waitingPeers(_ context.Context, s *server) (figures, error) {
	const n = 9000
	before, err := s.rss()
	if err != nil {
		return nil, err
	}
	waiting := make([]*client, n)
	for i := range waiting {
		if waiting[i], err = s.ask("ACCEPT", newToken()); err != nil {
			return nil, err
		}
	}
	fig, err := perItem(s, before, n)
	for _, c := range waiting {
		c.reset()
	}
	return fig, err
}

func pairMemory(_ context.Context, s *server) (figures, error) {
	const n, amount = 1000, 64 << 10
	before, err := s.rss()
	if err != nil {
		return nil, err
	}
	pairs, err := s.relayedPairs(n)
	if err != nil {
		return nil, err
	}
	for _, p := range pairs {
		if err := errors.Join(pump(p.d, p.a, amount), pump(p.a, p.d, amount)); err != nil {
			return nil, err
		}
	}
	fig, err := perItem(s, before, n)
	for _, p := range pairs {
		p.reset()
	}
	return fig, err
}

// pump moves n bytes from one client to another.
func pump(from, to *client, n int64) error {
	sent := make(chan error, 1)
	go func() {
		b := make([]byte, min(n, 256<<10))
		var err error
		for left := n; left > 0 && err == nil; left -= int64(len(b)) {
			_, err = from.Write(b[:min(left, int64(len(b)))])
		}
		sent <- err
	}()
	if err := to.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	b := make([]byte, min(n, 256<<10))
	for left := n; left > 0; {
		k, err := to.Read(b)
		left -= int64(k)
		if err != nil {
			return err
		}
	}
	return <-sent
}

func matchRate(ctx context.Context, s *server) (figures, error) {
	const workers, length = 50, 5 * time.Second
	before, err := s.cpu()
	if err != nil {
		return nil, err
	}
	var done atomic.Int64
	var failed atomic.Pointer[error]
	ctx, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	begun := time.Now()
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for ctx.Err() == nil {
				p, err := s.relayed()
				p.reset()
				if err != nil {
					failed.Store(&err)
					return
				}
				done.Add(1)
			}
		})
	}
	wg.Wait()
	took := time.Since(begun).Seconds()
	if err := failed.Load(); err != nil {
		return nil, *err
	}
	after, err := s.cpu()
	n := float64(done.Load())
	return figures{"pairs": n / took, "cpu": (after - before) / n * 1000}, err
}

// matchLatency starts pairs by the clock, whether or not earlier ones are
// done, as strangers do.
func matchLatency(ctx context.Context, s *server) (figures, error) {
	const rate, length = 500, 5 * time.Second
	ctx, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	tick := time.NewTicker(time.Second / rate)
	defer tick.Stop()
	var (
		mu   sync.Mutex
		took []float64
		bad  error
		wg   sync.WaitGroup
	)
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
			wg.Go(func() {
				d, err := s.timedPair()
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					bad = err
				}
				took = append(took, d.Seconds()*1000)
			})
		}
	}
	wg.Wait()
	if bad != nil {
		return nil, bad
	}
	slices.Sort(took)
	return figures{"p50": took[len(took)/2], "p99": took[len(took)*99/100], "n": float64(len(took))}, nil
}

// timedPair takes the time from the second peer's request on.
func (s *server) timedPair() (time.Duration, error) {
	token := newToken()
	a, err := s.ask("ACCEPT", token)
	if err != nil {
		return 0, err
	}
	defer a.reset()
	begun := time.Now()
	d, err := s.ask("DIAL", token)
	if err != nil {
		return 0, err
	}
	defer d.reset()
	if err := errors.Join(d.until("\r\n\r\n"), a.until("\r\n\r\n")); err != nil {
		return 0, err
	}
	if _, err := d.Write([]byte("CONTINUE\n")); err != nil {
		return 0, err
	}
	err = a.until("CONTINUE\n")
	return time.Since(begun), err
}

func relay(_ context.Context, s *server, n int, each int64) (figures, error) {
	pairs, err := s.relayedPairs(n)
	if err != nil {
		return nil, err
	}
	before, err := s.cpu()
	if err != nil {
		return nil, err
	}
	begun := time.Now()
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i, p := range pairs {
		wg.Go(func() { errs[i] = pump(p.d, p.a, each) })
	}
	wg.Wait()
	took := time.Since(begun).Seconds()
	after, err := s.cpu()
	gb := float64(n) * float64(each) / 1e9
	return figures{"cpu": (after - before) / gb, "gbit": gb * 8 / took}, errors.Join(append(errs, err)...)
}

// fairness lets 100 pairs send as fast as they can, and compares what each
// got through. So that the machine's own unfairness is seen beside it, it does
// the same with 100 connections that no relay is part of.
func fairness(_ context.Context, s *server) (figures, error) {
	direct, err := directPairs(fairPairs)
	if err != nil {
		return nil, err
	}
	relayed, err := s.relayedPairs(fairPairs)
	if err != nil {
		return nil, err
	}
	return figures{"none": spread(direct), "spread": spread(relayed)}, nil
}

// fairPairs is how many pairs share.
const fairPairs = 100

// limitedFairness is fairness where the relay's total rate is the bottleneck.
func limitedFairness(_ context.Context, s *server) (figures, error) {
	relayed, err := s.relayedPairs(fairPairs)
	if err != nil {
		return nil, err
	}
	return figures{"spread": spread(relayed)}, nil
}

// directPairs connects clients to each other.
func directPairs(n int) ([]pair, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer l.Close()
	pairs := make([]pair, n)
	for i := range pairs {
		d, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			return nil, err
		}
		a, err := l.Accept()
		if err != nil {
			return nil, err
		}
		pairs[i] = pair{&client{d}, &client{a}}
	}
	return pairs, nil
}

// spread is how much more the fastest pair got through than the slowest.
func spread(pairs []pair) float64 {
	const warmUp, length = time.Second, 10 * time.Second
	moved := make([]atomic.Int64, len(pairs))
	var wg sync.WaitGroup
	for i, p := range pairs {
		wg.Go(func() {
			b := make([]byte, 64<<10)
			for {
				if _, err := p.d.Write(b); err != nil {
					return
				}
			}
		})
		wg.Go(func() {
			_ = p.a.SetReadDeadline(time.Time{})
			b := make([]byte, 64<<10)
			for {
				k, err := p.a.Read(b)
				moved[i].Add(int64(k))
				if err != nil {
					return
				}
			}
		})
	}
	time.Sleep(warmUp)
	start := make([]int64, len(pairs))
	for i := range moved {
		start[i] = moved[i].Load()
	}
	time.Sleep(length)
	var got []int64
	for i := range moved {
		got = append(got, moved[i].Load()-start[i])
	}
	for _, p := range pairs {
		p.reset()
	}
	wg.Wait()
	return float64(slices.Max(got)) / float64(max(1, slices.Min(got)))
}

// stuck opens 5,000 connections that never get anywhere: silent ones, ones
// that stop in their request, and pairs whose dialer never picks.
func stuck(_ context.Context, s *server) (figures, error) {
	const n, most = 5000, 15 * time.Second
	before, err := s.fds()
	if err != nil {
		return nil, err
	}
	begun := time.Now()
	conns := make([]*client, 0, n)
	for len(conns) < n {
		silent, err := s.connect()
		if err != nil {
			return nil, err
		}
		half, err := s.connect()
		if err != nil {
			return nil, err
		}
		if _, err := half.Write([]byte("DIAL /t HTTP/1.1\r\nHost: x\r\n")); err != nil {
			return nil, err
		}
		p, err := s.match()
		if err != nil {
			return nil, err
		}
		conns = append(conns, silent, half, p.d, p.a)
	}
	opened := time.Now()
	var left atomic.Int64
	var last atomic.Int64
	left.Store(int64(len(conns)))
	var wg sync.WaitGroup
	for _, c := range conns {
		wg.Go(func() {
			_ = c.SetReadDeadline(opened.Add(most))
			_, err := io.Copy(io.Discard, c)
			if ne, ok := errors.AsType[interface {
				error
				Timeout() bool
			}](err); ok && ne.Timeout() {
				return // still there
			}
			left.Add(-1)
			last.Store(int64(time.Since(opened)))
		})
	}
	wg.Wait()
	seconds := time.Duration(last.Load()).Seconds()
	if left.Load() > 0 {
		seconds = most.Seconds()
	}
	after, err := s.fds() // before we close our ends
	runtime.KeepAlive(conns)
	for _, c := range conns {
		c.reset()
	}
	if opened.Sub(begun) > most {
		return nil, fmt.Errorf("opening took %v", opened.Sub(begun))
	}
	return figures{"left": float64(left.Load()), "seconds": seconds, "fds": after - before}, err
}
