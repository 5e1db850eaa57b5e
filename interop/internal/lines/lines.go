// Package lines is how the peers of the interop tests are driven: each is a
// process that is told what to do in lines on its stdin and answers each of them
// with a JSON object on its stdout. [Serve] is the peer's end; peers in other
// languages do the same. [Start] is the end of the tests.
package lines

import (
	"bufio"
	"encoding/json"
	"io"
	"strings"
)

// An Answer is what all answers have; those of a kind of peer embed it.
type Answer struct {
	Event string `json:"event"` // what this is about: "listen" of the first one, "error" of one with Error
	Addr  string `json:"addr,omitempty"`
	Peer  string `json:"peer,omitempty"`
	Error string `json:"error,omitempty"`
}

func (a Answer) head() Answer { return a }

// Serve announces a peer that listens at addr, and obeys the lines of in until
// "quit" or the end. Obey gets the words of a line.
func Serve(in io.Reader, out io.Writer, addr, peer string, obey func(words []string) (any, error)) error {
	enc := json.NewEncoder(out)
	if err := enc.Encode(Answer{Event: "listen", Addr: addr, Peer: peer}); err != nil {
		return err
	}
	scanner := bufio.NewScanner(in)
	for scanner.Scan() {
		words := strings.Fields(scanner.Text())
		if len(words) == 0 {
			continue
		}
		if words[0] == "quit" {
			return nil
		}
		answer, err := obey(words)
		if err != nil {
			answer = Answer{Event: "error", Error: err.Error()}
		}
		if err := enc.Encode(answer); err != nil {
			return err
		}
	}
	return scanner.Err()
}
