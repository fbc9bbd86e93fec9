package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	tcmv1 "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
)

const runID = "0190b0c4-7e1f-7c3a-9d1e-1b2c3d4e5f60"

// fakeServer is a TCManager server in memory, on loopback.
type fakeServer struct {
	tcmv1.UnimplementedExecutionServiceServer
	tcmv1.UnimplementedIdentityServiceServer

	dev    bool
	token  string        // the one that is accepted
	refuse codes.Code    // how PublishResults ends; 0 takes results
	tls    *tls.Config   // nil for plain text
	stuck  chan struct{} // if not nil, PublishResults takes the hello and then nothing until it is closed

	addr string

	mu      sync.Mutex // guards all below
	changed chan struct{}
	record  []string // what was published, a line each
	last    uint64   // sequence
}

// startFake serves f until the test ends.
func startFake(t interface {
	Fatalf(format string, args ...any)
}, f *fakeServer, atEnd func(func())) {
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	f.addr = listener.Addr().String()
	f.changed = make(chan struct{})
	var opts []grpc.ServerOption
	if f.tls != nil {
		opts = append(opts, grpc.Creds(credentials.NewTLS(f.tls)))
	}
	server := grpc.NewServer(opts...)
	tcmv1.RegisterExecutionServiceServer(server, f)
	tcmv1.RegisterIdentityServiceServer(server, f)
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	atEnd(func() {
		server.Stop()
		if err := <-done; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Fatalf("serve: %v", err)
		}
	})
}

// notef adds a line to the record.
func (f *fakeServer) notef(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.record = append(f.record, fmt.Sprintf(format, args...))
	close(f.changed)
	f.changed = make(chan struct{})
}

// has reports whether the record has a line with text in it, and otherwise
// returns what is closed when there is more.
func (f *fakeServer) has(text string) (bool, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.ContainsFunc(f.record, func(line string) bool { return strings.Contains(line, text) }), f.changed
}

// await waits for a line with text in it.
func (f *fakeServer) await(text string) bool {
	late := time.After(30 * time.Second)
	for {
		ok, changed := f.has(text)
		if ok {
			return true
		}
		select {
		case <-changed:
		case <-late:
			return false
		}
	}
}

// lines is the whole record.
func (f *fakeServer) lines() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.Join(f.record, "\n")
}

func (f *fakeServer) authorise(ctx context.Context) error {
	md, _ := metadata.FromIncomingContext(ctx)
	if got := md.Get("authorization"); len(got) == 1 && got[0] == "Bearer "+f.token {
		return nil
	}
	return status.Error(codes.Unauthenticated, "the token is not accepted")
}

func (f *fakeServer) GetServerInfo(context.Context, *tcmv1.GetServerInfoRequest) (*tcmv1.GetServerInfoResponse, error) {
	return &tcmv1.GetServerInfoResponse{Version: "1.2.3", Dev: f.dev, PublicUrl: "http://tcm.example"}, nil
}

func (f *fakeServer) SignInDev(_ context.Context, req *tcmv1.SignInDevRequest) (*tcmv1.SignInDevResponse, error) {
	if !f.dev {
		return nil, status.Error(codes.Unimplemented, "this is no development server")
	}
	f.notef("sign-in %s", req.GetUserId())
	return &tcmv1.SignInDevResponse{Token: f.token, ExpiresAt: timestamppb.New(time.Now().Add(time.Hour))}, nil
}

func (f *fakeServer) GetMe(ctx context.Context, _ *tcmv1.GetMeRequest) (*tcmv1.GetMeResponse, error) {
	if err := f.authorise(ctx); err != nil {
		return nil, err
	}
	return &tcmv1.GetMeResponse{User: &tcmv1.User{Id: "u-1", Name: "Ann \x1b[31m", Email: "ann@example.com"}}, nil
}

func (f *fakeServer) run() *tcmv1.Run {
	return &tcmv1.Run{
		Id: runID, ProjectId: "p-1", Key: "k", Number: 12, Url: "http://tcm.example/runs/" + runID, State: tcmv1.RunState_RUN_STATE_ENDED, EndReason: tcmv1.EndReason_END_REASON_FAILED,
		Info:   &tcmv1.RunInfo{Name: "nightly", Branch: "main", Commit: "abc"},
		Counts: &tcmv1.Counts{Total: 3, Passed: 1, Failed: 1, TimedOut: 1}, Suites: &tcmv1.Counts{Total: 2, Passed: 1, Errored: 1},
		StartedAt: timestamppb.New(time.Unix(1_700_000_000, 0)), EndedAt: timestamppb.New(time.Unix(1_700_000_090, 0)),
	}
}

