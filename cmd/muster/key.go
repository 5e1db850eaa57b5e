package main

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/spf13/cobra"
)

// keyMode lets only the owner read a key.
const keyMode = 0o600

func newKeyCmd(e *env) *cobra.Command {
	return group("key", "Make and show identity keys", newKeyNewCmd(e), newKeyShowCmd(e))
}

func newKeyNewCmd(e *env) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "new FILE",
		Short: "Write a new Ed25519 identity to FILE and print its peer ID",
		Args:  exactArgs("FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			key, err := createKey(args[0])
			if err != nil {
				return err
			}
			return printPeerID(e, key, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	return cmd
}

func newKeyShowCmd(e *env) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show FILE",
		Short: "Print the peer ID of the identity in FILE",
		Args:  exactArgs("FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			key, err := loadKey(args[0])
			if err != nil {
				return err
			}
			return printPeerID(e, key, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	return cmd
}

func printPeerID(e *env, key crypto.PrivKey, asJSON bool) error {
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return err
	}
	if asJSON {
		return json.NewEncoder(e.stdout).Encode(map[string]string{"peer": id.String()})
	}
	_, err = fmt.Fprintln(e.stdout, id)
	return err
}

// hostKey returns the identity in file: created if the file is not there yet,
// and one for this process only if file is empty.
func hostKey(file string) (crypto.PrivKey, error) {
	if file == "" {
		key, _, err := crypto.GenerateEd25519Key(rand.Reader)
		return key, err
	}
	key, err := loadKey(file)
	if errors.Is(err, fs.ErrNotExist) {
		return createKey(file)
	}
	return key, err
}

// loadKey reads an identity in libp2p's protobuf encoding. It refuses a file
// that others can read: such a key is no secret any more.
func loadKey(file string) (crypto.PrivKey, error) {
	b, err := readKeyFile(file)
	if err != nil {
		return nil, err
	}
	key, err := crypto.UnmarshalPrivateKey(b)
	if err != nil {
		return nil, usageError(fmt.Errorf("key %s is damaged: %w", file, err), "restore it from a backup, or make a new identity")
	}
	return key, nil
}

// readKeyFile reads a secret that only the owner may read.
func readKeyFile(file string) ([]byte, error) {
	info, err := os.Lstat(file)
	if err != nil {
		return nil, fail(exitUsage, fmt.Errorf("read key: %w", err), "make one with 'muster key new "+file+"'")
	}
	if !info.Mode().IsRegular() {
		return nil, usageError(fmt.Errorf("key %s is not a regular file", file), "")
	}
	if sharedMode(info.Mode()) {
		return nil, usageError(fmt.Errorf("key %s can be read by others (mode %#o)", file, info.Mode().Perm()),
			"make it private with 'chmod 600 "+file+"', or make a new one")
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, usageError(fmt.Errorf("read key: %w", err), "")
	}
	return b, nil
}

// createKey writes a new identity to file.
func createKey(file string) (crypto.PrivKey, error) {
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return nil, err
	}
	return writeKey(file, key)
}

// writeKey writes an identity to file, whole or not at all, and never over
// another file.
func writeKey(file string, key crypto.PrivKey) (_ crypto.PrivKey, err error) {
	b, err := crypto.MarshalPrivateKey(key)
	if err != nil {
		return nil, err
	}
	tmp, err := os.CreateTemp(filepath.Dir(file), ".key-*") // CreateTemp gives mode 0600
	if err != nil {
		return nil, fail(exitLocal, fmt.Errorf("write key: %w", err), "")
	}
	defer func() { err = errors.Join(err, os.Remove(tmp.Name())) }()
	_, err = tmp.Write(b)
	if err = errors.Join(err, tmp.Chmod(keyMode), tmp.Sync(), tmp.Close()); err != nil {
		return nil, fail(exitLocal, fmt.Errorf("write key: %w", err), "")
	}
	// A link fails where the name is taken, a rename would not.
	err = os.Link(tmp.Name(), file)
	if errors.Is(err, fs.ErrExist) {
		return nil, fail(exitLocal, fmt.Errorf("%s is there already", file), "choose another name")
	}
	if err != nil {
		return nil, fail(exitLocal, fmt.Errorf("write key: %w", err), "")
	}
	return key, nil
}
