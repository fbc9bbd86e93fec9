// Package rules checks messages against the rules in the .proto files.
//
// The validation interceptor checks unary requests with it. The frames of
// Subscribe and PublishResults are checked by the session and the publisher,
// one by one, because there a bad frame must be answered and must not end the
// stream.
package rules

import (
	"errors"
	"fmt"
	"strings"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/proto"

	"github.com/tcmanager/tcmanager/service/fault"
)

// Reason is the reason of the fault that Message returns.
const Reason = "INVALID_FIELD"

// maxViolations bounds an answer: a batch of a thousand bad items would
// otherwise be answered with an error larger than the batch.
const maxViolations = 20

// Message returns nil for a message that keeps every rule of its .proto file. A
// message that breaks rules gets a *fault.Error of kind Invalid whose Violations
// name the fields, at most 20. Any other error means that a rule itself is
// broken, which is the server's mistake.
func Message(m proto.Message) error {
	err := protovalidate.Validate(m)
	if err == nil {
		return nil
	}
	var broken *protovalidate.ValidationError
	if !errors.As(err, &broken) {
		return fmt.Errorf("check the rules of %s: %w", m.ProtoReflect().Descriptor().FullName(), err)
	}
	return Fault(broken.ToProto())
}

// Fault returns the error a client gets for violations.
func Fault(broken *validate.Violations) *fault.Error {
	all := broken.GetViolations()
	shown := all[:min(len(all), maxViolations)]
	violations := make([]fault.Violation, 0, len(shown))
	sentences := make([]string, 0, len(shown))
	for _, v := range shown {
		field := protovalidate.FieldPathString(v.GetField())
		violations = append(violations, fault.Violation{Field: field, Description: v.GetMessage()})
		sentences = append(sentences, strings.TrimPrefix(field+": "+v.GetMessage(), ": "))
	}
	if more := len(all) - len(shown); more > 0 {
		sentences = append(sentences, fmt.Sprintf("and %d more", more))
	}
	e := fault.New(fault.Invalid, Reason, "%s", strings.Join(sentences, "; "))
	e.Violations = violations
	return e
}
