package pubsub_pb_test

import (
	"reflect"
	"testing"

	pubsub_pb "github.com/muster-p2p/muster/pubsub/pb"
)

var all = []any{
	&pubsub_pb.RPC{}, &pubsub_pb.RPC_SubOpts{}, &pubsub_pb.Message{}, &pubsub_pb.ControlMessage{}, &pubsub_pb.ControlIHave{},
	&pubsub_pb.ControlIWant{}, &pubsub_pb.ControlGraft{}, &pubsub_pb.ControlPrune{}, &pubsub_pb.ControlIDontWant{},
	&pubsub_pb.ControlExtensions{}, &pubsub_pb.PeerInfo{},
}

// Every field has a getter that returns it, and that bears a nil receiver.
func TestGetters(t *testing.T) {
	for _, m := range all {
		v := reflect.ValueOf(m)
		null := reflect.Zero(v.Type())
		for i := range v.Elem().NumField() {
			name := v.Elem().Type().Field(i).Name
			get := v.MethodByName("Get" + name)
			if !get.IsValid() {
				t.Errorf("%T has no Get%s", m, name)
				continue
			}
			for _, r := range []reflect.Value{get.Call(nil)[0], null.MethodByName("Get" + name).Call(nil)[0]} {
				if !r.IsZero() {
					t.Errorf("%T.Get%s of nothing is %v", m, name, r)
				}
			}
			field := v.Elem().Field(i)
			field.Set(sample(field.Type()))
			want := field
			if field.Kind() == reflect.Pointer && field.Type().Elem().Kind() != reflect.Struct {
				want = field.Elem()
			}
			if got := get.Call(nil)[0].Interface(); !reflect.DeepEqual(got, want.Interface()) {
				t.Errorf("%T.Get%s = %v, want %v", m, name, got, want)
			}
		}
		if m.(interface{ String() string }).String() == "" {
			t.Errorf("%T with all fields set describes itself as nothing", m)
		}
		m.(interface{ Reset() }).Reset()
		if !v.Elem().IsZero() {
			t.Errorf("%T after Reset: %v", m, m)
		}
	}
}

func sample(typ reflect.Type) reflect.Value {
	switch typ.Kind() {
	case reflect.Pointer:
		p := reflect.New(typ.Elem())
		if typ.Elem().Kind() != reflect.Struct {
			p.Elem().Set(sample(typ.Elem()))
		}
		return p
	case reflect.Slice:
		return reflect.Append(reflect.MakeSlice(typ, 0, 1), sample(typ.Elem()))
	case reflect.Bool:
		return reflect.ValueOf(true)
	case reflect.String:
		return reflect.ValueOf("text")
	case reflect.Uint8:
		return reflect.ValueOf(byte(7))
	default:
		return reflect.ValueOf(uint64(7))
	}
}

func TestString(t *testing.T) {
	topic, subscribe := "news", true
	rpc := &pubsub_pb.RPC{
		Subscriptions: []*pubsub_pb.RPC_SubOpts{{Topicid: &topic, Subscribe: &subscribe}},
		Publish:       []*pubsub_pb.Message{{Data: []byte("hi\xff"), Topic: &topic}},
		Control:       &pubsub_pb.ControlMessage{Iwant: []*pubsub_pb.ControlIWant{{MessageIDs: []string{"\xfe"}}}},
	}
	const want = `Subscriptions:[{Subscribe:true Topicid:"news"}] Publish:[{Data:"hi\xff" Topic:"news"}] ` +
		`Control:{Iwant:[{MessageIDs:["\xfe"]}]}`
	if got := rpc.String(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := (*pubsub_pb.Message)(nil).String(); got != "<nil>" {
		t.Errorf("nil describes itself as %s", got)
	}
}
