package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"google.golang.org/grpc"

	tcmanager "github.com/tcmanager/tcmanager/clients/go"
	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

// pause waits for a random time.
func pause(ctx context.Context, rng *rand.Rand, most time.Duration) {
	select {
	case <-time.After(time.Duration(rng.Int64N(int64(most) + 1))):
	case <-ctx.Done():
	}
}

func result(rng *rand.Rand, n int) *pb.TestExecutionUpdate {
	u := &pb.TestExecutionUpdate{Test: &pb.TestRef{Suite: "suite", Name: fmt.Sprint("Test", n)}, Status: pb.Status_STATUS_PASSED}
	if rng.IntN(10) == 0 {
		u.Status = pb.Status_STATUS_FAILED
		u.Error = &pb.Failure{Message: "it broke", Details: strings.Repeat("detail ", rng.IntN(300))}
	}
	return u
}

// runner publishes runs through the runner's lane, one after the other, until ctx
// ends.
func (w *town) runner(ctx context.Context, rng *rand.Rand) {
	client, err := tcmanager.Dial(w.cfg.GRPCAddr, tcmanager.WithTokenSource(func(context.Context) (tcmanager.Token, error) {
		token, until, err := w.token(boss)
		return tcmanager.Token{Value: token, ExpiresAt: until}, err
	}))
	if err != nil {
		w.t.Error(err)
		return
	}
	defer func() { _ = client.Close() }()
	for i := 0; ctx.Err() == nil; i++ {
		w.publishRun(ctx, rng, client, fmt.Sprint("lane-", i))
		pause(ctx, rng, 100*time.Millisecond)
	}
}

func (w *town) publishRun(ctx context.Context, rng *rand.Rand, client *tcmanager.Client, key string) {
	pub := client.NewPublisher(tcmanager.PublisherConfig{Project: "alpha", RunKey: key, OnWelcome: w.addRun})
	done := make(chan error, 1)
	go func() { done <- pub.Run(context.WithoutCancel(ctx)) }()
	for burst := 0; burst < 8 && ctx.Err() == nil; burst++ {
		for i := range 1 + rng.IntN(40) {
			if err := pub.Publish(&pb.PublishItem{Item: &pb.PublishItem_Test{Test: result(rng, i)}}); err != nil {
				w.t.Error(err)
			}
		}
		pause(ctx, rng, 80*time.Millisecond)
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	pub.Finish(ending, tcmanager.FinishOptions{})
	pub.Close()
	<-done // it ends with what Finish reports
}

// reporter reports results by unary calls until ctx ends.
func (w *town) reporter(ctx context.Context, rng *rand.Rand) {
	service := pb.NewExecutionServiceClient(w.conn)
	for ctx.Err() == nil {
		started, err := service.StartRun(w.as(ctx, boss), &pb.StartRunRequest{Project: "beta"}, grpc.WaitForReady(true))
		if err != nil {
			pause(ctx, rng, 20*time.Millisecond)
			continue
		}
		w.addRun(started.Run)
		for i := 0; i < 60 && ctx.Err() == nil; i++ {
			// One that fails because the server is away is not reported: nobody hears of it.
			_, _ = service.ReportResult(w.as(ctx, boss), &pb.ReportResultRequest{RunId: started.Run.Id, Update: result(rng, i)})
			pause(ctx, rng, 12*time.Millisecond)
		}
		_, _ = service.FinishRun(w.as(ctx, boss), &pb.FinishRunRequest{RunId: started.Run.Id})
	}
}

// editor edits test cases and comments on them until ctx ends.
func (w *town) editor(ctx context.Context, rng *rand.Rand) {
	cases, comments := pb.NewTestCaseServiceClient(w.conn), pb.NewCollaborationServiceClient(w.conn)
	for i := 0; ctx.Err() == nil; i++ {
		tc := w.cases[rng.IntN(len(w.cases))]
		if rng.IntN(2) == 0 {
			_, _ = comments.AddComment(w.as(ctx, boss), &pb.AddCommentRequest{TestCaseId: tc.Id, Text: strings.Repeat("words ", 1+rng.IntN(100))})
		} else if now, err := cases.GetTestCase(w.as(ctx, boss), &pb.GetTestCaseRequest{TestCaseId: tc.Id}); err == nil {
			_, _ = cases.EditTestCase(w.as(ctx, boss), &pb.EditTestCaseRequest{
				TestCaseId: tc.Id, Field: pb.TestCaseField_TEST_CASE_FIELD_TITLE, Value: fmt.Sprint("title ", i),
				BaseRevision: revisionOf(now.TestCase, pb.TestCaseField_TEST_CASE_FIELD_TITLE),
			})
		}
		pause(ctx, rng, 25*time.Millisecond)
	}
}

func revisionOf(tc *pb.TestCase, field pb.TestCaseField) uint64 {
	for _, r := range tc.Revisions {
		if r.Field == field {
			return r.Revision
		}
	}
	return 1
}

// manager takes members out, changes their roles, and lets them in again, until
// ctx ends.
func (w *town) manager(ctx context.Context, rng *rand.Rand, users []string) {
	roles := []pb.Role{0, 0, 0, pb.Role_ROLE_VIEWER, pb.Role_ROLE_TESTER, pb.Role_ROLE_BOT}
	for ctx.Err() == nil {
		p := w.projects[rng.IntN(len(w.projects))]
		// An error says that the user was no member, or that the server is away.
		_ = w.member(ctx, p, users[rng.IntN(len(users))], roles[rng.IntN(len(roles))])
		pause(ctx, rng, 150*time.Millisecond)
	}
}
