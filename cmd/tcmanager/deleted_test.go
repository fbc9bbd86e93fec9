package main

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	tcmanager "github.com/tcmanager/tcmanager/clients/go"
	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/run"
	"github.com/tcmanager/tcmanager/service/store"
)

// Those in the room of a run that is deleted are put out of it and told why, those
// in its project's room hear of it, and who comes later is told the same.
func TestTheRoomOfADeletedRunEnds(t *testing.T) {
	s := startServer(t, testConfig(t))
	in, err := pb.NewIdentityServiceClient(s.conn).SignInDev(t.Context(), &pb.SignInDevRequest{UserId: "demo-manager"})
	if err != nil {
		t.Fatal(err)
	}
	client, err := tcmanager.Dial(s.grpcL.Addr().String(), tcmanager.WithToken(in.GetToken()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	session := client.NewSession(tcmanager.SessionConfig{})
	ended := make(chan error, 1)
	go func() { ended <- session.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	started, err := session.Do(ctx, &pb.Command{Command: &pb.Command_StartRun{StartRun: &pb.StartRunRequest{Project: "demo", RunKey: "k"}}})
	if err != nil {
		t.Fatal(err)
	}
	id, project := started.GetStartRun().GetRun().GetId(), started.GetStartRun().GetRun().GetProjectId()
	if _, err := session.Do(ctx, &pb.Command{Command: &pb.Command_FinishRun{FinishRun: &pb.FinishRunRequest{RunId: id}}}); err != nil {
		t.Fatal(err)
	}

	evicted, told := make(chan error, 1), make(chan string, 1)
	inRun, inProject := make(chan struct{}), make(chan struct{})
	go func() {
		first := true
		for _, err := range session.Events(ctx, "testrun:"+id, nil) {
			if err != nil {
				evicted <- err
				return
			}
			if first {
				close(inRun)
			}
			first = false
		}
	}()
	go func() {
		first := true
		for d, err := range session.Events(ctx, "project:"+project, nil) {
			if err != nil {
				t.Error(err)
				return
			}
			if first {
				close(inProject)
			}
			first = false
			if c := d.Event.GetRunChanged(); c.GetChange() == pb.RunChange_RUN_CHANGE_DELETED {
				told <- c.GetRun().GetId()
				return
			}
		}
	}()
	<-inRun
	<-inProject
	db := s.services.Store
	err = db.Update(ctx, func(tx store.Tx) error { return run.New(db, run.Config{}).Delete(tx, id, time.Now()) })
	if err != nil {
		t.Fatal(err)
	}
	wantDeleted(t, <-evicted)
	if got := <-told; got != id {
		t.Errorf("the project's room was told of %s, want %s", got, id)
	}
	for _, err := range session.Events(ctx, "testrun:"+id, nil) {
		wantDeleted(t, err)
		break
	}
	_, err = session.Do(ctx, &pb.Command{Command: &pb.Command_StartRun{StartRun: &pb.StartRunRequest{Project: "demo", RunKey: "k"}}})
	wantDeleted(t, err)
}

func wantDeleted(t *testing.T, err error) {
	t.Helper()
	if e, ok := tcmanager.AsError(err); !ok || e.Reason != "RUN_DELETED" || e.Code != codes.NotFound {
		t.Errorf("got %v, want RUN_DELETED", err)
	}
}
