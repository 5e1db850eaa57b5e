package main

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/pion/logging"
	"github.com/pion/turn/v5"
)

// serve runs the signalling and, on every global address of this machine, STUN
// and TURN.
func serve(ctx context.Context, listen string) error {
	t, err := newTURN()
	if err != nil {
		return err
	}
	defer t.Close()
	s := &http.Server{Addr: listen, Handler: newBoxes(), ReadHeaderTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() { s.Close() })
	if err := s.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func newTURN() (*turn.Server, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	cfg := turn.ServerConfig{Realm: "lab", LoggerFactory: logging.NewDefaultLoggerFactory(), AuthHandler: auth}
	for _, a := range addrs {
		n, ok := a.(*net.IPNet)
		if !ok || !n.IP.IsGlobalUnicast() {
			continue
		}
		at := net.JoinHostPort(n.IP.String(), turnPort)
		gen := &turn.RelayAddressGeneratorStatic{RelayAddress: n.IP, Address: n.IP.String()}
		pc, err := net.ListenPacket("udp", at)
		if err != nil {
			return nil, err
		}
		ln, err := net.Listen("tcp", at)
		if err != nil {
			return nil, err
		}
		cfg.PacketConnConfigs = append(cfg.PacketConnConfigs, turn.PacketConnConfig{PacketConn: pc, RelayAddressGenerator: gen})
		cfg.ListenerConfigs = append(cfg.ListenerConfigs, turn.ListenerConfig{Listener: ln, RelayAddressGenerator: gen})
	}
	return turn.NewServer(cfg)
}

func auth(ra *turn.RequestAttributes) (string, []byte, bool) {
	return ra.Username, turn.GenerateAuthKey(user, ra.Realm, secret), ra.Username == user
}

// boxes holds what each side of each token was sent.
type boxes struct {
	mu  sync.Mutex
	all map[string]*box
}

type box struct {
	messages []json.RawMessage
	more     chan struct{} // closed at the next message
}

const (
	maxBody  = 64 << 10
	pollTime = 30 * time.Second
)

func newBoxes() http.Handler {
	b := &boxes{all: map[string]*box{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /{token}/{to}", b.put)
	mux.HandleFunc("GET /{token}/{to}", b.get)
	return mux
}

func (b *boxes) box(r *http.Request) *box {
	name := r.PathValue("token") + "/" + r.PathValue("to")
	if b.all[name] == nil {
		b.all[name] = &box{more: make(chan struct{})}
	}
	return b.all[name]
}

func (b *boxes) put(w http.ResponseWriter, r *http.Request) {
	var ms []json.RawMessage
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&ms); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	x := b.box(r)
	x.messages = append(x.messages, ms...)
	close(x.more)
	x.more = make(chan struct{})
}

// get answers with the messages from ?from= on, and waits until there are some.
func (b *boxes) get(w http.ResponseWriter, r *http.Request) {
	from, err := strconv.Atoi(r.FormValue("from"))
	if err != nil || from < 0 {
		http.Error(w, "from", http.StatusBadRequest)
		return
	}
	limit := time.After(pollTime)
	for {
		b.mu.Lock()
		x := b.box(r)
		ms, more := x.messages[min(from, len(x.messages)):], x.more
		b.mu.Unlock()
		if len(ms) > 0 {
			json.NewEncoder(w).Encode(ms)
			return
		}
		select {
		case <-more:
		case <-limit:
			w.Write([]byte("[]"))
			return
		case <-r.Context().Done():
			return
		}
	}
}
