package rdv_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-p2p/muster/internal/bubble"
	"github.com/muster-p2p/muster/rdv"
)

// pipeConn returns the server's connection to a client, and the client's end.
// Each write takes until it is read, so that nothing hides in a buffer.
func pipeConn(method, seenAt string) (*rdv.Conn, net.Conn) {
	c, s := net.Pipe()
	observed := netip.MustParseAddrPort(seenAt)
	return &rdv.Conn{Conn: s, Meta: &rdv.Meta{Method: method, Token: "t", ObservedAddr: &observed}}, c
}

// relayInBubble runs Relay for a pair, and returns the clients' ends and what
// Relay returns.
func relayInBubble(ctx context.Context, r *rdv.Relayer, seenAt string) (d, a net.Conn, result chan relayResult) {
	dc, d := pipeConn(rdv.DIAL, seenAt)
	ac, a := pipeConn(rdv.ACCEPT, "198.51.100.9:1")
	result = make(chan relayResult, 1)
	begun := time.Now()
	go func() {
		n1, n2, err := r.Relay(ctx, ac, dc, dc, ac)
		result <- relayResult{n1, n2, err, time.Since(begun)}
	}()
	return d, a, result
}

type relayResult struct {
	n1, n2 int64
	err    error
	took   time.Duration
}

func TestIdleTimeout(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := &rdv.Relayer{IdleTimeout: time.Minute}
		d, a, result := relayInBubble(t.Context(), r, atHome)
		time.Sleep(50 * time.Second)
		go func() { _, _ = d.Write([]byte("x")) }()
		if _, err := io.ReadFull(a, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		got := <-result
		if !errors.Is(got.err, os.ErrDeadlineExceeded) || got.took != 110*time.Second {
			t.Errorf("%v after %v, want a timeout after 110s", got.err, got.took)
		}
		if n, err := a.Read(make([]byte, 1)); err != io.EOF { //nolint:errorlint // of a pipe
			t.Errorf("acceptor reads %d, %v", n, err)
		}
		if st := r.Stats(); st.Idle != 1 || st.Relaying != 0 {
			t.Errorf("stats %+v", st)
		}
	})
}

const atHome = "192.0.2.1:4000"

// Data one way keeps a pair alive.
func TestIdleTimeoutIsOfThePair(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d, a, result := relayInBubble(t.Context(), &rdv.Relayer{IdleTimeout: time.Minute}, atHome)
		go func() { _, _ = io.Copy(io.Discard, a) }()
		for range 10 {
			time.Sleep(40 * time.Second)
			if _, err := d.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
		}
		if got := <-result; got.took != 460*time.Second || got.n1 != 10 {
			t.Errorf("%d bytes, ended after %v, want 10 and 460s", got.n1, got.took)
		}
	})
}

func TestWriteTimeout(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := &rdv.Relayer{WriteTimeout: 20 * time.Second}
		d, _, result := relayInBubble(t.Context(), r, atHome) // the acceptor never reads
		if _, err := d.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		got := <-result
		if !errors.Is(got.err, os.ErrDeadlineExceeded) || got.took < 20*time.Second || got.took > 25*time.Second {
			t.Errorf("%v after %v, want a timeout after 20 to 25s", got.err, got.took)
		}
		if st := r.Stats(); st.Stuck != 1 {
			t.Errorf("stats %+v", st)
		}
	})
}

func TestRelayEndsWithItsContext(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		d, _, result := relayInBubble(ctx, &rdv.Relayer{}, atHome)
		time.Sleep(time.Hour) // a zero Relayer has no idle timeout
		why := errors.New("why")
		cancel(why)
		if got := <-result; !errors.Is(got.err, why) {
			t.Errorf("got %v, want the cause", got.err)
		}
		if _, err := d.Read(make([]byte, 1)); err == nil {
			t.Error("dialer still connected")
		}
	})
}

