package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func newManCmd(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "man DIR",
		Short: "Write man pages, one for each command, to DIR",
		Args:  exactArgs("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return fail(exitLocal, err, "")
			}
			n := 0
			err := eachCommand(cmd.Root(), func(c *cobra.Command) error {
				n++
				return os.WriteFile(filepath.Join(args[0], manName(c)+".1"), manPage(c), 0o644)
			})
			if err != nil {
				return fail(exitLocal, err, "")
			}
			_, err = fmt.Fprintf(e.stderr, "%d pages\n", n)
			return err
		},
	}
}

// eachCommand calls f for root and all commands below that users see.
func eachCommand(root *cobra.Command, f func(*cobra.Command) error) error {
	err := f(root)
	for _, c := range root.Commands() {
		if c.IsAvailableCommand() {
			err = errors.Join(err, eachCommand(c, f))
		}
	}
	return err
}

func manName(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

// manPage is a command's page. It depends on the program only, not on the
// time, so that two builds of one source have the same pages.
// https://man7.org/linux/man-pages/man7/man.7.html
func manPage(c *cobra.Command) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, ".TH %q 1 \"\" \"muster\" \"muster\"\n", strings.ToUpper(manName(c)))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", roff(manName(c)), roff(c.Short))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.B %s\n", roff(strings.TrimSuffix(c.UseLine(), " [flags]")))
	if c.HasAvailableFlags() {
		b.WriteString("[\\fIoptions\\fP]\n")
	}
	if c.Long != "" {
		fmt.Fprintf(&b, ".SH DESCRIPTION\n.nf\n%s\n.fi\n", roff(c.Long))
	}
	manList(&b, "COMMANDS", commandItems(c))
	manList(&b, "OPTIONS", flagItems(c))
	if c.HasParent() {
		fmt.Fprintf(&b, ".SH SEE ALSO\n.BR %s (1)\n", roff(manName(c.Parent())))
		return b.Bytes()
	}
	manList(&b, "EXIT STATUS", exitItems)
	return b.Bytes()
}

// A manItem is a term and what it means.
type manItem struct{ term, text string }

var exitItems = []manItem{
	{"0", "done"},
	{"1", "any other failure"},
	{"2", "wrong usage or configuration"},
	{"3", "nothing found"},
	{"4", "timed out"},
	{"5", "the other end is not the peer that was asked for"},
	{"6", "refused: access, quota, token"},
	{"7", "the point or relay cannot be reached"},
	{"8", "the data that came is not the data that was sent"},
	{"9", "a local resource: port in use, disk full, no descriptors"},
	{"10", "the other end speaks another version or protocol"},
	{"128+n", "ended by signal n"},
}

func commandItems(c *cobra.Command) (items []manItem) {
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			items = append(items, manItem{manName(sub) + "(1)", sub.Short})
		}
	}
	return items
}

func flagItems(c *cobra.Command) (items []manItem) {
	c.NonInheritedFlags().VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		value, usage := pflag.UnquoteUsage(f)
		term := "--" + f.Name
		if f.Shorthand != "" {
			term = "-" + f.Shorthand + ", " + term
		}
		if value != "" {
			term += " " + value
		}
		if def := f.DefValue; def != "" && def != "false" && def != "0" && def != "0s" && def != "[]" {
			usage += " (default " + def + ")"
		}
		items = append(items, manItem{term, usage})
	})
	return items
}

func manList(b *bytes.Buffer, title string, items []manItem) {
	if len(items) == 0 {
		return
	}
	fmt.Fprintf(b, ".SH %s\n", title)
	for _, i := range items {
		fmt.Fprintf(b, ".TP\n.B %s\n%s\n", roff(i.term), roff(i.text))
	}
}

// roff escapes what troff reads as its own: a backslash, a minus that would
// become a hyphen, and a dot or quote at the start of a line.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s)
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") || strings.HasPrefix(l, "'") {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n")
}
