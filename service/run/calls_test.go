package run

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/access"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/fault"
	"github.com/tcmanager/tcmanager/service/identity"
	"github.com/tcmanager/tcmanager/service/once"
	"github.com/tcmanager/tcmanager/service/page"
	"github.com/tcmanager/tcmanager/service/scene"
	"github.com/tcmanager/tcmanager/service/store"
)

// start makes a run by a call.
func (st *stage) start(req *pb.StartRunRequest) *pb.Run {
	st.t.Helper()
	req.Project = scene.Key
	resp, err := st.runs.StartRun(st.As(scene.Tester), req)
	if err != nil {
		st.t.Fatal(err)
	}
	return resp.Run
}

func (st *stage) report(id string, u *pb.TestExecutionUpdate) *pb.TestExecutionUpdate {
	st.t.Helper()
	resp, err := st.runs.ReportResult(st.As(scene.Tester), &pb.ReportResultRequest{RunId: id, Update: u})
	if err != nil {
		st.t.Fatal(err)
	}
	return resp.Update
}

func TestCallsAreHeardAsAStreamIs(t *testing.T) {
	onStage(t, Config{}, func(t *testing.T, st *stage) {
		id := st.start(&pb.StartRunRequest{RunKey: "k", Info: &pb.RunInfo{Source: "manual"}}).Id
		sent := updateOf("s", "A", 0, failed)
		got := st.report(id, sent)
		if got.RunId != id || got.Attempt != 1 || got.Test.Source != "manual" || got.Timestamp == nil {
			t.Errorf("recorded as %v", got)
		}
		if !proto.Equal(sent, updateOf("s", "A", 0, failed)) {
			t.Errorf("the request was changed to %v", sent)
		}
		st.report(id, updateOf("s", "B", 0, passed))
		resp, err := st.runs.FinishRun(st.As(scene.Tester), &pb.FinishRunRequest{RunId: id})
		if err != nil || resp.Run.State != runEnded || resp.Run.EndReason != endedFailed {
			t.Errorf("finished as %v, %v", resp, err)
		}
		run, project := event.RunRoom(id), event.ProjectRoom(scene.ProjectID)
		evs := st.Heard()
		want := []event.Room{run, project, run, project, run, run, run, project} // started; A; B; the suite; ended
		if got := scene.Hears(evs); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("heard in %v, want %v", got, want)
		}
		for _, ev := range evs {
			if ev.Actor.GetId() != scene.Tester {
				t.Errorf("%v was done by %v", ev, ev.Actor)
			}
		}
		again, err := st.runs.FinishRun(st.As(scene.Tester), &pb.FinishRunRequest{RunId: id, Reason: cancelled})
		if err != nil || again.Run.EndReason != endedFailed || len(st.Heard()) > 0 {
			t.Errorf("finished again as %v, %v", again, err)
		}
		if _, err := st.runs.ReportResult(st.As(scene.Tester), &pb.ReportResultRequest{RunId: id, Update: sent}); !fault.IsReason(err, "RUN_ENDED") {
			t.Errorf("a result after the end: %v", err)
		}
		if _, err := st.runs.StartRun(st.As(scene.Tester), &pb.StartRunRequest{Project: scene.Key, RunKey: "k"}); !fault.IsReason(err, "RUN_ENDED") {
			t.Errorf("a start after the end: %v", err)
		}
	})
}

func TestAnAnswerIsNotChangedByWhatComesLater(t *testing.T) {
	onStage(t, Config{}, func(t *testing.T, st *stage) {
		r := st.connect(scene.Bot)
		w := r.hello(&pb.PublishHello{RunKey: "k"})
		resp, err := st.runs.FinishRun(st.As(scene.Tester), &pb.FinishRunRequest{RunId: w.Run.Id})
		if err != nil {
			t.Fatal(err)
		}
		was := proto.CloneOf(resp)
		r.cancel()
		<-r.done // its shard is disconnected, which changes the run
		if !proto.Equal(resp, was) {
			t.Errorf("the answer became %v, it was %v", resp, was)
		}
	})
}

