package rendezvous_test

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// An implementation and what it is known to do differently from the
// specification (https://github.com/libp2p/specs/tree/master/rendezvous).
type implementation struct {
	name   string // in test names
	file   string // of its program
	args   []string
	family string // who can talk to whom, see README.md

	ttl      int // what to register for; 0 is the default of two hours
	shortTTL int // the shortest that its point grants and its client asks for

	noUnregister bool
	noPages      string // why its point cannot page
	oneRecord    string // why its point shows only some records
}

const (
	spr      = "signed record"
	legacy   = "signed record, legacy envelope"
	peerInfo = "PeerInfo"
	waku     = "waku 0.0.1"
)

var implementations = []implementation{
	{name: "rust", file: "rust-rendezvous", args: []string{"--min-ttl", "1"}, family: legacy, ttl: 7200, shortTTL: 2},
	{
		name: "canvas", file: "canvas-js", family: spr, ttl: 7200, shortTTL: 2,
		noPages: "its point lists the newest first and hands out the newest row as cookie: what is older is lost",
	},
	{name: "wakufork", file: "peer-wakufork", family: spr, ttl: 7200, shortTTL: 2},
	{name: "berty", file: "peer-berty", family: peerInfo, ttl: 7200, shortTTL: 2},
	{name: "py", file: "py-libp2p", family: peerInfo, ttl: 7200, shortTTL: 2},
	{
		name: "waku001", file: "peer-waku001", family: waku, ttl: 20, shortTTL: 2, noUnregister: true,
		noPages:   "the protocol has no cookies",
		oneRecord: "its point finds one or two of many Ed25519 peers, and drops them after two seconds",
	},
}

func (i implementation) start(t *testing.T) endpoint {
	t.Helper()
	return startForeign(t, i.file, i.args...)
}

// TestForeignWithItself shows that the harness and the peers are sound: what
// fails here cannot pass against us.
func TestForeignWithItself(t *testing.T) {
	for _, impl := range implementations {
		t.Run(impl.name, func(t *testing.T) {
			t.Parallel()
			scenario{point: impl, client: impl, newClient: impl.start}.run(t, impl.start(t))
		})
	}
}

// TestForeignClientOfMuster runs every foreign client against our point.
func TestForeignClientOfMuster(t *testing.T) {
	for _, impl := range implementations {
		t.Run(impl.name, func(t *testing.T) {
			t.Parallel()
			var args []string
			if impl.family == peerInfo {
				args = legacyArgs
			}
			point := implementation{name: "muster", family: impl.family}
			scenario{point: point, client: impl, newClient: impl.start}.run(t, startMusterPoint(t, args...))
		})
	}
}

// legacyArgs lets our point speak to the unsigned PeerInfo family.
var legacyArgs = []string{"--legacy"}

// TestMusterClientOfForeign runs our client against every foreign point.
func TestMusterClientOfForeign(t *testing.T) {
	for _, impl := range implementations {
		t.Run(impl.name, func(t *testing.T) {
			t.Parallel()
			client := implementation{name: "muster", family: impl.family, ttl: impl.ttl, shortTTL: impl.shortTTL}
			newClient := func(t *testing.T) endpoint { return newMusterClient(t, impl.family) }
			scenario{point: impl, client: client, newClient: newClient}.run(t, impl.start(t))
		})
	}
}

// TestMusterWithItself is the same for both of our ends.
func TestMusterWithItself(t *testing.T) {
	for _, dialect := range []string{spr, waku} {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			impl := implementation{name: "muster", family: dialect, ttl: 7200, shortTTL: 2}
			if dialect == waku {
				impl.ttl, impl.noUnregister, impl.noPages = 20, true, "the protocol has no cookies"
			}
			newClient := func(t *testing.T) endpoint { return newMusterClient(t, dialect) }
			scenario{point: impl, client: impl, newClient: newClient}.run(t, startMusterPoint(t))
		})
	}
}

// A scenario is register, discover, page, unregister, expire between one
// point and three clients.
type scenario struct {
	point, client implementation
	newClient     func(*testing.T) endpoint
}

