package pubsub

import (
	"compress/gzip"
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/protocol"
	"google.golang.org/protobuf/encoding/protowire"

	pb "github.com/muster-p2p/muster/pubsub/pb"
)

// RemoteTracerProtoID is the protocol of collectors of traces: batches of
// events as protobuf messages after their lengths, the whole compressed by
// gzip. go-libp2p-pubsub defines it.
const RemoteTracerProtoID = protocol.ID("/libp2p/pubsub/tracer/1.0.0")

const (
	// remoteBatch is how many events are sent together at most.
	remoteBatch = 1024
	// remoteRetry is how long a tracer waits after a failure; it doubles up to
	// remoteRetryMost.
	remoteRetry     = time.Second
	remoteRetryMost = time.Minute
	// remoteWrite is how long a batch may take.
	remoteWrite = 30 * time.Second
)

// A RemoteTracer sends events to a collector on a goroutine of its own. While
// the collector cannot be reached events wait, and the newest are dropped when
// 65,536 do.
type RemoteTracer struct {
	host    host.Host
	to      peer.ID
	log     *slog.Logger
	queue   chan *pb.TraceEvent
	ctx     context.Context // ends with Close, and then what waits is sent
	cancel  context.CancelFunc
	done    chan struct{}
	once    sync.Once
	dropped atomic.Uint64
}

// NewRemoteTracer makes a tracer that sends to the collector pi, until ctx ends
// or it is closed. logger may be nil.
func NewRemoteTracer(ctx context.Context, h host.Host, pi peer.AddrInfo, logger *slog.Logger) (*RemoteTracer, error) {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	h.Peerstore().AddAddrs(pi.ID, pi.Addrs, peerstore.PermanentAddrTTL)
	t := &RemoteTracer{
		host: h, to: pi.ID, log: logger,
		queue: make(chan *pb.TraceEvent, traceQueue), done: make(chan struct{}),
	}
	t.ctx, t.cancel = context.WithCancel(ctx)
	go t.run()
	return t, nil
}

// Trace implements EventTracer. It does not wait.
func (t *RemoteTracer) Trace(ev *pb.TraceEvent) {
	select {
	case t.queue <- ev:
	default:
		t.dropped.Add(1)
	}
}

// Dropped returns how many events were dropped because they could not be sent.
func (t *RemoteTracer) Dropped() uint64 { return t.dropped.Load() }

// Close sends what waits, if the collector is there, and ends the tracer.
func (t *RemoteTracer) Close() {
	t.once.Do(t.cancel)
	<-t.done
}

func (t *RemoteTracer) run() {
	defer close(t.done)
	var s remoteSink
	defer s.close()
	wait := remoteRetry
	for {
		batch, size := t.gather()
		if size == 0 {
			return
		}
		err := s.write(t, batch)
		if err == nil {
			wait = remoteRetry
			continue
		}
		t.dropped.Add(uint64(size))
		t.log.Debug("trace not sent", "peer", t.to, "err", err)
		s.close()
		select {
		case <-time.After(wait):
			wait = min(2*wait, remoteRetryMost)
		case <-t.ctx.Done():
			return
		}
	}
}

// gather waits for events and returns them as a batch after its length, and
// how many they are: none at the end.
func (t *RemoteTracer) gather() (framed []byte, n int) {
	var batch []byte
	add := func(ev *pb.TraceEvent) {
		if b, err := ev.Marshal(); err == nil {
			batch = protowire.AppendTag(batch, 1, protowire.BytesType)
			batch = protowire.AppendBytes(batch, b)
		}
		n++
	}
	select {
	case ev := <-t.queue:
		add(ev)
	case <-t.ctx.Done():
	}
	// Others come while the first waits for company.
	pause := time.NewTimer(traceFlush)
	defer pause.Stop()
	for n < remoteBatch {
		select {
		case ev := <-t.queue:
			add(ev)
			continue
		default:
		}
		if t.ctx.Err() != nil {
			break
		}
		select {
		case ev := <-t.queue:
			add(ev)
			continue
		case <-pause.C:
		case <-t.ctx.Done():
			continue
		}
		break
	}
	return protowire.AppendBytes(nil, batch), n
}

// A remoteSink is an open stream to the collector.
type remoteSink struct {
	s network.Stream // nil if there is none
	z *gzip.Writer
}

// write sends a batch, on a new stream if there is none.
func (r *remoteSink) write(t *RemoteTracer, framed []byte) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.ctx), remoteWrite)
	defer cancel()
	if r.s == nil {
		s, err := t.host.NewStream(ctx, t.to, RemoteTracerProtoID)
		if err != nil {
			return err
		}
		r.s, r.z = s, gzip.NewWriter(s)
	}
	_ = r.s.SetWriteDeadline(time.Now().Add(remoteWrite)) // best effort: not all streams have one
	if _, err := r.z.Write(framed); err != nil {
		return err
	}
	return r.z.Flush()
}

func (r *remoteSink) close() {
	if r.s == nil {
		return
	}
	if r.z.Close() != nil || r.s.Close() != nil {
		_ = r.s.Reset()
	}
	r.s, r.z = nil, nil
}
