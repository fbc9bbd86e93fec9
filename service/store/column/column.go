// Package column is how stores keep what the interface speaks of in columns:
// messages encoded, moments as microseconds since 1970.
package column

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/store"
)

// NewEpoch draws 63 random bits, never 0, so that the number fits a signed column.
func NewEpoch() (uint64, error) {
	var b [8]byte
	for {
		if _, err := rand.Read(b[:]); err != nil {
			return 0, fmt.Errorf("draw an epoch: %w", err)
		}
		if n := binary.LittleEndian.Uint64(b[:]) >> 1; n != 0 {
			return n, nil
		}
	}
}

// OrNone makes a list of what isn't there an empty list.
func OrNone(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

// Micros returns a moment as a column holds it; NULL for none.
func Micros(t *timestamppb.Timestamp) any {
	if t == nil {
		return nil
	}
	return t.AsTime().UnixMicro()
}

// Moment is a column of microseconds as a time.
func Moment(micros int64) time.Time { return time.UnixMicro(micros).UTC() }

// Timestamp is the reverse of Micros.
func Timestamp(micros *int64) *timestamppb.Timestamp {
	if micros == nil {
		return nil
	}
	return timestamppb.New(Moment(*micros))
}

// Encode returns m without some fields, which are kept in columns or not at all.
// It leaves m as it is, since the caller may share it.
func Encode(m proto.Message, without ...protoreflect.Name) ([]byte, error) {
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

// Decode is the reverse of Encode.
func Decode(b []byte, m proto.Message) error {
	if err := proto.Unmarshal(b, m); err != nil {
		return fmt.Errorf("decode %s: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	return nil
}

// EncodeRun leaves out of a run what is kept elsewhere or nowhere. Each commit of a
// runner does it, so it asks no descriptor what there is; a test does.
func EncodeRun(run *pb.Run) ([]byte, error) {
	return Encode(&pb.Run{
		Info: run.Info, State: run.State, EndReason: run.EndReason, Counts: run.Counts, Suites: run.Suites,
		StartedAt: run.StartedAt, EndedAt: run.EndedAt, StartedBy: run.StartedBy,
		ExpectedShards: run.ExpectedShards, ExpectedTotal: run.ExpectedTotal,
	})
}

// EncodeCase leaves out of a test case what is kept in columns.
func EncodeCase(c *pb.TestCase) ([]byte, error) {
	return Encode(c, "id", "project_id", "key", "description")
}

// Shard returns a shard as its run shows it.
func Shard(s store.Shard) *pb.Shard {
	p := &pb.Shard{Name: s.Name, State: s.State, CommittedSequence: s.Committed, ExitCode: s.ExitCode}
	if s.ChangedAt != (time.Time{}) {
		micros := s.ChangedAt.UnixMicro()
		p.ChangedAt = Timestamp(&micros)
	}
	return p
}

// casePrefix begins every key of a test case.
const casePrefix = "TC-"

// CaseKey returns the key of a project's test case.
func CaseKey(number uint64) string { return casePrefix + strconv.FormatUint(number, 10) }

// CaseNumber returns the number in a key; 0 if it isn't the key of any case.
func CaseNumber(key string) uint64 {
	n, err := strconv.ParseUint(strings.TrimPrefix(key, casePrefix), 10, 63)
	if err != nil || CaseKey(n) != key {
		return 0
	}
	return n
}
