package pubsub_pb

import (
	"reflect"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"
)

// Marshal encodes an event. It is for tracers that write events down; frames
// between peers are encoded by pubsub/wire.
func (m *TraceEvent) Marshal() ([]byte, error) {
	return appendStruct(nil, reflect.ValueOf(m).Elem()), nil
}

// Marshal encodes a batch of events.
func (m *TraceEventBatch) Marshal() ([]byte, error) {
	return appendStruct(nil, reflect.ValueOf(m).Elem()), nil
}

// appendStruct appends the fields that are present, by the numbers in their
// tags.
func appendStruct(dst []byte, v reflect.Value) []byte {
	for i := range v.NumField() {
		num, err := strconv.Atoi(v.Type().Field(i).Tag.Get("pb"))
		if err != nil {
			panic("BUG: a field without number")
		}
		dst = appendField(dst, protowire.Number(num), v.Field(i))
	}
	return dst
}

func appendField(dst []byte, num protowire.Number, v reflect.Value) []byte {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return dst
		}
		return appendValue(dst, num, v.Elem())
	case reflect.Slice:
		if v.Type().Elem().Kind() != reflect.Uint8 {
			for i := range v.Len() {
				dst = appendField(dst, num, v.Index(i))
			}
			return dst
		}
		if v.IsNil() {
			return dst
		}
		return protowire.AppendBytes(protowire.AppendTag(dst, num, protowire.BytesType), v.Bytes())
	default:
		panic("BUG: a field of kind " + v.Kind().String())
	}
}

// appendValue appends what a pointer points to.
func appendValue(dst []byte, num protowire.Number, v reflect.Value) []byte {
	switch v.Kind() {
	case reflect.Struct:
		return protowire.AppendBytes(protowire.AppendTag(dst, num, protowire.BytesType), appendStruct(nil, v))
	case reflect.String:
		return protowire.AppendString(protowire.AppendTag(dst, num, protowire.BytesType), v.String())
	case reflect.Bool:
		return protowire.AppendVarint(protowire.AppendTag(dst, num, protowire.VarintType), protowire.EncodeBool(v.Bool()))
	default:
		return protowire.AppendVarint(protowire.AppendTag(dst, num, protowire.VarintType), uint64(v.Int()))
	}
}
