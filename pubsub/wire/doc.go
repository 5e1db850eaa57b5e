// Package wire turns libp2p pubsub frames into values and back: the RPC of
// floodsub and gossipsub 1.0 to 1.2. Start with [RPC.Decode] to read a
// frame, with [Fields] and [Control] to write one.
//
// On a stream each RPC follows its length as an unsigned varint. A length of
// zero is legal and means an RPC that says nothing. The layout is proto2:
//
//	RPC            { repeated SubOpts subscriptions = 1; repeated Message publish = 2; optional ControlMessage control = 3 }
//	SubOpts        { bool subscribe = 1; string topicid = 2 }
//	Message        { bytes from = 1; bytes data = 2; bytes seqno = 3; string topic = 4; bytes signature = 5; bytes key = 6 }
//	ControlMessage { repeated IHave ihave = 1; repeated IWant iwant = 2; repeated Graft graft = 3;
//	                 repeated Prune prune = 4; repeated IDontWant idontwant = 5; ControlExtensions extensions = 6 }
//	IHave          { string topicID = 1; repeated bytes messageIDs = 2 }
//	IWant          { repeated bytes messageIDs = 1 }
//	Graft          { string topicID = 1 }
//	Prune          { string topicID = 1; repeated PeerInfo peers = 2; uint64 backoff = 3 }
//	PeerInfo       { bytes peerID = 1; bytes signedPeerRecord = 2 }
//	IDontWant      { repeated bytes messageIDs = 1 }
//
// https://github.com/libp2p/specs/blob/master/pubsub/README.md#the-rpc
// https://github.com/libp2p/specs/blob/master/pubsub/gossipsub/gossipsub-v1.2.md#control-messages
//
// Decoding copies nothing: every byte slice of a decoded RPC is a view into
// the frame, valid as long as the caller leaves the frame alone. Fields of
// later versions (partial messages 10, the test extension 6492434, and any
// other) are skipped in an RPC and its control part, and kept in a Message,
// where they belong to what its author signed.
//
// [Limits] are applied while decoding. What exceeds them is left out and
// counted in [RPC.Excess], so that one long list of an honest peer does not
// cost it the stream; a frame that is no protobuf at all is [ErrMalformed].
//
// The package holds no state, starts nothing and reads no clock. Distinct
// values may be used at once; one value belongs to one goroutine at a time.
package wire
