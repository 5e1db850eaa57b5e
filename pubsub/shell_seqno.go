package pubsub

import (
	"context"
	"encoding/binary"
	"log/slog"
	"sync"

	"github.com/libp2p/go-libp2p/core/peer"
)

// A PeerMetadataStore remembers a few bytes per peer.
type PeerMetadataStore interface {
	// Get returns what was put for the peer, or nil.
	Get(context.Context, peer.ID) ([]byte, error)
	// Put replaces it.
	Put(context.Context, peer.ID, []byte) error
}

// A BasicSeqnoValidator ignores messages whose sequence number is not above
// the highest of their author: replays from beyond the seen cache. It needs
// strict signing. Old versions of rust-libp2p draw sequence numbers at
// random, and lose half of their messages to it.
type BasicSeqnoValidator struct {
	mu   sync.Mutex // guards the read and write of one number
	meta PeerMetadataStore
	log  *slog.Logger
}

// NewBasicSeqnoValidator returns the validator, for WithDefaultValidator. A
// nil logger is silent.
func NewBasicSeqnoValidator(meta PeerMetadataStore, logger *slog.Logger) ValidatorEx {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	v := &BasicSeqnoValidator{meta: meta, log: logger}
	return v.validate
}

func (v *BasicSeqnoValidator) validate(ctx context.Context, _ peer.ID, m *Message) ValidationResult {
	if len(m.Seqno) != 8 {
		return ValidationIgnore
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	author, seqno := m.GetFrom(), binary.BigEndian.Uint64(m.Seqno)
	last, err := v.meta.Get(ctx, author)
	if err != nil {
		v.log.Warn("cannot read sequence number", "author", author, "err", err)
		return ValidationIgnore
	}
	if len(last) == 8 && seqno <= binary.BigEndian.Uint64(last) {
		return ValidationIgnore
	}
	if err := v.meta.Put(ctx, author, append([]byte(nil), m.Seqno...)); err != nil {
		v.log.Warn("cannot write sequence number", "author", author, "err", err)
	}
	return ValidationAccept
}
