package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/libp2p/go-libp2p/core/crypto"

	"github.com/muster-p2p/muster/access"
	"github.com/muster-p2p/muster/enr"
)

// Files of a data directory, all readable by its owner only.
const (
	dataMode = 0o700

	lockFile   = "lock"               // held while a daemon runs
	tokensDir  = "tokens"             // issued access tokens, as hashes
	sharedMark = "tokens-in-database" // says where the tokens are instead
	usageFile  = "usage.json"         // bytes that were relayed for them
	discv5Key  = "discv5.key"         // secp256k1, where node.key is of another kind
	discv5Dir  = "discv5"             // nodes that were seen
	mintKey    = "mint.key"           // makes tokens for meetings, where no store keeps a secret
	acmeDir    = "acme"               // certificates of an authority
)

// openDataDir makes the directory, or takes one that nobody else can write. A
// daemon takes only its own; root may look after another user's.
func openDataDir(dir string, daemon bool) error {
	if err := os.MkdirAll(dir, dataMode); err != nil {
		return fail(exitLocal, fmt.Errorf("data directory: %w", err), "choose another with --data-dir")
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return fail(exitLocal, fmt.Errorf("data directory: %w", err), "")
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		if info, err = os.Stat(dir); err != nil {
			return fail(exitLocal, fmt.Errorf("data directory: %w", err), "")
		}
	}
	switch {
	case !info.IsDir():
		return usageError(fmt.Errorf("data directory %s is not a directory", dir), "choose another with --data-dir")
	case writableByOthers(info.Mode()):
		return usageError(fmt.Errorf("data directory %s can be written by others (mode %#o)", dir, info.Mode().Perm()),
			"make it private with 'chmod 700 "+dir+"'")
	case foreignOwner(info) && (daemon || os.Geteuid() != 0):
		return usageError(fmt.Errorf("data directory %s belongs to another user", dir), "choose another with --data-dir, or run as that user")
	}
	return nil
}

// daemonKeys returns the identities of host and discv5, made if they are not
// there: one for both if it is of secp256k1, as node records want it.
func daemonKeys(p *servePlan) (crypto.PrivKey, *enr.PrivateKey, error) {
	key, err := hostKey(p.keyFile)
	if err != nil {
		return nil, nil, err
	}
	if err := ownKey(p.keyFile); err != nil {
		return nil, nil, err
	}
	if !p.discv5 {
		return key, nil, nil
	}
	if own, err := enr.PrivateKeyOf(key); err == nil {
		return key, own, nil
	}
	file := filepath.Join(p.dataDir, discv5Key)
	node, err := nodeKey(file)
	return key, node, errors.Join(err, ownKey(file))
}

// ownKey refuses a key that another user has put there.
func ownKey(file string) error {
	info, err := os.Lstat(file)
	if err != nil {
		return fail(exitLocal, err, "")
	}
	if foreignOwner(info) {
		return usageError(fmt.Errorf("key %s belongs to another user", file), "")
	}
	return nil
}

// mintSecret returns what tokens for meetings are made with, nil if the store
// keeps it: a memory forgets it, and links could not resume after a restart.
func mintSecret(p *servePlan) ([]byte, error) {
	if kindOfStore(p.store) != "memory" && p.rendezvous {
		return nil, nil
	}
	file := filepath.Join(p.dataDir, mintKey)
	if _, err := os.Lstat(file); errors.Is(err, fs.ErrNotExist) {
		secret := make([]byte, access.MinSecret)
		rand.Read(secret) // never fails, by its contract
		if err := access.WriteFile(file, secret); err != nil {
			return nil, fail(exitLocal, fmt.Errorf("write key: %w", err), "")
		}
	}
	secret, err := readKeyFile(file)
	if err == nil && len(secret) != access.MinSecret {
		err = usageError(fmt.Errorf("key %s is damaged", file), "remove it: tokens for meetings under way end then")
	}
	return secret, err
}
