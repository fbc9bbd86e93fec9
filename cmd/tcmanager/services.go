package main

import (
	"cmp"
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/config"
	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/collaboration"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/identity"
	"github.com/tcmanager/tcmanager/service/limit"
	"github.com/tcmanager/tcmanager/service/notification"
	"github.com/tcmanager/tcmanager/service/presence"
	"github.com/tcmanager/tcmanager/service/project"
	"github.com/tcmanager/tcmanager/service/retention"
	"github.com/tcmanager/tcmanager/service/router"
	"github.com/tcmanager/tcmanager/service/rules"
	"github.com/tcmanager/tcmanager/service/run"
	"github.com/tcmanager/tcmanager/service/session"
	"github.com/tcmanager/tcmanager/service/testcase"
)

// newServices opens the store, makes the nouns that stand on it, and joins them
// to the rooms. It is the only place that knows every room and every noun.
func newServices(ctx context.Context, c config.Config, d Deps) (*Services, error) {
	rooms := router.New()
	heard := &listener{rooms: rooms}
	keeper, err := newKeeper(c, d)
	if err != nil {
		return nil, err
	}
	db, err := openStore(ctx, c, d.Log, heard.hear)
	if err != nil {
		return nil, err
	}
	runURL := func(id string) string { return d.PublicURL + "/runs/" + id }
	authenticator := identity.NewAuthenticator(d.Verifier, identity.NewUsers(db))
	here := presence.New(rooms, presence.Options{Grace: c.PresenceGrace})
	nouns := commands{
		runs: run.New(db, run.Config{
			Grace: c.RunGrace, MaxRequest: c.MaxMessageBytes, URL: runURL, Logger: d.Log, Progress: rooms.Publish,
		}),
		cases:         testcase.New(db, time.Now),
		comments:      collaboration.New(db, time.Now),
		notifications: notification.New(db, time.Now),
	}
	projects := project.New(db, time.Now)
	sessions := session.NewServer(sessionConfig(c, d), session.Deps{
		Store: db, Router: rooms, Presence: here, Commands: nouns,
		Rooms: map[event.Kind]session.RoomSource{
			event.KindProject:  project.NewRoom(runURL),
			event.KindRun:      run.Room{Service: nouns.runs},
			event.KindTestCase: testcase.Room{},
			event.KindUser:     notification.Room{},
		},
		Verify:   authenticator.Authenticate,
		Validate: func(req *pb.SubscribeRequest) error { return rules.Message(req) },
	})
	heard.sessions = sessions
	sweeper := retention.New(db, nouns.runs, retention.Config{
		Events: c.HistoryEvents, Age: c.HistoryAge, Runs: c.KeepRuns, RunsAge: c.KeepRunsAge, ResultsAge: c.KeepResultsAge, Logger: d.Log,
	})
	watch(d.Registerer, sessions, nouns.runs, rooms)
	watchDropped(d.Registerer, sweeper)
	return &Services{
		Store:         db,
		Authenticator: authenticator,
		Register: func(s grpc.ServiceRegistrar) {
			pb.RegisterIdentityServiceServer(s, d.Identity)
			pb.RegisterProjectServiceServer(s, projects)
			pb.RegisterExecutionServiceServer(s, nouns.runs)
			pb.RegisterTestCaseServiceServer(s, nouns.cases)
			pb.RegisterCollaborationServiceServer(s, nouns.comments)
			pb.RegisterNotificationServiceServer(s, nouns.notifications)
			pb.RegisterRealtimeServiceServer(s, sessions)
		},
		Realtime: sessions,
		Run: func(ctx context.Context) error {
			defer here.Close()
			defer nouns.runs.Close()
			group, ctx := errgroup.WithContext(ctx)
			group.Go(func() error { return nouns.runs.Run(ctx) })
			group.Go(func() error { return sessions.Run(ctx) })
			group.Go(func() error { return sweeper.Run(ctx) })
			if keeper != nil {
				group.Go(func() error { return keeper.Run(ctx) })
			}
			return group.Wait()
		},
		Drain: func(ctx context.Context) { drain(ctx, sessions, nouns.runs) },
	}, nil
}

