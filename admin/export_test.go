package admin

import (
	"context"
	"net/http"
	"runtime"
)

// Handler is what a server serves, for tests that need no socket.
func (s *Server) Handler() http.Handler { return s.handler() }

// Columns are the names of a sample's numbers.
var Columns = columns[:]

// HistoryLen is how many samples are kept.
const HistoryLen = historyLen

// RunHub is what Start runs beside the listener.
func (s *Server) RunHub(ctx context.Context) { s.hub.run(ctx) }

// WaitSeen returns when the parts have been asked once.
func (s *Server) WaitSeen() {
	for s.seen.Load() == nil {
		runtime.Gosched()
	}
}
