package rdv

import (
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A watcher tells when a client that waits stirs: leaves, or sends what it
// should not yet. It keeps an epoll instance of its own for that, so that who
// waits costs neither a goroutine nor a buffer; the instance is itself a file
// that the runtime's poller watches, so that it costs no thread either.
type watcher struct {
	disturbed func(c *client, early bool)

	mu      sync.Mutex // guards the following
	epoll   *os.File   // nil until the first client
	raw     syscall.RawConn
	closed  bool
	last    uint64
	clients map[uint64]*client
	done    chan struct{} // closed when run has ended
}

// A watch is the watcher's part of a client.
type watch struct {
	id   uint64
	read *readWatch // instead of id, if the client is not a TCP connection
}

func newWatcher(disturbed func(c *client, early bool)) *watcher {
	return &watcher{disturbed: disturbed, clients: make(map[uint64]*client)}
}

// openLocked makes the epoll instance, and starts to wait on it.
func (w *watcher) openLocked() error {
	if w.closed {
		return net.ErrClosed
	}
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // else the runtime does not poll it
		return errors.Join(err, unix.Close(fd))
	}
	epoll := os.NewFile(uintptr(fd), "epoll")
	raw, err := epoll.SyscallConn()
	if err != nil {
		return errors.Join(err, epoll.Close())
	}
	w.epoll, w.raw, w.done = epoll, raw, make(chan struct{})
	go w.run()
	return nil
}

// add watches a client. It never blocks.
func (w *watcher) add(c *client) error {
	raw := rawTCP(c.conn.Conn)
	if raw == nil {
		c.watch.read = watchByRead(c, w.disturbed)
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.epoll == nil {
		if err := w.openLocked(); err != nil {
			return err
		}
	}
	w.last++
	c.watch.id = w.last
	w.clients[c.watch.id] = c
	// One event is enough, it is over then.
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLONESHOT}
	ev.Fd, ev.Pad = int32(c.watch.id), int32(c.watch.id>>32)
	if err := w.control(unix.EPOLL_CTL_ADD, raw, &ev); err != nil {
		delete(w.clients, c.watch.id)
		return err
	}
	return nil
}

// remove ends the watch, so that the connection can be read by others.
func (w *watcher) remove(c *client) {
	if c.watch.read != nil {
		c.watch.read.end(&c.conn)
		return
	}
	w.forget(c.watch.id)
	if raw := rawTCP(c.conn.Conn); raw != nil {
		// An error means that the connection is gone, and the watch with it.
		_ = w.control(unix.EPOLL_CTL_DEL, raw, nil)
	}
}

func (w *watcher) forget(id uint64) *client {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := w.clients[id]
	delete(w.clients, id)
	return c
}

func (w *watcher) control(op int, raw syscall.RawConn, ev *unix.EpollEvent) error {
	var rawErr, ctlErr error
	epollErr := w.raw.Control(func(epfd uintptr) {
		rawErr = raw.Control(func(fd uintptr) { ctlErr = unix.EpollCtl(int(epfd), op, int(fd), ev) })
	})
	return errors.Join(epollErr, rawErr, ctlErr)
}

// run tells of disturbances until close.
func (w *watcher) run() {
	defer close(w.done)
	events := make([]unix.EpollEvent, 128)
	for {
		n := 0
		var waitErr error
		err := w.raw.Read(func(epfd uintptr) bool {
			n, waitErr = unix.EpollWait(int(epfd), events, 0)
			return n > 0 || (waitErr != nil && !errors.Is(waitErr, unix.EINTR))
		})
		if err != nil || waitErr != nil {
			return // closed
		}
		for _, ev := range events[:n] {
			if c := w.forget(uint64(uint32(ev.Fd)) | uint64(uint32(ev.Pad))<<32); c != nil {
				w.disturbed(c, sentData(c))
			}
		}
	}
}

// close ends run. Clients must have been removed before, and none is added
// any more.
func (w *watcher) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	if w.epoll != nil {
		_ = w.epoll.Close()
	}
}

// wait waits until run has ended, after close.
func (w *watcher) wait() {
	w.mu.Lock()
	done := w.done
	w.mu.Unlock()
	if done != nil {
		<-done
	}
}

// sentData reports whether there is something to read from c, without reading.
func sentData(c *client) bool {
	raw := rawTCP(c.conn.Conn)
	if raw == nil {
		return false
	}
	n := 0
	err := raw.Control(func(fd uintptr) {
		var b [1]byte
		n, _, _ = unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	})
	return err == nil && n > 0
}

// setDeadTimeout has the kernel give up a connection whose other end does not
// acknowledge anything, or take anything, for d; zero is the system's default.
// It does nothing for what is not a TCP connection.
func setDeadTimeout(c any, d time.Duration) error {
	raw := rawTCP(c)
	if raw == nil {
		return nil
	}
	var err error
	ctlErr := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
	})
	return errors.Join(ctlErr, err)
}
