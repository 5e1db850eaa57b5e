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

// drawsOn reports whether a line on stream can be drawn anew: a terminal that
// takes more than lines (terminfo's "dumb" does not).
func drawsOn(stream any) bool { return isTerminal(stream) && os.Getenv("TERM") != "dumb" }

// coloursOn reports whether stream takes colours, and the user wants any
// (https://no-color.org).
func coloursOn(stream any) bool { return drawsOn(stream) && os.Getenv("NO_COLOR") == "" }

// usualColumns are those of a terminal that does not say.
const usualColumns = 80

// columnsOf is the width of the terminal that stream is, now: it changes when
// its window does.
func columnsOf(stream any) int {
	if f, ok := stream.(*os.File); ok {
		if w, _, err := term.GetSize(int(f.Fd())); err == nil && w > 0 {
			return w
		}
	}
	return usualColumns
}
