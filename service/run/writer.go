package run

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/fault"
	"github.com/tcmanager/tcmanager/service/notification"
	"github.com/tcmanager/tcmanager/service/store"
)

// maxListed is how many failures of a run its project's room is told of. Above
// it the counts have to do: nobody reads more in a feed.
const maxListed = 200

// The kinds of events a run's items become, numbered as in event.proto.
const (
	kindTest  protoreflect.FieldNumber = 10
	kindSuite protoreflect.FieldNumber = 11
)

// writer turns what a Live decided into rows and events of one transaction. It
// collects, so that a batch is written in a few statements.
type writer struct {
	s     *Service
	tx    store.Tx
	live  *Live
	actor *pb.UserRef
	shard string
	now   time.Time
	room  event.Room // the run's
	stamp event.Stamp
	*collected
}

// collected is what is to be written. The stores keep none of it, so that its
// memory serves the next writer.
type collected struct {
	drafts  []event.Draft
	results []store.Result
	rows    map[rowKey]row // of results
	output  []store.Output
	encoded []byte // what drafts and results have parts of
}

// maxCollected is how many bytes of encoded updates are kept for the next writer.
const maxCollected = 8 << 20

// reset forgets what was collected, and keeps its memory.
func (c *collected) reset() {
	clear(c.drafts)
	clear(c.results)
	clear(c.output)
	c.drafts, c.results, c.output = c.drafts[:0], c.results[:0], c.output[:0]
	if c.rows == nil || cap(c.encoded) > maxCollected {
		*c = collected{rows: map[rowKey]row{}}
	}
	clear(c.rows)
	c.encoded = c.encoded[:0]
}

// encode returns a message in its wire form, which is good until the next reset.
func (c *collected) encode(m proto.Message) ([]byte, error) {
	from := len(c.encoded)
	b, err := proto.MarshalOptions{}.MarshalAppend(c.encoded, m)
	if err != nil {
		return nil, err
	}
	c.encoded = b
	return b[from:len(b):len(b)], nil
}

type rowKey struct {
	seq     uint64
	attempt uint32
}

// row says which of the results a test's attempt is, and which draft tells of it.
type row struct{ result, draft int }

// write begins to write to a run. There is one writer at a time: it is only used
// inside store.Update.
func (s *Service) write(tx store.Tx, live *Live, actor *pb.UserRef, shard string, now time.Time) (*writer, error) {
	stamp, err := event.NewStamp(now, actor)
	if err != nil {
		return nil, err
	}
	live.touched = true
	s.collected.reset()
	return &writer{
		s: s, tx: tx, live: live, actor: actor, shard: shard, now: now,
		room: event.RunRoom(live.Run.Id), stamp: stamp, collected: &s.collected,
	}, nil
}

// item records one published item.
func (w *writer) item(it *pb.PublishItem) error {
	switch x := it.Item.(type) {
	case *pb.PublishItem_Test:
		return w.test(x.Test)
	case *pb.PublishItem_Suite:
		return w.suite(x.Suite)
	case *pb.PublishItem_Output:
		key, err := w.live.Output(x.Output, w.shard)
		if err != nil {
			return err
		}
		w.output = append(w.output, store.Output{Key: key, Data: x.Output.Data})
		return nil
	default:
		return fault.Field("item", "is of a kind this server doesn't know; update the server")
	}
}

// test records an update of a test, and warns if a critical case depends on it.
func (w *writer) test(u *pb.TestExecutionUpdate) error {
	result, err := w.live.Test(u, w.shard)
	if err != nil {
		return err
	}
	cases, err := w.cases(u)
	if err != nil {
		return err
	}
	if u.Timestamp == nil {
		u.Timestamp = timestamppb.New(w.now)
	}
	if result.Update, err = w.encode(u); err != nil {
		return fmt.Errorf("encode the update of %s: %w", u.Test.Name, err)
	}
	d, err := w.stamp.Draft(w.room, kindTest, result.Update)
	if err != nil {
		return err
	}
	w.put(result, len(w.drafts))
	w.drafts = append(w.drafts, d)
	if !broken(u.Status) {
		return nil
	}
	if w.live.listed++; w.live.listed <= maxListed {
		w.drafts = append(w.drafts, d.For(event.ProjectRoom(w.live.Run.ProjectId)))
	}
	return w.warn(u, cases)
}

