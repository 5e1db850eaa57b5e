package wire_test

import (
	"bytes"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/muster-p2p/muster/pubsub/wire"
)

// What was decoded encodes to a frame that decodes to the same and encodes to
// the same bytes again: there is one form that all others are brought to.
func FuzzRoundTrip(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, frame []byte) {
		var first, second wire.RPC
		if first.Decode(frame, &limits) != nil || first.Excess.Total() > 0 {
			t.Skip()
		}
		once := wire.AppendRPC(nil, &first)
		if err := second.Decode(once, &limits); err != nil {
			t.Fatalf("our own encoding does not decode: %v", err)
		}
		if lengths(&first) != lengths(&second) {
			t.Fatalf("entries %v, after a round trip %v", lengths(&first), lengths(&second))
		}
		if twice := wire.AppendRPC(nil, &second); !bytes.Equal(once, twice) {
			t.Fatalf("encoded %x, then %x", once, twice)
		}
		for i := range first.Publish {
			checkMessage(t, &first.Publish[i])
		}
	})
}

// A message's views agree with each other.
func checkMessage(t *testing.T, m *wire.Message) {
	t.Helper()
	if m.Field != nil && !bytes.Equal(m.Field, wire.AppendPublishRaw(nil, m.Raw)) {
		t.Errorf("Field %x is not the entry of %x", m.Field, m.Raw)
	}
	// The signed bytes do not depend on how the message is written: they are
	// what a message encodes to that has neither signature nor key.
	signed := m.AppendSigned(nil)[len(wire.SignPrefix):]
	var bare wire.Message
	if err := bare.Decode(signed); err != nil || bare.Signature != nil || bare.Key != nil ||
		!bytes.Equal(bare.Data, m.Data) || !bytes.Equal(bare.From, m.From) {
		t.Errorf("signed bytes %x of %x: %v", signed, m.Raw, err)
	}
	if again := bare.AppendSigned(nil)[len(wire.SignPrefix):]; !bytes.Equal(again, signed) {
		t.Errorf("signed bytes %x, of themselves %x", signed, again)
	}
}

// What we accept, protobuf-go accepts, and reads the same.
func FuzzAgainstProtobuf(f *testing.F) {
	seed(f)
	desc := descriptor(f)
	f.Fuzz(func(t *testing.T, frame []byte) {
		var r wire.RPC
		if r.Decode(frame, &limits) != nil || r.Excess.Total() > 0 {
			t.Skip()
		}
		ref := dynamicpb.NewMessage(desc)
		if err := proto.Unmarshal(frame, ref); err != nil {
			t.Fatalf("we accept what protobuf does not: %v", err)
		}
		got := wire.AppendRPC(nil, &r)
		ours := dynamicpb.NewMessage(desc)
		if err := proto.Unmarshal(got, ours); err != nil {
			t.Fatalf("protobuf refuses our encoding: %v", err)
		}
		discard(ref, desc)
		discard(ours, desc)
		if !proto.Equal(ref, ours) {
			t.Fatalf("protobuf reads\n%v\nand of our encoding\n%v", ref, ours)
		}
	})
}

// discard drops what we do not keep: unknown fields, a control part's unset
// parts, an absent boolean or back-off that is written as false or left out.
func discard(m protoreflect.Message, desc protoreflect.MessageDescriptor) {
	m.SetUnknown(nil)
	for i := range desc.Fields().Len() {
		fd := desc.Fields().Get(i)
		switch {
		case fd.IsList() && fd.Kind() == protoreflect.MessageKind:
			l := m.Get(fd).List()
			for j := range l.Len() {
				discard(l.Get(j).Message(), fd.Message())
			}
		case fd.Kind() == protoreflect.MessageKind:
			if m.Has(fd) {
				discard(m.Get(fd).Message(), fd.Message())
			}
		case fd.Kind() == protoreflect.BoolKind && !m.Get(fd).Bool(),
			fd.Kind() == protoreflect.Uint64Kind && m.Get(fd).Uint() == 0,
			fd.Kind() == protoreflect.StringKind && m.Get(fd).String() == "":
			m.Clear(fd)
		}
	}
}

