// Package store is what the services keep: the state of each noun and the log of
// each room, changed together in one transaction.
//
// It is an interface with one conformance suite, storetest, that every
// implementation passes. An implementation only translates: rules live in the
// services, behind the doors.
//
// # Concurrency
//
// Views run at the same time as each other and as updates, each on a consistent
// snapshot. Updates run one after the other, in an order that is also the order
// of their events; many of them may share one commit. A function given to Update
// must not call the store otherwise than through its Tx, must not wait for
// anything, and must not keep the Tx.
package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/event"
)

// ErrNotFound says that a row does not exist. Services turn it into a fault.
var ErrNotFound = errors.New("not found")

// ErrExists says that a row with this unique key is there already.
var ErrExists = errors.New("already exists")

// ErrClosed says that the store was closed.
var ErrClosed = errors.New("the store is closed")

// ErrUnavailable says that the store can't be reached at the moment, and that
// nothing was done. It comes back by itself.
var ErrUnavailable = errors.New("the store is unavailable at the moment")

// ErrFull is ErrUnavailable of a store whose disk is full. It comes back by itself
// once there is space.
var ErrFull = fmt.Errorf("%w: no space is left", ErrUnavailable)

// ErrUncertain says that the store went away in the middle of a commit, and that
// nobody can say yet whether that was kept. Once the store is back it is as if the
// update had been kept or as if it had not, and listeners hear of it if it was.
var ErrUncertain = errors.New("the store went away during the commit: it may have been kept or not")

// Store is the state and the log.
type Store interface {
	// View runs fn on a consistent snapshot.
	View(ctx context.Context, fn func(Reader) error) error
	// Update runs fn in a transaction and returns once what it did is durable and
	// its events were handed to the listener. An error from fn undoes what fn did
	// and nothing else. When Update returns an error, nothing of fn was kept,
	// unless ctx ended first or it is ErrUncertain: then it may have been.
	Update(ctx context.Context, fn func(Tx) error) error
	// Epoch is the number of this history: drawn anew at each start, never 0.
	Epoch() uint64
	// Ready returns nil while the store can read and write.
	Ready(ctx context.Context) error
	// Close waits for running updates and releases the store.
	Close() error
}

// Listener hears of events after their commit, in their order, one call at a
// time. It must not block and must not call the store.
type Listener func([]event.Event)

// Shard is one runner's stream into a run, as the store keeps it.
type Shard struct {
	RunID       string
	Name        string
	State       pb.ShardState
	Incarnation uint64 // the number of the newest stream; an older one may not write
	Committed   uint64 // all items up to this sequence are committed or rejected
	ChangedAt   time.Time
	ExitCode    *int32
}

// Result is one attempt of one test in a run.
type Result struct {
	Seq          uint64 // the test's place in the order of first appearance in the run, from 1
	Attempt      uint32 // counted over the run, from 1; the highest one is the test's last
	Source       string
	Suite        string
	Name         string
	Shard        string // the shard that ran it, and
	ShardAttempt uint32 // the attempt as that shard counts
	Status       pb.Status
	Offset       uint64 // of its last change in the run's room
	Update       []byte // the encoded TestExecutionUpdate of its last change
}

// ResultQuery selects the last attempts of a run's tests, by Seq.
type ResultQuery struct {
	AfterSeq   uint64      // only tests after this one; 0 from the beginning
	Statuses   []pb.Status // only these; empty for all
	Limit      int         // at most this many; must be positive
	Descending bool        // newest change first instead (by Offset; AfterSeq is ignored); not for those that PASSED
}

// Check returns an error if no store can answer the query.
func (q ResultQuery) Check() error {
	if q.Limit <= 0 {
		return errors.New("the limit must be positive")
	}
	if q.Descending && (len(q.Statuses) == 0 || slices.Contains(q.Statuses, pb.Status_STATUS_PASSED)) {
		return errors.New("those that passed are in no order of change; ask for others")
	}
	return nil
}

// OutputKey names a piece of output. Name is empty for a suite's own output, and
// Suite too for a run's.
type OutputKey struct {
	RunID   string
	Suite   string
	Name    string
	Attempt uint32 // counted over the run; 0 for suites and runs
}

// Output is a piece of output to keep.
type Output struct {
	Key  OutputKey
	Data []byte
}

// OutputPart is a part of stored output.
type OutputPart struct {
	Data []byte
	Next int64 // give it as after for what comes next; also when nothing does yet
	More bool
}

// Request is a changing request that was carried out, by a user's own id for it.
type Request struct {
	UserID   string
	ID       string
	Method   string // the full name of the request message
	Hash     []byte // of its content
	Response []byte // the encoded answer
	At       time.Time
}

