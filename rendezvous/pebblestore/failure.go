package pebblestore

import "fmt"

// pebbleLogger passes Pebble's messages on. Pebble calls Fatalf when a write
// has failed and it no longer knows what is on the disk; the call must not
// return, and Pebble's own ends the process.
type pebbleLogger struct{ s *Store }

func (l pebbleLogger) Infof(string, ...any) {} // what it flushes and compacts

func (l pebbleLogger) Errorf(format string, args ...any) {
	l.s.log.Error("rendezvous store: database error", "err", fmt.Sprintf(format, args...))
}

// Fatalf refuses all changes from now on and never returns: the goroutine that
// calls it, and those that wait for it, stay behind.
func (l pebbleLogger) Fatalf(format string, args ...any) {
	l.s.fail(fmt.Errorf("pebblestore: the disk failed, restart when it is whole: "+format, args...))
	select {}
}

// fail makes err the answer to every call from now on.
func (s *Store) fail(err error) {
	if !s.failOnce.CompareAndSwap(false, true) {
		return
	}
	s.failure.Store(&err)
	close(s.broken)
	s.queue.Close()
	s.queue.Done()
	s.log.Error("rendezvous store: disk failed, changes are refused until a restart", "dir", s.cfg.Dir, "err", err)
}

func (s *Store) failed() error {
	if err := s.failure.Load(); err != nil {
		return *err
	}
	return nil
}
