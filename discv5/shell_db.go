package discv5

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Names in the data directory.
const (
	nodesFile = "discv5-nodes.txt"
	seqFile   = "discv5-seq"
)

// A nodeDB is the data directory. A nil one keeps nothing.
type nodeDB struct{ dir string }

// openNodeDB reads what is there; nothing is an empty state.
func openNodeDB(dir string) (*nodeDB, savedState, error) {
	db := &nodeDB{dir}
	var s savedState
	b, err := db.read(seqFile, 32)
	if err != nil {
		return nil, s, err
	}
	if text := strings.TrimSpace(string(b)); text != "" {
		// A number that cannot be read is no reason not to start: the clock
		// gives a higher one.
		s.seq, _ = strconv.ParseUint(text, 10, 64)
	}
	if b, err = db.read(nodesFile, maxNodesFile); err != nil {
		return nil, s, err
	}
	s.nodes = decodeNodes(time.Now(), b)
	return db, s, nil
}

// read returns up to limit bytes of a file, none if it is not there.
func (db *nodeDB) read(name string, limit int64) ([]byte, error) {
	f, err := os.Open(filepath.Join(db.dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		// The directory must be there, or nothing would ever be saved.
		if _, err := os.Stat(db.dir); err != nil {
			return nil, fmt.Errorf("discv5: data directory: %w", err)
		}
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("discv5: read state: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	b, err := io.ReadAll(io.LimitReader(f, limit))
	if err != nil {
		return nil, fmt.Errorf("discv5: read state: %w", err)
	}
	return b, nil
}

// saveSeq keeps the number of the local record. It returns when the number is
// on disk, so that a record is never published whose number could be forgotten.
func (db *nodeDB) saveSeq(seq uint64) error {
	if db == nil {
		return nil
	}
	return db.write(seqFile, strconv.AppendUint(nil, seq, 10))
}

// write replaces a file, whole or not at all.
func (db *nodeDB) write(name string, b []byte) (err error) {
	tmp, err := os.CreateTemp(db.dir, "."+name+"-*")
	if err != nil {
		return fmt.Errorf("discv5: save state: %w", err)
	}
	_, err = tmp.Write(b)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), filepath.Join(db.dir, name))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("discv5: save state: %w", err), os.Remove(tmp.Name()))
	}
	return nil
}

// saveNodes keeps the nodes of the table that are alive. A table without any
// does not replace what was kept: the network may be down.
func (n *Node) saveNodes() error {
	if n.db == nil {
		return nil
	}
	var nodes []savedNode
	n.mu.Lock()
	n.core.table.all(func(e *entry) {
		if e.live {
			nodes = append(nodes, savedNode{e.record, e.seen})
		}
	})
	n.mu.Unlock()
	if len(nodes) == 0 {
		return nil
	}
	return n.db.write(nodesFile, encodeNodes(nodes))
}
