package admin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// MaxConns bounds connections at once: browsers open six each, and the
	// daemon's descriptors are for its peers. One more is closed at once.
	MaxConns = 64

	socketMode = 0o600            // only the owner may ask
	dirMode    = 0o700            // of a socket's directory, if it is made
	probeTime  = time.Second      // for another daemon to accept
	keepAlive  = 15 * time.Second // finds browsers that vanished
)

func (e endpoint) listen(ctx context.Context) (net.Listener, error) {
	if e.network == "unix" {
		return listenUnix(e.addr)
	}
	lc := net.ListenConfig{KeepAlive: keepAlive}
	ln, err := lc.Listen(ctx, "tcp", e.addr)
	if err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}
	return ln, nil
}

// listenUnix binds path such that at no time anybody else can connect: the
// socket is made in a directory of its own, gets its mode there, and then takes
// the place of a stale one by a rename. A socket that is answered is left
// alone, and so is anything that is no socket.
func listenUnix(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), dirMode); err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}
	if err := free(path); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".a") // MkdirTemp gives mode 0700
	if err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // an empty directory is left at worst
	tmp := filepath.Join(dir, "s")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: tmp, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("admin: listen on %s: %w", path, err)
	}
	ln.SetUnlinkOnClose(false) // it would be by the first name
	err = errors.Join(os.Chmod(tmp, socketMode), os.Rename(tmp, path))
	if err != nil {
		return nil, fmt.Errorf("admin: %w", errors.Join(err, ln.Close()))
	}
	info, err := os.Lstat(path)
	if err != nil {
		return nil, fmt.Errorf("admin: %w", errors.Join(err, ln.Close()))
	}
	return &unixListener{UnixListener: ln, path: path, info: info}, nil
}

// free returns nil if nothing is at path, or a socket that nobody serves.
func free(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("admin: %w", err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("admin: %s is there and is no socket", path)
	}
	c, err := net.DialTimeout("unix", path, probeTime)
	switch {
	case err == nil:
		return errors.Join(fmt.Errorf("admin: %s is served by another process", path), c.Close())
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return nil
	default: // another user's, or a busy one
		return fmt.Errorf("admin: %s may be in use: %w", path, err)
	}
}

// A unixListener removes its socket when it is closed, unless another has
// taken the name.
type unixListener struct {
	*net.UnixListener
	path string
	info fs.FileInfo
	once sync.Once
}

func (l *unixListener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

func (l *unixListener) Close() error {
	var gone error
	l.once.Do(func() {
		if now, err := os.Lstat(l.path); err == nil && os.SameFile(now, l.info) {
			gone = os.Remove(l.path)
		}
	})
	return errors.Join(gone, l.UnixListener.Close())
}

// A limitListener closes connections beyond MaxConns.
type limitListener struct {
	net.Listener
	open    atomic.Int64
	refused func()
}

func (l *limitListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.open.Add(1) <= MaxConns {
			return &limitConn{Conn: c, l: l}, nil
		}
		l.open.Add(-1)
		l.refused()
		c.Close() //nolint:errcheck // it was never used
	}
}

type limitConn struct {
	net.Conn
	l    *limitListener
	once sync.Once
}

func (c *limitConn) Close() error {
	c.once.Do(func() { c.l.open.Add(-1) })
	return c.Conn.Close()
}
