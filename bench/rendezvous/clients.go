package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/record"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/muster-p2p/muster/bench/rendezvous/internal/rows"
)

const (
	clients = 8
	proto   = "/rendezvous/1.0.0"
	// names is how many namespaces of its own a client registers under in turn.
	names = 100
)

// fleet is the clients of one point.
type fleet struct {
	clients  []*client
	peerInfo bool // speak berty's unsigned family
	pid      int
}

// client is one host with one stream, which its requests share.
type client struct {
	n    int
	h    host.Host
	s    network.Stream
	r    *bufio.Reader
	buf  []byte
	seq  uint64
	i    int
	same []byte // its record
	mine []byte // cookie of its own namespace, for polls
}

func connect(addr string, peerInfo bool, pid int) (*fleet, error) {
	info, err := peer.AddrInfoFromString(addr)
	if err != nil {
		return nil, err
	}
	f := &fleet{peerInfo: peerInfo, pid: pid}
	for n := range clients {
		h, err := rows.NewHost(false)
		if err != nil {
			return nil, err
		}
		c := &client{n: n, h: h, seq: uint64(time.Now().UnixNano())}
		f.clients = append(f.clients, c)
		if err := h.Connect(context.Background(), *info); err != nil {
			return nil, err
		}
		if c.s, err = h.NewStream(context.Background(), info.ID, proto); err != nil {
			return nil, err
		}
		c.r = bufio.NewReaderSize(c.s, 64<<10)
		if c.same, err = c.record(peerInfo); err != nil {
			return nil, err
		}
		// A stream on which nothing is asked is not kept for long.
		if _, err := c.ask(discoverMessage("warm up", 1, nil)); err != nil {
			return nil, err
		}
	}
	return f, nil
}

func (f *fleet) close() {
	for _, c := range f.clients {
		_ = c.s.Close()
		_ = c.h.Close()
	}
}

// record makes what the client registers, with a new sequence number.
func (c *client) record(peerInfo bool) ([]byte, error) {
	c.seq++
	if peerInfo {
		b := protowire.AppendTag(nil, 1, protowire.BytesType)
		b = protowire.AppendBytes(b, []byte(c.h.ID()))
		for _, a := range rows.Addrs() {
			b = protowire.AppendTag(b, 2, protowire.BytesType)
			b = protowire.AppendBytes(b, a.Bytes())
		}
		return b, nil
	}
	rec := &peer.PeerRecord{PeerID: c.h.ID(), Addrs: rows.Addrs(), Seq: c.seq}
	env, err := record.Seal(rec, c.h.Peerstore().PrivKey(c.h.ID()))
	if err != nil {
		return nil, err
	}
	return env.Marshal()
}

// A load is one kind of request. next makes a client's next one; if prepare is
// set, all are made before the time is taken.
type load struct {
	name    string
	next    func(*client) ([]byte, error)
	prepare bool
}

// register sends a record that the point has not seen, under one of the
// client's namespaces.
func (f *fleet) register(c *client) ([]byte, error) {
	rec, err := c.record(f.peerInfo)
	c.same = rec
	return registerMessage(c.namespace(), rec), err
}

// refresh sends the record that the point has already.
func (f *fleet) refresh(c *client) ([]byte, error) {
	return registerMessage(c.namespace(), c.same), nil
}

func (c *client) namespace() string {
	c.i++
	return fmt.Sprintf("client-%d-%d", c.n, c.i%names)
}

// discover asks for the first page of one of the namespaces in turn.
func (f *fleet) discover(limit, n int) func(*client) ([]byte, error) {
	return func(c *client) ([]byte, error) {
		c.i++
		ns := rows.Namespace((c.i*clients + c.n) % max(n/rows.PerNamespace, 1))
		return discoverMessage(ns, limit, nil), nil
	}
}

// poll asks with a cookie that is up to date for what is new in a namespace of
// the client's own.
func (f *fleet) poll(c *client) ([]byte, error) {
	ns := fmt.Sprintf("client-%d-0", c.n)
	if c.mine == nil {
		if _, err := c.ask(registerMessage(ns, c.same)); err != nil {
			return nil, err
		}
		for {
			a, err := c.ask(discoverMessage(ns, 1000, c.mine))
			if err != nil {
				return nil, err
			}
			c.mine = slices.Clone(a.cookie)
			if a.records == 0 || len(a.cookie) == 0 {
				break
			}
		}
	}
	return discoverMessage(ns, 1000, c.mine), nil
}

func registerMessage(ns string, rec []byte) []byte {
	var body []byte
	body = protowire.AppendTag(body, 1, protowire.BytesType)
	body = protowire.AppendString(body, ns)
	body = protowire.AppendTag(body, 2, protowire.BytesType)
	body = protowire.AppendBytes(body, rec)
	body = protowire.AppendTag(body, 3, protowire.VarintType)
	body = protowire.AppendVarint(body, rows.TTL)
	return frame(0, 2, body)
}

func discoverMessage(ns string, limit int, cookie []byte) []byte {
	var body []byte
	body = protowire.AppendTag(body, 1, protowire.BytesType)
	body = protowire.AppendString(body, ns)
	body = protowire.AppendTag(body, 2, protowire.VarintType)
	body = protowire.AppendVarint(body, uint64(limit))
	if len(cookie) > 0 {
		body = protowire.AppendTag(body, 3, protowire.BytesType)
		body = protowire.AppendBytes(body, cookie)
	}
	return frame(3, 5, body)
}

