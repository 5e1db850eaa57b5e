package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/spf13/cobra"

	"github.com/muster-p2p/muster/access"
	"github.com/muster-p2p/muster/access/pgaccess"
)

func newTokenCmd(e *env) *cobra.Command {
	return group("token", "Issue, revoke and list access tokens of the point on this machine",
		newTokenIssueCmd(e), newTokenRevokeCmd(e), newTokenListCmd(e))
}

// tokenFlags say which point's tokens are meant.
type tokenFlags struct {
	dataDir string
	store   string
	json    bool
}

// An openTokens is the tokens of a point, or of those that share them.
type openTokens struct {
	access.Tokens
	usage *access.Usage
	close func() error
}

func (f *tokenFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.dataDir, "data-dir", "", "the point's data `DIR` (default: as for 'muster serve')")
	cmd.Flags().StringVar(&f.store, "store", "", "the point's store, if that is `postgres://…`: tokens of points over one database are there (default: as for 'muster serve')")
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON objects, one per line")
}

// open returns the tokens, and what was used of them.
func (f *tokenFlags) open(ctx context.Context, e *env) (*openTokens, error) {
	// The daemon's own configuration says where its data directory and its
	// store are.
	flags := configFlags{given: source{}}
	if f.dataDir != "" {
		flags.given["node.data_dir"] = given{[]string{f.dataDir}, "--data-dir"}
	}
	if f.store != "" {
		flags.given["store.url"] = given{[]string{f.store}, "--store"}
	}
	c, err := flags.load()
	if err != nil {
		return nil, err
	}
	if kindOfStore(c.store) == "postgres" {
		s, err := pgaccess.Open(ctx, pgaccess.Config{URL: c.store})
		if err != nil {
			return nil, fail(exitLocal, err, "check --store")
		}
		f.tellDamaged(e, s)
		return &openTokens{s, s.Usage(), s.Close}, nil
	}
	if err := c.setDirs(); err != nil {
		return nil, usageError(err, "give --data-dir")
	}
	if err := openDataDir(c.dataDir, false); err != nil {
		return nil, err
	}
	if _, err := os.Lstat(filepath.Join(c.dataDir, sharedMark)); err == nil {
		return nil, usageError(errors.New("the point of this data directory keeps its tokens in its database"), "give its --store, or MUSTER_STORE")
	}
	if _, err := os.Lstat(c.keyFile); err != nil {
		fmt.Fprintf(e.stderr, "no point has used %s yet: if yours has another data directory, give it with --data-dir\n", c.dataDir)
	}
	tokens, err := access.OpenTokens(filepath.Join(c.dataDir, tokensDir), nil)
	if err != nil {
		return nil, fail(exitLocal, err, "")
	}
	usage, err := access.OpenUsage(filepath.Join(c.dataDir, usageFile))
	if err != nil {
		return nil, fail(exitLocal, err, "")
	}
	f.tellDamaged(e, tokens)
	return &openTokens{tokens, usage, func() error { return nil }}, nil
}

// tellDamaged names what cannot be read.
func (f *tokenFlags) tellDamaged(e *env, tokens access.Tokens) {
	for _, id := range tokens.Set(time.Now()).Damaged() {
		fmt.Fprintf(e.stderr, "token %s is damaged and refused: restore it from a backup, or revoke it\n", id)
	}
}

func newTokenIssueCmd(e *env) *cobra.Command {
	var f tokenFlags
	var scopes, names []string
	var expires time.Duration
	var quota, id, note string
	cmd := &cobra.Command{
		Use:   "issue",
		Short: "Make a token and print it, once",
		Long: `Issue makes a token and prints it: only its hash is kept, so it cannot be shown
again. A point that runs takes it within a second. Give it to who may use the
point; they put it in a file for --token-file or in MUSTER_TOKEN.

Scopes: reach (to be called through the point, and to call; it includes relay),
relay (the rdv server only), rendezvous (to register names; the peer itself is
the credential then, so it needs --peer).`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			tok := access.Token{Namespaces: names, Note: note}
			for _, s := range scopes {
				tok.Scopes = append(tok.Scopes, access.Scope(s))
			}
			var err error
			if tok.Bytes, err = parseBytes(quota); err != nil {
				return usageError(fmt.Errorf("--quota: %w", err), "give a number of bytes such as 500M or 20G")
			}
			if id != "" {
				if tok.Peer, err = peer.Decode(id); err != nil {
					return usageError(fmt.Errorf("--peer: %q is not a peer ID", id), "")
				}
			}
			now := time.Now()
			switch {
			case expires < 0:
				return usageError(errors.New("--expires is negative"), "")
			case expires > 0:
				tok.Expires = now.Add(expires).UTC().Truncate(time.Second)
			}
			return f.issue(cmd.Context(), e, now, tok)
		},
	}
	f.add(cmd)
	fl := cmd.Flags()
	fl.StringSliceVar(&scopes, "scope", []string{string(access.Reach)}, "what it is good for: reach, relay, rendezvous; may be repeated")
	fl.StringVar(&quota, "quota", "", "`BYTES` that may be relayed for it in all, such as 20G (default: no limit)")
	fl.DurationVar(&expires, "expires", 0, "it ends after `DUR`, such as 720h (default: never)")
	fl.StringVar(&id, "peer", "", "only this peer may use it")
	fl.StringSliceVar(&names, "namespace", nil, "with scope rendezvous: only these names; * at the end stands for any rest")
	fl.StringVar(&note, "note", "", "what you will know it by")
	return cmd
}

