package target

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/tcmanager/tcmanager/cmd/tcmbench/internal/peer"
	"github.com/tcmanager/tcmanager/cmd/tcmbench/internal/process"
	"github.com/tcmanager/tcmanager/cmd/tcmbench/internal/tcm"
	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

// most is above all that a workload has of anything that the server limits.
const most = 100_000

// startTCManager starts the server that people run, with its limits raised: each
// keeps one user from taking more than a share, and here one user is all.
func startTCManager(ctx context.Context, k Kind, p Programs) (*Target, error) {
	dir, err := os.MkdirTemp("", "tcmbench-")
	if err != nil {
		return nil, err
	}
	many := strconv.Itoa(most)
	args := []string{
		"serve", "--dev", "--data-dir", filepath.Join(dir, "data"), "--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0",
		"--log-format", "json", "--log-level", "info", "--max-connections", many, "--max-sessions", many, "--max-user-sessions", many,
		"--call-rate", "0", "--message-rate", "0", "--command-rate", "0", "--signal-rate", "0",
	}
	if p.Store != "" {
		args = append(args, "--store", p.Store)
	}
	t := &Target{Kind: k, dir: dir}
	var web netip.AddrPort
	t.Process, err = process.Start(ctx, process.Command{Path: p.TCManager, Args: args}, func(line string) bool {
		var said struct {
			Msg  string         `json:"msg"`
			GRPC netip.AddrPort `json:"grpc.addr"` //nolint:tagliatelle // the log's word
			HTTP netip.AddrPort `json:"http.addr"` //nolint:tagliatelle // the log's word
		}
		if json.Unmarshal([]byte(line), &said) != nil || said.Msg != "serving" {
			return false
		}
		t.Runners, web = said.GRPC, said.HTTP
		return true
	})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	token, err := signIn(ctx, t.Runners.String())
	if err != nil {
		return nil, errors.Join(err, t.Stop())
	}
	t.token = token
	who := tcm.Credentials{Token: token, Origin: "http://" + web.String()}
	began := time.Now().UnixNano()
	t.newRunner = func(room int) peer.Protocol { return tcm.NewRunner(who, fmt.Sprintf("bench-%d-%d", began, room)) }
	t.Readers, t.newReader = t.Runners, func() peer.Protocol { return tcm.NewNative(who) }
	if k.Carrier == Web {
		t.Readers, t.newReader = web, func() peer.Protocol { return tcm.NewWeb(who) }
	}
	return t, nil
}

// Rooms makes rooms that nobody is in: runs that were started.
func (t *Target) Rooms(ctx context.Context, n int) (err error) {
	if n == 0 {
		return nil
	}
	conn, err := grpc.NewClient(t.Runners.String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	const together = 64 // they share commits
	calls, ctx := errgroup.WithContext(metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+t.token))
	calls.SetLimit(together)
	for range n {
		calls.Go(func() error {
			_, err := pb.NewExecutionServiceClient(conn).StartRun(ctx, &pb.StartRunRequest{Project: "demo"})
			return err
		})
	}
	return calls.Wait()
}

// signIn signs in a user who may do all that workloads do.
func signIn(ctx context.Context, addr string) (token string, err error) {
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	resp, err := pb.NewIdentityServiceClient(conn).SignInDev(ctx, &pb.SignInDevRequest{UserId: "demo-manager"})
	if err != nil {
		return "", fmt.Errorf("sign in: %w", err)
	}
	return resp.Token, nil
}