func frame(kind uint64, field protowire.Number, body []byte) []byte {
	var msg []byte
	msg = protowire.AppendTag(msg, 1, protowire.VarintType)
	msg = protowire.AppendVarint(msg, kind)
	msg = protowire.AppendTag(msg, field, protowire.BytesType)
	msg = protowire.AppendBytes(msg, body)
	return append(binary.AppendUvarint(nil, uint64(len(msg))), msg...)
}

// An answer is as much of one as the benchmark needs. cookie is valid until
// the next.
type answer struct {
	records int
	cookie  []byte
	status  uint64
}

func (c *client) ask(request []byte) (answer, error) {
	if _, err := c.s.Write(request); err != nil {
		return answer{}, err
	}
	n, err := binary.ReadUvarint(c.r)
	if err != nil {
		return answer{}, err
	}
	if n > 8<<20 {
		return answer{}, errors.New("an answer of more than 8 MiB")
	}
	c.buf = slices.Grow(c.buf[:0], int(n))[:n]
	if _, err := io.ReadFull(c.r, c.buf); err != nil {
		return answer{}, err
	}
	return parse(c.buf)
}

// parse reads a REGISTER_RESPONSE or DISCOVER_RESPONSE.
func parse(msg []byte) (a answer, err error) {
	err = fields(msg, func(num protowire.Number, _ uint64, body []byte) error {
		switch num {
		case 3: // RegisterResponse
			return fields(body, func(num protowire.Number, v uint64, _ []byte) error {
				if num == 1 {
					a.status = v
				}
				return nil
			})
		case 6: // DiscoverResponse
			return fields(body, func(num protowire.Number, v uint64, b []byte) error {
				switch num {
				case 1:
					a.records++
				case 2:
					a.cookie = b
				case 3:
					a.status = v
				}
				return nil
			})
		}
		return nil
	})
	if err == nil && a.status != 0 {
		err = fmt.Errorf("status %d", a.status)
	}
	return a, err
}

func fields(b []byte, f func(num protowire.Number, v uint64, body []byte) error) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		var v uint64
		var body []byte
		switch typ {
		case protowire.VarintType:
			v, n = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			body, n = protowire.ConsumeBytes(b)
		default:
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		if err := f(num, v, body); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// A result is what one load came to. CPU times are per request: the point's,
// and the point's and the clients' together.
type result struct {
	load              string
	rate              float64
	p50, p99, longest time.Duration
	pointCPU, cpu     time.Duration
	records           float64 // per answer
}

// prepared is how many requests a client makes before the time is taken, if
// the load asks for it: enough for the fastest point seen.
const prepared = 8000

// measure runs a load on all clients for the given time, or until what was
// prepared is used up.
func (f *fleet) measure(l load, span time.Duration) (result, error) {
	lists := make([][][]byte, len(f.clients))
	if l.prepare {
		var wg sync.WaitGroup
		for i, c := range f.clients {
			wg.Go(func() { lists[i] = c.prepare(l) })
		}
		wg.Wait()
	}
	outs := make([]clientResult, len(f.clients))
	start, selfStart, pointStart := time.Now(), selfCPU(), processCPU(f.pid)
	var wg sync.WaitGroup
	for i, c := range f.clients {
		wg.Go(func() { outs[i] = c.run(l, lists[i], start.Add(span)) })
	}
	wg.Wait()
	pointCPU, ownCPU := processCPU(f.pid)-pointStart, selfCPU()-selfStart
	var lat []time.Duration
	res := result{load: l.name}
	for _, o := range outs {
		if o.err != nil {
			return res, o.err
		}
		lat = append(lat, o.lat...)
		res.records += float64(o.records)
		if o.busy > 0 {
			res.rate += float64(len(o.lat)) / o.busy.Seconds()
		}
	}
	if len(lat) == 0 {
		return res, errors.New("no request was answered")
	}
	slices.Sort(lat)
	n := time.Duration(len(lat))
	res.records /= float64(len(lat))
	res.p50, res.p99, res.longest = lat[len(lat)/2], lat[len(lat)*99/100], lat[len(lat)-1]
	res.pointCPU, res.cpu = pointCPU/n, (pointCPU+ownCPU)/n
	return res, nil
}

// prepare makes a client's requests: signing records is no part of what is
// measured. A request that cannot be made ends the list.
func (c *client) prepare(l load) [][]byte {
	list := make([][]byte, 0, prepared)
	for range prepared {
		r, err := l.next(c)
		if err != nil {
			break
		}
		list = append(list, r)
	}
	return list
}

type clientResult struct {
	lat     []time.Duration
	busy    time.Duration // spent asking
	records int
	err     error
}

func (c *client) run(l load, list [][]byte, until time.Time) (out clientResult) {
	begin := time.Now()
	for i := 0; time.Now().Before(until) && (!l.prepare || i < len(list)); i++ {
		var request []byte
		if l.prepare {
			request = list[i]
		} else if request, out.err = l.next(c); out.err != nil {
			return out
		}
		start := time.Now()
		a, err := c.ask(request)
		if err != nil {
			out.err = err
			return out
		}
		out.lat = append(out.lat, time.Since(start))
		out.records += a.records
	}
	out.busy = time.Since(begin)
	return out
}

// processCPU reads the CPU time of a process from /proc; zero where there is
// none.
func processCPU(pid int) time.Duration {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	// The fields behind the name, which may hold anything, from the third on.
	rest := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	const utime, stime, hz = 14 - 3, 15 - 3, 100
	if len(rest) <= stime {
		return 0
	}
	var ticks int64
	for _, f := range []int{utime, stime} {
		n, err := strconv.ParseInt(rest[f], 10, 64)
		if err != nil {
			return 0
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / hz
}

// selfCPU is the CPU time of this process: the clients'.
func selfCPU() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
