package access

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

const (
	// HookTimeout is how long an operator's service may take: who waits for an
	// answer is somebody who dials.
	HookTimeout = time.Second

	// HookParallel bounds the questions that are asked at a time. One more is
	// refused: to wait would be to be late.
	HookParallel = 64

	// Answers are remembered for a while, refusals for less: who was refused
	// asks the operator and comes again.
	hookYes, hookNo = 30 * time.Second, 5 * time.Second

	// maxAnswers bounds what is remembered, at some 150 bytes each.
	maxAnswers = 8192

	// failuresUnhealthy in a row make the hook unhealthy.
	failuresUnhealthy = 3
)

// A Question is what a Hook is asked.
type Question struct {
	Op        string     // relay, reach, register
	Peer      peer.ID    // empty for op relay
	Remote    netip.Addr // zero if not known
	Token     string     // sent as its SHA-256, in hexadecimal
	Namespace string
}

// question is the JSON of a Question.
type question struct {
	Op        string `json:"op"`
	Peer      string `json:"peer,omitempty"`
	Remote    string `json:"remote,omitempty"`
	TokenHash string `json:"token_hash,omitempty"`
	Namespace string `json:"namespace,omitempty"`
}

// A Hook asks an operator's HTTP service who may use the point: by POST, with
// an object of op, peer, remote, token_hash and namespace. Status 200 or 204 is
// a yes, 401 and 403 a no. Whatever else comes, or nothing within HookTimeout,
// refuses too. Redirects are not followed. It may be used by several goroutines
// at once.
type Hook struct {
	url    string
	client *http.Client
	slots  chan struct{}
	now    func() time.Time

	mu       sync.Mutex // guards the following
	answers  map[[sha256.Size]byte]answer
	failures int
	err      error // the last failure
}

type answer struct {
	err   error
	until time.Time
}

// NewHook returns the hook of an http or https URL.
func NewHook(rawURL string) (*Hook, error) {
	u, err := url.Parse(rawURL)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, fmt.Errorf("access: the hook is not an http or https URL")
	}
	return &Hook{
		url: rawURL,
		client: &http.Client{
			Timeout:       HookTimeout,
			Transport:     &http.Transport{MaxIdleConnsPerHost: HookParallel, MaxConnsPerHost: HookParallel, IdleConnTimeout: time.Minute},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		slots:   make(chan struct{}, HookParallel),
		now:     time.Now,
		answers: make(map[[sha256.Size]byte]answer),
	}, nil
}

// Ask returns nil if the service lets somebody in, ErrForbidden if not, and
// ErrUnavailable if it does not say.
func (h *Hook) Ask(ctx context.Context, q Question) error {
	body, err := json.Marshal(q.wire())
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	key := sha256.Sum256(body)
	if a, ok := h.remembered(key); ok {
		return a.err
	}
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	default:
		return fmt.Errorf("%w: too many ask", ErrUnavailable)
	}
	limited, cancel := context.WithTimeout(ctx, HookTimeout)
	defer cancel()
	err = h.post(limited, body)
	if err != nil && errors.Is(ctx.Err(), context.Canceled) {
		return err // who asked has gone, which says nothing of the service
	}
	h.remember(key, err)
	return err
}

func (q Question) wire() question {
	w := question{Op: q.Op, Namespace: q.Namespace}
	if q.Peer != "" {
		w.Peer = q.Peer.String()
	}
	if q.Remote.IsValid() {
		w.Remote = q.Remote.String()
	}
	if q.Token != "" {
		sum := sha256.Sum256([]byte(q.Token))
		w.TokenHash = hex.EncodeToString(sum[:])
	}
	return w
}

func (h *Hook) post(ctx context.Context, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := h.client.Do(req)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, withoutURL(err))
	}
	const drain = 4 << 10 // for the connection to be used again
	_, _ = io.CopyN(io.Discard, resp.Body, drain)
	_ = resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK, http.StatusNoContent:
		return nil
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("%w: the operator's service says no", ErrForbidden)
	default:
		return fmt.Errorf("%w: the operator's service answered %d", ErrUnavailable, resp.StatusCode)
	}
}

// withoutURL leaves the URL out of an error, which may hold a password.
func withoutURL(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

func (h *Hook) remembered(key [sha256.Size]byte) (answer, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	a, ok := h.answers[key]
	return a, ok && h.now().Before(a.until)
}

// remember keeps an answer, and no failure: the next may be answered.
func (h *Hook) remember(key [sha256.Size]byte, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if errors.Is(err, ErrUnavailable) {
		h.failures++
		h.err = err
		return
	}
	h.failures, h.err = 0, nil
	now, ttl := h.now(), hookYes
	if err != nil {
		ttl = hookNo
	}
	if len(h.answers) >= maxAnswers {
		h.makeRoomLocked(now)
	}
	h.answers[key] = answer{err, now.Add(ttl)}
}

// makeRoomLocked drops what is over, and something if nothing is: the order of
// a map is random enough.
func (h *Hook) makeRoomLocked(now time.Time) {
	for k, a := range h.answers {
		if !now.Before(a.until) || len(h.answers) >= maxAnswers {
			delete(h.answers, k)
		}
	}
}

// Health returns nil, or why the service is taken to be down.
func (h *Hook) Health() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failures < failuresUnhealthy {
		return nil
	}
	return h.err
}

// Close closes the idle connections to the service.
func (h *Hook) Close() { h.client.CloseIdleConnections() }
