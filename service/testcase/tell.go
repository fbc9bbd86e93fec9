package testcase

import (
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/store"
)

// tellCreated tells the project of a new case, without its description: a room
// full of people who look at something else shouldn't get 64 KiB for a line of
// activity.
func tellCreated(tx store.Tx, author *pb.UserRef, tc *pb.TestCase, at time.Time) error {
	summary := proto.CloneOf(tc)
	summary.Description = ""
	d, err := draftOf(event.ProjectRoom(tc.GetProjectId()), at, author, &pb.CollaborationUpdate{
		Type:     pb.CollaborationType_COLLABORATION_TYPE_TEST_CASE_CREATED,
		EntityId: tc.GetId(),
		Data:     &pb.CollaborationUpdate_TestCase{TestCase: summary},
	})
	if err != nil {
		return err
	}
	_, err = tx.Append(d)
	return err
}

// tellEdited tells the room of the case the new value of a field, and the
// project's room the same, but for a description's value.
func tellEdited(tx store.Tx, editor *pb.UserRef, tc *pb.TestCase, f pb.TestCaseField, at time.Time) error {
	change := &pb.FieldEdit{
		Field:         f,
		Value:         fields[f-1].get(tc),
		Revision:      revision(tc, f).GetRevision(),
		TestCaseKey:   tc.GetKey(),
		TestCaseTitle: tc.GetTitle(),
	}
	own, err := draftOf(event.TestCaseRoom(tc.GetId()), at, editor, editOf(tc, change))
	if err != nil {
		return err
	}
	project := own.For(event.ProjectRoom(tc.GetProjectId()))
	if f == pb.TestCaseField_TEST_CASE_FIELD_DESCRIPTION {
		change.Value = ""
		if project, err = draftOf(project.Room, at, editor, editOf(tc, change)); err != nil {
			return err
		}
	}
	_, err = tx.Append(own, project)
	return err
}

func editOf(tc *pb.TestCase, change *pb.FieldEdit) *pb.CollaborationUpdate {
	return &pb.CollaborationUpdate{
		Type:     pb.CollaborationType_COLLABORATION_TYPE_TEST_CASE_EDIT,
		EntityId: tc.GetId(),
		Data:     &pb.CollaborationUpdate_Edit{Edit: change},
	}
}

func draftOf(room event.Room, at time.Time, user *pb.UserRef, u *pb.CollaborationUpdate) (event.Draft, error) {
	u.User, u.Timestamp = user, timestamppb.New(at)
	return event.NewDraft(room, at, user, &pb.Event{Payload: &pb.Event_Collaboration{Collaboration: u}})
}
