package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	tcmanager "github.com/tcmanager/tcmanager/clients/go"
	tcmv1 "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

// uploadOptions are the flags of the commands that publish.
type uploadOptions struct {
	project *string
	runKey  string
	shard   string
	shards  uint32
	name    string
	branch  string
	commit  string
	ciURL   string
	verbose bool
	timeout time.Duration
}

// addUploadFlags adds the flags of the commands that publish.
func (g *global) addUploadFlags(c *cobra.Command) *uploadOptions {
	o := &uploadOptions{project: g.project(c)}
	f := c.Flags()
	f.StringVar(&o.runKey, "run-key", "", "shards and reruns that give the same `key` go into one run (default: a new run; with --shards, the CI pipeline)")
	f.StringVar(&o.shard, "shard", "", "the `name` of this shard within the run")
	f.Uint32Var(&o.shards, "shards", 0, "how many shards the run has (0 means one)")
	f.StringVar(&o.name, "name", "", "the run's `title` (default: the command)")
	f.StringVar(&o.branch, "branch", "", "the `branch` under test (default: from the CI system or git)")
	f.StringVar(&o.commit, "commit", "", "the `commit` under test (default: from the CI system or git)")
	f.StringVar(&o.ciURL, "ci-url", "", "the `address` of the CI job (default: from the CI system)")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "print the output of every test, like go test -v")
	f.DurationVar(&o.timeout, "upload-timeout", time.Minute, "how `long` to wait at the end for the upload")
	return o
}

// publisherConfig finds out what the flags leave open.
func (o *uploadOptions) publisherConfig(p place, command []string) (tcmanager.PublisherConfig, error) {
	if err := needProject(*o.project); err != nil {
		return tcmanager.PublisherConfig{}, err
	}
	key := o.runKey
	if key == "" && (o.shards > 1 || o.shard != "") {
		if key = p.runKey; key == "" {
			return tcmanager.PublisherConfig{}, errors.New("a run of several shards needs --run-key: the same one for all of them")
		}
	}
	if o.shards > 1 && o.shard == "" {
		return tcmanager.PublisherConfig{}, errors.New("which shard is this? Give --shard, for example --shard 1")
	}
	if key == "" {
		id, err := uuid.NewV7()
		if err != nil {
			return tcmanager.PublisherConfig{}, fmt.Errorf("make a run key: %w", err)
		}
		key = id.String()
	}
	p.branch, p.commit, p.ciURL = first(o.branch, p.branch), first(o.commit, p.commit), first(o.ciURL, p.ciURL)
	return tcmanager.PublisherConfig{
		Project: *o.project, RunKey: key, Shard: o.shard, ExpectedShards: o.shards,
		Info: runInfo(first(o.name, defaultName(command)), p),
	}, nil
}

// upload is the way of results to the server. Nothing in it can fail the
// command: what goes wrong is said, and counted.
type upload struct {
	client    *tcmanager.Client // nil if there is no upload at all
	publisher *tcmanager.Publisher
	stop      context.CancelFunc

	welcome chan *tcmv1.Run // the run, once
	notes   chan string     // things to say to the person
}

// startUpload begins to publish.
func (g *global) startUpload(config tcmanager.PublisherConfig) *upload {
	// The room is that of all there can be to say: a sign-in, two warnings.
	u := &upload{welcome: make(chan *tcmv1.Run, 1), notes: make(chan string, 4), stop: func() {}}
	note := func(format string, args ...any) {
		select {
		case u.notes <- fmt.Sprintf(format, args...):
		default: // nobody reads any more
		}
	}
	client, err := g.dial(note)
	if err != nil {
		note("nothing will be uploaded: %s", describe(err))
		return u
	}
	config.OnWelcome = func(r *tcmv1.Run) { u.welcome <- r }
	config.OnWarning = func(err error) { note("%s%s", err, tlsAdvice(err.Error())) } // a sentence for people
	u.client, u.publisher = client, client.NewPublisher(config)
	ctx, cancel := context.WithCancel(context.Background())
	u.stop = cancel
	go func() { _ = u.publisher.Run(ctx) }() // its error is in the report
	return u
}

// publish takes an item. An item that can't be taken is counted by the
// publisher.
func (u *upload) publish(item *tcmv1.PublishItem) {
	if u.publisher != nil {
		_ = u.publisher.Publish(item)
	}
}

// finish waits, for a bounded time, until all is uploaded.
func (u *upload) finish(ctx context.Context, o tcmanager.FinishOptions) tcmanager.Report {
	if u.publisher == nil {
		return tcmanager.Report{}
	}
	return u.publisher.Finish(ctx, o)
}

// close ends everything that startUpload began.
func (u *upload) close() {
	u.stop()
	if u.client != nil {
		u.publisher.Close()
		_ = u.client.Close()
	}
}