func seed(f *testing.F) {
	for _, g := range golden {
		f.Add(g.build())
	}
	for _, s := range []string{"5203 0a0141", "92a1e21800", "1a04 3202 5001", "120a 3a0147 120142 2a0145", "53 0801 54", "1283 00 120142"} {
		f.Add(unhex(f, s))
	}
}

// descriptor builds the specification's schema.
func descriptor(tb testing.TB) protoreflect.MessageDescriptor {
	tb.Helper()
	const (
		optional = descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL
		repeated = descriptorpb.FieldDescriptorProto_LABEL_REPEATED
		str      = descriptorpb.FieldDescriptorProto_TYPE_STRING
		byt      = descriptorpb.FieldDescriptorProto_TYPE_BYTES
		boolean  = descriptorpb.FieldDescriptorProto_TYPE_BOOL
		u64      = descriptorpb.FieldDescriptorProto_TYPE_UINT64
		msg      = descriptorpb.FieldDescriptorProto_TYPE_MESSAGE
	)
	field := func(num int32, name string, label descriptorpb.FieldDescriptorProto_Label, typ descriptorpb.FieldDescriptorProto_Type, of string) *descriptorpb.FieldDescriptorProto {
		d := &descriptorpb.FieldDescriptorProto{Name: &name, Number: &num, Label: &label, Type: &typ}
		if of != "" {
			d.TypeName = proto.String("." + of)
		}
		return d
	}
	message := func(name string, fields ...*descriptorpb.FieldDescriptorProto) *descriptorpb.DescriptorProto {
		return &descriptorpb.DescriptorProto{Name: &name, Field: fields}
	}
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: proto.String("rpc.proto"), Syntax: proto.String("proto2"),
		MessageType: []*descriptorpb.DescriptorProto{
			message("RPC", field(1, "subscriptions", repeated, msg, "SubOpts"), field(2, "publish", repeated, msg, "Message"), field(3, "control", optional, msg, "Control")),
			message("SubOpts", field(1, "subscribe", optional, boolean, ""), field(2, "topicid", optional, str, ""), field(3, "requestsPartial", optional, boolean, ""), field(4, "supportsSendingPartial", optional, boolean, "")),
			message("Message", field(1, "from", optional, byt, ""), field(2, "data", optional, byt, ""), field(3, "seqno", optional, byt, ""), field(4, "topic", optional, str, ""), field(5, "signature", optional, byt, ""), field(6, "key", optional, byt, "")),
			message("Control", field(1, "ihave", repeated, msg, "IHave"), field(2, "iwant", repeated, msg, "IDs"), field(3, "graft", repeated, msg, "Graft"), field(4, "prune", repeated, msg, "Prune"), field(5, "idontwant", repeated, msg, "IDs"), field(6, "extensions", optional, byt, "")),
			message("IHave", field(1, "topicID", optional, str, ""), field(2, "messageIDs", repeated, byt, "")),
			message("IDs", field(1, "messageIDs", repeated, byt, "")),
			message("Graft", field(1, "topicID", optional, str, "")),
			message("Prune", field(1, "topicID", optional, str, ""), field(2, "peers", repeated, msg, "PeerInfo"), field(3, "backoff", optional, u64, "")),
			message("PeerInfo", field(1, "peerID", optional, byt, ""), field(2, "signedPeerRecord", optional, byt, "")),
		},
	}, nil)
	if err != nil {
		tb.Fatal(err)
	}
	return file.Messages().ByName("RPC")
}

func TestAgainstProtobuf(t *testing.T) {
	desc := descriptor(t)
	for _, g := range golden {
		ref := dynamicpb.NewMessage(desc)
		if err := proto.Unmarshal(g.build(), ref); err != nil {
			t.Errorf("%s: %v", g.name, err)
			continue
		}
		b, err := proto.MarshalOptions{Deterministic: true}.Marshal(ref)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := slices.Sorted(slices.Values(b)), slices.Sorted(slices.Values(g.build())); !slices.Equal(got, want) {
			t.Errorf("%s: protobuf encodes %x, we %x", g.name, b, g.build())
		}
	}
}