func (s scenario) run(t *testing.T, point endpoint) {
	t.Helper()
	const ns = "muster-interop"
	at := point.addr()
	clients := []endpoint{s.newClient(t), s.newClient(t), s.newClient(t)}
	var ids []string
	for _, c := range clients {
		granted, err := c.register(at, ns, s.client.ttl)
		if err != nil {
			t.Fatalf("REGISTER: %v", err)
		}
		if granted != int64(s.client.ttl) {
			t.Errorf("REGISTER granted %d s, want %d", granted, s.client.ttl)
		}
		ids = append(ids, c.id())
	}
	t.Run("discover", func(t *testing.T) {
		recs, _, err := clients[0].discover(at, ns, 100, "")
		if err != nil {
			t.Fatal(err)
		}
		if s.point.oneRecord != "" {
			t.Logf("got %d of 3: %s", len(recs), s.point.oneRecord)
			return
		}
		wantPeers(t, recs, ids...)
		for _, r := range recs {
			if len(r.addrs) == 0 {
				t.Errorf("%s has no address", r.peer)
			}
		}
	})
	t.Run("unknown namespace", func(t *testing.T) {
		recs, _, err := clients[0].discover(at, "nobody-is-here", 10, "")
		if err != nil {
			t.Fatal(err)
		}
		wantPeers(t, recs)
	})
	t.Run("page", func(t *testing.T) { s.page(t, clients[0], at, ns, ids) })
	t.Run("unregister", func(t *testing.T) {
		if s.client.noUnregister || s.point.noUnregister {
			t.Skip("the protocol has no UNREGISTER")
		}
		if err := clients[1].unregister(at, ns); err != nil {
			t.Fatal(err)
		}
		eventually(t, clients[0], at, ns, 5*time.Second, ids[0], ids[2])
	})
	t.Run("expire", func(t *testing.T) {
		short := ns + "-short"
		if _, err := clients[2].register(at, short, s.client.shortTTL); err != nil {
			t.Fatal(err)
		}
		if s.point.oneRecord == "" {
			recs, _, err := clients[0].discover(at, short, 100, "")
			if err != nil {
				t.Fatal(err)
			}
			wantPeers(t, recs, ids[2])
		}
		eventually(t, clients[0], at, short, time.Duration(s.client.shortTTL)*time.Second+5*time.Second)
	})
}

// page walks the namespace in pages of one, following the cookie, and wants
// each peer exactly once; a poll with the last cookie then brings nothing, and
// after another registration only that one.
func (s scenario) page(t *testing.T, c endpoint, at, ns string, ids []string) {
	t.Helper()
	if s.point.noPages != "" {
		t.Skip(s.point.noPages)
	}
	if s.client.noPages != "" {
		t.Skip(s.client.noPages)
	}
	var seen []record
	cookie := ""
	for range len(ids) + 1 {
		recs, next, err := c.discover(at, ns, 1, cookie)
		if err != nil {
			t.Fatalf("page after %d records: %v", len(seen), err)
		}
		if len(recs) > 1 {
			t.Fatalf("a page of one has %d records", len(recs))
		}
		seen = append(seen, recs...)
		if len(recs) == 0 || next == "" {
			break
		}
		cookie = next
	}
	wantPeers(t, seen, ids...)
}

// eventually polls until the namespace holds exactly the peers wanted.
func eventually(t *testing.T, c endpoint, at, ns string, within time.Duration, want ...string) {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		recs, _, err := c.discover(at, ns, 100, "")
		if err != nil {
			t.Fatal(err)
		}
		if samePeers(recs, want) {
			return
		}
		if time.Now().After(deadline) {
			wantPeers(t, recs, want...)
			return
		}
		// Foreign processes share no clock with us that could be faked.
		time.Sleep(200 * time.Millisecond)
	}
}

func wantPeers(t *testing.T, recs []record, want ...string) {
	t.Helper()
	if !samePeers(recs, want) {
		t.Errorf("got peers %v, want %v", peersOf(recs), want)
	}
}

func samePeers(recs []record, want []string) bool {
	want = slices.Clone(want)
	slices.Sort(want)
	return fmt.Sprint(peersOf(recs)) == fmt.Sprint(want)
}

func peersOf(recs []record) []string {
	ids := []string{}
	for _, r := range recs {
		ids = append(ids, r.peer)
	}
	slices.Sort(ids)
	return ids
}

// TestOneNamespaceForAll lets clients of every family that signs register in
// one namespace of our point, and wants each of them to find the others whose
// records it can read: an answer with one record that a client cannot read is
// lost as a whole (rust-libp2p, canvas).
func TestOneNamespaceForAll(t *testing.T) {
	const ns = "everybody"
	point := startMusterPoint(t)
	type member struct {
		implementation
		endpoint
	}
	members := []member{{implementation{name: "muster", family: spr}, newMusterClient(t, spr)}}
	for _, impl := range implementations {
		if impl.family == spr || impl.family == legacy {
			members = append(members, member{impl, impl.start(t)})
		}
	}
	for _, m := range members {
		if _, err := m.register(point.addr(), ns, 7200); err != nil {
			t.Fatalf("%s: REGISTER: %v", m.name, err)
		}
	}
	for _, m := range members {
		t.Run(m.name, func(t *testing.T) {
			recs, _, err := m.discover(point.addr(), ns, 100, "")
			if err != nil {
				t.Fatal(err)
			}
			for _, other := range members {
				readable := other.family == m.family || m.name == "muster"
				if readable && !slices.Contains(peersOf(recs), other.id()) {
					t.Errorf("%s does not find %s", m.name, other.name)
				}
			}
		})
	}
}
