// Package validation refuses messages that break the rules in the .proto files,
// before any service sees them.
//
// Some streams are left out: a bad frame of Subscribe, Watch or PublishResults
// must be answered by itself and must not end the stream, so the session and the
// publisher check their frames, by package rules too.
package validation

import (
	pv "buf.build/go/protovalidate"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/protovalidate"
	"google.golang.org/grpc"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/interceptors/layer"
)

// checkedFrameByFrame are the streams that check their messages themselves.
var checkedFrameByFrame = map[string]bool{
	pb.RealtimeService_Subscribe_FullMethodName:       true,
	pb.RealtimeService_Watch_FullMethodName:           true,
	pb.ExecutionService_PublishResults_FullMethodName: true,
}

// Unary checks the requests of calls.
func Unary() grpc.UnaryServerInterceptor {
	return protovalidate.UnaryServerInterceptor(pv.GlobalValidator)
}

// Stream checks each message of streams, except for those that check their own.
// A bad message fails RecvMsg.
func Stream() layer.Layer {
	check := protovalidate.StreamServerInterceptor(pv.GlobalValidator)
	return func(ss grpc.ServerStream, info *grpc.StreamServerInfo) (within grpc.ServerStream, end func(error) error, err error) {
		if checkedFrameByFrame[info.FullMethod] {
			return nil, nil, nil
		}
		err = check(nil, ss, info, func(_ any, checked grpc.ServerStream) error {
			within = checked // it holds on to nothing that ends here
			return nil
		})
		return within, nil, err
	}
}
