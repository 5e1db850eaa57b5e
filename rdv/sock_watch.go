package rdv

import (
	"bufio"
	"bytes"
	"time"
)

// A readWatch notices that a client stirs by reading from it, in a goroutine:
// for connections that are not plain sockets, such as TLS, and for systems
// where we have nothing better.
type readWatch struct {
	done chan struct{} // closed when the goroutine has ended
	b    [1]byte
	n    int
}

// watchByRead starts to watch c. The watch calls disturbed, unless it is ended
// before.
func watchByRead(c *client, disturbed func(*client, bool)) *readWatch {
	w := &readWatch{done: make(chan struct{})}
	conn := c.conn.Conn
	go func() {
		defer close(w.done)
		w.n, _ = conn.Read(w.b[:]) // the error says no more than that it is over
		disturbed(c, w.n > 0)
	}()
	return w
}

// end stops the watch, so that the connection can be read by others. What the
// watch has read by then stays to be read.
func (w *readWatch) end(c *Conn) {
	aLongTimeAgo := time.Unix(1, 0)
	_ = c.SetReadDeadline(aLongTimeAgo)
	<-w.done
	_ = c.SetReadDeadline(time.Time{})
	if w.n > 0 {
		c.br = bufio.NewReader(bytes.NewReader(w.b[:]))
		_, _ = c.br.Peek(w.n)
	}
}
