package target

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
)

// Build builds the servers that are Go programs into a folder, and finds the
// others. Top is the top of the repository. The server itself is built unless a
// program is given.
func Build(ctx context.Context, top, into, tcmanager string) (Programs, error) {
	top, err := filepath.Abs(top)
	if err != nil {
		return Programs{}, err
	}
	p := Programs{
		TCManager: tcmanager, SocketIO: filepath.Join(top, "cmd/tcmbench/peers/socketio/server.mjs"),
		Centrifuge: filepath.Join(into, "centrifuge"), Raw: filepath.Join(into, "raw"),
	}
	if _, err := os.Stat(filepath.Join(top, "node_modules/socket.io")); errors.Is(err, fs.ErrNotExist) {
		return p, fmt.Errorf("Socket.IO isn't there: run \"npm ci\" in %s", top)
	}
	builds := []struct{ program, in, pkg string }{
		// The peers are modules or programs of their own, so that the product needs none of what they do.
		{p.Centrifuge, "cmd/tcmbench/peers/centrifuge", "."},
		{p.Raw, ".", "./cmd/tcmbench/peers/raw"},
	}
	if tcmanager == "" {
		p.TCManager = filepath.Join(into, "tcmanager")
		builds = append(builds, struct{ program, in, pkg string }{p.TCManager, ".", "./cmd/tcmanager"})
	}
	for _, b := range builds {
		cmd := exec.CommandContext(ctx, "go", "build", "-o", b.program, b.pkg) //nolint:gosec // this repository's own
		cmd.Dir = filepath.Join(top, b.in)
		if out, err := cmd.CombinedOutput(); err != nil {
			return p, fmt.Errorf("build %s: %w\n%s", b.pkg, err, out)
		}
	}
	return p, nil
}