func (f *tokenFlags) issue(ctx context.Context, e *env, now time.Time, tok access.Token) (err error) {
	tokens, err := f.open(ctx, e)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tokens.close()) }()
	text, tok, err := tokens.Issue(ctx, now, tok)
	if err != nil {
		return usageError(err, "")
	}
	if f.json {
		return json.NewEncoder(e.stdout).Encode(struct {
			Token string `json:"token"`
			tokenLine
		}{text, lineOfToken(tok, 0)})
	}
	_, err = fmt.Fprintln(e.stdout, text)
	fmt.Fprintf(e.stderr, "issued %s; it cannot be shown again\n", tok.ID)
	return err
}

func newTokenRevokeCmd(e *env) *cobra.Command {
	var f tokenFlags
	cmd := &cobra.Command{
		Use:   "revoke ID",
		Short: "Forget a token; a point that runs refuses it within a second",
		Args:  exactArgs("ID"),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			tokens, err := f.open(cmd.Context(), e)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, tokens.close()) }()
			err = tokens.Revoke(cmd.Context(), args[0])
			switch {
			case errors.Is(err, access.ErrNoToken):
				return fail(exitNotFound, err, "'muster token ls' lists them")
			case err != nil:
				return usageError(err, "the ID is what 'muster token ls' prints first")
			case f.json:
				return json.NewEncoder(e.stdout).Encode(map[string]string{"revoked": args[0]})
			}
			return nil
		},
	}
	f.add(cmd)
	return cmd
}

// A tokenLine is a token as 'token ls --json' prints it.
type tokenLine struct {
	ID         string         `json:"id"`
	Scopes     []access.Scope `json:"scopes"`
	Created    time.Time      `json:"created"`
	Expires    *time.Time     `json:"expires,omitempty"`
	Bytes      int64          `json:"bytes,omitempty"` // quota
	Used       int64          `json:"used"`
	Peer       string         `json:"peer,omitempty"`
	Namespaces []string       `json:"namespaces,omitempty"`
	Note       string         `json:"note,omitempty"`
}

func lineOfToken(t access.Token, used int64) tokenLine {
	l := tokenLine{
		ID: t.ID, Scopes: t.Scopes, Created: t.Created, Bytes: t.Bytes, Used: used, Namespaces: t.Namespaces, Note: t.Note,
	}
	if !t.Expires.IsZero() {
		l.Expires = &t.Expires
	}
	if t.Peer != "" {
		l.Peer = t.Peer.String()
	}
	return l
}

func newTokenListCmd(e *env) *cobra.Command {
	var f tokenFlags
	cmd := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List tokens: ID, scopes, bytes used of the quota, expiry, note",
		Args:    exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			tokens, err := f.open(cmd.Context(), e)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, tokens.close()) }()
			for _, t := range tokens.Set(time.Now()).List() {
				if err := f.print(e, lineOfToken(t, tokens.usage.Bytes(t.ID))); err != nil {
					return err
				}
			}
			return nil
		},
	}
	f.add(cmd)
	return cmd
}

func (f *tokenFlags) print(e *env, l tokenLine) error {
	if f.json {
		return json.NewEncoder(e.stdout).Encode(l)
	}
	quota, expires := "unlimited", "never"
	if l.Bytes > 0 {
		quota = bytesText(l.Bytes)
	}
	if l.Expires != nil {
		expires = l.Expires.Format(time.RFC3339)
	}
	scopes := strings.Trim(strings.Join(strings.Fields(fmt.Sprint(slices.Clone(l.Scopes))), ","), "[]")
	_, err := fmt.Fprintf(e.stdout, "%s\t%s\t%d/%s\t%s\t%s\n", l.ID, scopes, l.Used, quota, expires, printable(l.Note))
	return err
}
