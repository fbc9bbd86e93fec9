package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// record returns the file with the recorded tests of a module, and makes it if
// it isn't there.
func record(ctx context.Context, cache, module string) (name string, err error) {
	name = filepath.Join(cache, strings.NewReplacer("/", "_", "@", "-").Replace(module)+"-"+runtime.Version()+".json")
	if _, err := os.Stat(name); err == nil {
		return name, nil
	}
	if err := os.MkdirAll(cache, 0o750); err != nil {
		return "", err
	}
	fmt.Printf("recording the tests of %s\n", module)
	source, err := download(ctx, module)
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "verify-inputs-")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := copyTree(dir, source); err != nil {
		return "", fmt.Errorf("copy the module: %w", err)
	}
	partial := name + ".partial"
	if err := runTests(ctx, dir, partial); err != nil {
		return "", err
	}
	return name, os.Rename(partial, name)
}

// download gets a module into the module cache, and returns its directory there.
func download(ctx context.Context, module string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "mod", "download", "-json", module) //nolint:gosec // module is one of the constants
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	var info struct {
		Dir   string `json:"Dir"`
		Error string `json:"Error"`
	}
	if jsonErr := json.Unmarshal(out, &info); jsonErr != nil {
		return "", errors.Join(err, jsonErr)
	}
	if info.Error != "" {
		return "", errors.New(info.Error)
	}
	return info.Dir, err
}

// copyTree copies regular files, writable: the module cache is not.
func copyTree(to, from string) error {
	source, err := os.OpenRoot(from)
	if err != nil {
		return err
	}
	defer func() { _ = source.Close() }()
	target, err := os.OpenRoot(to)
	if err != nil {
		return err
	}
	defer func() { _ = target.Close() }()
	return fs.WalkDir(source.FS(), ".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case path == ".":
			return nil
		case d.IsDir():
			return target.Mkdir(path, 0o750)
		}
		data, err := source.ReadFile(path)
		if err != nil {
			return err
		}
		return target.WriteFile(path, data, 0o600)
	})
}

// runTests records the tests of the module in dir. That tests fail is no error;
// that nothing was recorded is.
func runTests(ctx context.Context, dir, to string) error {
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "test", "-json", "-short", "./...")
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, f, os.Stderr
	err = cmd.Run()
	var failed *exec.ExitError
	if errors.As(err, &failed) && ctx.Err() == nil {
		err = nil
	}
	info, statErr := f.Stat()
	if err := errors.Join(err, statErr, f.Close()); err != nil {
		return err
	}
	if info.Size() == 0 {
		return errors.New("go test printed nothing")
	}
	return nil
}