// LogPart is a part of a room's log.
type LogPart struct {
	Events []event.Event
	More   bool // more events follow the last one
}

// Head is where a room's log is.
type Head struct {
	Newest event.Position // of the newest event; offset 0 when there is none
	// Trim is of the newest event that is no longer kept. While none was dropped
	// its offset is 0 and its epoch the one the room was made in: a client that
	// came before the first event can go on from there.
	Trim event.Position
}

// LeastHistory is how many of a room's newest events are always kept: they are
// what a late joiner sees as recent activity.
const LeastHistory = 20

// History says which events of each room are kept: those that are as new as both
// fields say, and always the newest LeastHistory.
type History struct {
	Events int       // the newest so many of a room; 0 for all of them
	Since  time.Time // those that were committed then or later; zero for all of them
}

// Trimmed is what one call of TrimLogs dropped.
type Trimmed struct {
	Events int
	More   bool // there may be more to drop
}

// Kept is how much of a run is kept.
type Kept int

// The runs of a store are one or the other. Of a deleted one nothing but its id,
// its number and its key is kept, so that they name no other run.
const (
	KeptTrimmed Kept = 1 // without the results that passed, and without output
	KeptWhole   Kept = 2
)

// Purged is what one call of PurgeRuns dropped.
type Purged struct {
	Rows int  // results, pieces of output, suites and pieces of the log
	More bool // there may be more to drop
}

// Reader reads a snapshot. Lookups of one thing return ErrNotFound. Lists of a
// thing that doesn't exist are empty, and so is what follows an item that
// doesn't exist, or the recent events of a room that was never made.
type Reader interface {
	// User returns a user's record.
	User(id string) (*pb.User, error)

	// Project returns a project by id or key.
	Project(idOrKey string) (*pb.Project, error)
	// ProjectsOf returns a user's projects with MyRole set, by key.
	ProjectsOf(userID string) ([]*pb.Project, error)
	// Role returns a member's role; ErrNotFound for others.
	Role(projectID, userID string) (pb.Role, error)
	// Members returns a project's members, by name, then id.
	Members(projectID string) ([]*pb.Member, error)

	// Run returns a run with its shards, by id.
	Run(id string) (*pb.Run, error)
	// RunByKey returns a project's run by its key.
	RunByKey(projectID, key string) (*pb.Run, error)
	// Runs returns a project's runs without shards, newest number first, only
	// those with a number below before (0: from the newest).
	Runs(projectID string, before uint32, limit int) ([]*pb.Run, error)
	// RunningRuns returns every run in state RUNNING with its shards, of one
	// project, or of all for an empty projectID.
	RunningRuns(projectID string) ([]*pb.Run, error)
	// LastTotal returns Counts.total of the newest run of the project with this
	// source and name that ended PASSED or FAILED; 0 if there is none.
	LastTotal(projectID, source, name string) (uint32, error)
	// EndedRuns returns the ids of runs that ended before a moment, of which as much
	// is kept as said: those that ended first, at most limit.
	EndedRuns(kept Kept, before time.Time, limit int) ([]string, error)
	// SurplusRuns returns the ids of runs that ended before a moment and are not
	// among the newest so many of their project: the oldest of each, at most limit.
	SurplusRuns(newest int, before time.Time, limit int) ([]string, error)
	// DeletedRun returns the id of the project that a deleted run was of;
	// ErrNotFound for a run that is kept or never was.
	DeletedRun(id string) (projectID string, err error)
	// Shard returns a shard of a run.
	Shard(runID, name string) (Shard, error)
	// Shards returns a run's shards, by name.
	Shards(runID string) ([]Shard, error)
	// Suites returns a run's suites, by name, at most limit.
	Suites(runID string, limit int) ([]*pb.Suite, error)
	// Results returns the last attempts of a run's tests.
	Results(runID string, q ResultQuery) ([]Result, error)
	// EachResult calls fn for each attempt of each test of a run, by Seq and
	// Attempt. The result's Update is only good during the call.
	EachResult(runID string, fn func(Result) error) error
	// Output returns output after a place, at most limit bytes but at least one
	// chunk. With Key.Attempt 0 and a Name it means the test's last attempt.
	Output(key OutputKey, after int64, limit int) (OutputPart, error)

	// TestCase returns a test case by id.
	TestCase(id string) (*pb.TestCase, error)
	// TestCaseByKey returns a test case of a project by its key, "TC-12".
	TestCaseByKey(projectID, key string) (*pb.TestCase, error)
	// TestCases returns a project's test cases without descriptions, by number,
	// only those with a number above after.
	TestCases(projectID string, after uint64, limit int) ([]*pb.TestCase, error)
	// Comments returns a test case's comments, oldest first, those after the
	// comment with id after (empty: from the first).
	Comments(testCaseID, after string, limit int) ([]*pb.Comment, error)

	// Notifications returns a user's notifications, newest first, those older
	// than the one with id before (empty: from the newest).
	Notifications(userID, before string, unreadOnly bool, limit int) ([]*pb.Notification, error)
	// Unread returns how many of a user's notifications are unread.
	Unread(userID string) (uint32, error)

	// Request returns a request that was carried out.
	Request(userID, id string) (Request, error)

	// Head returns where a room's log is; ErrNotFound for a room that was never made.
	Head(room event.Room) (Head, error)
	// Log returns a room's events after an offset, at most limit bytes but at
	// least one event, without a gap between them. If some after the offset are no
	// longer kept, it begins with the first that is: the caller sees that it isn't
	// offset+1. ErrNotFound for a room that was never made.
	Log(room event.Room, after uint64, limit int) (LogPart, error)
	// Recent returns the newest n events of a room, oldest first.
	Recent(room event.Room, n int) ([]event.Event, error)
}

