package main

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/lmittmann/tint"
)

const (
	// logBurst lines of one message are written in logWindow; the rest are
	// counted, and the count is written with the next line. It is what a person
	// reads, and keeps strangers from filling the disk.
	logBurst  = 20
	logWindow = 10 * time.Second

	// maxMessages bounds the messages that are counted. They are static texts
	// of ours, so that there are fewer; past it they are not limited.
	maxMessages = 4096
)

// newLogger returns the daemon's logger. Its level can be changed at any time.
func newLogger(w io.Writer, format string, level *slog.LevelVar) *slog.Logger {
	var h slog.Handler
	switch {
	case format == "json":
		h = slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level})
	case format == "auto" && isTerminal(w):
		h = tint.NewTextHandler(w, &tint.Options{Level: level, TimeFormat: time.TimeOnly})
	default:
		h = slog.NewTextHandler(w, &slog.HandlerOptions{Level: level})
	}
	return slog.New(&limitedHandler{Handler: h, counts: &logCounts{seen: map[string]*logCount{}}})
}

// A limitedHandler writes each message so often in a while, errors too.
type limitedHandler struct {
	slog.Handler
	counts *logCounts
}

type logCounts struct {
	mu   sync.Mutex
	seen map[string]*logCount
}

type logCount struct {
	begun      time.Time
	n, dropped int
}

// Handle implements slog.Handler.
func (h *limitedHandler) Handle(ctx context.Context, r slog.Record) error {
	ok, dropped := h.counts.pass(r.Time, r.Level.String()+" "+r.Message)
	if !ok {
		return nil
	}
	if dropped > 0 {
		r = r.Clone()
		r.AddAttrs(slog.Int("dropped", dropped))
	}
	return h.Handler.Handle(ctx, r)
}

// pass says whether a message may be written, and how many like it were not.
func (c *logCounts) pass(now time.Time, msg string) (ok bool, dropped int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.seen[msg]
	if m == nil {
		if len(c.seen) >= maxMessages {
			return true, 0
		}
		m = &logCount{begun: now}
		c.seen[msg] = m
	}
	if now.Sub(m.begun) >= logWindow {
		m.begun, m.n = now, 0
	}
	if m.n++; m.n > logBurst {
		m.dropped++
		return false, 0
	}
	dropped, m.dropped = m.dropped, 0
	return true, dropped
}

// WithAttrs implements slog.Handler.
func (h *limitedHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &limitedHandler{h.Handler.WithAttrs(attrs), h.counts}
}

// WithGroup implements slog.Handler.
func (h *limitedHandler) WithGroup(name string) slog.Handler {
	return &limitedHandler{h.Handler.WithGroup(name), h.counts}
}
