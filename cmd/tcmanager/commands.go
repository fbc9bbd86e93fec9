package main

import (
	"cmp"
	"context"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/collaboration"
	"github.com/tcmanager/tcmanager/service/fault"
	"github.com/tcmanager/tcmanager/service/notification"
	"github.com/tcmanager/tcmanager/service/run"
	"github.com/tcmanager/tcmanager/service/testcase"
)

// commands carries out what clients ask for inside their streams, by the same
// methods that the calls reach.
type commands struct {
	runs          *run.Service
	cases         *testcase.Service
	comments      *collaboration.Service
	notifications *notification.Service
}

// Do carries out one command. The command's request id takes the place of the
// one in the message.
func (d commands) Do(ctx context.Context, c *pb.Command) (*pb.CommandResult, error) {
	switch x := c.Command.(type) {
	case *pb.Command_EditTestCase:
		x.EditTestCase.RequestId = cmp.Or(c.RequestId, x.EditTestCase.RequestId)
		r, err := d.cases.EditTestCase(ctx, x.EditTestCase)
		return &pb.CommandResult{Result: &pb.CommandResult_EditTestCase{EditTestCase: r}}, err
	case *pb.Command_AddComment:
		x.AddComment.RequestId = cmp.Or(c.RequestId, x.AddComment.RequestId)
		r, err := d.comments.AddComment(ctx, x.AddComment)
		return &pb.CommandResult{Result: &pb.CommandResult_AddComment{AddComment: r}}, err
	case *pb.Command_MarkNotificationsRead:
		x.MarkNotificationsRead.RequestId = cmp.Or(c.RequestId, x.MarkNotificationsRead.RequestId)
		r, err := d.notifications.MarkNotificationsRead(ctx, x.MarkNotificationsRead)
		return &pb.CommandResult{Result: &pb.CommandResult_MarkNotificationsRead{MarkNotificationsRead: r}}, err
	case *pb.Command_StartRun:
		x.StartRun.RequestId = cmp.Or(c.RequestId, x.StartRun.RequestId)
		r, err := d.runs.StartRun(ctx, x.StartRun)
		return &pb.CommandResult{Result: &pb.CommandResult_StartRun{StartRun: r}}, err
	case *pb.Command_ReportResult:
		x.ReportResult.RequestId = cmp.Or(c.RequestId, x.ReportResult.RequestId)
		r, err := d.runs.ReportResult(ctx, x.ReportResult)
		return &pb.CommandResult{Result: &pb.CommandResult_ReportResult{ReportResult: r}}, err
	case *pb.Command_FinishRun:
		x.FinishRun.RequestId = cmp.Or(c.RequestId, x.FinishRun.RequestId)
		r, err := d.runs.FinishRun(ctx, x.FinishRun)
		return &pb.CommandResult{Result: &pb.CommandResult_FinishRun{FinishRun: r}}, err
	default:
		return nil, fault.Field("command", "is of a kind this server doesn't know; update the server")
	}
}
