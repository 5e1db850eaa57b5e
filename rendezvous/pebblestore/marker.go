package pebblestore

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A marker file beside the database says that there is one, and how far its
// history had come when the marker was last written. Pebble takes a manifest
// whose end is damaged for one whose end was not written, and a directory that
// lost it for an empty one; the marker tells these from the truth.
const (
	markerName   = "history"
	markerPrefix = "muster rendezvous store, position "
)

// readMarker returns the position in the marker, and whether there is one. One
// that is not readable counts as position 0: that it is there is what matters.
func (s *Store) readMarker() (pos uint64, there bool, err error) {
	f, err := s.fs.Open(s.fs.PathJoin(s.cfg.Dir, markerName))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	b, err := io.ReadAll(io.LimitReader(f, 1<<10))
	if err := errors.Join(err, f.Close()); err != nil {
		return 0, false, err
	}
	if text, ok := strings.CutPrefix(string(b), markerPrefix); ok {
		pos, _ = strconv.ParseUint(strings.TrimSpace(text), 10, 64)
	}
	return pos, true, nil
}

// writeMarker replaces the marker. pos is durable in the database.
func (s *Store) writeMarker(pos uint64) error {
	name := s.fs.PathJoin(s.cfg.Dir, markerName)
	f, err := s.fs.Create(name+".new", vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%s%d\n", markerPrefix, pos)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := s.fs.Rename(name+".new", name); err != nil {
		return err
	}
	return s.syncDir(s.cfg.Dir)
}

// checkMarker holds what was read against the marker, and writes the first.
func (s *Store) checkMarker(l loaded) error {
	pos, there, err := s.readMarker()
	switch {
	case err != nil:
		return err
	case !there:
		return s.writeMarker(l.cursor.pos)
	case l.fresh:
		return fmt.Errorf("it is empty, where there was a store at position %d", pos)
	case l.cursor.pos < pos && !l.id.lossy:
		return fmt.Errorf("its history ends at position %d, and had come to %d", l.cursor.pos, pos)
	default:
		return nil
	}
}