func TestARepeatedCallHasNoSecondEffectAndTheSameAnswer(t *testing.T) {
	onStage(t, Config{}, func(t *testing.T, st *stage) {
		ctx := st.As(scene.Tester)
		start := func() (proto.Message, error) {
			return st.runs.StartRun(ctx, &pb.StartRunRequest{Project: scene.Key, RequestId: "1"})
		}
		first, err := start()
		if err != nil {
			t.Fatal(err)
		}
		id := first.(*pb.StartRunResponse).Run.Id
		report := func() (proto.Message, error) {
			return st.runs.ReportResult(ctx, &pb.ReportResultRequest{RunId: id, Update: updateOf("s", "A", 0, failed), RequestId: "2"})
		}
		finish := func() (proto.Message, error) {
			return st.runs.FinishRun(ctx, &pb.FinishRunRequest{RunId: id, RequestId: "3"})
		}
		for i, call := range []func() (proto.Message, error){start, report, finish} {
			one, err := call()
			if err != nil {
				t.Fatal(err)
			}
			st.Heard()
			two, err := call()
			if err != nil || !proto.Equal(one, two) {
				t.Errorf("call %d was answered with %v, then with %v, %v", i, one, two, err)
			}
			if evs := st.Heard(); len(evs) > 0 {
				t.Errorf("the repeat of call %d was heard: %v", i, evs)
			}
		}
		st.wantRows(id, "A 1 FAILED")
		if _, err := st.runs.FinishRun(ctx, &pb.FinishRunRequest{RunId: id, RequestId: "2"}); fault.Of(err) != once.ErrReused {
			t.Errorf("an id for something else: %v", err)
		}
	})
}

func TestWhoMayDoWhatWithRuns(t *testing.T) {
	onStage(t, Config{}, func(t *testing.T, st *stage) {
		id := st.start(&pb.StartRunRequest{RunKey: "k"}).Id
		calls := map[string]struct {
			action access.Action
			call   func(ctx context.Context, project, run string) error
		}{
			"StartRun": {access.Publish, func(ctx context.Context, project, _ string) error {
				_, err := st.runs.StartRun(ctx, &pb.StartRunRequest{Project: project, RunKey: "k"})
				return err
			}},
			"ReportResult": {access.Publish, func(ctx context.Context, _, run string) error {
				_, err := st.runs.ReportResult(ctx, &pb.ReportResultRequest{RunId: run, Update: updateOf("s", "A", 0, running)})
				return err
			}},
			"GetRun": {access.Read, func(ctx context.Context, _, run string) error {
				_, err := st.runs.GetRun(ctx, &pb.GetRunRequest{RunId: run})
				return err
			}},
			"ListRuns": {access.Read, func(ctx context.Context, project, _ string) error {
				_, err := st.runs.ListRuns(ctx, &pb.ListRunsRequest{Project: project})
				return err
			}},
			"ListResults": {access.Read, func(ctx context.Context, _, run string) error {
				_, err := st.runs.ListResults(ctx, &pb.ListResultsRequest{RunId: run})
				return err
			}},
			"ReadOutput": {access.Read, func(ctx context.Context, _, run string) error {
				_, err := st.runs.ReadOutput(ctx, &pb.ReadOutputRequest{RunId: run})
				return err
			}},
			"join": {access.Read, func(ctx context.Context, _, run string) error {
				caller, err := identity.From(ctx)
				if err != nil {
					return err
				}
				return st.Store.View(ctx, func(r store.Reader) error {
					_, err := Room{st.runs}.Enter(r, caller.User.Id, event.RunRoom(run), access.Read)
					if err != nil {
						return err
					}
					return Room{st.runs}.Snapshot(r, caller.User.Id, event.RunRoom(run), &pb.Joined{})
				})
			}},
			"FinishRun": {access.Publish, func(ctx context.Context, _, run string) error {
				_, err := st.runs.FinishRun(ctx, &pb.FinishRunRequest{RunId: run})
				return err
			}},
		}
		for _, name := range []string{"StartRun", "ReportResult", "GetRun", "ListRuns", "ListResults", "ReadOutput", "join", "FinishRun"} {
			c := calls[name]
			for _, user := range scene.Users {
				err := c.call(st.As(user), scene.Key, id)
				if allowed := access.Allowed(scene.Members[user], c.action); allowed && err != nil && !fault.IsReason(err, "RUN_ENDED") ||
					!allowed && fault.Of(err) != access.ErrDenied {
					t.Errorf("%s by %s: %v", name, user, err)
				}
			}
			if err := c.call(st.As(scene.Owner), "nowhere", "0190b0c0-0000-7000-8000-00000000dead"); fault.Of(err) != access.ErrDenied {
				t.Errorf("%s of what isn't there: %v", name, err)
			}
			if err := c.call(t.Context(), scene.Key, id); fault.Of(err) != identity.ErrUnauthenticated {
				t.Errorf("%s by nobody: %v", name, err)
			}
		}
	})
}