// Tx reads its own writes and changes things.
type Tx interface {
	Reader

	// Append gives drafts their places and writes the durable ones to the log.
	// After the commit the listener hears all of them, in this order. A draft of
	// a room that doesn't exist makes the room.
	Append(drafts ...event.Draft) ([]event.Event, error)

	// PutUser makes or changes a user. The user's room is made with it.
	PutUser(*pb.User) error
	// PutProject makes or renames a project; ErrExists if the key is taken. The
	// project's room is made with it.
	PutProject(*pb.Project) error
	// PutMember makes or changes a membership. The user must exist.
	PutMember(projectID, userID string, role pb.Role) error
	// DeleteMember ends a membership; ErrNotFound if there was none.
	DeleteMember(projectID, userID string) error

	// AddRun stores a new run and sets its Number; ErrExists if the project has or
	// had a run with this key. The run's room is made with it.
	AddRun(*pb.Run) error
	// PutRun stores a run's info, state, counts and times; its shards are stored by
	// PutShard, and results_trimmed by TrimRun.
	PutRun(*pb.Run) error
	// PutShard makes or changes a shard.
	PutShard(Shard) error
	// PutSuites makes or changes suites of a run.
	PutSuites(runID string, suites []*pb.Suite) error
	// PutResults makes or changes attempts, named by (Seq, Attempt), and makes
	// the tests they are of known to the project.
	PutResults(runID string, results []Result) error
	// AddOutput keeps output.
	AddOutput(runID string, out []Output) error

	// TrimRun sets the run's results_trimmed. The results of tests that passed, and
	// all output, are dropped by PurgeRuns. It does nothing to a run that was trimmed
	// before.
	TrimRun(id string) error
	// DeleteRun takes a run away: from now on nobody finds it, and its number and key
	// stay taken. What belonged to it is dropped by PurgeRuns, with its room. The
	// names of its tests stay known to the project.
	DeleteRun(id string) error
	// PurgeRuns drops what TrimRun and DeleteRun left behind, also before a restart.
	// It does a bounded piece of work, so that the updates behind it wait for some
	// milliseconds at most: call it again, in another update, while there is more.
	PurgeRuns() (Purged, error)

	// AddTestCase stores a new test case and sets its Key. Its room is made with it.
	AddTestCase(*pb.TestCase) error
	// PutTestCase changes a test case.
	PutTestCase(*pb.TestCase) error
	// AddComment stores a comment.
	AddComment(*pb.Comment) error

	// AddNotification stores userID's copy of a notification.
	AddNotification(userID string, n *pb.Notification) error
	// MarkRead marks notifications of a user read, all of them if ids is nil, and
	// returns the ids of those that were unread before.
	MarkRead(userID string, ids []string, at time.Time) ([]string, error)

	// PutRequest remembers a request that was carried out.
	PutRequest(Request) error
	// DropRequests forgets requests carried out before a moment, a bounded number
	// a call, the oldest first. It returns whether there may be more.
	DropRequests(before time.Time) (more bool, err error)

	// TrimLogs drops events that h doesn't keep, and moves the trim marks of their
	// rooms. It does a bounded piece of work, so that the updates behind it wait
	// for some milliseconds at most: call it again while there is more. Stores keep
	// events in pieces of about a frame and drop whole ones, so that a room may
	// have some more than h keeps. So may one that this transaction appended to.
	TrimLogs(h History) (Trimmed, error)
}