// Rates are those of both directions together.
func TestRates(t *testing.T) {
	const rate, seconds = 1 << 20, 20
	for _, tt := range []struct {
		name    string
		relayer *rdv.Relayer
		pairs   []string // where the dialers are
		each    int      // bytes per second of a pair
	}{
		{"pair", &rdv.Relayer{PairRate: rate}, []string{atHome, atHome}, rate},
		{"source", &rdv.Relayer{SourceRate: rate}, []string{atHome, "192.0.2.1:5000"}, rate / 2},
		{"other source", &rdv.Relayer{SourceRate: rate}, []string{atHome}, rate},
		{"total", &rdv.Relayer{TotalRate: rate}, []string{atHome, "192.0.2.2:1", "192.0.2.3:1", "192.0.2.4:1"}, rate / 4},
		{"least", &rdv.Relayer{PairRate: rate, SourceRate: rate / 2, TotalRate: rate * 8}, []string{atHome}, rate / 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				var wg sync.WaitGroup
				for _, seenAt := range tt.pairs {
					d, a, result := relayInBubble(t.Context(), tt.relayer, seenAt)
					want := tt.each * seconds
					wg.Go(func() {
						_, _ = d.Write(make([]byte, want/2))
						_ = d.Close()
					})
					go func() { _, _ = a.Write(make([]byte, want)) }() // ends with the pair
					go func() { _, _ = io.Copy(io.Discard, d) }()
					wg.Go(func() { _, _ = io.Copy(io.Discard, a) })
					wg.Go(func() {
						got := <-result
						bps := float64(got.n1+got.n2) / got.took.Seconds() / float64(tt.each)
						if bps < 0.9 || bps > 1.1 {
							t.Errorf("%d+%d bytes in %v: %.2f of the rate", got.n1, got.n2, got.took, bps)
						}
					})
				}
				wg.Wait()
			})
		})
	}
}

// Who reconnects all the time gets no more than who stays.
func TestSourceRateSurvivesThePair(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		const rate, each, times = 1 << 20, 128 << 10, 80
		r := &rdv.Relayer{SourceRate: rate}
		begun := time.Now()
		for range times {
			d, a, result := relayInBubble(t.Context(), r, atHome)
			go func() { _, _ = d.Write(make([]byte, each)); _ = d.Close() }()
			_, _ = io.Copy(io.Discard, a)
			<-result
		}
		if took, want := time.Since(begun), time.Second*each*times/rate; took < want*9/10 {
			t.Errorf("took %v, want about %v", took, want)
		}
	})
}

// A wrapped reader is copied from, as documented.
func TestRelayThroughReaders(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		dc, d := pipeConn(rdv.DIAL, atHome)
		ac, a := pipeConn(rdv.ACCEPT, atHome)
		var tapped bytes.Buffer
		result := make(chan relayResult, 1)
		go func() {
			n1, n2, err := new(rdv.Relayer).Relay(t.Context(), ac, dc, io.TeeReader(dc, &tapped), ac)
			result <- relayResult{n1: n1, n2: n2, err: err}
		}()
		sent := bytes.Repeat([]byte("muster"), 1<<15)
		go func() { _, _ = d.Write(sent); _ = d.Close() }()
		got, err := io.ReadAll(a)
		if err != nil || !bytes.Equal(got, sent) {
			t.Errorf("%d bytes, %v; want %d", len(got), err, len(sent))
		}
		res := <-result
		if !errors.Is(res.err, io.EOF) || res.n1 != int64(len(sent)) || !bytes.Equal(tapped.Bytes(), sent) {
			t.Errorf("relayed %d, %v; tapped %d", res.n1, res.err, tapped.Len())
		}
	})
}

// A dialer that does not say what it picked is let go.
func TestCommandTimeout(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		dc, d := pipeConn(rdv.DIAL, atHome)
		ac, a := pipeConn(rdv.ACCEPT, atHome)
		go func() { _, _ = io.Copy(io.Discard, d) }()
		go func() { _, _ = io.Copy(io.Discard, a) }()
		begun := time.Now()
		r := &rdv.Relayer{}
		err := r.Continue(t.Context(), dc, ac)
		if took := time.Since(begun); !errors.Is(err, os.ErrDeadlineExceeded) || took != rdv.DefaultCommandTimeout {
			t.Errorf("%v after %v, want a timeout after %v", err, took, rdv.DefaultCommandTimeout)
		}
		if st := r.Stats(); st.Silent != 1 {
			t.Errorf("stats %+v", st)
		}
		_, _, _, _ = d.Close(), a.Close(), dc.Close(), ac.Close()
	})
}