func TestRunsAreListedInPagesNewestFirst(t *testing.T) {
	onStage(t, Config{URL: func(id string) string { return "/runs/" + id }}, func(t *testing.T, st *stage) {
		for range 7 {
			st.start(&pb.StartRunRequest{})
		}
		want, token := uint32(7), ""
		for pages := 1; ; pages++ {
			resp, err := st.runs.ListRuns(st.As(scene.Viewer), &pb.ListRunsRequest{Project: scene.ProjectID, PageSize: 3, PageToken: token})
			if err != nil {
				t.Fatal(err)
			}
			for _, run := range resp.Runs {
				if run.Number != want || run.Url != "/runs/"+run.Id {
					t.Fatalf("got %v, want run %d", run, want)
				}
				want--
			}
			if token = resp.NextPageToken; token == "" {
				if pages != 3 || want != 0 {
					t.Errorf("%d pages down to run %d, want 3 to the first", pages, want+1)
				}
				break
			}
		}
		for _, bad := range []string{"?", "7", page.List("results").NumberToken(3), page.List("runs").Token("x"), page.List("runs").NumberToken(1 << 33)} {
			if _, err := st.runs.ListRuns(st.As(scene.Viewer), &pb.ListRunsRequest{Project: scene.Key, PageToken: bad}); fault.Of(err) != page.ErrToken {
				t.Errorf("token %q: %v, want ErrToken", bad, err)
			}
		}
	})
}

func TestResultsAreListedInPagesInTheirOrder(t *testing.T) {
	onStage(t, Config{}, func(t *testing.T, st *stage) {
		r := st.connect(scene.Bot)
		id := r.hello(&pb.PublishHello{RunKey: "k"}).Run.Id
		var items []*pb.PublishItem
		for i := range 25 {
			items = append(items, testIn(fmt.Sprint("s", i%3), fmt.Sprint("T", i), 0, []pb.Status{passed, failed}[i%2]))
		}
		items[1].GetTest().Error = &pb.Failure{Message: "no", File: "a_test.go", Line: 12}
		r.report(items...)
		r.report(testIn("s0", "T0", 0, failed)) // a second attempt
		list := func(req *pb.ListResultsRequest) (rows []*pb.ResultRow, pages int) {
			req.RunId = id
			for {
				resp, err := st.runs.ListResults(st.As(scene.Viewer), req)
				if err != nil {
					t.Fatal(err)
				}
				for _, row := range resp.Rows {
					rows = append(rows, row)
					if want := fmt.Sprint("s", strings.TrimPrefix(row.Name, "T")); len(want) == 2 && want < "s3" && resp.Suites[row.Suite] != want {
						t.Errorf("%s is in suite %s", row.Name, resp.Suites[row.Suite])
					}
				}
				pages++
				if req.PageToken = resp.NextPageToken; req.PageToken == "" {
					return rows, pages
				}
			}
		}
		rows, pages := list(&pb.ListResultsRequest{PageSize: 10})
		if len(rows) != 25 || pages != 3 || rows[24].Name != "T24" {
			t.Errorf("%d rows on %d pages", len(rows), pages)
		}
		if rows[0].Attempt != 2 || rows[0].Status != failed || rows[0].Offset <= rows[24].Offset {
			t.Errorf("the test that ran twice is %v", rows[0])
		}
		if rows[1].Message != "no" || rows[1].File != "a_test.go" || rows[1].Line != 12 {
			t.Errorf("the failure is %v", rows[1])
		}
		if rows, pages := list(&pb.ListResultsRequest{PageSize: 25}); len(rows) != 25 || pages != 1 {
			t.Errorf("%d rows on %d pages of just their number", len(rows), pages)
		}
		if rows, _ := list(&pb.ListResultsRequest{Statuses: []pb.Status{failed, errored}, PageSize: 4}); len(rows) != 13 {
			t.Errorf("%d rows failed, want 13", len(rows))
		}
		for _, bad := range []string{"?", page.List("runs").NumberToken(3)} {
			if _, err := st.runs.ListResults(st.As(scene.Viewer), &pb.ListResultsRequest{RunId: id, PageToken: bad}); fault.Of(err) != page.ErrToken {
				t.Errorf("token %q: %v, want ErrToken", bad, err)
			}
		}
	})
}