func (f *fakeServer) ListRuns(ctx context.Context, req *tcmv1.ListRunsRequest) (*tcmv1.ListRunsResponse, error) {
	if err := f.authorise(ctx); err != nil {
		return nil, err
	}
	switch {
	case req.GetProject() == "empty":
		return &tcmv1.ListRunsResponse{}, nil
	case req.GetProject() != "demo":
		return nil, status.Error(codes.PermissionDenied, "there is no such project, or it isn't yours")
	case req.GetPageToken() == "":
		newest := f.run()
		newest.Number, newest.Id, newest.State, newest.EndReason = 13, "0190b0c4-7e1f-7c3a-9d1e-1b2c3d4e5f61", tcmv1.RunState_RUN_STATE_RUNNING, 0
		return &tcmv1.ListRunsResponse{Runs: []*tcmv1.Run{newest}, NextPageToken: "2"}, nil
	}
	return &tcmv1.ListRunsResponse{Runs: []*tcmv1.Run{f.run()}}, nil
}

func (f *fakeServer) GetRun(ctx context.Context, req *tcmv1.GetRunRequest) (*tcmv1.GetRunResponse, error) {
	if err := f.authorise(ctx); err != nil {
		return nil, err
	}
	r := f.run()
	r.Id = req.GetRunId()
	return &tcmv1.GetRunResponse{Run: r, Suites: []*tcmv1.Suite{
		{Name: "example.com/a", Status: tcmv1.Status_STATUS_PASSED, Counts: r.GetCounts()},
		{Name: "example.com/b", Status: tcmv1.Status_STATUS_ERRORED, RawStatus: "[build failed]", Error: &tcmv1.Failure{Message: "undefined: y"}},
	}}, nil
}

func (f *fakeServer) ListResults(context.Context, *tcmv1.ListResultsRequest) (*tcmv1.ListResultsResponse, error) {
	return &tcmv1.ListResultsResponse{Suites: []string{"example.com/a"}, Rows: []*tcmv1.ResultRow{{Name: "TestX", Status: tcmv1.Status_STATUS_TIMED_OUT, Message: "too\nslow", File: "x_test.go", Line: 7}}}, nil
}

func (f *fakeServer) PublishResults(stream tcmv1.ExecutionService_PublishResultsServer) error {
	if err := f.authorise(stream.Context()); err != nil {
		return err
	}
	if f.refuse != 0 {
		return status.Error(f.refuse, "there is no such project, or it isn't yours")
	}
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		resp := f.take(req)
		if resp == nil {
			continue
		}
		if err := stream.Send(resp); err != nil {
			return err
		}
		if f.stuck != nil {
			<-f.stuck
		}
	}
}

// take records a frame and returns the answer, if there is one.
func (f *fakeServer) take(req *tcmv1.PublishResultsRequest) *tcmv1.PublishResultsResponse {
	ack := &tcmv1.PublishAck{}
	switch x := req.GetFrame().(type) {
	case *tcmv1.PublishResultsRequest_Hello:
		f.notef("hello %s shard=%q shards=%d name=%q branch=%q commit=%q", x.Hello.GetProject(), x.Hello.GetShard(), x.Hello.GetExpectedShards(), x.Hello.GetInfo().GetName(), x.Hello.GetInfo().GetBranch(), x.Hello.GetInfo().GetCommit())
		return &tcmv1.PublishResultsResponse{Frame: &tcmv1.PublishResultsResponse_Welcome{Welcome: &tcmv1.PublishWelcome{Run: f.run(), Incarnation: 1}}}
	case *tcmv1.PublishResultsRequest_Batch:
		for _, item := range x.Batch.GetItems() {
			f.noteItem(item)
		}
		f.mu.Lock()
		f.last = x.Batch.GetFirstSequence() + uint64(len(x.Batch.GetItems())) - 1
		f.mu.Unlock()
	case *tcmv1.PublishResultsRequest_Finish:
		code := "unknown"
		if x.Finish.ExitCode != nil {
			code = fmt.Sprint(x.Finish.GetExitCode())
		}
		f.notef("finish code=%s %s", code, x.Finish.GetReason())
		ack.Finished = true
	case *tcmv1.PublishResultsRequest_Heartbeat:
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	ack.CommittedSequence = f.last
	return &tcmv1.PublishResultsResponse{Frame: &tcmv1.PublishResultsResponse_Ack{Ack: ack}}
}

func (f *fakeServer) noteItem(item *tcmv1.PublishItem) {
	switch i := item.GetItem().(type) {
	case *tcmv1.PublishItem_Test:
		f.notef("test %s %s %s: %s", i.Test.GetTest().GetSuite(), i.Test.GetTest().GetName(), word(i.Test.GetStatus()), i.Test.GetError().GetMessage())
	case *tcmv1.PublishItem_Suite:
		f.notef("suite %s %s: %s", i.Suite.GetSuite(), word(i.Suite.GetStatus()), i.Suite.GetError().GetMessage())
	case *tcmv1.PublishItem_Output:
		f.notef("output %s %s %q", i.Output.GetSuite(), i.Output.GetName(), i.Output.GetData())
	}
}

// cleanup is what a test does at its end.
func cleanup(t *testing.T) func(func()) { return func(f func()) { t.Cleanup(f) } }
