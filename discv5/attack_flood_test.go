package discv5_test

import (
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/muster-p2p/muster/discv5"
	"github.com/muster-p2p/muster/discv5/wire"
)

// "50,000 junk packets per second for 30 s: 50 known peers keep ≥ 99 % ping
// success and memory grows by < 16 MB." The clock is virtual: this shows that
// no bound or queue gives way; bench/discv5 shows that the time suffices.
func TestJunkFlood(t *testing.T) {
	rate, span := 50_000, 30*time.Second
	if testing.Short() || raceEnabled {
		rate, span = 5_000, 5*time.Second
		t.Log("5 s of 5,000/s instead of 30 s of 50,000/s: -short or -race")
	}
	besiege(t, discv5.Config{}, func(t *testing.T, s *siege) {
		const known = 50
		var peers []*rawPeer
		for n := range known {
			peers = append(peers, s.known(1+n))
		}
		junk := makeJunk(s.peer(900), 20_000)
		before := heapInUse()
		start, sent := time.Now(), 0
		var asked, answered int
		for at := time.Duration(0); at < span; at = time.Since(start) {
			for due := int(at.Seconds() * float64(rate)); sent < due; sent++ {
				j := junk[sent%len(junk)]
				s.net.Inject(j.from, s.at, j.packet)
			}
			if asked < int(at.Seconds()*known) {
				p := peers[asked%known]
				asked++
				m := &wire.Message{Kind: wire.KindPing, ReqID: p.reqID(), Seq: 1}
				p.send(m)
				for packet := p.readRaw(100 * time.Millisecond); packet != nil; packet = p.readRaw(100 * time.Millisecond) {
					if got := p.open(packet); got != nil && got.Kind == wire.KindPong && got.ReqID == m.ReqID {
						answered++
						break
					}
				}
			}
			time.Sleep(time.Millisecond)
		}
		grown := heapInUse() - before
		t.Logf("%d junk packets; %d of %d pings answered; heap grew by %d bytes; node sent %d packets", sent, answered, asked, grown, s.sent())
		if answered*100 < asked*99 {
			t.Errorf("%d of %d pings answered, want 99 %%", answered, asked)
		}
		if grown > 16<<20 {
			t.Errorf("heap grew by %d bytes, want less than 16 MB", grown)
		}
	})
}

type junkPacket struct {
	from   netip.AddrPort
	packet []byte
}

// makeJunk makes packets that look right and that nobody can decrypt, each
// from an endpoint and a node of its own.
func makeJunk(p *rawPeer, n int) []junkPacket {
	junk := make([]junkPacket, n)
	for i := range junk {
		iv, nonce := p.numbers()
		src := p.id
		src[0], src[1], src[2] = byte(i>>16), byte(i>>8), byte(i)
		junk[i] = junkPacket{
			from:   worldAddr(2000 + i),
			packet: wire.NewCodec(src).AppendRandom(nil, p.mask, iv, nonce, make([]byte, 20)),
		}
	}
	return junk
}

func heapInUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
