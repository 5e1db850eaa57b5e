package main

import (
	"bytes"
	"context"
	"flag"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/x/simlibp2p"
	"github.com/marcopolo/simnet"
)

var (
	wan         = flag.Bool("wan", false, "run the simulated WAN")
	wanHosts    = flag.Int("wan-hosts", 50, "hosts of the simulated WAN")
	wanMessages = flag.Int("wan-messages", 30, "messages published, one a second")
	wanSize     = flag.Int("wan-size", 64<<10, "bytes of a message")
	wanImpl     = flag.String("wan-impl", "", "only this library")
	wanSeed     = flag.Uint64("wan-seed", 1, "seed of the network")
)

// TestWAN publishes on a simulated wide-area network: QUIC, 50 Mbit/s up and
// down, ten dials per host, 10 to 80 ms from host to host, signed messages.
// Time is virtual, so what else the machine does has no influence. It is no
// part of a usual test run:
//
//	go test -run WAN -v -wan
func TestWAN(t *testing.T) {
	if !*wan {
		t.Skip("minutes long: run with -wan")
	}
	var all []result
	for _, im := range impls {
		if *wanImpl != "" && im.name != *wanImpl {
			continue
		}
		r := wanRun(t, im)
		t.Logf("%-18s p50 %4d  p90 %4d  p99 %4d  max %4d ms, %.2f duplicates per delivery, %.4f delivered",
			im.name, r.p50.Milliseconds(), r.p90.Milliseconds(), r.p99.Milliseconds(), r.last.Milliseconds(), r.duplicates, r.delivered)
		all = append(all, r)
	}
	if len(all) == 2 {
		t.Logf("ratio: p50 %.2f, p90 %.2f, p99 %.2f, duplicates %.2f", float64(all[1].p50)/float64(all[0].p50),
			float64(all[1].p90)/float64(all[0].p90), float64(all[1].p99)/float64(all[0].p99), all[1].duplicates/all[0].duplicates)
	}
}

func wanRun(t *testing.T, im impl) (res result) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		link := simnet.NodeBiDiLinkSettings{
			Downlink: simnet.LinkSettings{BitsPerSecond: 50 * simlibp2p.OneMbps},
			Uplink:   simnet.LinkSettings{BitsPerSecond: 50 * simlibp2p.OneMbps},
		}
		nw, meta, err := simlibp2p.SimpleLibp2pNetwork(
			[]simlibp2p.NodeLinkSettingsAndCount{{LinkSettings: link, Count: *wanHosts}}, wanLatency,
			simlibp2p.NetworkSettings{UseBlankHost: true})
		if err != nil {
			t.Fatal(err)
		}
		nw.Start()
		var nodes []node
		for _, h := range meta.Nodes {
			n, err := im.make(ctx, h, options{count: true})
			if err != nil {
				t.Fatal(err)
			}
			if err := n.join(ctx, topicName, true); err != nil {
				t.Fatal(err)
			}
			nodes = append(nodes, n)
		}
		dialAll(t, ctx, meta.Nodes)
		time.Sleep(10 * time.Second)
		res = wanPublish(t, ctx, nodes)
		cancel()
		for _, h := range meta.Nodes {
			_ = h.Close()
		}
		time.Sleep(time.Minute)
		nw.Close()
	})
	return res
}

func dialAll(t *testing.T, ctx context.Context, hosts []host.Host) {
	t.Helper()
	rnd := rand.New(rand.NewPCG(*wanSeed, 1)) // the same network for both
	for i, h := range hosts {
		for _, j := range rnd.Perm(len(hosts))[:meshDials+1] {
			if i == j {
				continue
			}
			if err := h.Connect(ctx, peer.AddrInfo{ID: hosts[j].ID(), Addrs: hosts[j].Addrs()}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// wanLatency is 10 to 80 ms, by the pair of addresses.
func wanLatency(p *simnet.Packet) time.Duration {
	h := *wanSeed
	for _, s := range []string{p.From.String(), p.To.String()} {
		sum := uint64(0)
		for _, c := range []byte(s) {
			sum = sum*31 + uint64(c)
		}
		h += sum * 0x9e3779b97f4a7c15 // the same in both directions
	}
	h ^= h >> 29
	return time.Duration(10+h%71) * time.Millisecond
}

func wanPublish(t *testing.T, ctx context.Context, nodes []node) (res result) {
	t.Helper()
	var mu sync.Mutex
	var delays []time.Duration
	for _, n := range nodes {
		go func() {
			for {
				data, err := n.next(ctx)
				if err != nil {
					return
				}
				d := time.Duration(time.Now().UnixNano() - sentAt(data))
				mu.Lock()
				if d > 0 { // not the publisher's own
					delays = append(delays, d)
				}
				mu.Unlock()
			}
		}()
	}
	payload := bytes.Repeat([]byte{7}, *wanSize)
	for i := range *wanMessages {
		if err := nodes[(i*7)%len(nodes)].publish(ctx, stamp(payload, uint64(i))); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
	}
	time.Sleep(10 * time.Second)
	mu.Lock()
	defer mu.Unlock()
	slices.Sort(delays)
	for _, n := range nodes {
		res.duplicates += float64(n.duplicates())
	}
	res.duplicates /= float64(len(delays))
	res.delivered = float64(len(delays)) / float64(*wanMessages*(len(nodes)-1))
	q := func(percent int) time.Duration { return delays[min(len(delays)*percent/100, len(delays)-1)] }
	res.p50, res.p90, res.p99, res.last = q(50), q(90), q(99), q(100)
	return res
}
