package pubsub

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	pb "github.com/muster-p2p/muster/pubsub/pb"
)

// traceQueue is how many events wait to be written. Beyond it they are
// dropped and counted, since a tracer must not hold up the router.
const traceQueue = 1 << 16

// A fileTracer writes events to a file on a goroutine of its own.
type fileTracer struct {
	w      io.WriteCloser
	buf    *bufio.Writer
	encode func(*bufio.Writer, *pb.TraceEvent) error
	log    *slog.Logger
	queue  chan *pb.TraceEvent
	stop   chan struct{}
	done   chan struct{}
	once   sync.Once

	mu      sync.Mutex // guards dropped
	dropped uint64
}

func openFileTracer(file string, flags int, perm os.FileMode, logger *slog.Logger, encode func(*bufio.Writer, *pb.TraceEvent) error) (*fileTracer, error) {
	f, err := os.OpenFile(file, flags, perm)
	if err != nil {
		return nil, err
	}
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	t := &fileTracer{
		w: f, buf: bufio.NewWriter(f), encode: encode, log: logger,
		queue: make(chan *pb.TraceEvent, traceQueue), stop: make(chan struct{}), done: make(chan struct{}),
	}
	go t.run()
	return t, nil
}

// Trace implements EventTracer. It does not wait.
func (t *fileTracer) Trace(ev *pb.TraceEvent) {
	select {
	case t.queue <- ev:
	default:
		t.mu.Lock()
		t.dropped++
		t.mu.Unlock()
	}
}

// Dropped returns how many events were dropped because the file was too slow.
func (t *fileTracer) Dropped() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.dropped
}

// Close writes what waits and closes the file.
func (t *fileTracer) Close() {
	t.once.Do(func() { close(t.stop) })
	<-t.done
}

func (t *fileTracer) run() {
	defer close(t.done)
	tick := time.NewTicker(traceFlush)
	defer tick.Stop()
	for {
		select {
		case ev := <-t.queue:
			t.write(ev)
		case <-tick.C:
			t.check(t.buf.Flush())
		case <-t.stop:
			for len(t.queue) > 0 {
				t.write(<-t.queue)
			}
			t.check(errors.Join(t.buf.Flush(), t.w.Close()))
			return
		}
	}
}

func (t *fileTracer) write(ev *pb.TraceEvent) { t.check(t.encode(t.buf, ev)) }

func (t *fileTracer) check(err error) {
	if err != nil {
		t.log.Warn("cannot write trace", "err", err)
	}
}

// A JSONTracer writes events to a file, as one JSON object per line.
type JSONTracer struct{ *fileTracer }

// NewJSONTracer makes a tracer that writes a new file, or over an old one.
func NewJSONTracer(file string) (*JSONTracer, error) {
	return OpenJSONTracer(file, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644, nil)
}

// OpenJSONTracer makes a tracer with the flags and mode of the file given.
func OpenJSONTracer(file string, flags int, perm os.FileMode, logger *slog.Logger) (*JSONTracer, error) {
	t, err := openFileTracer(file, flags, perm, logger, func(w *bufio.Writer, ev *pb.TraceEvent) error {
		return json.NewEncoder(w).Encode(ev)
	})
	if err != nil {
		return nil, err
	}
	return &JSONTracer{t}, nil
}

// A PBTracer writes events to a file, as protobuf messages after their lengths.
type PBTracer struct{ *fileTracer }

// NewPBTracer makes a tracer that writes a new file, or over an old one.
func NewPBTracer(file string) (*PBTracer, error) {
	return OpenPBTracer(file, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644, nil)
}

// OpenPBTracer makes a tracer with the flags and mode of the file given.
func OpenPBTracer(file string, flags int, perm os.FileMode, logger *slog.Logger) (*PBTracer, error) {
	t, err := openFileTracer(file, flags, perm, logger, func(w *bufio.Writer, ev *pb.TraceEvent) error {
		b, err := ev.Marshal()
		if err != nil {
			return err
		}
		_, err = w.Write(protowire.AppendBytes(nil, b))
		return err
	})
	if err != nil {
		return nil, err
	}
	return &PBTracer{t}, nil
}
