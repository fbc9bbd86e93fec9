package sqlite

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tcmanager/tcmanager/service/store"
)

// reader reads in the transaction of its connection.
type reader struct {
	ctx context.Context // of the View or Update; long reads look at it
	c   *conn
}

var _ store.Reader = (*reader)(nil)

// orNone makes a list of what isn't there an empty list.
func orNone(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

// micros returns a moment as a column holds it; NULL for none.
func micros(t *timestamppb.Timestamp) any {
	if t == nil {
		return nil
	}
	return t.AsTime().UnixMicro()
}

func moment(micros int64) time.Time { return time.UnixMicro(micros).UTC() }

// timestamp is the reverse of micros.
func timestamp(micros *int64) *timestamppb.Timestamp {
	if micros == nil {
		return nil
	}
	return timestamppb.New(moment(*micros))
}

// encode returns m without some fields, which are kept in columns or not at all.
// It leaves m as it is, since the caller may share it.
func encode(m proto.Message, without ...protoreflect.Name) ([]byte, error) {
	if len(without) > 0 {
		kept := m.ProtoReflect().New()
		m.ProtoReflect().Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
			if !slices.Contains(without, f.Name()) {
				kept.Set(f, v)
			}
			return true
		})
		m = kept.Interface()
	}
	b, err := proto.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	return b, nil
}

func decode(b []byte, m proto.Message) error {
	if err := proto.Unmarshal(b, m); err != nil {
		return fmt.Errorf("decode %s: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	return nil
}
