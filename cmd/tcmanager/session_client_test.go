package main

import (
	"context"
	"fmt"
	"testing"
	"time"

	tcmanager "github.com/tcmanager/tcmanager/clients/go"
	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

// The Go client's session against the server itself: what it does over a server in
// memory, tested in its own package, must be what it does over this one.
func TestTheGoSessionReadsARunWholeOverARestart(t *testing.T) {
	const reports = 120
	c := testConfig(t)
	s := startServer(t, c)
	c.GRPCAddr, c.HTTPAddr = s.grpcL.Addr().String(), s.httpL.Addr().String()
	in, err := pb.NewIdentityServiceClient(s.conn).SignInDev(t.Context(), &pb.SignInDevRequest{UserId: "demo-manager"})
	if err != nil {
		t.Fatal(err)
	}
	client, err := tcmanager.Dial(c.GRPCAddr, tcmanager.WithToken(in.GetToken()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	// A buffer of some events, so that rooms are left and joined again.
	session := client.NewSession(tcmanager.SessionConfig{RoomBuffer: 4 << 10})
	ended := make(chan error, 1)
	go func() { ended <- session.Run(ctx) }()
	defer func() { cancel(); <-ended }()

	started, err := session.Do(ctx, &pb.Command{Command: &pb.Command_StartRun{StartRun: &pb.StartRunRequest{Project: "demo"}}})
	if err != nil {
		t.Fatal(err)
	}
	run := started.GetStartRun().GetRun().GetId()
	entered := make(chan struct{})
	read := make(chan []tcmanager.Delivery, 1)
	go func() {
		var got []tcmanager.Delivery
		defer func() { read <- got }()
		for d, err := range session.Events(ctx, "testrun:"+run, nil) {
			if err != nil {
				t.Error(err)
				return
			}
			if got = append(got, d); len(got) == 1 {
				close(entered)
			}
			if d.Event.GetRunChanged().GetChange() == pb.RunChange_RUN_CHANGE_ENDED {
				return
			}
		}
	}()
	<-entered
	for n := range reports {
		if n == reports/2 {
			if err := s.stop(t); err != nil {
				t.Fatal(err)
			}
			s = startServer(t, c)
		}
		update := &pb.TestExecutionUpdate{Test: &pb.TestRef{Suite: "suite", Name: fmt.Sprint("Test", n)}, Status: pb.Status_STATUS_PASSED}
		report := &pb.Command{Command: &pb.Command_ReportResult{ReportResult: &pb.ReportResultRequest{RunId: run, Update: update}}}
		if _, err := session.Do(ctx, report); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := session.Do(ctx, &pb.Command{Command: &pb.Command_FinishRun{FinishRun: &pb.FinishRunRequest{RunId: run}}}); err != nil {
		t.Fatal(err)
	}
	got := <-read
	resumed, tests := false, 0
	at := got[0].Position
	for _, d := range got[1:] {
		resumed = resumed || d.Kind == tcmanager.DeliveryResumed
		if offset := d.Event.GetOffset(); offset > 0 && offset != at.Offset+1 {
			t.Errorf("event %d after %d", offset, at.Offset)
		}
		if d.Event.GetTestExecution() != nil {
			tests++
		}
		at = d.Position
	}
	if got[0].Kind != tcmanager.DeliverySnapshot || !resumed || tests != reports {
		t.Errorf("began with %v, resumed %v, and heard of %d of %d results", got[0].Kind, resumed, tests, reports)
	}
	// And another reader goes on in the middle, in the epoch before the restart.
	middle := got[20].Position
	want := middle.Offset
	for d, err := range session.Events(ctx, "testrun:"+run, &middle) {
		if err != nil {
			t.Fatal(err)
		}
		if d.Kind == tcmanager.DeliveryReset {
			t.Fatalf("reset: %s", d.Reason)
		}
		if d.Event.GetOffset() > 0 {
			if want++; d.Event.GetOffset() != want {
				t.Fatalf("event %d, want %d", d.Event.GetOffset(), want)
			}
		}
		if d.Position == at {
			break
		}
	}
}

func TestEventsLingerAsLongAsTheServerIsTold(t *testing.T) {
	for arg, want := range map[string]time.Duration{"12ms": 12 * time.Millisecond, "0s": -1} {
		if got := sessionConfig(testConfig(t, "--linger", arg), Deps{}).Linger; got != want {
			t.Errorf("--linger %s is %v for sessions, want %v", arg, got, want)
		}
	}
}