func TestContinueEndsWithItsContext(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		dc, d := pipeConn(rdv.DIAL, atHome)
		ac, a := pipeConn(rdv.ACCEPT, atHome)
		go func() { _, _ = io.Copy(io.Discard, d) }()
		go func() { _, _ = io.Copy(io.Discard, a) }()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := new(rdv.Relayer).Continue(ctx, dc, ac); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the context's", err)
		}
		_, _, _, _ = d.Close(), a.Close(), dc.Close(), ac.Close()
	})
}

// writeCounter notes each write: the responses must leave in one.
type writeCounter struct {
	net.Conn
	mu     sync.Mutex
	writes []string
}

func (c *writeCounter) Write(p []byte) (int, error) {
	c.mu.Lock()
	c.writes = append(c.writes, string(p))
	c.mu.Unlock()
	return len(p), nil
}

func TestResponsesAreOneWrite(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		dc, d := pipeConn(rdv.DIAL, atHome)
		ac, _ := pipeConn(rdv.ACCEPT, atHome)
		dw, aw := &writeCounter{Conn: dc.Conn}, &writeCounter{Conn: ac.Conn}
		dc.Conn, ac.Conn = dw, aw
		go func() { _, _ = io.WriteString(d, "CONTINUE\n") }()
		if err := new(rdv.Relayer).Continue(t.Context(), dc, ac); err != nil {
			t.Fatal(err)
		}
		if len(dw.writes) != 1 || !strings.HasSuffix(dw.writes[0], "\r\n\r\n") {
			t.Errorf("dialer's writes: %q", dw.writes)
		}
		if len(aw.writes) != 2 || !strings.HasSuffix(aw.writes[0], "\r\n\r\n") || aw.writes[1] != "CONTINUE\n" {
			t.Errorf("acceptor's writes: %q", aw.writes)
		}
	})
}

// Only a pair that knows the extension hears of it, both with one nonce.
func TestExtension(t *testing.T) {
	for _, tt := range []struct{ d, a, wantD, wantA string }{
		{"", "", "", ""},
		{"proof", "", "", ""},
		{"", "proof", "", ""},
		{"relay", "proof; relay", "", ""},
		{"proof", "proof; relay", "proof; relay; nonce=", "proof; nonce="},
	} {
		t.Run(tt.d+"|"+tt.a, func(t *testing.T) {
			p := serve(t, &rdv.Server{})
			a := p.dial().ask(rdv.ACCEPT, "t", "Rdv-Ext: "+tt.a)
			p.waiting(1)
			d := p.dial().ask(rdv.DIAL, "t", "Rdv-Ext: "+tt.d)
			gotD := d.wantStatus(http.StatusSwitchingProtocols).Header.Get("Rdv-Peer-Ext")
			gotA := a.wantStatus(http.StatusSwitchingProtocols).Header.Get("Rdv-Peer-Ext")
			wordsD, nonceD, _ := strings.Cut(gotD, "nonce=")
			wordsA, nonceA, _ := strings.Cut(gotA, "nonce=")
			if nonceD != "" {
				wordsD, wordsA = wordsD+"nonce=", wordsA+"nonce="
			}
			if wordsD != tt.wantD || wordsA != tt.wantA || nonceD != nonceA {
				t.Errorf("dialer %q, acceptor %q", gotD, gotA)
			}
		})
	}
}

// A hijacked is a response to a client at the other end of a pipe.
type hijacked struct {
	*httptest.ResponseRecorder
	conn net.Conn
}

func (h hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return h.conn, bufio.NewReadWriter(bufio.NewReader(h.conn), bufio.NewWriter(h.conn)), nil
}

