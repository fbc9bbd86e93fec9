package tcmanager_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	tcmanager "github.com/tcmanager/tcmanager/clients/go"
	"github.com/tcmanager/tcmanager/clients/go/tcmtest"
	tcmv1 "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

// A program that follows a project, is stopped, and goes on where it was.
func ExampleSession_Events() {
	t := &exampleTB{}
	defer t.end()
	srv := tcmtest.New(t) // or, for a real server, tcmanager.Dial
	client := srv.Client()

	ctx, cancel := context.WithCancel(context.Background())
	session := client.NewSession(tcmanager.SessionConfig{Name: "example/1"})
	ended := make(chan error, 1)
	go func() { ended <- session.Run(ctx) }()
	defer func() { cancel(); <-ended }()

	started := func(name string) *tcmv1.Event {
		return &tcmv1.Event{Payload: &tcmv1.Event_RunChanged{RunChanged: &tcmv1.RunChanged{
			Change: tcmv1.RunChange_RUN_CHANGE_STARTED, Run: &tcmv1.Run{Info: &tcmv1.RunInfo{Name: name}},
		}}}
	}

	var at *tcmanager.Position // kept with what was made of the events
	follow := func(until string) {
		for d, err := range session.Events(ctx, "project:demo", at) {
			if err != nil {
				fmt.Println("can't go on:", err)
				return
			}
			at = &d.Position
			switch d.Kind {
			case tcmanager.DeliverySnapshot:
				fmt.Println("there are", len(d.Joined.GetProject().GetRuns()), "runs")
				srv.Emit("project:demo", started("unit"))
			case tcmanager.DeliveryEvent:
				name := d.Event.GetRunChanged().GetRun().GetInfo().GetName()
				fmt.Println("started:", name)
				if name == until {
					return
				}
			default: // DeliveryResumed, DeliveryReset, DeliveryPosition
				fmt.Println(d.Kind)
			}
		}
	}
	follow("unit")
	srv.Emit("project:demo", started("integration")) // nobody listens
	srv.CutStreams()
	follow("integration")
	// Output:
	// there are 0 runs
	// started: unit
	// resumed
	// started: integration
}

// A comment is added once, whatever happens to the connection.
func ExampleSession_Do() {
	t := &exampleTB{}
	defer t.end()
	srv := tcmtest.New(t)
	srv.LoseAnswers(1)

	ctx, cancel := context.WithCancel(context.Background())
	session := srv.Client().NewSession(tcmanager.SessionConfig{})
	ended := make(chan error, 1)
	go func() { ended <- session.Run(ctx) }()
	defer func() { cancel(); <-ended }()

	_, err := session.Do(ctx, &tcmv1.Command{Command: &tcmv1.Command_AddComment{
		AddComment: &tcmv1.AddCommentRequest{TestCaseId: "0190c1f0-0000-7000-8000-000000000001", Text: "flaky since Monday"},
	}})
	fmt.Println(err, len(srv.Commands()))
	// Output: <nil> 1
}

// exampleTB stands in for the test that an example is not.
type exampleTB struct {
	testing.TB

	cleanups []func()
}

func (t *exampleTB) Helper()                   {}
func (t *exampleTB) Cleanup(f func())          { t.cleanups = append(t.cleanups, f) }
func (t *exampleTB) Errorf(s string, a ...any) { panic(fmt.Sprintf(s, a...)) }
func (t *exampleTB) Fatal(a ...any)            { panic(fmt.Sprint(a...)) }

func (t *exampleTB) end() {
	for _, f := range slices.Backward(t.cleanups) {
		f()
	}
}
