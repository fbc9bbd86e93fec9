package chaos

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/store"
)

// outcome is what a writer knows about a write.
type outcome string

const (
	unknown outcome = "unknown" // no answer came, or one that says nothing about it: at most once
	acked   outcome = "acked"   // exactly once
	refused outcome = "refused" // the server said no, and was never asked before: not at all
)

// write is something that was asked for. Its token is in what it writes, and
// nowhere else.
type write struct {
	token   string
	kind    string // of what is written
	outcome outcome
	why     string // it was refused
}

// lane is what one runner published, in its order.
type lane struct {
	name   string
	tokens []string
	bad    map[int]bool // items that the server must reject
	acked  int          // so many were acknowledged
}

// ledger is what all writers asked for, and what they were told of it.
type ledger struct {
	mu     sync.Mutex // guards the rest
	writes []write
	lanes  []lane
	wrong  []string // answers that can't be right
}

func (l *ledger) add(w write) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.writes = append(l.writes, w)
}

func (l *ledger) addLane(n lane) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lanes = append(l.lanes, n)
}

func (l *ledger) complainf(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wrong = append(l.wrong, fmt.Sprintf(format, args...))
}

// counts says how many writes there were of each outcome.
func (l *ledger) counts() map[outcome]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := map[outcome]int{}
	for _, w := range l.writes {
		n[w.outcome]++
	}
	for _, s := range l.lanes {
		n[acked] += s.acked
		n[unknown] += len(s.tokens) - s.acked
	}
	return n
}

// found is what a store holds: how often each token is in its state, and in the
// logs of the rooms.
type found struct {
	state, log map[string]int
	kinds      map[string]bool // kinds whose state has all there was; others keep the newest only
	wrong      []string
}

// token returns the word that a text begins with.
func token(text string) string {
	word, _, _ := strings.Cut(text, " ")
	return word
}

func testToken(ref *pb.TestRef) string { return ref.GetSuite() + "/" + ref.GetName() }

// ended reports whether a status is a result, and not a step to one. An aborted
// test is one that the server gave up.
func ended(s pb.Status) bool {
	switch s {
	case pb.Status_STATUS_PASSED, pb.Status_STATUS_FAILED, pb.Status_STATUS_SKIPPED, pb.Status_STATUS_ERRORED:
		return true
	default:
		return false
	}
}

// The kinds of writes.
const (
	kindResult  = "result"
	kindComment = "comment"
	kindEdit    = "edit"
	kindNotice  = "notification"
	kindRun     = "run"
	kindCase    = "test case"
)

// audit reads all that writers may have written.
func audit(r store.Reader, projects, users []string, rooms []string) (*found, error) {
	f := &found{
		state: map[string]int{}, log: map[string]int{},
		kinds: map[string]bool{kindResult: true, kindComment: true, kindNotice: true, kindRun: true, kindCase: true},
	}
	for _, id := range projects {
		if err := f.project(r, id); err != nil {
			return nil, err
		}
	}
	for _, user := range users {
		if err := f.notices(r, user); err != nil {
			return nil, err
		}
	}
	for _, room := range rooms {
		if err := f.room(r, event.Room(room)); err != nil {
			return nil, fmt.Errorf("read the log of %s: %w", room, err)
		}
	}
	return f, nil
}

// all is more than there is of anything.
const all = 1_000_000

