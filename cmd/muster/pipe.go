package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/muster-p2p/muster/rdv"
)

// runRdvClient connects and is a pipe until both directions are done.
func runRdvClient(ctx context.Context, e *env, o *rdvOptions, client *rdv.Client, method, url, token string, header http.Header) error {
	start := time.Now()
	ev := events{w: e.stderr, json: o.json}
	conn, resp, err := client.Do(ctx, method, url, token, header)
	if err != nil {
		return rdvFailure(err, resp)
	}
	defer conn.Close() //nolint:errcheck // the pipe has said how it ended
	path := "direct"
	if conn.IsRelay {
		path = "relay"
	}
	dur := time.Since(start)
	ev.say(fmt.Sprintf("connected path=%s addr=%s dur=%s", path, conn.RemoteAddr(), dur.Round(time.Millisecond)),
		map[string]any{"event": "connected", "path": path, "addr": conn.RemoteAddr().String(), "ms": millis(dur)})
	p := pipe{conn: conn, in: e.stdin, out: e.stdout, interactive: isTerminal(e.stdin)}
	if !isTerminal(e.stdin) && !isTerminal(e.stdout) && !o.json {
		p.progress = newProgress(e.stderr, e.stdin)
	}
	sent, received, err := p.run(ctx)
	dur = time.Since(start)
	ev.say(fmt.Sprintf("closed sent=%d received=%d dur=%s", sent, received, dur.Round(time.Millisecond)),
		map[string]any{"event": "closed", "sent": sent, "received": received, "ms": millis(dur)})
	return err
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// events tell on stderr what happens: to people in a line, to programs in a
// JSON object.
type events struct {
	w    io.Writer
	json bool
	mu   *sync.Mutex // nil where one goroutine speaks
}

// newEvents returns events that several goroutines may tell.
func newEvents(w io.Writer, asJSON bool) events {
	return events{w: w, json: asJSON, mu: new(sync.Mutex)}
}

func (e events) say(line string, object map[string]any) {
	if e.mu != nil {
		e.mu.Lock()
		defer e.mu.Unlock()
	}
	if !e.json {
		fmt.Fprintln(e.w, line)
		return
	}
	b, err := json.Marshal(object)
	if err != nil {
		b = fmt.Appendf(nil, `{"event":"error","error":%q}`, err)
	}
	fmt.Fprintf(e.w, "%s\n", b)
}

// A pipe copies in to conn and conn to out.
type pipe struct {
	conn halfCloser
	in   io.Reader
	out  io.Writer

	// interactive says that a person types at in, who will not end it by
	// himself when the peer is gone.
	interactive bool

	progress *pipeProgress // nil: none

	// over, if not nil, is closed when conn has ended both ways: in may have
	// nothing for hours in which to notice it.
	over <-chan struct{}
}

// run returns when both directions have ended, or the context has. The end of
// in ends the sending direction only.
func (p *pipe) run(ctx context.Context) (sent, received int64, err error) {
	stop := context.AfterFunc(ctx, func() {
		p.conn.Close() //nolint:errcheck // ends both copies
	})
	defer stop()
	if p.progress != nil {
		defer p.progress.meter.clear()
	}
	var out, back atomic.Int64
	sending, receiving := async(func() error { return p.send(&out) }), async(func() error { return p.receive(&back) })
	var sendErr, receiveErr error
	over := p.over
	for sending != nil || receiving != nil {
		select {
		case sendErr = <-sending:
			sending = nil
		case receiveErr = <-receiving:
			receiving = nil
			if receiveErr != nil || p.interactive {
				sending = nil // nothing that is typed now has a reader
			}
		case <-over:
			over = nil
			// A peer that left in order has what was sent: what in has to say yet
			// decides whether that was all.
			if err := p.conn.CloseWrite(); err != nil && sending != nil && !p.interactive {
				sendErr, sending = err, nil
			}
		case <-ctx.Done():
			return out.Load(), back.Load(), context.Cause(ctx)
		}
	}
	return out.Load(), back.Load(), pipeError(ctx, sendErr, receiveErr)
}

// async returns what f returns, when it has. Nobody has to wait for it.
func async(f func() error) <-chan error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	return done
}

func (p *pipe) send(n *atomic.Int64) error {
	if _, err := io.Copy(counter{p.conn, n, p.progress}, p.in); err != nil {
		return err
	}
	return p.conn.CloseWrite()
}

func (p *pipe) receive(n *atomic.Int64) error {
	_, err := io.Copy(counter{p.out, n, p.progress}, p.conn)
	return err
}

// A counter counts what goes through it, and leaves the kernel's short cuts open
// where nobody watches.
type counter struct {
	w        io.Writer
	n        *atomic.Int64
	progress *pipeProgress
}

func (c counter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n.Add(int64(n))
	if c.progress != nil {
		c.progress.add(n)
	}
	return n, err
}

func (c counter) ReadFrom(r io.Reader) (int64, error) {
	rf, ok := c.w.(io.ReaderFrom)
	if !ok || c.progress != nil {
		return io.Copy(struct{ io.Writer }{c}, r)
	}
	n, err := rf.ReadFrom(r)
	c.n.Add(n)
	return n, err
}

// pipeError says what broke the pipe, if anything did.
func pipeError(ctx context.Context, sending, receiving error) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case receiving != nil:
		return fail(exitOther, fmt.Errorf("the connection broke: %w", receiving), "")
	case errors.Is(sending, net.ErrClosed):
		return nil
	case sending != nil:
		return fail(exitOther, fmt.Errorf("the peer left before all of the input was sent: %w", sending), "")
	default:
		return nil
	}
}

// A pipeProgress shows how many bytes went through a pipe, both directions
// together.
type pipeProgress struct {
	meter *meter
	total int64 // of what is sent; 0 if it is not known
	what  string

	mu   sync.Mutex // guards the following
	done int64
	pace pace
}

// newProgress counts bytes of both directions; if in is a file, towards its
// size. It is nil if nobody watches w.
func newProgress(w io.Writer, in io.Reader) *pipeProgress {
	p := &pipeProgress{meter: newMeter(w), what: "passed on"}
	if p.meter == nil {
		return nil
	}
	if f, ok := in.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() && info.Size() > 0 {
			p.total, p.what = info.Size(), filepath.Base(f.Name())
		}
	}
	return p
}

func (p *pipeProgress) add(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done += int64(n)
	now := time.Now()
	p.meter.draw(now, func(columns int) string { return bytesLine(columns, p.what, p.done, p.total, p.pace.add(now, p.done)) })
}

// trustFile returns a TLS configuration that trusts the certificates in file.
func trustFile(file string) (*tls.Config, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, usageError(err, "")
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, usageError(fmt.Errorf("%s holds no certificate in PEM", file), "")
	}
	return &tls.Config{RootCAs: pool}, nil
}

// isNetworkError reports whether err came from a socket or a name look-up.
func isNetworkError(err error) bool {
	var op *net.OpError
	var dns *net.DNSError
	return errors.As(err, &op) || errors.As(err, &dns) || errors.Is(err, io.EOF)
}
