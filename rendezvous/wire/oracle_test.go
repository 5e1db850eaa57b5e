package wire_test

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/muster-p2p/muster/rendezvous/wire"
)

type field struct {
	name   string
	num    int32
	typ    descriptorpb.FieldDescriptorProto_Type
	msg    string
	repeat bool
}

const (
	tString = descriptorpb.FieldDescriptorProto_TYPE_STRING
	tBytes  = descriptorpb.FieldDescriptorProto_TYPE_BYTES
	tUint64 = descriptorpb.FieldDescriptorProto_TYPE_UINT64
	tInt64  = descriptorpb.FieldDescriptorProto_TYPE_INT64
	tInt32  = descriptorpb.FieldDescriptorProto_TYPE_INT32
	tMsg    = descriptorpb.FieldDescriptorProto_TYPE_MESSAGE
)

func schema(t testing.TB, name string, messages map[string][]field) protoreflect.MessageDescriptor {
	t.Helper()
	file := &descriptorpb.FileDescriptorProto{Name: proto.String(name + ".proto"), Package: proto.String(name), Syntax: proto.String("proto2")}
	for msg, fields := range messages {
		d := &descriptorpb.DescriptorProto{Name: proto.String(msg)}
		for _, f := range fields {
			fd := &descriptorpb.FieldDescriptorProto{
				Name: proto.String(f.name), Number: proto.Int32(f.num), Type: f.typ.Enum(),
				Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
			}
			if f.repeat {
				fd.Label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
			}
			if f.msg != "" {
				fd.TypeName = proto.String("." + name + "." + f.msg)
			}
			d.Field = append(d.Field, fd)
		}
		file.MessageType = append(file.MessageType, d)
	}
	fd, err := protodesc.NewFile(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	return fd.Messages().ByName("Message")
}

// The two schemas, typed from the specs and not from this package's numbers.
func schemas(t testing.TB) map[wire.Dialect]protoreflect.MessageDescriptor {
	return map[wire.Dialect]protoreflect.MessageDescriptor{
		wire.Libp2p: schema(t, "libp2p", map[string][]field{
			"Message": {
				{name: "type", num: 1, typ: tInt32},
				{name: "register", num: 2, typ: tMsg, msg: "Register"},
				{name: "registerResponse", num: 3, typ: tMsg, msg: "RegisterResponse"},
				{name: "unregister", num: 4, typ: tMsg, msg: "Unregister"},
				{name: "discover", num: 5, typ: tMsg, msg: "Discover"},
				{name: "discoverResponse", num: 6, typ: tMsg, msg: "DiscoverResponse"},
			},
			"Register":         {{name: "ns", num: 1, typ: tString}, {name: "signedPeerRecord", num: 2, typ: tBytes}, {name: "ttl", num: 3, typ: tUint64}},
			"RegisterResponse": {{name: "status", num: 1, typ: tInt32}, {name: "statusText", num: 2, typ: tString}, {name: "ttl", num: 3, typ: tUint64}},
			"Unregister":       {{name: "ns", num: 1, typ: tString}, {name: "id", num: 2, typ: tBytes}},
			"Discover":         {{name: "ns", num: 1, typ: tString}, {name: "limit", num: 2, typ: tUint64}, {name: "cookie", num: 3, typ: tBytes}},
			"DiscoverResponse": {{name: "registrations", num: 1, typ: tMsg, msg: "Register", repeat: true}, {name: "cookie", num: 2, typ: tBytes}, {name: "status", num: 3, typ: tInt32}, {name: "statusText", num: 4, typ: tString}},
		}),
		wire.Waku: schema(t, "waku", map[string][]field{
			"Message": {
				{name: "type", num: 1, typ: tInt32},
				{name: "register", num: 2, typ: tMsg, msg: "Register"},
				{name: "registerResponse", num: 3, typ: tMsg, msg: "RegisterResponse"},
				{name: "discover", num: 4, typ: tMsg, msg: "Discover"},
				{name: "discoverResponse", num: 5, typ: tMsg, msg: "DiscoverResponse"},
			},
			"Register":         {{name: "ns", num: 1, typ: tString}, {name: "signedPeerRecord", num: 2, typ: tBytes}, {name: "ttl", num: 3, typ: tInt64}},
			"RegisterResponse": {{name: "status", num: 1, typ: tInt32}, {name: "statusText", num: 2, typ: tString}, {name: "ttl", num: 3, typ: tInt64}},
			"Discover":         {{name: "ns", num: 1, typ: tString}, {name: "limit", num: 2, typ: tInt64}},
			"DiscoverResponse": {{name: "registrations", num: 1, typ: tMsg, msg: "Register", repeat: true}, {name: "status", num: 3, typ: tInt32}, {name: "statusText", num: 4, typ: tString}},
		}),
	}
}

// Google's protobuf library reads what we write, without unknown fields, and
// writes it in the same bytes; and we read what it writes.
func TestAgainstProtobuf(t *testing.T) {
	descs := schemas(t)
	for _, v := range vectors {
		t.Run(v.name, func(t *testing.T) {
			ours := wire.Append(nil, v.dialect, &v.msg)
			m := dynamicpb.NewMessage(descs[v.dialect])
			if err := proto.Unmarshal(ours, m); err != nil {
				t.Fatal(err)
			}
			if unknown := countUnknown(m); unknown > 0 {
				t.Errorf("%d bytes of unknown fields in\n%s", unknown, prototext.Format(m))
			}
			theirs, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(ours, theirs) {
				t.Errorf("\nours   %x\ntheirs %x", ours, theirs)
			}
			var back wire.Message
			if err := wire.Parse(v.dialect, theirs, &back, 1000); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(v.msg, back); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func countUnknown(m protoreflect.Message) int {
	n := len(m.GetUnknown())
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.IsList() && fd.Message() != nil:
			for i := range v.List().Len() {
				n += countUnknown(v.List().Get(i).Message())
			}
		case fd.Message() != nil:
			n += countUnknown(v.Message())
		}
		return true
	})
	return n
}
