package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
)

// Exit codes of every verb. They are part of the command's interface:
// scripts rely on them, so a number is never reused.
const (
	exitOK          = 0   // done
	exitOther       = 1   // any other failure
	exitUsage       = 2   // wrong usage or configuration
	exitNotFound    = 3   // nothing found: no such peer, an empty namespace
	exitTimeout     = 4   // timed out
	exitIdentity    = 5   // the other end is not the peer that was asked for
	exitRefused     = 6   // refused: access, quota, token
	exitUnreachable = 7   // the point or relay cannot be reached
	exitIntegrity   = 8   // the data that came is not the data that was sent
	exitLocal       = 9   // a local resource: port in use, disk full, no descriptors
	exitVersion     = 10  // the other end speaks another version or protocol
	exitSignal      = 128 // and the number of the signal that ended it
)

// A failure is an error with an exit code and, where one helps, a hint on
// what to do about it.
type failure struct {
	code int
	err  error
	hint string
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// fail gives err an exit code and a hint, which may be empty.
func fail(code int, err error, hint string) error {
	return &failure{code: code, err: err, hint: hint}
}

// failureOf returns what the command ends with for an error. What the machine
// has run out of is a local failure wherever it comes up.
func failureOf(err error) *failure {
	var f *failure
	if errors.As(err, &f) {
		return &failure{code: f.code, err: err, hint: f.hint}
	}
	for _, scarce := range []error{syscall.ENOSPC, syscall.EMFILE, syscall.ENFILE} {
		if errors.Is(err, scarce) {
			return &failure{code: exitLocal, err: err}
		}
	}
	return &failure{code: exitOther, err: err}
}

// tell says why the command failed: to people in words, to programs in an
// object, after those that the verb has written.
func (f *failure) tell(w io.Writer, asJSON bool) {
	msg := strings.TrimPrefix(f.Error(), "muster: ") // the façade's errors say it already
	if asJSON {
		_ = json.NewEncoder(w).Encode(struct { // nobody is left to tell if that fails
			Event string `json:"event"`
			Error string `json:"error"`
			Hint  string `json:"hint,omitempty"`
			Exit  int    `json:"exit"`
		}{"error", msg, f.hint, f.code})
		return
	}
	if msg != "" {
		fmt.Fprintln(w, "muster: "+msg)
	}
	if f.hint != "" {
		fmt.Fprintln(w, "  "+f.hint)
	}
}

func usageError(err error, hint string) error { return fail(exitUsage, err, hint) }

// timedOut reports whether err came of a deadline.
func timedOut(err error) bool {
	return errors.Is(err, context.DeadlineExceeded)
}
