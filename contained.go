package muster

import (
	"log/slog"
	"runtime/debug"
	"sync/atomic"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"
)

// A containedHost keeps a panic in a handler of one stream from ending the
// process: the stream is reset, the panic counted and logged with its stack.
// Nobody else is the worse for it.
type containedHost struct {
	host.Host
	log    *slog.Logger
	panics *atomic.Uint64
}

// contain returns h with handlers that are contained. It has identify for the
// rooms that ask for it, if h has.
func contain(h host.Host, log *slog.Logger, panics *atomic.Uint64) host.Host {
	c := &containedHost{Host: h, log: log, panics: panics}
	if ids, ok := h.(identifier); ok {
		return struct {
			*containedHost
			identifier
		}{c, ids}
	}
	return c
}

type identifier interface{ IDService() identify.IDService }

// SetStreamHandler implements host.Host.
func (c *containedHost) SetStreamHandler(pid protocol.ID, h network.StreamHandler) {
	c.Host.SetStreamHandler(pid, c.wrap(string(pid), h))
}

// SetStreamHandlerMatch implements host.Host.
func (c *containedHost) SetStreamHandlerMatch(pid protocol.ID, m func(protocol.ID) bool, h network.StreamHandler) {
	c.Host.SetStreamHandlerMatch(pid, m, c.wrap(string(pid), h))
}

func (c *containedHost) wrap(part string, h network.StreamHandler) network.StreamHandler {
	return func(s network.Stream) {
		defer func() {
			if p := recover(); p != nil {
				c.panics.Add(1)
				c.log.Error("handler panicked", "part", part, "panic", p, "stack", string(debug.Stack()))
				_ = s.Reset()
			}
		}()
		h(s)
	}
}