// fat is a failure that takes much.
func fat(name string) *pb.PublishItem {
	item := testOf(name, failed)
	item.GetTest().Error = &pb.Failure{Message: strings.Repeat("m", 4096), Details: strings.Repeat("d", 16000)}
	return item
}

func TestAnswersFitAClientThatTakesFourMebibytes(t *testing.T) {
	onStage(t, Config{}, func(t *testing.T, st *stage) {
		r := st.connect(scene.Bot)
		id := r.hello(&pb.PublishHello{RunKey: "k"}).Run.Id
		const n = 1200
		for i := range n / 100 {
			var items []*pb.PublishItem
			for j := range 100 {
				items = append(items, fat(fmt.Sprint(i*100+j)))
			}
			s := suiteOf(fmt.Sprint("suite", i), failed)
			s.GetSuite().Error = &pb.Failure{Details: strings.Repeat("d", 16000)}
			r.report(append(items, s)...)
		}
		seen, token := 0, ""
		for {
			resp, err := st.runs.ListResults(st.As(scene.Viewer), &pb.ListResultsRequest{RunId: id, PageToken: token})
			if err != nil {
				t.Fatal(err)
			}
			if size := proto.Size(resp); size > 3<<20 {
				t.Errorf("a page takes %d bytes", size)
			}
			seen += len(resp.Rows)
			if token = resp.NextPageToken; token == "" {
				break
			}
		}
		if seen != n {
			t.Errorf("%d rows in all pages, want %d", seen, n)
		}
		j := &pb.Joined{}
		st.View(func(r store.Reader) error { return Room{st.runs}.Snapshot(r, scene.Viewer, event.RunRoom(id), j) })
		snap := j.GetRun()
		if size := proto.Size(j); size > 3<<20 || len(snap.Failures) != snapshotTests {
			t.Errorf("the state of the run takes %d bytes with %d failures", size, len(snap.Failures))
		}
		if first, last := snap.Failures[0], snap.Failures[snapshotTests-1]; first.Error.Details == "" || first.Test.Name != fmt.Sprint(n-1) || last.Error.Details != "" {
			t.Errorf("the newest failure is %s with %d bytes of details, the last %d", first.Test.Name, len(first.Error.Details), len(last.Error.Details))
		}
	})
}

