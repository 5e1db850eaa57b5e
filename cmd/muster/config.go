package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

func newConfigCmd(e *env) *cobra.Command {
	return group("config", "Make, check and show the configuration of 'muster serve'",
		newConfigInitCmd(e), newConfigCheckCmd(e), newConfigShowCmd(e))
}

func newConfigInitCmd(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "init [FILE]",
		Short: "Write a configuration with every setting, each commented out, to FILE or stdout",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usageError(errors.New("more than one FILE"), "")
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			text := configTemplate()
			if len(args) == 0 {
				_, err := fmt.Fprint(e.stdout, text)
				return err
			}
			// It may get a password later, so it is nobody else's to read.
			f, err := os.OpenFile(args[0], os.O_CREATE|os.O_EXCL|os.O_WRONLY, keyMode)
			if errors.Is(err, fs.ErrExist) {
				return fail(exitLocal, fmt.Errorf("%s is there already", args[0]), "choose another name")
			}
			if err != nil {
				return fail(exitLocal, err, "")
			}
			_, err = f.WriteString(text)
			return errors.Join(err, f.Sync(), f.Close())
		},
	}
	return cmd
}

// configTemplate is a file with every setting at its default.
func configTemplate() string {
	var b strings.Builder
	b.WriteString("# Configuration of 'muster serve'. A flag wins over the environment, which wins\n" +
		"# over this file. An unknown key is an error. 'muster config check' looks it over.\n")
	for _, sec := range sections {
		fmt.Fprintf(&b, "\n# %s.\n[%s]\n", sec[1], sec[0])
		for i := range settings {
			if s := &settings[i]; s.section() == sec[0] {
				fmt.Fprintf(&b, "# %s.\n# %s = %s\n", s.usage, s.name(), s.tomlDefault())
			}
		}
	}
	return b.String()
}

// tomlDefault is the default as it stands in a file.
func (s *setting) tomlDefault() string {
	switch s.kind() {
	case "list":
		var items []string
		for _, e := range s.split(s.def) {
			items = append(items, fmt.Sprintf("%q", e))
		}
		return "[" + strings.Join(items, ", ") + "]"
	case "number", "true or false":
		return s.def
	default:
		return fmt.Sprintf("%q", s.def)
	}
}

func newConfigCheckCmd(e *env) *cobra.Command {
	var flags configFlags
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Say what is wrong with the configuration, each with key and line; exit 2 if anything is",
		Args:  exactArgs(),
		RunE: func(*cobra.Command, []string) error {
			c, err := flags.load()
			if err != nil {
				return err
			}
			if _, err := c.plan(); err != nil {
				return err
			}
			for _, w := range c.warnings {
				fmt.Fprintln(e.stderr, "warning:", w)
			}
			from := "without a file"
			if c.file != "" {
				from = "with " + c.file
			}
			fmt.Fprintln(e.stderr, "good,", from)
			return nil
		},
	}
	flags.add(cmd)
	return cmd
}

func newConfigShowCmd(e *env) *cobra.Command {
	var flags configFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Print every setting, its value and where that comes from; secrets are left out",
		Args:  exactArgs(),
		RunE: func(*cobra.Command, []string) error {
			c, err := flags.load()
			if err != nil {
				return err
			}
			for i := range settings {
				if err := showSetting(e, &settings[i], c, asJSON); err != nil {
					return err
				}
			}
			return nil
		},
	}
	flags.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object for each setting")
	return cmd
}

func showSetting(e *env, s *setting, c *configuration, asJSON bool) error {
	g := c.origins[s.key]
	texts := g.texts
	if s.secret {
		texts = []string{redacted(strings.Join(g.texts, ","))}
	}
	if asJSON {
		var value any = strings.Join(texts, ",")
		if s.kind() == "list" {
			value = append([]string{}, texts...)
		}
		return json.NewEncoder(e.stdout).Encode(map[string]any{
			"key": s.key, "value": value, "origin": g.origin, "flag": "--" + s.flagName(), "env": s.envName(), "reload": s.reload,
		})
	}
	_, err := fmt.Fprintf(e.stdout, "%s = %s\t%s\n", s.key, printable(strings.Join(texts, ",")), g.origin)
	return err
}

// redacted is what may be shown of a secret: of a URL what is before its
// password, and of anything else that there is one.
func redacted(text string) string {
	const hidden = "(hidden)"
	switch {
	case text == "", text == "memory", strings.HasPrefix(text, "pebble:"):
		return text
	case !strings.Contains(text, "://"):
		return hidden
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return hidden
	}
	out := u.Scheme + "://" + u.Host
	if u.User != nil || u.RawQuery != "" || strings.Trim(u.Path, "/") != "" {
		out += "/ " + hidden
	}
	return out
}
