package pebblestore

import (
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// patientFS waits where another file system reports that the disk is full.
// Pebble treats a log or a manifest that cannot be written as the end: it cannot
// know what is on the disk. With patientFS such a write takes as long as it
// takes until there is space, nothing is torn, and the store goes on by itself.
// A table that cannot be written is given up after a while: Pebble removes the
// part that there is, which frees space for the log, and tries again.
//
// Commits are refused before it comes to that, see room; patientFS is for what
// Pebble writes in the background and for other programs that fill the disk.
type patientFS struct {
	vfs.FS
	log     *slog.Logger
	waiting atomic.Int32 // writes that wait for space now
	once    sync.Once
	release chan struct{} // closed when nothing waits any longer
}

func newPatientFS(fs vfs.FS, log *slog.Logger) *patientFS {
	return &patientFS{FS: fs, log: log, release: make(chan struct{})}
}

// giveUp lets everything that waits for space fail, now and from now on.
func (fs *patientFS) giveUp() { fs.once.Do(func() { close(fs.release) }) }

// spacePoll is how often a write that waits for space tries again. It is short
// against the seconds that an operator needs, and costs nothing.
const spacePoll = 50 * time.Millisecond

// tablePatience is how long a table waits for space. Pebble begins the next
// attempt at once, so it also keeps it from trying in a loop.
const tablePatience = time.Second

// patiently calls write until it does not fail for want of space, or has failed
// for as long as patience; 0 means for ever.
func (fs *patientFS) patiently(patience time.Duration, write func() error) error {
	err := write()
	if !vfs.IsNoSpaceError(err) {
		return err
	}
	if fs.waiting.Add(1) == 1 {
		fs.log.Error("rendezvous store: disk full, a write waits for space", "err", err)
	}
	defer fs.waiting.Add(-1)
	tick := time.NewTicker(spacePoll)
	defer tick.Stop()
	var enough <-chan time.Time
	if patience > 0 {
		timer := time.NewTimer(patience)
		defer timer.Stop()
		enough = timer.C
	}
	for vfs.IsNoSpaceError(err) {
		select {
		case <-fs.release:
			return err
		case <-enough:
			return err
		case <-tick.C:
			err = write()
		}
	}
	return err
}

func (fs *patientFS) file(name string, open func() (vfs.File, error)) (f vfs.File, err error) {
	patience := time.Duration(0)
	if strings.HasSuffix(name, ".sst") {
		patience = tablePatience
	}
	err = fs.patiently(patience, func() error { f, err = open(); return err })
	if err != nil {
		return nil, err
	}
	return &patientFile{f, fs, patience}, nil
}

func (fs *patientFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return fs.file(name, func() (vfs.File, error) { return fs.FS.Create(name, c) })
}

func (fs *patientFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return fs.file(name, func() (vfs.File, error) { return fs.FS.OpenReadWrite(name, c, opts...) })
}

func (fs *patientFS) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return fs.file(to, func() (vfs.File, error) { return fs.FS.ReuseForWrite(from, to, c) })
}

func (fs *patientFS) Link(from, to string) error {
	return fs.patiently(0, func() error { return fs.FS.Link(from, to) })
}

func (fs *patientFS) Rename(from, to string) error {
	return fs.patiently(0, func() error { return fs.FS.Rename(from, to) })
}

// Unwrap implements [vfs.FS].
func (fs *patientFS) Unwrap() vfs.FS { return fs.FS }

type patientFile struct {
	vfs.File
	fs       *patientFS
	patience time.Duration
}

// Write writes all of p: after a short write it goes on where that ended.
func (f *patientFile) Write(p []byte) (int, error) {
	written := 0
	err := f.fs.patiently(f.patience, func() error {
		n, err := f.File.Write(p[written:])
		written += n
		if err == nil && written < len(p) {
			return io.ErrShortWrite
		}
		return err
	})
	return written, err
}

// WriteAt may be repeated: it always writes the same bytes to the same place.
func (f *patientFile) WriteAt(p []byte, off int64) (n int, err error) {
	err = f.fs.patiently(f.patience, func() error { n, err = f.File.WriteAt(p, off); return err })
	return n, err
}

// Preallocate is a hint; a full disk will tell when it comes to writing.
func (f *patientFile) Preallocate(off, n int64) error {
	if err := f.File.Preallocate(off, n); !vfs.IsNoSpaceError(err) {
		return err
	}
	return nil
}
