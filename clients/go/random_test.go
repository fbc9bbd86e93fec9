package tcmanager_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	tcmanager "github.com/tcmanager/tcmanager/clients/go"
	"github.com/tcmanager/tcmanager/clients/go/tcmtest"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	tcmv1 "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

// randomSeeds is how many histories are tried. Seeds that once failed stand in
// pinnedSeeds with what they found.
const randomSeeds = 40

var pinnedSeeds = map[string]uint64{}

// fan reads a room over evictions, as a program would: from the last position.
type fan struct {
	*reader

	room string
	seen []string // by earlier readers
	at   *tcmanager.Position
}

// gather moves what the reader has had to what was seen, and begins anew if it
// was put out or its session was replaced.
func (f *fan) gather(t *testing.T, session *tcmanager.Session, anew bool) {
	t.Helper()
	f.deliveries()
	ended := f.failure() != nil
	if !anew && !ended {
		return
	}
	f.stop()
	<-f.done
	f.seen = append(f.seen, f.events()...)
	for _, d := range f.deliveries() {
		if d.Kind == tcmanager.DeliveryReset {
			t.Errorf("%s was reset: %s", f.room, d.Reason)
		}
		f.at = &d.Position
	}
	f.reader = read(t, session, f.room, f.at)
}

// TestRandomHistoriesAreReadWholeInOrderAndOnce lets networks, servers and readers
// do what they do, and compares what was read with what was emitted.
func TestRandomHistoriesAreReadWholeInOrderAndOnce(t *testing.T) {
	seeds := map[string]uint64{}
	for n := range uint64(randomSeeds) {
		seeds[fmt.Sprint("seed ", n)] = n
	}
	maps.Copy(seeds, pinnedSeeds)
	for name, seed := range seeds {
		t.Run(name, func(t *testing.T) {
			onStage(t, func(t *testing.T, srv *tcmtest.Server) { randomHistory(t, srv, rand.New(rand.NewPCG(seed, 1))) })
		})
	}
}

func randomHistory(t *testing.T, srv *tcmtest.Server, rng *rand.Rand) {
	t.Helper()
	config := tcmanager.SessionConfig{RoomBuffer: 1 << (9 + rng.IntN(6))}
	srv.Batch(1 + rng.IntN(20))
	session := connect(t, srv, config)
	fans := make([]*fan, 3)
	emitted := make([]int, len(fans))
	for i := range fans {
		name := fmt.Sprint("testrun:", i)
		fans[i] = &fan{room: name, reader: read(t, session, name, nil)}
		fans[i].deliveries() // the snapshot is of the empty room: all events are yielded
	}
	held := make([]bool, len(fans))
	commands := 0
	for range 120 {
		i := rng.IntN(len(fans))
		f := fans[i]
		switch rng.IntN(14) {
		case 0, 1, 2, 3:
			n := 1 + rng.IntN(60)
			emit(srv, f.room, emitted[i]+1, emitted[i]+n)
			emitted[i] += n
		case 4:
			srv.CutStreams()
		case 5:
			srv.CutConnections()
		case 6:
			srv.CutAfter(1 + rng.IntN(80))
		case 7:
			srv.Evict(f.room, &tcmanager.Error{Code: codes.PermissionDenied, Message: "out"})
		case 8:
			srv.NewEpoch()
		case 9:
			if held[i] = !held[i]; held[i] {
				f.hold()
			} else {
				f.release()
			}
		case 10:
			srv.GoAway(time.Duration(rng.IntN(5000)) * time.Millisecond)
		case 11:
			// A frame that should not have come: a hole, or an old event.
			ev := durable(-1)
			ev.Room, ev.Epoch, ev.Offset = f.room, 1, uint64(rng.IntN(emitted[i]+20)+2)
			if ev.GetOffset() > uint64(emitted[i]+1) || rng.IntN(4) == 0 {
				ev.Offset = uint64(emitted[i] + 50)
			} else {
				ev.Offset = 1
			}
			srv.Send(&tcmv1.SubscribeResponse{Events: []*tcmv1.Event{ev}})
		case 12:
			srv.LoseAnswers(rng.IntN(2))
			commands++
			id := strconv.Itoa(commands)
			go func() {
				if _, err := session.Do(t.Context(), comment(id, id)); err != nil && t.Context().Err() == nil {
					t.Errorf("command %s: %v", id, err)
				}
			}()
		default:
			srv.Send(&tcmv1.SubscribeResponse{Frame: &tcmv1.SubscribeResponse_GoingAway{GoingAway: &tcmv1.GoingAway{ReconnectAfter: durationpb.New(time.Second)}}})
		}
		time.Sleep(time.Duration(rng.IntN(3000)) * time.Millisecond)
		if !held[i] {
			f.gather(t, session, false)
		}
	}
	for i, f := range fans {
		if held[i] {
			f.release()
		}
	}
	time.Sleep(5 * time.Minute)
	for i, f := range fans {
		f.gather(t, session, false)
		time.Sleep(time.Minute)
		f.gather(t, session, true) // what was not read before is, from the position
		f.deliveries()
		same(t, append(f.seen, f.events()...), numbers(1, emitted[i]))
	}
	var done []string
	for _, c := range srv.Commands() {
		done = append(done, c.GetRequestId())
	}
	is(t, len(done), commands)
	once := map[string]bool{}
	for _, id := range done {
		once[id] = true
	}
	is(t, len(once), commands)
}
