package postgres

import (
	"encoding/binary"
	"slices"

	"github.com/jackc/pgx/v5/pgtype"
)

// arrayCodec writes the arrays that results and events are stored by into memory of
// the right size at once. pgx's own codec, which does the rest, goes through an
// interface for every element, and lets the memory grow as it goes: that took more
// time than all else that is done here for a result.
type arrayCodec struct {
	pgtype.Codec
	element uint32 // the type of the elements
}

// tuneArrays registers the codec with a connection.
func tuneArrays(m *pgtype.Map) {
	for array, element := range map[uint32]uint32{
		pgtype.Int8ArrayOID: pgtype.Int8OID, pgtype.Int4ArrayOID: pgtype.Int4OID, pgtype.ByteaArrayOID: pgtype.ByteaOID,
	} {
		if t, ok := m.TypeForOID(array); ok {
			m.RegisterType(&pgtype.Type{Name: t.Name, OID: array, Codec: arrayCodec{t.Codec, element}})
		}
	}
}

// PlanEncode returns how to write a value.
func (c arrayCodec) PlanEncode(m *pgtype.Map, oid uint32, format int16, value any) pgtype.EncodePlan {
	if format == pgtype.BinaryFormatCode {
		switch value.(type) {
		case []int64:
			if c.element == pgtype.Int8OID {
				return c
			}
		case []int32:
			if c.element == pgtype.Int4OID {
				return c
			}
		case [][]byte:
			if c.element == pgtype.ByteaOID {
				return c
			}
		}
	}
	return c.Codec.PlanEncode(m, oid, format, value)
}

// Encode appends an array in its binary form: how many dimensions, whether there
// are NULLs, the type, for each dimension its length and its first index, and then
// the elements with their lengths. A nil slice is NULL.
func (c arrayCodec) Encode(value any, b []byte) ([]byte, error) {
	switch v := value.(type) {
	case []int64:
		if v == nil {
			return nil, nil
		}
		b = c.begin(b, len(v), 8*len(v), false)
		for _, n := range v {
			b = binary.BigEndian.AppendUint32(b, 8)
			b = binary.BigEndian.AppendUint64(b, uint64(n))
		}
	case []int32:
		if v == nil {
			return nil, nil
		}
		b = c.begin(b, len(v), 4*len(v), false)
		for _, n := range v {
			b = binary.BigEndian.AppendUint32(b, 4)
			b = binary.BigEndian.AppendUint32(b, uint32(n))
		}
	case [][]byte:
		if v == nil {
			return nil, nil
		}
		size, nulls := 0, false
		for _, e := range v {
			size, nulls = size+len(e), nulls || e == nil
		}
		b = c.begin(b, len(v), size, nulls)
		for _, e := range v {
			if e == nil {
				b = binary.BigEndian.AppendUint32(b, 0xffffffff)
				continue
			}
			b = binary.BigEndian.AppendUint32(b, uint32(len(e)))
			b = append(b, e...)
		}
	}
	return b, nil
}

// begin makes room for n elements of size bytes together, and writes what precedes
// them.
func (c arrayCodec) begin(b []byte, n, size int, nulls bool) []byte {
	b = slices.Grow(b, 20+4*n+size)
	hasNulls := uint32(0)
	if nulls {
		hasNulls = 1
	}
	for _, v := range [...]uint32{1, hasNulls, c.element, uint32(n), 1} {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return b
}
