// Runchaos breaks servers for a while and says what came of it: see package chaos.
// It is run by "make chaos" and "make kills".
//
//	CHAOS_S      for how many seconds; 120, which are two rounds
//	CHAOS_SEED   what to repeat; a random number
//	CHAOS_STORE  sqlite or postgres; sqlite
//	CHAOS_DIR    where logs and histories of what went wrong are kept; a temporary one
//	CHAOS_CLOCK  whether the server's clock jumps too: 0 never, 1 in every round; in every second one
//	CHAOS_KILLS  instead, kill the server so many times while it is published to
package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/chaos"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if code, done := alone(ctx); done {
		return code
	}
	bad, err := try(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		return 2
	}
	if bad {
		return 1
	}
	return 0
}

// number is a variable that holds a number.
func number(variable string, otherwise uint64) (uint64, error) {
	text := os.Getenv(variable)
	if text == "" {
		return otherwise, nil
	}
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil {
		return 0, fmt.Errorf("%s: %q is not a number", variable, text)
	}
	return n, nil
}

func try(ctx context.Context) (bad bool, err error) {
	seconds, err1 := number("CHAOS_S", 120)
	seed, err2 := number("CHAOS_SEED", rand.Uint64N(1_000_000))
	kills, err3 := number("CHAOS_KILLS", 0)
	bin, err4 := filepath.Abs("bin")
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return false, err
	}
	dir, err := workDir()
	if err != nil {
		return false, err
	}
	c := chaos.Config{
		Seed: seed, Duration: time.Duration(seconds) * time.Second, Dir: dir, Out: os.Stdout,
		Server: []string{filepath.Join(bin, "tcmanager")}, TCM: filepath.Join(bin, "tcm"),
	}
	var closeDisks func() error
	c.Store, closeDisks, err = storeOf(os.Getenv("CHAOS_STORE"), dir)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, closeDisks()) }()
	if c.Clock, err = clockOf(os.Getenv("CHAOS_CLOCK")); err != nil {
		return false, err
	}
	if c.Clock != nil && kills == 0 {
		if c.Server[0], err = chaos.BuildWithClock(ctx, ".", dir); err != nil {
			return false, fmt.Errorf("%w (without jumps of the clock: CHAOS_CLOCK=0)", err)
		}
	}
	fmt.Printf("seed %d; logs are in %s\n", seed, dir)
	if kills > 0 {
		return killed(ctx, c, int(kills))
	}
	report, err := chaos.Run(ctx, c)
	if err != nil {
		return false, err
	}
	fmt.Printf("faults: %s\n", report.Faults)
	fmt.Printf("tried: %s\n", report.Did)
	fmt.Println(report.Summary())
	return len(report.Violations) > 0, nil
}

// clockOf says in which rounds the clock jumps.
func clockOf(text string) (func(seed uint64) bool, error) {
	switch text {
	case "":
		return func(seed uint64) bool { return seed%2 == 1 }, nil
	case "0":
		return nil, nil //nolint:nilnil // in none
	case "1":
		return func(uint64) bool { return true }, nil
	default:
		return nil, fmt.Errorf("CHAOS_CLOCK: %q is not 0, 1 or empty", text)
	}
}

func killed(ctx context.Context, c chaos.Config, n int) (bad bool, err error) {
	report, err := chaos.Kills(ctx, c, n)
	if err != nil {
		return false, err
	}
	for _, what := range report.Wrong {
		fmt.Println(" ", what)
	}
	fmt.Println(report)
	return report.Bad(), nil
}

func workDir() (string, error) {
	if dir := os.Getenv("CHAOS_DIR"); dir != "" {
		return filepath.Abs(dir)
	}
	return os.MkdirTemp("", "chaos-")
}
