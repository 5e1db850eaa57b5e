package rendezvous_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/muster-p2p/muster/rendezvous"
	"github.com/muster-p2p/muster/rendezvous/wire"
)

// A flood is a server whose listing never ends: each page has a new cookie and
// the records that next returns.
func flood(t *testing.T, asked *int, next func(n int) []wire.Registration) host.Host {
	t.Helper()
	return foreign{answer: func(wire.Message) *wire.Message {
		*asked++
		return &wire.Message{
			Kind: wire.DiscoverResponse, Records: next(*asked),
			Cookie: binary.BigEndian.AppendUint64(nil, uint64(*asked)),
		}
	}}.serve(t)
}

// A client is done with any server, in bounded time, and says why.
func TestEndlessListings(t *testing.T) {
	key := newKey(t)
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	reg := func(rec []byte) []wire.Registration {
		return []wire.Registration{{NS: "lab", Record: rec, TTL: 9, HasTTL: true}}
	}
	garbage := reg([]byte("garbage"))
	foreign := []wire.Registration{{NS: "another", Record: sign(t, key, id, 1, someAddr)}}
	for _, tt := range []struct {
		name  string
		next  func(n int) []wire.Registration
		limit int
		found int
		asked int
		err   error
	}{
		{"garbage for ever", func(int) []wire.Registration { return garbage }, 0, 0, 32, rendezvous.ErrEndless},
		{"another name's for ever", func(int) []wire.Registration { return foreign }, 0, 0, 32, rendezvous.ErrEndless},
		{"garbage up to the limit", func(int) []wire.Registration { return slices.Repeat(garbage, 10) }, 100, 0, 10, nil},
		{"one record for ever", func(int) []wire.Registration { return reg(foreign[0].Record) }, 0, 1, 2, nil},
		{"new records up to the limit", func(n int) []wire.Registration { return reg(sign(t, key, id, uint64(n), someAddr)) }, 200, 200, 200, nil},
		{"one good record, then garbage", func(n int) []wire.Registration {
			if n == 1 {
				return reg(foreign[0].Record)
			}
			return garbage
		}, 0, 1, 33, rendezvous.ErrEndless},
	} {
		t.Run(tt.name, func(t *testing.T) {
			asked, found := 0, 0
			h, ph := newHost(t), flood(t, &asked, tt.next)
			know(h, ph)
			c := newClient(t, h, rendezvous.ClientConfig{})
			_, err := c.Pages(t.Context(), ph.ID(), "lab", rendezvous.Query{Limit: tt.limit}, func(p rendezvous.Page) error {
				found += len(p.Records)
				return nil
			})
			if !errors.Is(err, tt.err) || found != tt.found || asked != tt.asked {
				t.Errorf("%d records of %d pages, %v", found, asked, err)
			}
		})
	}
}

