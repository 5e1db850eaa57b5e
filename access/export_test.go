package access

import (
	"net/http"
	"time"
)

// SetClock has the gate ask now for the time.
func (c *Config) SetClock(now func() time.Time) { c.Now = now }

// SetTransport has the hook use rt.
func (h *Hook) SetTransport(rt http.RoundTripper) { h.client.Transport = rt }

// Answers is how many answers are remembered, and MaxAnswers how many can be.
func (h *Hook) Answers() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.answers)
}

const (
	MaxAnswers = maxAnswers
	MaxUsage   = maxUsage
)

// Add counts, as a relay does.
func (u *Usage) Add(id string, n int64) int64 { return u.add(id, n) }

// Len is how many tokens are counted.
func (u *Usage) Len() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.bytes)
}
