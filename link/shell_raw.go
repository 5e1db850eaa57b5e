package link

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// holdLen is how much ciphertext is written in one piece: a chunk, with what
// TLS adds.
const holdLen = chunkSize + 4<<10

// A rawConn is the connection below TLS. While it holds, it collects what is
// written, since TLS writes each record by itself.
type rawConn struct {
	net.Conn
	pool  *pool
	heard atomic.Int64 // nanoseconds since base

	mu   sync.Mutex
	held []byte // nil: writes go through
}

// base gives instants of rawConns a monotonic clock.
var base = time.Now() //nolint:gochecknoglobals // a constant of the process

func (c *rawConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.heard.Store(int64(time.Since(base)))
	}
	return n, err
}

func (c *rawConn) lastHeard() time.Time { return base.Add(time.Duration(c.heard.Load())) }

func (c *rawConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held == nil {
		return c.Conn.Write(p)
	}
	if len(c.held)+len(p) > cap(c.held) {
		if err := c.spill(); err != nil {
			return 0, err
		}
	}
	if len(p) > cap(c.held) {
		return c.Conn.Write(p)
	}
	c.held = append(c.held, p...)
	return len(p), nil
}

func (c *rawConn) spill() error {
	_, err := c.Conn.Write(c.held)
	c.held = c.held[:0]
	return err
}

func (c *rawConn) hold() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held == nil {
		c.held = c.pool.get()
	}
}

func (c *rawConn) flush() (err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.held) > 0 {
		err = c.spill()
	}
	if c.held != nil {
		c.pool.put(c.held)
		c.held = nil
	}
	return err
}

// A pool keeps buffers of one size. They go in and out as pointers to arrays,
// which fit into an interface without an allocation.
type pool struct {
	p    *sync.Pool
	make func() any
	buf  func(any) []byte
	back func([]byte) any
}

func newChunkPool() pool {
	return pool{
		&sync.Pool{},
		func() any { return new([chunkSize]byte) },
		func(v any) []byte { return v.(*[chunkSize]byte)[:0] },
		func(b []byte) any { return (*[chunkSize]byte)(b[:chunkSize]) },
	}
}

func newHoldPool() pool {
	return pool{
		&sync.Pool{},
		func() any { return new([holdLen]byte) },
		func(v any) []byte { return v.(*[holdLen]byte)[:0] },
		func(b []byte) any { return (*[holdLen]byte)(b[:holdLen]) },
	}
}

// get returns an empty buffer.
func (p *pool) get() []byte {
	v := p.p.Get()
	if v == nil {
		v = p.make()
	}
	return p.buf(v)
}

func (p *pool) put(b []byte) { p.p.Put(p.back(b)) }