// What a server answers, and then its end of the stream.
func TestEvilAnswers(t *testing.T) {
	good := wire.AppendFrame(nil, wire.Libp2p, &wire.Message{Kind: wire.DiscoverResponse})
	status := func(s wire.Status) []byte {
		return wire.AppendFrame(nil, wire.Libp2p, &wire.Message{Kind: wire.DiscoverResponse, Status: s})
	}
	granted := wire.AppendFrame(nil, wire.Libp2p, &wire.Message{Kind: wire.RegisterResponse, TTL: 60, HasTTL: true})
	for _, tt := range []struct {
		name   string
		answer []byte
		then   func(network.Stream) error
		want   error
	}{
		{"an end", nil, network.Stream.Close, rendezvous.ErrNoAnswer},
		{"a reset", nil, network.Stream.Reset, rendezvous.ErrNoAnswer},
		{"half an answer and an end", good[:2], network.Stream.Close, rendezvous.ErrNoAnswer},
		{"an answer to something else", granted, nil, wire.ErrMalformed},
		{"garbage", []byte("\x0cGET / HTTP/1.1"), nil, wire.ErrMalformed},
		{"an empty frame", []byte{0}, nil, wire.ErrMalformed},
		{"a length of 4 GiB", binary.AppendUvarint(nil, 1<<32), nil, errors.ErrUnsupported},
		{"a length without an end", bytes.Repeat([]byte{0xff}, 100), nil, errors.ErrUnsupported},
		{"an unknown status", status(999), nil, &rendezvous.StatusError{Status: 999}},
		{"a status of -1", status(1<<32 - 1), nil, &rendezvous.StatusError{Status: 1<<31 - 1}},
		{"half an answer and silence", good[:2], nil, context.DeadlineExceeded},
		{"silence", nil, nil, context.DeadlineExceeded},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, 2, func(t *testing.T, h []host.Host) {
				h[0].SetStreamHandler(rendezvous.ProtocolID, func(s network.Stream) {
					if _, err := s.Read(make([]byte, 100)); err != nil {
						return
					}
					_, _ = s.Write(tt.answer)
					if tt.then != nil {
						_ = tt.then(s)
					}
				})
				c := rendezvous.NewClient(h[1], rendezvous.ClientConfig{})
				defer closing(t, c)
				start := time.Now()
				_, err := c.Discover(t.Context(), h[0].ID(), "lab", rendezvous.Query{})
				var got, want *rendezvous.StatusError
				switch {
				case err == nil:
					t.Error("no error")
				case tt.want == errors.ErrUnsupported: //nolint:errorlint // any error will do
				case errors.As(tt.want, &want):
					if !errors.As(err, &got) || got.Status != want.Status {
						t.Errorf("%v, want %v", err, tt.want)
					}
				case !errors.Is(err, tt.want):
					t.Errorf("%v, want %v", err, tt.want)
				}
				if took := time.Since(start); took > rendezvous.DefaultTimeout {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}

// A server that sends a byte now and then is given up after the time-out of a
// request, and one that sends a record now and then after a few of them; who
// watches several points hears of the others meanwhile.
func TestDrip(t *testing.T) {
	key := newKey(t)
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dripBytes := func(s network.Stream) {
		for _, b := range binary.AppendUvarint(nil, 1<<20) {
			_, _ = s.Write([]byte{b})
		}
		for {
			if _, err := s.Write([]byte{0}); err != nil {
				return
			}
			time.Sleep(3 * time.Second)
		}
	}
	dripRecords := func(s network.Stream) {
		for n := uint64(1); ; n++ {
			if _, err := s.Read(make([]byte, 500)); err != nil {
				return
			}
			time.Sleep(9 * time.Second)
			rec := sign(t, key, id, n, someAddr)
			m := wire.Message{Kind: wire.DiscoverResponse, Cookie: binary.BigEndian.AppendUint64(nil, n), Records: []wire.Registration{{NS: "lab", Record: rec}}}
			if _, err := s.Write(wire.AppendFrame(nil, wire.Libp2p, &m)); err != nil {
				return
			}
		}
	}
	for name, serve := range map[string]network.StreamHandler{"bytes": dripBytes, "records": dripRecords} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, 4, func(t *testing.T, h []host.Host) {
				defer time.Sleep(time.Minute) // for the drip to end
				p, err := rendezvous.NewPoint(h[0], rendezvous.Config{})
				if err != nil {
					t.Fatal(err)
				}
				defer closing(t, p)
				h[1].SetStreamHandler(rendezvous.ProtocolID, serve)
				var points []peer.AddrInfo
				for _, ph := range h[:2] {
					points = append(points, peer.AddrInfo{ID: ph.ID(), Addrs: ph.Addrs()})
				}
				d := rendezvous.NewDiscovery(h[2], rendezvous.DiscoveryConfig{Points: points})
				defer closing(t, d)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				events, err := d.Watch(ctx, "lab")
				if err != nil {
					t.Fatal(err)
				}
				c := rendezvous.NewClient(h[3], rendezvous.ClientConfig{})
				defer closing(t, c)
				if _, err := c.Register(t.Context(), h[0].ID(), "lab", time.Hour); err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				for e := range events {
					if e.ID == h[3].ID() {
						break
					}
				}
				// It may have come after the first poll: then a whole one of the drip is between.
				if took := time.Since(start); took > 31*time.Second+rendezvous.DefaultInterval*2 {
					t.Errorf("the good point's peer came after %v", took)
				}
				cancel()
				for range events {
					continue
				}
				start = time.Now()
				if _, err := d.Request(t.Context(), "lab", 0); err != nil {
					t.Error(err)
				}
				if took := time.Since(start); took > 31*time.Second {
					t.Errorf("a request took %v", took)
				}
			})
		})
	}
}

// An address may end in the ID of its peer, of a relay, or of somebody else.
func TestAddrsWithIDs(t *testing.T) {
	key := newKey(t)
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	other := newHost(t).ID()
	rec := sign(t, key, id, 1, "/ip4/192.0.2.1/tcp/1", fmt.Sprint("/ip4/192.0.2.2/tcp/1/p2p/", id), fmt.Sprint("/ip4/192.0.2.3/tcp/1/p2p/", other),
		fmt.Sprint("/ip4/192.0.2.4/tcp/1/p2p/", other, "/p2p-circuit"), fmt.Sprint("/ip4/192.0.2.5/tcp/1/p2p/", other, "/p2p-circuit/p2p/", id),
		fmt.Sprint("/p2p/", id), fmt.Sprint("/p2p/", other, "/p2p-circuit"))
	ph := foreign{answer: func(wire.Message) *wire.Message {
		return &wire.Message{Kind: wire.DiscoverResponse, Records: []wire.Registration{{NS: "lab", Record: rec}}}
	}}.serve(t)
	h := newHost(t)
	know(h, ph)
	page, err := newClient(t, h, rendezvous.ClientConfig{}).Discover(t.Context(), ph.ID(), "lab", rendezvous.Query{})
	if err != nil || len(page.Records) != 1 {
		t.Fatal(page, err)
	}
	relay := fmt.Sprint("/p2p/", other, "/p2p-circuit")
	want := []string{"/ip4/192.0.2.1/tcp/1", "/ip4/192.0.2.2/tcp/1", "/ip4/192.0.2.4/tcp/1" + relay, "/ip4/192.0.2.5/tcp/1" + relay, relay}
	if got := page.Records[0].Addrs; !slices.EqualFunc(got, want, func(a ma.Multiaddr, s string) bool { return a.String() == s }) {
		t.Errorf("got %v, want %v", got, want)
	}
}