// join upgrades a request in a bubble.
func join(t *testing.T, s *rdv.Server, method, token string) net.Conn {
	t.Helper()
	c, conn := net.Pipe()
	r := httptest.NewRequest(method, "/"+token, http.NoBody)
	r.RemoteAddr = atHome
	r.Header.Set("Connection", "upgrade")
	r.Header.Set("Upgrade", "rdv/1")
	if err := s.Upgrade(hijacked{httptest.NewRecorder(), conn}, r); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestLobbyTimeout(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := &rdv.Server{LobbyTimeout: time.Minute}
		defer func() { _ = s.Close() }()
		for i := range 3 {
			begun := time.Now()
			early := join(t, s, rdv.DIAL, fmt.Sprint("early", i))
			time.Sleep(10 * time.Second)
			late := join(t, s, rdv.DIAL, fmt.Sprint("late", i))
			for c, want := range map[net.Conn]time.Duration{early: time.Minute, late: 70 * time.Second} {
				go func() {
					resp, err := http.ReadResponse(bufio.NewReader(c), nil)
					if err != nil || resp.StatusCode != http.StatusRequestTimeout || time.Since(begun) != want {
						t.Errorf("%v, %v after %v; want 408 after %v", resp, err, time.Since(begun), want)
					}
				}()
			}
			time.Sleep(2 * time.Minute) // the lobby is empty for a while
		}
		if st := s.Stats(); st.Expired != 6 || st.Waiting != 0 {
			t.Errorf("stats %+v", st)
		}
	})
}

// A connection that is no socket is watched by reading from it; what is read
// as the peer comes is not lost.
func TestWaitersThatAreNoSockets(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := &rdv.Server{}
		defer func() { _ = s.Close() }()
		gone := join(t, s, rdv.DIAL, "gone")
		_ = gone.Close()
		synctest.Wait()
		chatty := join(t, s, rdv.DIAL, "chatty")
		go func() { _, _ = io.WriteString(chatty, "hello") }()
		resp, err := http.ReadResponse(bufio.NewReader(chatty), nil)
		if err != nil || resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%v, %v; want 400", resp, err)
		}
		_ = chatty.Close()
		a := join(t, s, rdv.ACCEPT, "t")
		d := join(t, s, rdv.DIAL, "t")
		for _, c := range []net.Conn{d, a} {
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
				t.Errorf("%v, %v; want 101", resp, err)
			}
		}
		go func() { _, _ = io.WriteString(d, "CONTINUE\nhello") }()
		got := make([]byte, len("CONTINUE\nhello"))
		if _, err := io.ReadFull(a, got); err != nil || string(got) != "CONTINUE\nhello" {
			t.Errorf("%q, %v", got, err)
		}
		_, _ = d.Close(), a.Close()
		synctest.Wait()
		if st := s.Stats(); st.Gone != 1 || st.Early != 1 || st.Pairs != 0 {
			t.Errorf("stats %+v", st)
		}
	})
}

// Much data both ways at once, over sockets: on Linux it is spliced.
func TestRelayMovesEverything(t *testing.T) {
	size := 32 << 20
	if testing.Short() {
		size = 2 << 20
	}
	block := make([]byte, size)
	for i := range block {
		block[i] = byte(i * 2654435761 >> 13)
	}
	r := &rdv.Relayer{}
	p := serve(t, &rdv.Server{Handler: r})
	d, a := p.relayed("t")
	var wg sync.WaitGroup
	for _, c := range []*caller{d, a} {
		wg.Go(func() {
			_, _ = c.Write(block)
			_ = c.CloseWrite()
		})
		wg.Go(func() {
			got, err := io.ReadAll(c.r)
			if err != nil || !bytes.Equal(got, block) {
				t.Errorf("%d bytes, %v; want %d", len(got), err, len(block))
			}
		})
	}
	wg.Wait()
	p.eventually(func() bool { return r.Stats().Relaying == 0 }, "relay done")
	if got := r.Stats().Bytes; got != int64(2*size) {
		t.Errorf("%d bytes counted, want %d", got, 2*size)
	}
}

// A peer that resets takes the other with it.
func TestResetEndsThePair(t *testing.T) {
	p := serve(t, &rdv.Server{})
	d, a := p.relayed("t")
	if err := a.SetLinger(0); err != nil {
		t.Fatal(err)
	}
	_ = a.Close()
	d.wantEnd()
	p.eventually(func() bool { return p.srv.Stats().Pairs == 0 }, "pair gone")
}

