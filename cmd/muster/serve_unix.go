//go:build unix

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

func writableByOthers(m fs.FileMode) bool { return m.Perm()&0o022 != 0 }

// foreignOwner reports whether a file belongs to neither this user nor root,
// who can do anything anyway.
func foreignOwner(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) != os.Geteuid() && st.Uid != 0
}

// lockDataDir keeps a second daemon from the directory, until the process ends
// or unlock is called.
func lockDataDir(dir string) (unlock func() error, err error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, keyMode)
	if err != nil {
		return nil, fail(exitLocal, fmt.Errorf("lock data directory: %w", err), "")
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		_ = f.Close()
		return nil, fail(exitLocal, fmt.Errorf("data directory %s is in use by another muster", dir), "stop that one, or choose another with --data-dir")
	}
	if err != nil {
		return nil, errors.Join(fail(exitLocal, fmt.Errorf("lock data directory: %w", err), ""), f.Close())
	}
	return f.Close, nil
}

// reloadSignals are those that have the daemon read its configuration again.
var reloadSignals = []os.Signal{syscall.SIGHUP}
