package main

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/p2p/enode"

	"github.com/muster-p2p/muster/discv5/wire"
	"github.com/muster-p2p/muster/enr"
)

const (
	// floodQueue is how many packets wait for the node, junk or not: about what
	// a kernel keeps by default.
	floodQueue = 512
	// floodSources is how many endpoints the junk comes from.
	floodSources = 1 << 16
	floodSpan    = 4 * time.Second
	pingGap      = 2 * time.Millisecond
)

// floodBench sends packets that look right and cannot be decrypted to a node
// while a peer of its own goes on pinging it.
func floodBench(c config) error {
	db, err := enode.OpenDB("")
	if err != nil {
		return err
	}
	defer db.Close()
	fmt.Fprintf(c.out, "\nflood of undecryptable packets from %d sources, %v each; cores is client, node and the making of junk, of which making is the last\n", floodSources, floodSpan)
	fmt.Fprintf(c.out, "%-12s %8s %8s %7s %6s %10s %10s %7s %7s %9s %10s\n",
		"", "sent/s", "taken/s", "pings", "lost", "p50", "p99", "cores", "making", "answers/s", "heap")
	for _, s := range stacks(db) {
		for _, pps := range []int{0, 2000, 8000, 20_000, 50_000} {
			line, err := flood(s, pps)
			if err != nil {
				return fmt.Errorf("%s at %d/s: %w", s.name, pps, err)
			}
			fmt.Fprintf(c.out, "%-12s %s\n", s.name, line)
		}
	}
	return nil
}

func flood(s stack, pps int) (string, error) {
	udp, err := listenLoopback()
	if err != nil {
		return "", err
	}
	addr := udp.LocalAddr().(*net.UDPAddr).AddrPort()
	conn := newFloodConn(udp)
	server, err := s.start(conn, addr)
	if err != nil {
		return "", err
	}
	defer server.close()
	if udp, err = listenLoopback(); err != nil {
		return "", err
	}
	client, err := s.start(udp, udp.LocalAddr().(*net.UDPAddr).AddrPort())
	if err != nil {
		return "", err
	}
	defer client.close()
	p, err := client.dial(server.record())
	if err != nil {
		return "", err
	}
	for range 50 { // session, liveness, warm caches
		if err := p.ping(); err != nil {
			return "", err
		}
	}
	junk, err := makeJunk(server.record())
	if err != nil {
		return "", err
	}
	own := makingCost(junk, pps)
	before := heap()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	used := cpuTime()
	wg.Go(func() { generate(junk, pps, conn.push, stop) })
	trips, lost := pingFor(p, floodSpan)
	used = cpuTime() - used
	close(stop)
	wg.Wait()
	grown := heap() - before
	slices.Sort(trips)
	seconds := floodSpan.Seconds()
	return fmt.Sprintf("%8d %8.0f %7d %6d %10s %10s %7.2f %7.2f %9.0f %10.0f", pps, float64(conn.taken())/seconds, len(trips), lost,
		quantile(trips, 0.5), quantile(trips, 0.99), used.Seconds()/seconds, own.Seconds()/seconds, float64(conn.strays())/seconds, grown), nil
}

func listenLoopback() (*net.UDPConn, error) {
	return net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
}

func pingFor(p peer, span time.Duration) (trips []time.Duration, lost int) {
	for end := time.Now().Add(span); time.Now().Before(end); time.Sleep(pingGap) {
		start := time.Now()
		if err := p.ping(); err != nil {
			lost++
			continue
		}
		trips = append(trips, time.Since(start))
	}
	return trips, lost
}

func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)].Round(time.Microsecond)
}

// packet is a datagram and where it says it comes from.
type packet struct {
	from netip.AddrPort
	data []byte
}

// makeJunk makes message packets for the node with that record, each from a
// node and an address of its own, with content that no key opens.
func makeJunk(record string) ([]packet, error) {
	r, err := enr.ParseText(record)
	if err != nil {
		return nil, err
	}
	dice := rand.NewChaCha8([32]byte{'j', 'u', 'n', 'k'})
	mask := wire.NewMask(r.ID())
	junk := make([]packet, floodSources)
	for i := range junk {
		var src [32]byte
		var iv [16]byte
		var nonce wire.Nonce
		content := make([]byte, 16)
		for _, b := range [][]byte{src[:], iv[:], nonce[:], content} {
			_, _ = dice.Read(b) // ChaCha8 does not fail
		}
		a := netip.AddrFrom4([4]byte{byte(20 + i%100), src[0], src[1], src[2]})
		junk[i] = packet{
			from: netip.AddrPortFrom(a, 1024+uint16(i)%60_000),
			data: wire.NewCodec(src).AppendRandom(nil, mask, iv, nonce, content),
		}
	}
	return junk, nil
}

// generate hands out junk at the rate, in bursts of a millisecond.
func generate(junk []packet, pps int, push func(packet), stop <-chan struct{}) {
	if pps == 0 {
		return
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	start, sent := time.Now(), 0
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		for due := int(time.Since(start).Seconds() * float64(pps)); sent < due; sent++ {
			push(junk[sent%len(junk)])
		}
	}
}

// makingCost is the CPU time that generate alone takes in floodSpan.
func makingCost(junk []packet, pps int) time.Duration {
	queue := make(chan packet, floodQueue)
	stop := make(chan struct{})
	used := cpuTime()
	var wg sync.WaitGroup
	wg.Go(func() {
		generate(junk, pps, func(p packet) {
			select {
			case queue <- p:
				<-queue
			default:
			}
		}, stop)
	})
	time.Sleep(floodSpan / 4)
	close(stop)
	wg.Wait()
	return 4 * (cpuTime() - used)
}
