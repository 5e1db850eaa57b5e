package pubsub

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"testing"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	pb "github.com/muster-p2p/muster/pubsub/pb"
)

// The peer id specification's example of an Ed25519 key.
// https://github.com/libp2p/specs/blob/master/peer-ids/peer-ids.md#ed25519
const specKey = "080112201ed1e8fae2c4a144b8be8fd4b47bf3d3b34b871c3cacf6010f0e42d474fce27e"

func specMessage(t testing.TB) *pb.Message {
	t.Helper()
	key, err := hex.DecodeString(specKey)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := crypto.UnmarshalPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	topic := "news"
	return &pb.Message{From: []byte(id), Seqno: []byte{0, 0, 0, 0, 0, 0, 1, 2}, Data: []byte("hello"), Topic: &topic}
}

func TestMessageIDs(t *testing.T) {
	const author = "12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq"
	m := specMessage(t)
	if got := peer.ID(m.From).String(); got != author {
		t.Fatalf("author %s", got)
	}
	noAuthor := &pb.Message{Data: []byte("hello")}
	withKey := specMessage(t)
	withKey.From, withKey.Key = []byte("\x12\x02ab"), []byte("a key")
	hello := sha256.Sum256([]byte("hello"))
	key, _ := hex.DecodeString(specKey)
	for _, tt := range []struct {
		name string
		fn   MsgIdFunction
		m    *pb.Message
		want string
	}{
		{"go", MessageIDGo, m, "\x00\x24" + string(key) + "\x00\x00\x00\x00\x00\x00\x01\x02"},
		{"default", DefaultMsgIdFn, m, "\x00\x24" + string(key) + "\x00\x00\x00\x00\x00\x00\x01\x02"},
		{"rust", MessageIDRust, m, author + "258"},
		{"rust without author", MessageIDRust, noAuthor, "15R0"},
		{"nim", MessageIDNim, m, "0000000000000102" + author},
		{"js", MessageIDJS, m, string(key) + "\x00\x00\x00\x00\x00\x00\x01\x02"},
		{"js with a key in the message", MessageIDJS, withKey, "a key\x00\x00\x00\x00\x00\x00\x01\x02"},
		{"js without any key", MessageIDJS, &pb.Message{From: []byte("\x12\x02ab"), Seqno: []byte("s")}, "\x12\x02abs"},
		{"sha256", MessageIDSHA256, noAuthor, string(hello[:])},
		{"unsigned, without author", messageIDUnsigned, noAuthor, string(hello[:])},
		{"unsigned, with author", messageIDUnsigned, m, MessageIDGo(m)},
	} {
		if got := tt.fn(tt.m); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// "SHA256(MESSAGE_DOMAIN_VALID_SNAPPY + uint_to_bytes(uint64(len(message.topic)))
// + message.topic + snappy_decompress(message.data))[:20]"
func TestMessageIDEthereum(t *testing.T) {
	topic := "/eth2/4a26c58b/beacon_block/ssz_snappy"
	reference := func(domain [4]byte, payload string) string {
		b := binary.LittleEndian.AppendUint64(domain[:], uint64(len(topic)))
		sum := sha256.Sum256(append(append(b, topic...), payload...))
		return string(sum[:20])
	}
	good := MessageIDEthereum(EthereumDomainValidSnappy, EthereumDomainInvalidSnappy,
		func([]byte) ([]byte, error) { return []byte("plain"), nil })
	bad := MessageIDEthereum(EthereumDomainValidSnappy, EthereumDomainInvalidSnappy,
		func([]byte) ([]byte, error) { return nil, errors.New("not snappy") })
	m := &pb.Message{Data: []byte("data"), Topic: &topic}
	if got, want := good(m), reference(EthereumDomainValidSnappy, "plain"); got != want {
		t.Errorf("valid: %x, want %x", got, want)
	}
	if got, want := bad(m), reference(EthereumDomainInvalidSnappy, "data"); got != want {
		t.Errorf("invalid: %x, want %x", got, want)
	}
}

func TestMessageIDAllocations(t *testing.T) {
	m := specMessage(t)
	for name, fn := range map[string]MsgIdFunction{"go": MessageIDGo, "js": MessageIDJS, "sha256": MessageIDSHA256} {
		if n := testing.AllocsPerRun(100, func() { fn(m) }); n > 1 {
			t.Errorf("%s: %v allocations, want the id alone", name, n)
		}
	}
}

// No message makes an id function panic.
func FuzzMessageIDs(f *testing.F) {
	f.Add([]byte("from"), []byte("seqno"), []byte("key"), []byte("data"))
	f.Add([]byte{0, 200, 1}, []byte(nil), []byte(nil), []byte(nil))
	f.Fuzz(func(_ *testing.T, from, seqno, key, data []byte) {
		m := &pb.Message{From: from, Seqno: seqno, Key: key, Data: data}
		for _, fn := range []MsgIdFunction{MessageIDGo, MessageIDRust, MessageIDNim, MessageIDJS, MessageIDSHA256} {
			fn(m)
		}
	})
}