// put adds a row. A later row of the same attempt replaces the earlier one, since
// one statement must not touch a row twice.
func (w *writer) put(r store.Result, draft int) {
	key := rowKey{r.Seq, r.Attempt}
	if old, ok := w.rows[key]; ok {
		w.results[old.result] = r
		w.rows[key] = row{old.result, draft}
		return
	}
	w.rows[key] = row{len(w.results), draft}
	w.results = append(w.results, r)
}

// cases returns the test cases that an update is linked to and fills in the first
// one's id. A key that names no case of the project is passed over: the link may
// be written before the case is.
func (w *writer) cases(u *pb.TestExecutionUpdate) ([]*pb.TestCase, error) {
	u.TestCaseId = ""
	var cases []*pb.TestCase
	for _, key := range u.CaseKeys {
		c, err := w.tx.TestCaseByKey(w.live.Run.ProjectId, key)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("look for test case %s: %w", key, err)
		}
		u.TestCaseId = cmp.Or(u.TestCaseId, c.Id)
		cases = append(cases, c)
	}
	return cases, nil
}

// warn notifies the project that a test of a critical case did not pass, once a
// run and case.
func (w *writer) warn(u *pb.TestExecutionUpdate, cases []*pb.TestCase) error {
	for _, c := range cases {
		if c.Priority != pb.Priority_PRIORITY_CRITICAL || w.live.warned[c.Key] {
			continue
		}
		w.live.warned[c.Key] = true
		members, err := w.tx.Members(w.live.Run.ProjectId)
		if err != nil {
			return fmt.Errorf("list the members of project %s: %w", w.live.Run.ProjectId, err)
		}
		recipients := make([]string, 0, len(members))
		for _, m := range members {
			recipients = append(recipients, m.User.Id)
		}
		if err := notification.Post(w.tx, w.now, criticalFailure(w.live.Run, u, c), recipients); err != nil {
			return fmt.Errorf("notify of the failure of %s: %w", c.Key, err)
		}
	}
	return nil
}

func criticalFailure(run *pb.Run, u *pb.TestExecutionUpdate, c *pb.TestCase) *pb.Notification {
	message := fmt.Sprintf("%s %s: %s failed in run #%d", c.Key, c.Title, u.Test.Name, run.Number)
	if m := u.GetError().GetMessage(); m != "" {
		message += ": " + m
	}
	return &pb.Notification{
		Type: pb.NotificationType_NOTIFICATION_TYPE_ERROR, Title: "Critical test failed", Message: message,
		Target: &pb.Notification_ProjectId{ProjectId: run.ProjectId}, Link: "/runs/" + run.Id,
	}
}

// suite records an update of a suite.
func (w *writer) suite(u *pb.SuiteExecutionUpdate) error {
	if _, err := w.live.Suite(u, w.shard); err != nil {
		return err
	}
	if u.Timestamp == nil {
		u.Timestamp = timestamppb.New(w.now)
	}
	b, err := w.encode(u)
	if err != nil {
		return fmt.Errorf("encode the update of suite %s: %w", u.Suite, err)
	}
	d, err := w.stamp.Draft(w.room, kindSuite, b)
	if err != nil {
		return err
	}
	w.drafts = append(w.drafts, d)
	return nil
}