// sessionConfig is what the options say of sessions.
func sessionConfig(c config.Config, d Deps) session.Config {
	return session.Config{
		Version: d.Version, HeartbeatInterval: c.HeartbeatInterval, HeartbeatTimeout: c.HeartbeatTimeout,
		Logger: d.Log, HelloTimeout: c.AuthTimeout, MaxRequestBytes: c.MaxMessageBytes,
		MaxSessions: c.MaxSessions, MaxUserSessions: c.MaxUserSessions, MaxRooms: c.MaxRooms,
		QueueBytes: c.QueueBytes, ReplayEvents: c.ReplayEvents, Linger: cmp.Or(c.Linger, -1), // sessions' own 0 is a default
		Transports: c.Transports, RealtimeOff: !c.Realtime,
		Limits: session.Limits{
			Commands: limit.Rate{PerSecond: c.CommandRate, Burst: c.CommandBurst},
			Signals:  limit.Rate{PerSecond: c.SignalRate, Burst: c.SignalBurst},
		},
	}
}

// The fields of Event.payload that tell of runs and of memberships.
const (
	kindRunChanged    = 12
	kindMemberChanged = 40
)

// listener hears what was committed. It is called by the store's writer, so it
// never waits.
type listener struct {
	rooms    *router.Router
	sessions *session.Server // set before anything is committed that sessions could care about
}

// hear brings events to their rooms, and makes the sessions of a member whose
// rights changed, and those in the room of a run that was deleted, look at them again.
func (l *listener) hear(events []event.Event) {
	l.rooms.Publish(events)
	for _, ev := range events {
		if l.sessions == nil || ev.Kind != kindMemberChanged && (ev.Kind != kindRunChanged || ev.Room.Kind() != event.KindRun) {
			continue
		}
		m, err := ev.Decode()
		if err != nil {
			continue
		}
		if ev.Kind == kindMemberChanged {
			l.sessions.Recheck(m.GetMemberChanged().GetMember().GetUser().GetId())
		} else if m.GetRunChanged().GetChange() == pb.RunChange_RUN_CHANGE_DELETED {
			l.sessions.RecheckRoom(ev.Room)
		}
	}
}

// drainPoll is how often a stop looks whether all streams have ended.
const drainPoll = 10 * time.Millisecond

// drain sends every client away and waits until they have gone, or ctx ends.
func drain(ctx context.Context, sessions *session.Server, runs *run.Service) {
	sessions.Drain()
	runs.Drain()
	tick := time.NewTicker(drainPoll)
	defer tick.Stop()
	for sessions.Count()+runs.Publishers() > 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// watch registers the gauges of the live side.
func watch(r prometheus.Registerer, sessions *session.Server, runs *run.Service, rooms *router.Router) {
	gauge := func(name, help string, value func() int) {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "tcmanager", Name: name, Help: help},
			func() float64 { return float64(value()) }))
	}
	gauge("sessions", "Open Subscribe sessions.", sessions.Count)
	gauge("rooms", "Rooms that somebody is in.", rooms.Rooms)
	gauge("publishers", "Runners that are publishing results.", runs.Publishers)
	gauge("queued_bytes", "Durable events waiting in memory for slow sessions.", sessions.Waiting)
}

// watchDropped registers the counters of what is no longer kept.
func watchDropped(r prometheus.Registerer, sweeper *retention.Sweeper) {
	counter := func(name, help string, value func(retention.Dropped) int64) {
		r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: "tcmanager", Subsystem: "retention", Name: name, Help: help},
			func() float64 { return float64(value(sweeper.Dropped())) }))
	}
	counter("events_dropped_total", "Events dropped from the logs of rooms.", func(d retention.Dropped) int64 { return d.Events })
	counter("runs_deleted_total", "Runs deleted.", func(d retention.Dropped) int64 { return d.RunsDeleted })
	counter("runs_trimmed_total", "Runs of which the results that passed and the output were dropped.", func(d retention.Dropped) int64 { return d.RunsTrimmed })
	counter("rows_dropped_total", "Results, pieces of output and other rows dropped of those runs.", func(d retention.Dropped) int64 { return d.Rows })
}