func TestOutputIsReadInPartsAndOfTheLastAttempt(t *testing.T) {
	onStage(t, Config{}, func(t *testing.T, st *stage) {
		r := st.connect(scene.Bot)
		id := r.hello(&pb.PublishHello{RunKey: "k"}).Run.Id
		chunk := strings.Repeat("x", 60_000)
		items := []*pb.PublishItem{
			outputOf("", "", "of the run"), outputOf("s", "", "of the suite"),
			testOf("T", running), outputOf("s", "T", "first"), testOf("T", failed), testOf("T", running),
		}
		for range 12 {
			items = append(items, outputOf("s", "T", chunk))
		}
		r.report(items...)
		read := func(req *pb.ReadOutputRequest) (text string, parts int, token string) {
			req.RunId = id
			for {
				resp, err := st.runs.ReadOutput(st.As(scene.Viewer), req)
				if err != nil {
					t.Fatal(err)
				}
				if len(resp.Data) > 256<<10 {
					t.Errorf("a part has %d bytes", len(resp.Data))
				}
				text += string(resp.Data)
				req.PageToken = resp.NextToken
				if parts++; !resp.More {
					return text, parts, resp.NextToken
				}
			}
		}
		text, parts, token := read(&pb.ReadOutputRequest{Suite: "s", Name: "T"})
		if text != strings.Repeat(chunk, 12) || parts != 3 {
			t.Errorf("read %d bytes in %d parts", len(text), parts)
		}
		for want, req := range map[string]*pb.ReadOutputRequest{
			"of the run":   {},
			"of the suite": {Suite: "s"},
			"first":        {Suite: "s", Name: "T", Attempt: 1},
			"":             {Suite: "s", Name: "nothing"},
		} {
			if text, _, _ := read(req); text != want {
				t.Errorf("%v printed %q, want %q", req, text, want)
			}
		}
		r.report(outputOf("s", "T", "and on"))
		if text, _, _ := read(&pb.ReadOutputRequest{Suite: "s", Name: "T", PageToken: token}); text != "and on" {
			t.Errorf("what came next was %q", text)
		}
		for _, bad := range []string{"?", page.List("runs").NumberToken(3)} {
			if _, err := st.runs.ReadOutput(st.As(scene.Viewer), &pb.ReadOutputRequest{RunId: id, PageToken: bad}); fault.Of(err) != page.ErrToken {
				t.Errorf("token %q: %v, want ErrToken", bad, err)
			}
		}
	})
}

func TestTheStateOfARunShowsWhatRunsAndWhatFailedNewestFirst(t *testing.T) {
	onStage(t, Config{}, func(t *testing.T, st *stage) {
		r := st.connect(scene.Bot)
		id := r.hello(&pb.PublishHello{RunKey: "k"}).Run.Id
		r.report(testOf("A", failed), testOf("B", running), testOf("C", passed), testOf("D", errored),
			testOf("E", timedOut), testOf("F", running), testOf("F", passed), testOf("G", failed), testOf("G", passed), testOf("A", failed))
		j := &pb.Joined{}
		st.View(func(r store.Reader) error { return Room{st.runs}.Snapshot(r, scene.Viewer, event.RunRoom(id), j) })
		names := func(us []*pb.TestExecutionUpdate) (out string) {
			for _, u := range us {
				out += u.Test.Name
			}
			return out
		}
		if snap := j.GetRun(); names(snap.Failures) != "AED" || names(snap.Running) != "B" || snap.Run.Id != id || len(snap.Suites) != 1 {
			t.Errorf("the state is %v", snap)
		}
	})
}

func TestARunExpectsAsManyTestsAsTheLastOneOfItsName(t *testing.T) {
	onStage(t, Config{}, func(t *testing.T, st *stage) {
		info := &pb.RunInfo{Name: "nightly", Source: "go"}
		first := st.start(&pb.StartRunRequest{Info: info})
		st.report(first.Id, updateOf("s", "A", 0, passed))
		st.report(first.Id, updateOf("s", "B", 0, passed))
		if _, err := st.runs.FinishRun(st.As(scene.Tester), &pb.FinishRunRequest{RunId: first.Id}); err != nil {
			t.Fatal(err)
		}
		if next := st.start(&pb.StartRunRequest{Info: info}); first.ExpectedTotal != 0 || next.ExpectedTotal != 2 {
			t.Errorf("expected %d, then %d; want 0, then 2", first.ExpectedTotal, next.ExpectedTotal)
		}
	})
}

