package pubsub_pb

import (
	"fmt"
	"reflect"
	"strings"
)

// describe writes the fields that are present, name and value. Message ids and
// byte fields are quoted, since they are rarely text.
func describe(m any) string {
	v := reflect.ValueOf(m)
	if v.IsNil() {
		return "<nil>"
	}
	v = v.Elem()
	var parts []string
	for i := range v.NumField() {
		if f := v.Field(i); !f.IsZero() {
			parts = append(parts, v.Type().Field(i).Name+":"+value(f))
		}
	}
	return strings.Join(parts, " ")
}

func value(f reflect.Value) string {
	if s, ok := f.Interface().(fmt.Stringer); ok {
		return "{" + s.String() + "}"
	}
	switch f.Kind() {
	case reflect.Pointer:
		return value(f.Elem())
	case reflect.Slice:
		if f.Type().Elem().Kind() == reflect.Uint8 {
			return fmt.Sprintf("%q", f.Bytes())
		}
		var parts []string
		for i := range f.Len() {
			parts = append(parts, value(f.Index(i)))
		}
		return "[" + strings.Join(parts, " ") + "]"
	case reflect.String:
		return fmt.Sprintf("%q", f.String())
	default:
		return fmt.Sprint(f.Interface())
	}
}