// A peer that takes nothing blocks its sender, and ends with the timeout.
func TestStuckReaderOverSockets(t *testing.T) {
	r := &rdv.Relayer{WriteTimeout: 200 * time.Millisecond}
	p := serve(t, &rdv.Server{Handler: r})
	d, _ := p.relayed("t")
	chunk := make([]byte, 1<<20)
	var err error
	for err == nil {
		_, err = d.Write(chunk)
	}
	if isTimeout(err) {
		t.Errorf("the server did not end it: %v", err)
	}
	p.eventually(func() bool { return r.Stats().Stuck == 1 }, "counted")
}

func FuzzCommand(f *testing.F) {
	for _, s := range []string{"CONTINUE\n", "CONTINUE\r\nx", "OTHER 192.0.2.1:4000\n", "OTHER [2001:db8::1]:1\n", "\n", "OTHER \xff\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		cmd, err := rdv.ReadCommand(r)
		read := b[:len(b)-r.Len()]
		if err != nil {
			return
		}
		if want := cmd.AppendTo(nil); !bytes.Equal(bytes.ReplaceAll(read, []byte("\r"), nil), want) && !cmd.Other.IsValid() {
			t.Errorf("read %q for %q", read, want)
		}
		if bytes.Count(read, []byte("\n")) != 1 || !bytes.HasSuffix(read, []byte("\n")) {
			t.Errorf("read %q, want exactly one line", read)
		}
	})
}

func FuzzTrustedProxies(f *testing.F) {
	trusted := rdv.TrustedProxies(netip.MustParsePrefix("10.0.0.0/8"))
	f.Add("192.0.2.1, 10.0.0.1", "4711")
	f.Add("[2001:db8::1]:1", "443")
	f.Fuzz(func(t *testing.T, hops, port string) {
		a, err := trusted(&http.Request{RemoteAddr: "10.0.0.1:1", Header: http.Header{"X-Forwarded-For": {hops}, "X-Forwarded-Port": {port}}})
		if err == nil && (!a.Addr().IsValid() || a.Addr().Is4In6() || a.Addr().Zone() != "") {
			t.Errorf("%q: %v", hops, a)
		}
	})
}

func ExampleServer() {
	server := &rdv.Server{LobbyTimeout: time.Minute}
	defer func() { _ = server.Close() }()
	mux := http.NewServeMux()
	mux.Handle("/rdv/", http.StripPrefix("/rdv/", server))
	front := httptest.NewServer(mux)
	defer front.Close()

	resp, err := http.Get(front.URL + "/rdv/token") // no peer, but a browser
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = resp.Body.Close() }()
	fmt.Println(resp.Status)
	// Output: 426 Upgrade Required
}

func ExampleTrustedProxies() {
	observed := rdv.TrustedProxies(netip.MustParsePrefix("10.0.0.0/8"))
	a, err := observed(&http.Request{
		RemoteAddr: "10.0.0.1:55000",
		Header:     http.Header{"X-Forwarded-For": {"203.0.113.7"}, "X-Forwarded-Port": {"4711"}},
	})
	fmt.Println(a, err)
	// Output: 203.0.113.7:4711 <nil>
}

// TestRelayCharged: who pays is told of every byte, and an error of theirs ends
// the pair.
func TestRelayCharged(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		dc, d := pipeConn(rdv.DIAL, atHome)
		ac, a := pipeConn(rdv.ACCEPT, "198.51.100.9:1")
		errSpent := errors.New("spent")
		result := make(chan relayResult, 1)
		spent := 0
		go func() {
			n1, n2, err := new(rdv.Relayer).RelayCharged(t.Context(), ac, dc, dc, ac, func(n int) error {
				if spent += n; spent > 100 {
					return errSpent
				}
				return nil
			})
			result <- relayResult{n1: n1, n2: n2, err: err}
		}()
		go func() {
			for range 3 {
				_, _ = d.Write(make([]byte, 50))
			}
		}()
		n, _ := io.Copy(io.Discard, a)
		got := <-result
		if !errors.Is(got.err, errSpent) || got.n1 != 150 || spent != 150 || n != 150 {
			t.Errorf("%+v, charged %d, arrived %d", got, spent, n)
		}
	})
}
