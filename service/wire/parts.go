package wire

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

const (
	// maxParts is how many messages and entries of repeated fields a message may
	// hold in all. A full batch of results, each with everything that may be said
	// of it, has fewer. An empty part takes two bytes on the wire and up to some
	// hundred in memory, so that 4 MiB could take half a gigabyte, before any rule
	// is looked at.
	maxParts = 150_000
	// smallBytes is the size of messages that can't hold enough parts to matter.
	smallBytes = 64 << 10
)

// checkParts refuses an encoded message with more than maxParts. What can't be
// read is left to the decoder, which says what is wrong with it.
func checkParts(md protoreflect.MessageDescriptor, encoded []byte) error {
	if left := countDown(md, encoded, maxParts); left < 0 {
		return fmt.Errorf("the message has more than %d parts; send less at once", maxParts)
	}
	return nil
}

// countDown returns how many of left parts remain after a message; less than 0 if
// it has more.
func countDown(md protoreflect.MessageDescriptor, b []byte, left int) int {
	fields := md.Fields()
	for len(b) > 0 && left >= 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return left
		}
		b = b[n:]
		if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
			return left
		}
		value := b[:n]
		b = b[n:]
		fd := fields.ByNumber(num)
		if fd == nil {
			continue
		}
		if fd.IsList() || fd.Message() != nil {
			left--
		}
		if fd.Message() != nil && typ == protowire.BytesType {
			inner, _ := protowire.ConsumeBytes(value)
			left = countDown(fd.Message(), inner, left)
		}
	}
	return left
}
