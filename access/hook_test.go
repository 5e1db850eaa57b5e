package access_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/muster-p2p/muster/access"
	"github.com/muster-p2p/muster/internal/bubble"
)

// A service answers as an operator's does, without a network.
type service func(r *http.Request) (int, error)

func (s service) RoundTrip(r *http.Request) (*http.Response, error) {
	status, err := s(r)
	if err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: status, Body: io.NopCloser(strings.NewReader("")), Request: r}, nil
}

func newHook(t *testing.T, s service) *access.Hook {
	t.Helper()
	h, err := access.NewHook("http://127.0.0.1/admit?key=secret")
	if err != nil {
		t.Fatal(err)
	}
	h.SetTransport(s)
	return h
}

func TestHookAnswers(t *testing.T) {
	for status, want := range map[int]error{
		200: nil, 204: nil, 401: access.ErrForbidden, 403: access.ErrForbidden,
		302: access.ErrUnavailable, 404: access.ErrUnavailable, 500: access.ErrUnavailable,
	} {
		h := newHook(t, func(*http.Request) (int, error) { return status, nil })
		wantErr(t, http.StatusText(status), h.Ask(t.Context(), access.Question{Op: "relay"}), want)
	}
	h := newHook(t, func(*http.Request) (int, error) { return 0, errors.New("broken") })
	err := h.Ask(t.Context(), access.Question{})
	wantErr(t, "broken", err, access.ErrUnavailable)
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("%v holds the URL", err)
	}
}

func TestHookIsAskedWithoutSecrets(t *testing.T) {
	var got map[string]string
	h := newHook(t, func(r *http.Request) (int, error) { return 200, json.NewDecoder(r.Body).Decode(&got) })
	q := access.Question{Op: "reach", Peer: alice, Remote: remote, Token: "hush", Namespace: "lab"}
	if err := h.Ask(t.Context(), q); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"op": "reach", "peer": alice.String(), "remote": "203.0.113.7", "namespace": "lab",
	}
	if len(got["token_hash"]) != 64 || got["token_hash"] == "hush" {
		t.Errorf("token_hash %q", got["token_hash"])
	}
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s: got %q, want %q", k, got[k], v)
		}
	}
}

// TestHookFailsClosed: "fails closed within 1 s".
func TestHookFailsClosed(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		h := newHook(t, func(r *http.Request) (int, error) {
			<-r.Context().Done()
			return 0, context.Cause(r.Context())
		})
		for range 3 {
			begun := time.Now()
			wantErr(t, "silent", h.Ask(t.Context(), access.Question{Op: "relay"}), access.ErrUnavailable)
			if d := time.Since(begun); d != access.HookTimeout {
				t.Errorf("took %v", d)
			}
		}
		if h.Health() == nil {
			t.Error("healthy after three failures")
		}
	})
}

func TestHookIsBounded(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		h := newHook(t, func(r *http.Request) (int, error) {
			<-r.Context().Done()
			return 0, context.Cause(r.Context())
		})
		errs := make(chan error)
		const n = access.HookParallel + 10
		begun := time.Now()
		for range n {
			go func() { errs <- h.Ask(t.Context(), access.Question{Op: "relay"}) }()
		}
		late := 0
		for range n {
			if err := <-errs; !errors.Is(err, access.ErrUnavailable) {
				t.Errorf("got %v", err)
			}
			if time.Since(begun) > 0 {
				late++
			}
		}
		if late != access.HookParallel {
			t.Errorf("%d were asked at once, want %d", late, access.HookParallel)
		}
	})
}

func TestHookRemembers(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		h := newHook(t, func(*http.Request) (int, error) { asked.Add(1); return 200, nil })
		ask := func(ns string) { wantErr(t, ns, h.Ask(t.Context(), access.Question{Namespace: ns}), nil) }
		ask("lab")
		ask("lab")
		if asked.Load() != 1 {
			t.Errorf("asked %d times", asked.Load())
		}
		time.Sleep(30 * time.Second)
		ask("lab")
		if asked.Load() != 2 {
			t.Errorf("asked %d times after the answer was old", asked.Load())
		}
		for i := range access.MaxAnswers + 100 {
			ask(time.Duration(i).String())
		}
		if h.Answers() > access.MaxAnswers {
			t.Errorf("%d answers are remembered", h.Answers())
		}
	})
}

// TestGateAsksHook: the hook decides on tokens that are not known here, and
// has the last word on those that are, but not on refusals and on meetings.
func TestGateAsksHook(t *testing.T) {
	status, asked := 200, 0
	cfg := access.Config{
		Policy: access.Policy{Relay: access.ByToken, RegisterNames: []string{"lab"}},
		Minter: newMinter(t, 1),
		Hook:   newHook(t, func(*http.Request) (int, error) { asked++; return status, nil }),
	}
	g, err := access.NewGate(cfg)
	if err != nil {
		t.Fatal(err)
	}
	relay := func(token, bearer string) error {
		_, err := g.Relay(t.Context(), access.RelayRequest{Token: token, Bearer: bearer})
		return err
	}
	wantErr(t, "a token of the operator's", relay("room", "theirs"), nil)
	wantErr(t, "no token", relay("room", ""), access.ErrUnauthorized)
	wantErr(t, "a name that is served", g.Register(t.Context(), alice, remote, "lab"), nil)
	before := asked
	wantErr(t, "a name that is not", g.Register(t.Context(), alice, remote, "other"), access.ErrForbidden)
	wantErr(t, "a meeting", relay(g.Mint(access.Grant{}, time.Minute), ""), nil)
	if asked != before {
		t.Error("asked for what is decided")
	}
	status = 403
	wantErr(t, "refused by the service", relay("room", "others"), access.ErrForbidden)
	wantErr(t, "refused by the service", g.Register(t.Context(), bob, remote, "lab"), access.ErrForbidden)
}

func TestHookURL(t *testing.T) {
	for _, u := range []string{"", "ftp://x/", "http://", "://", "admit"} {
		if _, err := access.NewHook(u); err == nil {
			t.Errorf("%q was taken", u)
		}
	}
}

// TestHookIsNotBlamedForCallers: strangers who go away while the service is asked
// do not make the point unready.
func TestHookIsNotBlamedForCallers(t *testing.T) {
	h := newHook(t, func(r *http.Request) (int, error) { <-r.Context().Done(); return 0, r.Context().Err() })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 5 {
		wantErr(t, "gone", h.Ask(ctx, access.Question{Op: "relay"}), access.ErrUnavailable)
	}
	if err := h.Health(); err != nil {
		t.Errorf("callers who went away count: %v", err)
	}
}

// TestHookIsNotTold: where the service is, is nobody's business but the log's.
func TestHookIsNotTold(t *testing.T) {
	h := newHook(t, func(*http.Request) (int, error) { return 0, errors.New("dial tcp 10.1.2.3:80: refused") })
	g, err := access.NewGate(access.Config{Policy: access.Policy{Relay: access.OpenToEach}, Hook: h})
	if err != nil {
		t.Fatal(err)
	}
	_, err = g.Reach(t.Context(), access.ReachRequest{Peer: alice})
	wantErr(t, "down", err, access.ErrUnavailable)
	if strings.Contains(err.Error(), "10.1.2.3") {
		t.Errorf("strangers are told %q", err)
	}
}
