package session

import (
	"time"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/fault"
	"github.com/tcmanager/tcmanager/service/limit"
)

// Limits are how often a user may say what, over all of the user's sessions. Each
// kind of frame, and each kind of command, has a bucket of its own, so that
// typing doesn't use up what edits may take.
type Limits struct {
	Commands limit.Rate // joins, leaves, and commands that change something
	Signals  limit.Rate // typing, presence, pings, new tokens
}

// limits holds the buckets of all users.
type limits struct{ commands, signals *limit.Buckets }

func newLimits(c Limits) limits {
	return limits{commands: limit.New(c.Commands), signals: limit.New(c.Signals)}
}

// of returns the bucket of a user for a kind of frame or command.
func (l limits) of(userID, kind string, signal bool) *limit.Bucket {
	if signal {
		return l.signals.Of(userID + " " + kind)
	}
	return l.commands.Of(userID + " " + kind)
}

// kindOf names the kind of a frame as realtime.proto does, and says whether it is a
// signal. A frame of no known kind is one kind of its own.
func kindOf(req *pb.SubscribeRequest) (kind string, signal bool) {
	switch f := req.Frame.(type) {
	case *pb.SubscribeRequest_Command:
		return kindOfCommand(f.Command)
	case *pb.SubscribeRequest_Hello:
		return "hello", false
	case *pb.SubscribeRequest_Join:
		return "join", false
	case *pb.SubscribeRequest_Leave:
		return "leave", false
	case *pb.SubscribeRequest_RefreshToken:
		return "refresh_token", true
	case *pb.SubscribeRequest_Ping:
		return "ping", true
	default:
		return "unknown", false
	}
}

// kindOfCommand is kindOf for a command, which may be nil.
func kindOfCommand(c *pb.Command) (kind string, signal bool) {
	switch c.GetCommand().(type) {
	case *pb.Command_UpdateActivity:
		return activityKind, true
	case *pb.Command_UpdatePresence:
		return "update_presence", true
	case *pb.Command_EditTestCase:
		return "edit_test_case", false
	case *pb.Command_AddComment:
		return "add_comment", false
	case *pb.Command_MarkNotificationsRead:
		return "mark_notifications_read", false
	case *pb.Command_StartRun:
		return "start_run", false
	case *pb.Command_ReportResult:
		return "report_result", false
	case *pb.Command_FinishRun:
		return "finish_run", false
	default:
		return "command", false
	}
}

// refusals is how many frames of one session may be refused, because they are too
// many or wrong, before it is a flood. A client that waits as it is told, or has
// a bug in one place, stays far below.
var refusals = limit.Rate{PerSecond: 20, Burst: 200}

// floodPause is how long a client stays away whose session was a flood.
const floodPause = 30 * time.Second

var errFlood = fault.New(fault.Exhausted, "FLOOD",
	"too many requests were refused and sent all the same; wait as long as each refusal says").After(floodPause)

func errTooOften(kind string, wait time.Duration) error {
	return fault.New(fault.Exhausted, "RATE_LIMITED", "too many of %s; try again in %s", kind, wait.Round(time.Millisecond)).After(wait)
}

// admit takes a token for a frame. Only the receiver calls it.
func (s *Session) admit(req *pb.SubscribeRequest) error {
	kind, signal := kindOf(req)
	bucket := s.bucketOf(kind, signal)
	if wait := bucket.Take(); wait > 0 {
		return errTooOften(kind, wait)
	}
	return nil
}

// kindBucket is the bucket of a kind of frame.
type kindBucket struct {
	kind   string
	bucket *limit.Bucket
}

// bucketOf looks a bucket up once: a frame costs no more than its token.
func (s *Session) bucketOf(kind string, signal bool) *limit.Bucket {
	for _, b := range s.buckets {
		if b.kind == kind {
			return b.bucket
		}
	}
	b := kindBucket{kind, s.srv.limits.of(s.userID(), kind, signal)}
	s.buckets = append(s.buckets, b)
	return b.bucket
}

// refuse answers a frame that was not looked into. Too many of them end the
// session, for each is work, and an answer to send.
func (s *Session) refuse(to uint64, err error) {
	if s.refusals == nil {
		s.refusals = limit.NewBucket(refusals)
	}
	if s.refusals.Take() > 0 {
		s.srv.cfg.Logger.Info("session limited", "reason", "flood", "session", s.id, "user", s.userID())
		s.end(errFlood)
		return
	}
	s.fail(to, err)
}