func TestAFailureOfACriticalCaseIsToldOnceARunAndMember(t *testing.T) {
	onStage(t, Config{}, func(t *testing.T, st *stage) {
		critical := &pb.TestCase{Id: "0190b0c0-0000-7000-8000-00000000000a", ProjectId: scene.ProjectID, Title: "Pay", Priority: pb.Priority_PRIORITY_CRITICAL}
		minor := &pb.TestCase{Id: "0190b0c0-0000-7000-8000-00000000000b", ProjectId: scene.ProjectID, Title: "Look", Priority: pb.Priority_PRIORITY_LOW}
		st.Update(func(tx store.Tx) error {
			if err := tx.AddTestCase(critical); err != nil {
				return err
			}
			return tx.AddTestCase(minor)
		})
		linked := func(name string, status pb.Status, keys ...string) *pb.PublishItem {
			item := testOf(name, status)
			item.GetTest().CaseKeys = keys
			return item
		}
		r := st.connect(scene.Bot)
		id := r.hello(&pb.PublishHello{RunKey: "k"}).Run.Id
		st.Heard()
		r.report(linked("A", passed, critical.Key), linked("B", failed, minor.Key), linked("C", failed, "TC-99", "what"), linked("D", skipped, critical.Key))
		wantTold(t, st, 0)
		r.report(linked("A", failed, minor.Key, critical.Key), linked("E", failed, critical.Key, critical.Key))
		wantTold(t, st, 1)
		r.report(linked("A", failed, critical.Key))
		// Neither another shard nor a restart makes it news.
		other := st.connect(scene.Bot)
		other.hello(&pb.PublishHello{RunKey: "k", Shard: "other"})
		other.report(linked("A", failed, critical.Key))
		for _, r := range []*runner{r, other} {
			r.cancel()
			<-r.done
		}
		st.restart()
		back := st.connect(scene.Bot)
		back.hello(&pb.PublishHello{RunKey: "k"})
		back.report(linked("A", timedOut, critical.Key))
		wantTold(t, st, 0)
		// In another run it is.
		next := st.connect(scene.Bot)
		next.hello(&pb.PublishHello{RunKey: "k2"})
		next.report(linked("A", running, critical.Key), testOf("A", errored)) // the link was said before
		wantTold(t, st, 1)
		resp, err := st.runs.ListResults(st.As(scene.Viewer), &pb.ListResultsRequest{RunId: id})
		if err != nil || resp.Rows[0].Name != "A" || resp.Rows[0].TestCaseId != critical.Id {
			t.Errorf("the row of the linked test is %v, %v", resp, err)
		}
	})
}

// wantTold checks how often each member was notified since this was last asked.
func wantTold(t *testing.T, st *stage, times int) {
	t.Helper()
	got := map[string]int{}
	for _, ev := range st.Heard() {
		if n := ev.GetNotificationAdded().GetNotification(); n != nil {
			got[strings.TrimPrefix(ev.Room, "user:")]++
			if n.Type != pb.NotificationType_NOTIFICATION_TYPE_ERROR || !strings.Contains(n.Message, "Pay") || !strings.HasPrefix(n.Link, "/runs/") {
				t.Errorf("told: %v", n)
			}
		}
	}
	for _, user := range scene.Users {
		want := times
		if _, member := scene.Members[user]; !member {
			want = 0
		}
		if got[user] != want {
			t.Errorf("%s was told %d times, want %d", user, got[user], want)
		}
	}
}

func TestAPanicLeavesNoHalfChangedCounters(t *testing.T) {
	onStage(t, Config{}, func(t *testing.T, st *stage) {
		id := st.start(&pb.StartRunRequest{}).Id
		st.report(id, updateOf("s", "A", 0, passed))
		err := st.runs.update(t.Context(), id, func(tx store.Tx, live *Live) error {
			w, err := st.runs.write(tx, live, nil, "", time.Now())
			if err != nil {
				return err
			}
			if err := w.test(updateOf("s", "B", 0, failed)); err != nil {
				return err
			}
			panic("after half the work")
		})
		if err == nil {
			t.Fatal("a panic gave no error")
		}
		st.report(id, updateOf("s", "A", 0, failed))
		recount(t, st.Scene, id)
	})
}
