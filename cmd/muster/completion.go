package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// shells are those that have completions.
var shells = map[string]func(root *cobra.Command, w io.Writer) error{
	"bash":       func(root *cobra.Command, w io.Writer) error { return root.GenBashCompletionV2(w, true) },
	"zsh":        func(root *cobra.Command, w io.Writer) error { return root.GenZshCompletion(w) },
	"fish":       func(root *cobra.Command, w io.Writer) error { return root.GenFishCompletion(w, true) },
	"powershell": func(root *cobra.Command, w io.Writer) error { return root.GenPowerShellCompletionWithDesc(w) },
}

func newCompletionCmd(e *env) *cobra.Command {
	names := slices.Sorted(maps.Keys(shells))
	return &cobra.Command{
		Use:       "completion SHELL",
		Short:     "Print a script that completes commands in " + strings.Join(names, ", "),
		Long:      "Completion prints a script for SHELL: " + strings.Join(names, ", ") + ". To have it in this shell and in those to come:\n\n" + completionHelp,
		Args:      exactArgs("SHELL"),
		ValidArgs: names,
		RunE: func(cmd *cobra.Command, args []string) error {
			script, ok := shells[args[0]]
			if !ok {
				return usageError(fmt.Errorf("no completion for %q", args[0]), "there is one for "+strings.Join(names, ", "))
			}
			return script(cmd.Root(), e.stdout)
		},
	}
}

const completionHelp = `  bash         muster completion bash > ~/.local/share/bash-completion/completions/muster
  zsh          muster completion zsh > "${fpath[1]}/_muster"
  fish         muster completion fish > ~/.config/fish/completions/muster.fish
  powershell   muster completion powershell >> $PROFILE`