// flush writes what was collected.
func (w *writer) flush() error {
	events, err := w.tx.Append(w.drafts...)
	if err != nil {
		return fmt.Errorf("append %d events: %w", len(w.drafts), err)
	}
	for _, at := range w.rows {
		w.results[at.result].Offset = events[at.draft].Position.Offset
	}
	if err := w.tx.PutResults(w.live.Run.Id, w.results); err != nil {
		return fmt.Errorf("write %d results: %w", len(w.results), err)
	}
	if err := w.putSuites(events); err != nil {
		return err
	}
	if err := w.tx.AddOutput(w.live.Run.Id, w.output); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	w.reset()
	if err := w.tx.PutRun(w.live.Run); err != nil {
		return fmt.Errorf("write the run's counts: %w", err)
	}
	return nil
}

// putSuites writes the suites that changed. Their offset is that of the newest
// event of the run: whatever was told before it is in the row.
func (w *writer) putSuites(events []event.Event) error {
	var newest uint64
	for _, ev := range slices.Backward(events) {
		if ev.Room == w.room {
			newest = ev.Position.Offset
			break
		}
	}
	var changed []*pb.Suite
	for _, s := range w.live.suites {
		if s.dirty {
			s.dirty = false
			s.Offset = max(s.Offset, newest)
			changed = append(changed, s.Suite)
		}
	}
	slices.SortFunc(changed, func(a, b *pb.Suite) int { return cmp.Compare(a.Name, b.Name) })
	if err := w.tx.PutSuites(w.live.Run.Id, changed); err != nil {
		return fmt.Errorf("write %d suites: %w", len(changed), err)
	}
	return nil
}

// closeTests ends the tests that are still open, of the writer's shard or of all.
// The runner never said how they ended.
func (w *writer) closeTests(all bool, reason pb.EndReason) error {
	status := pb.Status_STATUS_ABORTED
	if reason == pb.EndReason_END_REASON_TIMED_OUT {
		status = pb.Status_STATUS_TIMED_OUT
	}
	own := w.shard
	defer func() { w.shard = own }()
	for _, u := range w.live.openTests(own, all) {
		w.shard, u.Status = u.Shard, status
		u.Flags = []pb.ResultFlag{pb.ResultFlag_RESULT_FLAG_SYNTHETIC_END}
		u.Error = &pb.Failure{Message: "the runner never said how this ended"}
		if err := w.test(u); err != nil {
			return err
		}
	}
	return nil
}

// closeSuites ends the suites that are still open, by their tests.
func (w *writer) closeSuites(reason pb.EndReason) error {
	for _, s := range w.live.openSuites() {
		status := pb.Status_STATUS_PASSED
		switch {
		case s.Counts.Failed+s.Counts.Errored > 0:
			status = pb.Status_STATUS_FAILED
		case s.Counts.TimedOut > 0:
			status = pb.Status_STATUS_TIMED_OUT
		case s.Counts.Aborted > 0, reason != pb.EndReason_END_REASON_UNSPECIFIED:
			status = pb.Status_STATUS_ABORTED
		}
		if err := w.suite(&pb.SuiteExecutionUpdate{
			Suite: s.Name, Status: status, Flags: []pb.ResultFlag{pb.ResultFlag_RESULT_FLAG_SYNTHETIC_END},
		}); err != nil {
			return err
		}
	}
	return nil
}

// end ends a run, see writer.end.
func (s *Service) end(tx store.Tx, live *Live, actor *pb.UserRef, reason pb.EndReason, now time.Time) error {
	w, err := s.write(tx, live, actor, "", now)
	if err != nil {
		return err
	}
	return w.end(reason)
}

// end ends the run. Without a reason the results decide.
func (w *writer) end(reason pb.EndReason) error {
	if err := w.closeTests(true, reason); err != nil {
		return err
	}
	if err := w.closeSuites(reason); err != nil {
		return err
	}
	if reason == pb.EndReason_END_REASON_UNSPECIFIED {
		reason = w.live.verdict()
	}
	w.live.Run.State, w.live.Run.EndReason = pb.RunState_RUN_STATE_ENDED, reason
	w.live.Run.EndedAt = timestamppb.New(w.now)
	if err := w.flush(); err != nil {
		return err
	}
	return w.s.tell(w.tx, w.live.Run, pb.RunChange_RUN_CHANGE_ENDED, w.actor, w.now)
}
