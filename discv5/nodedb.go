package discv5

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/muster-p2p/muster/enr"
)

// The node database is a text file that a person can read and edit: a node a
// line, its record and when it was last seen alive in Unix seconds. A line
// that is not understood is skipped, so a damaged file costs no more than its
// damaged lines (docs/adr/0033).

const (
	// maxSavedNodes is the size of a full table with its spares.
	maxSavedNodes = tableBuckets * (bucketSize + bucketSpares)
	// maxNodesFile bounds what is read of the file.
	maxNodesFile = maxSavedNodes * 512
	// savedLife is how long a node that was not seen is worth trying.
	savedLife = 30 * 24 * time.Hour
)

// A savedState is what a node finds of its earlier run.
type savedState struct {
	seq   uint64 // of the local record
	nodes []*enr.Record
}

// A savedNode is a node worth remembering.
type savedNode struct {
	record *enr.Record
	seen   time.Time
}

func encodeNodes(nodes []savedNode) []byte {
	var b bytes.Buffer
	b.WriteString("# nodes seen alive: record, last seen (Unix seconds)\n")
	for _, n := range nodes {
		fmt.Fprintf(&b, "%s %d\n", n.record, n.seen.Unix())
	}
	return b.Bytes()
}

func decodeNodes(now time.Time, b []byte) []*enr.Record {
	var out []*enr.Record
	for line := range strings.Lines(string(b)) {
		fields := strings.Fields(line) // a later version may say more
		if len(fields) < 2 || len(out) == maxSavedNodes {
			continue
		}
		secs, err := strconv.ParseInt(fields[1], 10, 64)
		if err != nil || now.Sub(time.Unix(secs, 0)) > savedLife {
			continue
		}
		if r, err := enr.ParseText(fields[0]); err == nil {
			out = append(out, r)
		}
	}
	return out
}
