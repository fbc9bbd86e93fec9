package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

// grpcurl does what the tool of that name does with the arguments the README
// uses. Like the tool it knows no schema: all it knows comes by reflection.
func grpcurl(ts *testscript.TestScript, neg bool, args []string) {
	var call grpcCall
	err := call.parse(args)
	if err == nil && call.data == "@" {
		call.typed = true
		call.data = ts.ReadFile("stdin.json") // the script's place for what is typed
	}
	var out bytes.Buffer
	if err == nil {
		err = call.do(&out)
	}
	settle(ts, neg, out.String(), err)
}

type grpcCall struct {
	addr, verb, target, data string
	typed                    bool // the data comes from a keyboard
	headers                  metadata.MD
	files                    *protoregistry.Files
}

func (c *grpcCall) parse(args []string) error {
	c.headers = metadata.MD{}
	var words []string
	for i := 0; i < len(args); i++ {
		switch {
		case args[i] == "-plaintext":
		case (args[i] == "-d" || args[i] == "-H") && i+1 < len(args):
			i++
			if args[i-1] == "-d" {
				c.data = args[i]
				continue
			}
			name, value, _ := strings.Cut(args[i], ":")
			c.headers.Append(name, strings.TrimSpace(value))
		default:
			words = append(words, args[i])
		}
	}
	switch {
	case len(words) == 2 && words[1] == "list":
		c.addr, c.verb = words[0], "list"
	case len(words) == 3 && words[1] == "describe":
		c.addr, c.verb, c.target = words[0], "describe", words[2]
	case len(words) == 2:
		c.addr, c.verb, c.target = words[0], "call", words[1]
	default:
		return errors.New("usage: grpcurl -plaintext [-H HEADER] [-d JSON] ADDR list | describe SYMBOL | SERVICE/METHOD")
	}
	return nil
}

func (c *grpcCall) do(out io.Writer) error {
	conn, err := grpc.NewClient(c.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	switch c.verb {
	case "list":
		return c.list(ctx, conn, out)
	case "describe":
		d, err := c.find(ctx, conn, c.target)
		if err == nil {
			describeService(out, d)
		}
		return err
	}
	return c.call(metadata.NewOutgoingContext(ctx, c.headers), conn, out)
}

func (c *grpcCall) list(ctx context.Context, conn *grpc.ClientConn, out io.Writer) error {
	res, err := reflect(ctx, conn, &reflectionpb.ServerReflectionRequest{
		MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{ListServices: "*"},
	})
	if err != nil {
		return err
	}
	var names []string
	for _, s := range res.GetListServicesResponse().GetService() {
		names = append(names, s.GetName())
	}
	slices.Sort(names)
	_, err = fmt.Fprintln(out, strings.Join(names, "\n"))
	return err
}

func describeService(out io.Writer, d protoreflect.Descriptor) {
	fmt.Fprintf(out, "%s is a service\n", d.FullName())
	service, ok := d.(protoreflect.ServiceDescriptor)
	if !ok {
		return
	}
	for i := range service.Methods().Len() {
		m := service.Methods().Get(i)
		fmt.Fprintf(out, "rpc %s ( %s ) returns ( %s )\n", m.Name(), m.Input().FullName(), m.Output().FullName())
	}
}

// call sends every message of the data, says that there are no more, and prints
// what comes back.
func (c *grpcCall) call(ctx context.Context, conn *grpc.ClientConn, out io.Writer) error {
	serviceName, methodName, _ := strings.Cut(c.target, "/")
	d, err := c.find(ctx, conn, serviceName)
	if err != nil {
		return err
	}
	service, ok := d.(protoreflect.ServiceDescriptor)
	if !ok || service.Methods().ByName(protoreflect.Name(methodName)) == nil {
		return fmt.Errorf("there is no method %s", c.target)
	}
	method := service.Methods().ByName(protoreflect.Name(methodName))
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/"+c.target)
	if err != nil {
		return err
	}
	sent, err := sendAll(stream, method.Input(), c.data)
	if err != nil {
		return err
	}
	// Whoever types stays until all is answered.
	hangUpAfter := 0
	if c.typed {
		hangUpAfter = sent
	}
	for answers := 0; ; {
		if answers == hangUpAfter {
			hangUpAfter = -1
			if err := stream.CloseSend(); err != nil {
				return err
			}
		}
		res := dynamicpb.NewMessage(method.Output())
		if err := stream.RecvMsg(res); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if field := method.Output().Fields().ByName("reply_to"); field != nil && res.Has(field) {
			answers++
		}
		var pretty bytes.Buffer
		b, err := protojson.MarshalOptions{Resolver: dynamicpb.NewTypes(c.files)}.Marshal(res)
		if err == nil {
			err = json.Indent(&pretty, b, "", "  ")
		}
		if err != nil {
			return err
		}
		fmt.Fprintln(out, pretty.String())
	}
}

func sendAll(stream grpc.ClientStream, input protoreflect.MessageDescriptor, data string) (sent int, err error) {
	d := json.NewDecoder(strings.NewReader(data))
	for ; ; sent++ {
		var raw json.RawMessage
		if err := d.Decode(&raw); errors.Is(err, io.EOF) {
			return sent, nil
		} else if err != nil {
			return sent, err
		}
		req := dynamicpb.NewMessage(input)
		if err := protojson.Unmarshal(raw, req); err != nil {
			return sent, err
		}
		if err := stream.SendMsg(req); err != nil {
			return sent, stream.RecvMsg(dynamicpb.NewMessage(input)) // holds the reason
		}
	}
}

// find asks for a symbol's file and those it imports.
func (c *grpcCall) find(ctx context.Context, conn *grpc.ClientConn, symbol string) (protoreflect.Descriptor, error) {
	res, err := reflect(ctx, conn, &reflectionpb.ServerReflectionRequest{
		MessageRequest: &reflectionpb.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: symbol},
	})
	if err != nil {
		return nil, err
	}
	set := &descriptorpb.FileDescriptorSet{}
	for _, b := range res.GetFileDescriptorResponse().GetFileDescriptorProto() {
		file := &descriptorpb.FileDescriptorProto{}
		if err := proto.Unmarshal(b, file); err != nil {
			return nil, err
		}
		set.File = append(set.File, file)
	}
	if c.files, err = protodesc.NewFiles(set); err != nil {
		return nil, err
	}
	return c.files.FindDescriptorByName(protoreflect.FullName(symbol))
}

func reflect(ctx context.Context, conn *grpc.ClientConn, req *reflectionpb.ServerReflectionRequest) (*reflectionpb.ServerReflectionResponse, error) {
	stream, err := reflectionpb.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(stream.Send(req), stream.CloseSend()); err != nil {
		return nil, err
	}
	res, err := stream.Recv()
	if e := res.GetErrorResponse(); e != nil {
		return nil, errors.New(e.GetErrorMessage())
	}
	// Until the end: an open stream would keep a goroutine.
	if _, endErr := stream.Recv(); err == nil && !errors.Is(endErr, io.EOF) {
		err = endErr
	}
	return res, err
}
