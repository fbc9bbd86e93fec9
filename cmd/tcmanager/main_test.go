package main

import (
	"fmt"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	"github.com/tcmanager/tcmanager/service/store/postgres/pgtest"
)

// TestMain lets scripts run this program under its own name, and fails if a
// test leaves a goroutine behind.
func TestMain(m *testing.M) {
	testscript.Main(leakChecked{m}, map[string]func(){
		"tcmanager": func() { os.Exit(realMain()) },
	})
}

type leakChecked struct{ m *testing.M }

func (l leakChecked) Run() int {
	code := pgtest.Main(l.m)
	if code != 0 {
		return code
	}
	if err := goleak.Find(goleak.IgnoreTopFunction("github.com/desertbit/timer.timerRoutine")); err != nil {
		fmt.Fprintln(os.Stderr, "goroutines are left behind:", err)
		return 1
	}
	return 0
}
