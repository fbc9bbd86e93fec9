package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"golang.org/x/term"
	"google.golang.org/grpc/grpclog"

	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/config"
)

// newLogger writes logs for whoever reads them: text for people at a terminal,
// JSON for programs behind a pipe.
func newLogger(w io.Writer, c config.Config) *slog.Logger {
	options := &slog.HandlerOptions{Level: c.LogLevel}
	if c.LogFormat == "json" || c.LogFormat == "auto" && !isTerminal(w) {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	options.ReplaceAttr = func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && a.Key == slog.TimeKey {
			return slog.String(slog.TimeKey, a.Value.Time().Format("15:04:05.000"))
		}
		return a
	}
	return slog.New(slog.NewTextHandler(w, options))
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// captureGRPCLog sends what the gRPC libraries log by themselves, nearly all of
// it about what clients do wrong, to our log at level debug. It must be called
// before anything of gRPC is used.
func captureGRPCLog(log *slog.Logger) { grpclog.SetLoggerV2(grpcLog{log}) }

// grpcLog implements grpclog.LoggerV2.
type grpcLog struct{ log *slog.Logger }

func (l grpcLog) write(text string) { l.log.Debug(strings.TrimSpace(text), "component", "grpc") }

func (l grpcLog) Info(args ...any)                    { l.write(fmt.Sprint(args...)) }
func (l grpcLog) Infoln(args ...any)                  { l.write(fmt.Sprintln(args...)) }
func (l grpcLog) Infof(format string, args ...any)    { l.write(fmt.Sprintf(format, args...)) }
func (l grpcLog) Warning(args ...any)                 { l.write(fmt.Sprint(args...)) }
func (l grpcLog) Warningln(args ...any)               { l.write(fmt.Sprintln(args...)) }
func (l grpcLog) Warningf(format string, args ...any) { l.write(fmt.Sprintf(format, args...)) }
func (l grpcLog) Error(args ...any)                   { l.write(fmt.Sprint(args...)) }
func (l grpcLog) Errorln(args ...any)                 { l.write(fmt.Sprintln(args...)) }
func (l grpcLog) Errorf(format string, args ...any)   { l.write(fmt.Sprintf(format, args...)) }
func (l grpcLog) Fatal(args ...any)                   { l.fatal(fmt.Sprint(args...)) }
func (l grpcLog) Fatalln(args ...any)                 { l.fatal(fmt.Sprintln(args...)) }
func (l grpcLog) Fatalf(format string, args ...any)   { l.fatal(fmt.Sprintf(format, args...)) }

func (l grpcLog) fatal(text string) {
	l.log.Error(strings.TrimSpace(text), "component", "grpc")
	os.Exit(1) // what the interface asks for
}

// V reports whether details of a level are wanted, 2 being the most. Asking
// first spares formatting what nobody reads.
func (l grpcLog) V(level int) bool {
	return level <= 0 && l.log.Enabled(context.Background(), slog.LevelDebug)
}
