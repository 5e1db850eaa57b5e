package rdv

import "time"

// ReadCommand is readCommand.
var ReadCommand = readCommand

// RefreshEvery sets how often s repeats its claims.
func (s *Server) RefreshEvery(d time.Duration) { s.refreshEvery = d }

// Gate is what another server of the lobby asks with.
func (s *Server) Gate() string { return s.shared.pin.gate }

// Pending is how many clients wait for their claim to be made.
func (s *Server) Pending() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.shared.pending)
}
