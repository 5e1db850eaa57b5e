//go:build !linux

package rdv

import "time"

// A watcher tells when a client that waits stirs: leaves, or sends what it
// should not yet.
type watcher struct{ disturbed func(c *client, early bool) }

// A watch is the watcher's part of a client.
type watch struct{ read *readWatch }

func newWatcher(disturbed func(c *client, early bool)) *watcher {
	return &watcher{disturbed: disturbed}
}

// add watches a client. It never blocks.
func (w *watcher) add(c *client) error {
	c.watch.read = watchByRead(c, w.disturbed)
	return nil
}

// remove ends the watch, so that the connection can be read by others.
func (w *watcher) remove(c *client) { c.watch.read.end(&c.conn) }

func (w *watcher) close() {}
func (w *watcher) wait()  {}

// setDeadTimeout is left to the system's defaults and keepalives.
func setDeadTimeout(any, time.Duration) error { return nil }
