package main

import (
	"os"

	"golang.org/x/term"
)

// isTerminal reports whether a person is at the other end of stream.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
