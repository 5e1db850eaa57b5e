package pebblestore_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/muster-p2p/muster/rendezvous"
	"github.com/muster-p2p/muster/rendezvous/pebblestore"
	"github.com/muster-p2p/muster/rendezvous/storetest"
)

// brokenChild is set for the child process of TestBrokenDisk: a database on a
// broken disk cannot be closed, so what it leaves running needs a process to
// end with.
const brokenChild = "MUSTER_TEST_STORE_BROKEN"

// brokenDisk fails writes and syncs from when it is told to.
type brokenDisk struct {
	vfs.FS
	broken atomic.Bool
}

type brokenFile struct {
	vfs.File
	d *brokenDisk
}

func (d *brokenDisk) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.Create(name, c)
	return brokenFile{f, d}, err
}

func (f brokenFile) fail() error {
	if f.d.broken.Load() {
		return &os.PathError{Op: "write", Path: "broken", Err: syscall.EIO}
	}
	return nil
}

func (f brokenFile) Write(p []byte) (int, error) {
	if err := f.fail(); err != nil {
		return 0, err
	}
	return f.File.Write(p)
}

func (f brokenFile) Sync() error     { return errors.Join(f.fail(), f.File.Sync()) }
func (f brokenFile) SyncData() error { return errors.Join(f.fail(), f.File.SyncData()) }

// TestBrokenDisk lets the disk fail under a store: changes are refused with its
// error, at once, and not as if they could be tried again; nothing that was not
// synced is applied; and the store still closes.
func TestBrokenDisk(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), brokenChild+"=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

func onBrokenDisk() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	disk := &brokenDisk{FS: vfs.NewMem()}
	s, err := pebblestore.New(pebblestore.Config{Dir: "/data"}.WithFS(disk))
	if err != nil {
		return err
	}
	m := storetest.NewMirror()
	if _, err := s.Open(ctx, rendezvous.Meta{}, m.Apply); err != nil {
		return err
	}
	if err := s.Commit(ctx, []rendezvous.Change{storetest.Registration("ns", 1, 1, time.Hour)}); err != nil {
		return err
	}
	disk.broken.Store(true)
	for i := range 10 {
		err := s.Commit(ctx, []rendezvous.Change{storetest.Registration("ns", 2, 1, time.Hour)})
		if err == nil || errors.Is(err, rendezvous.ErrUnavailable) || ctx.Err() != nil {
			return fmt.Errorf("commit %d on a broken disk: %w", i, err)
		}
	}
	if err := s.Health(); err == nil || errors.Is(err, rendezvous.ErrUnavailable) {
		return fmt.Errorf("health on a broken disk: %w", err)
	}
	if n := len(m.Live()); n != 1 {
		return fmt.Errorf("%d registrations were applied, one was synced", n)
	}
	return s.Close()
}