func (f *found) project(r store.Reader, id string) error {
	runs, err := r.Runs(id, 0, all)
	if err != nil {
		return err
	}
	for _, run := range runs {
		f.state[run.Key]++
		err := r.EachResult(run.Id, func(res store.Result) error {
			name := res.Suite + "/" + res.Name
			if res.Attempt > 1 {
				f.wrong = append(f.wrong, fmt.Sprintf("%s of run %s has an attempt %d, and was tried once", name, run.Key, res.Attempt))
			}
			if ended(res.Status) {
				f.state[name]++
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	cases, err := r.TestCases(id, 0, all)
	if err != nil {
		return err
	}
	for _, tc := range cases {
		f.state[token(tc.Title)]++
		comments, err := r.Comments(tc.Id, "", all)
		if err != nil {
			return err
		}
		for _, c := range comments {
			f.state[token(c.Text)]++
		}
	}
	return nil
}

func (f *found) notices(r store.Reader, user string) error {
	list, err := r.Notifications(user, "", false, all)
	for _, n := range list {
		f.state[token(n.Title)]++
	}
	return err
}

// room counts what a room was told first: what a project's room repeats of others
// is left out.
func (f *found) room(r store.Reader, room event.Room) error {
	for after := uint64(0); ; {
		part, err := r.Log(room, after, 1<<20)
		if err != nil {
			return err
		}
		for _, ev := range part.Events {
			m, err := ev.Decode()
			if err != nil {
				return err
			}
			if ev.Position.Offset != after+1 {
				f.wrong = append(f.wrong, fmt.Sprintf("in %s event %d follows on %d", room, ev.Position.Offset, after))
			}
			after = ev.Position.Offset
			if t := toldBy(room.Kind(), m); t != "" {
				f.log[t]++
			}
		}
		if !part.More {
			return nil
		}
	}
}

func toldBy(kind event.Kind, ev *pb.Event) string {
	switch {
	case kind == event.KindRun && ended(ev.GetTestExecution().GetStatus()):
		return testToken(ev.GetTestExecution().GetTest())
	case kind == event.KindUser:
		return token(ev.GetNotificationAdded().GetNotification().GetTitle())
	case kind == event.KindProject && ev.GetRunChanged().GetChange() == pb.RunChange_RUN_CHANGE_STARTED:
		return ev.GetRunChanged().GetRun().GetKey()
	case kind == event.KindProject: // a case that is new has nobody in its room
		return token(ev.GetCollaboration().GetTestCase().GetTitle())
	case kind == event.KindTestCase:
		return token(cmp.Or(ev.GetCollaboration().GetComment().GetText(), ev.GetCollaboration().GetEdit().GetValue()))
	default:
		return ""
	}
}

// balance holds what writers were told against what the store holds, and returns
// what doesn't fit.
func (l *ledger) balance(f *found) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	bad := slices.Concat(l.wrong, f.wrong)
	for _, w := range l.writes {
		bad = append(bad, f.judge(w)...)
	}
	for _, s := range l.lanes {
		bad = append(bad, f.judgeLane(s)...)
	}
	return bad
}

func (f *found) judge(w write) []string {
	log, state := f.log[w.token], f.state[w.token]
	if !f.kinds[w.kind] {
		state = log
	}
	least, most := min(log, state), max(log, state)
	var what string
	switch {
	case w.outcome == acked && least == 0:
		what = "was acknowledged and is lost"
	case w.outcome == refused && most > 0:
		what = fmt.Sprintf("was refused (%s) and is there", w.why)
	case most > 1:
		what = fmt.Sprintf("(%s) is doubled", w.outcome)
	case log != state:
		what = fmt.Sprintf("(%s) is there in part", w.outcome)
	default:
		return nil
	}
	return []string{fmt.Sprintf("%s %s %s: it is %d times in the log and %d times in the state", w.kind, w.token, what, log, state)}
}

// judgeLane looks at what a runner published: what is there are its first items,
// at least the acknowledged ones, each once.
func (f *found) judgeLane(s lane) []string {
	var bad []string
	missing := -1
	for i, t := range s.tokens {
		w := write{token: t, kind: kindResult, outcome: unknown, why: "it breaks a rule"}
		switch {
		case s.bad[i]:
			w.outcome = refused
		case i < s.acked:
			w.outcome = acked
		default:
		}
		bad = append(bad, f.judge(w)...)
		switch {
		case s.bad[i]:
		case f.state[t] == 0 && missing < 0:
			missing = i
		case f.state[t] > 0 && missing >= 0:
			bad = append(bad, fmt.Sprintf("%s: item %d (%s) is there, and item %d before it is not", s.name, i+1, t, missing+1))
			missing = len(s.tokens) // said once
		default:
		}
	}
	return bad
}
