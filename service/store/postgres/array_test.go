package postgres

import (
	"bytes"
	"math"
	"testing"

	"github.com/jackc/pgx/v5/pgtype"
)

func TestArraysAreWrittenAsPgxWritesThem(t *testing.T) {
	plain, tuned := pgtype.NewMap(), pgtype.NewMap()
	tuneArrays(tuned)
	for _, v := range []struct {
		oid   uint32
		value any
	}{
		{pgtype.Int8ArrayOID, []int64{1, -1, math.MaxInt64, 0}},
		{pgtype.Int8ArrayOID, []int64{}},
		{pgtype.Int8ArrayOID, []int64(nil)},
		{pgtype.Int8ArrayOID, []int32{7}}, // left to pgx, as all below of another type
		{pgtype.Int8ArrayOID, []uint32{7}},
		{pgtype.Int4ArrayOID, []int32{1, -1, math.MinInt32}},
		{pgtype.Int4ArrayOID, []int32{}},
		{pgtype.Int4ArrayOID, []int32(nil)},
		{pgtype.Int4ArrayOID, []int64{7}},
		{pgtype.ByteaArrayOID, [][]byte{[]byte("one"), {}, []byte("\x00\xff")}},
		{pgtype.ByteaArrayOID, [][]byte{[]byte("one"), nil}},
		{pgtype.ByteaArrayOID, [][]byte{}},
		{pgtype.ByteaArrayOID, [][]byte(nil)},
		{pgtype.TextArrayOID, []string{"a", "b"}},
	} {
		before := []byte("before")
		want, err := plain.Encode(v.oid, pgtype.BinaryFormatCode, v.value, bytes.Clone(before))
		if err != nil {
			t.Fatal(err)
		}
		got, err := tuned.Encode(v.oid, pgtype.BinaryFormatCode, v.value, bytes.Clone(before))
		if err != nil || !bytes.Equal(got, want) || (got == nil) != (want == nil) {
			t.Errorf("%T %v: got %x and %v\nwant %x", v.value, v.value, got, err, want)
		}
	}
}
