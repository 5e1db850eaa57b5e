package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"github.com/muster-p2p/muster/link"
)

// linkPair returns the two ends of a link.
func linkPair(t *testing.T) (a, b *link.Conn) {
	t.Helper()
	m := link.Meeting{Servers: []string{startRdvServer(t)}, Token: "a-pair-of-ends"}
	var ends [2]*link.Endpoint
	for i := range ends {
		key, err := hostKey("")
		if err != nil {
			t.Fatal(err)
		}
		if ends[i], err = link.New(link.Config{Key: key}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ends[i].Close() }) //nolint:errcheck // always nil
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		var err error
		if b, err = ends[1].Accept(t.Context(), m, nil); err != nil {
			t.Error(err)
		}
	})
	a, err := ends[0].Dial(t.Context(), ends[1].ID(), m)
	if wg.Wait(); err != nil {
		t.Fatal(err)
	}
	return a, b
}

// tcpPair returns the two ends of a connection over loopback.
func tcpPair(t *testing.T) (a, b *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close() //nolint:errcheck // one connection
	out, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	in, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []net.Conn{out, in} {
		if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() }) //nolint:errcheck // the test is over
	}
	return out.(*net.TCPConn), in.(*net.TCPConn)
}

// spliced returns a client and a service that are joined by two splices and a
// link, and what waits for the splices and returns their errors.
func spliced(t *testing.T) (client, service *net.TCPConn, wait func() [2]error) {
	t.Helper()
	a, b := linkPair(t)
	client, near := tcpPair(t)
	service, far := tcpPair(t)
	var errs [2]error
	var wg sync.WaitGroup
	wg.Go(func() { _, _, errs[0] = splice(t.Context(), a, near) })
	wg.Go(func() { _, _, errs[1] = splice(t.Context(), b, far) })
	return client, service, func() [2]error { wg.Wait(); return errs }
}

// TestSpliceHalfClose: the end of one direction is none of the other one.
func TestSpliceHalfClose(t *testing.T) {
	t.Parallel()
	client, service, wait := spliced(t)
	question, answer := bytes.Repeat([]byte("?"), 300_000), bytes.Repeat([]byte("!"), 500_000)
	go func() {
		_, _ = client.Write(question)
		_ = client.CloseWrite()
	}()
	if got, err := io.ReadAll(service); err != nil || !bytes.Equal(got, question) {
		t.Errorf("the service reads %d bytes, %v", len(got), err)
	}
	go func() {
		_, _ = service.Write(answer)
		_ = service.Close()
	}()
	if got, err := io.ReadAll(client); err != nil || !bytes.Equal(got, answer) {
		t.Errorf("the client reads %d bytes, %v", len(got), err)
	}
	if errs := wait(); errors.Join(errs[:]...) != nil {
		t.Errorf("%v", errs)
	}
}

// TestSpliceReset: a reset at one end is one at the other, whichever it is, and
// whichever way data goes.
func TestSpliceReset(t *testing.T) {
	t.Parallel()
	for _, who := range []string{"client", "service"} {
		for _, reads := range []bool{true, false} {
			client, service, wait := spliced(t)
			breaks, sees := client, service
			if who == "service" {
				breaks, sees = service, client
			}
			if _, err := breaks.Write([]byte("half")); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(sees, make([]byte, 4)); err != nil {
				t.Fatal(err)
			}
			if err := breaks.SetLinger(0); err != nil {
				t.Fatal(err)
			}
			if err := breaks.Close(); err != nil {
				t.Fatal(err)
			}
			var err error
			if reads {
				_, err = sees.Read(make([]byte, 1))
			} else {
				for err == nil {
					_, err = sees.Write(make([]byte, 1<<10))
				}
			}
			if !errors.Is(err, syscall.ECONNRESET) && (reads || !errors.Is(err, syscall.EPIPE)) {
				t.Errorf("the %s was reset, and the other end, reading: %v, sees %v", who, reads, err)
			}
			errs := wait()
			if got := errs[map[string]int{"client": 0, "service": 1}[who]]; !errors.Is(got, errLocalBroke) {
				t.Errorf("the splice of the %s says %v", who, got)
			}
		}
	}
}

// TestSpliceGoneReader: who sends to a reader that has ended both directions hears
// of it.
func TestSpliceGoneReader(t *testing.T) {
	t.Parallel()
	client, service, wait := spliced(t)
	if err := client.Close(); err != nil { // in good order, with something unread
		t.Fatal(err)
	}
	var err error
	for err == nil {
		_, err = service.Write(make([]byte, 64<<10))
	}
	if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		t.Errorf("the service sees %v", err)
	}
	wait()
}

// TestInputBreaksOff: input that cannot be read to its end does not look complete
// to the peer.
func TestInputBreaksOff(t *testing.T) {
	t.Parallel()
	a, b := linkPair(t)
	broken := errors.New("input/output error")
	e := &env{stdin: io.MultiReader(strings.NewReader("half"), iotest.ErrReader(broken)), stdout: io.Discard, stderr: io.Discard}
	done := make(chan error, 1)
	go func() { done <- pipeLink(context.Background(), e, newEvents(io.Discard, true), time.Now(), a) }()
	if got, err := io.ReadAll(b); err == nil || len(got) > 4 {
		t.Errorf("the peer reads %q, %v", got, err)
	}
	if err := <-done; !errors.Is(err, broken) {
		t.Errorf("the command says %v", err)
	}
	b.Abort("the test is over")
}
