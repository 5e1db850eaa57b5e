// Package pipe is what the peers of this module have in common as pipes: they
// copy standard input to the other side and the other side to standard output,
// and say on standard error when its first byte came.
package pipe

import (
	"encoding/json"
	"io"
	"os"
	"time"
)

// Started is when this process began, as near as a Go program can tell; the
// laboratory's probe starts its own clock a few milliseconds earlier.
var Started = time.Now()

// Seen is one line on standard error: a first byte arrived.
type Seen struct {
	Seen   string  `json:"seen"`    // "first": the pipe's first byte; "direct": the first byte on a direct connection made later
	SeenMS float64 `json:"seen_ms"` // since the dialling process began
	Path   string  `json:"path"`    // direct or relay, as the program itself says
	Detail string  `json:"detail,omitempty"`
}

// Report writes s as one line of JSON; began is the start of the dialler. The
// two processes must run on one machine, whose clock they share.
func Report(s Seen, began time.Time) {
	s.SeenMS = float64(time.Since(began).Microseconds()) / 1000
	if line, err := json.Marshal(s); err == nil {
		os.Stderr.Write(append(line, '\n'))
	}
}

// Run copies both ways until standard input ends, which is how the probe says
// that it is done. first, if not nil, is called once: after the first byte from
// the other side was written out.
func Run(conn io.ReadWriter, first func()) {
	go copyOut(conn, first)
	io.CopyBuffer(struct{ io.Writer }{conn}, struct{ io.Reader }{os.Stdin}, make([]byte, 16<<10))
}

// Run's caller ends the process, and with it this.
func copyOut(conn io.Reader, first func()) {
	buf := make([]byte, 64<<10) // a data channel needs room for a whole message
	for {
		n, err := conn.Read(buf)
		if _, werr := os.Stdout.Write(buf[:n]); werr != nil || err != nil {
			return
		}
		if n > 0 && first != nil {
			first()
			first = nil
		}
	}
}
