package config

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/spf13/pflag"

	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/certificate"
	"github.com/tcmanager/tcmanager/service/identity"
	"github.com/tcmanager/tcmanager/service/session"
	"github.com/tcmanager/tcmanager/service/store"
)

// option is one row of the table.
type option struct {
	group   string // the heading it stands below in the help
	name    string
	kind    string // shown in the help: what sort of value is asked for
	usage   string
	def     string
	defFrom func(*Config) string // a default that depends on the options before this one
	secret  bool                 // its value is never shown
	envOnly bool                 // a flag would show it to everyone who can list processes
	set     func(*Config, string) error
}

// The headings of the help, in its order.
const (
	groupServer   = "The server"
	groupListen   = "Where it listens"
	groupSignIn   = "Who may sign in"
	groupRealtime = "Live sessions"
	groupLimits   = "Limits"
	groupHistory  = "What is kept"
	groupBackup   = "Backups"
)

// configName is the option that the file with the others is named by.
const configName = "config"

// options is the table. An option may use what those before it have set.
var options = []option{
	{group: groupServer, name: configName, kind: "file", usage: "a YAML file with options; \"tcmanager config --example\" prints one",
		set: text(func(c *Config) *string { return &c.ConfigFile }, anything)},
	{group: groupServer, name: "data-dir", kind: "dir", defFrom: func(*Config) string { return defaultDataDir(os.LookupEnv) }, usage: "where everything is kept",
		set: text(func(c *Config) *string { return &c.DataDir }, notEmpty)},
	{group: groupServer, name: "dev", kind: "bool", def: "false", usage: "development: sign in without a password, project \"demo\", reflection; loopback only",
		set: boolean(func(c *Config) *bool { return &c.Dev })},
	{group: groupServer, name: "store", kind: "url", secret: true, usage: "where the data is kept: postgres://user@host/database, with the password in it or in PGPASSWORD; an SQLite file in the data directory if empty",
		set: setStore},
	{group: groupServer, name: "reflection", kind: "bool", defFrom: func(c *Config) string { return strconv.FormatBool(c.Dev) }, usage: "let grpcurl list and describe the services (default: with --dev)",
		set: boolean(func(c *Config) *bool { return &c.Reflection })},
	{group: groupServer, name: "stop-timeout", kind: "duration", def: "10s", usage: "how long a stop waits for calls and streams to end",
		set: duration(func(c *Config) *time.Duration { return &c.StopTimeout }, 0, 10*time.Minute)},
	{group: groupServer, name: "log-level", kind: "level", def: "info", usage: "debug, info, warn or error",
		set: setLogLevel},
	{group: groupServer, name: "log-format", kind: "format", def: "auto", usage: "text, json, or auto: text in a terminal and JSON when piped",
		set: text(func(c *Config) *string { return &c.LogFormat }, oneOf("auto", "text", "json"))},

	{group: groupListen, name: "grpc-addr", kind: "host:port", def: "127.0.0.1:9090", usage: "where runners, services and grpcurl connect",
		set: text(func(c *Config) *string { return &c.GRPCAddr }, listenAddr)},
	{group: groupListen, name: "http-addr", kind: "host:port", def: "127.0.0.1:8080", usage: "where browsers connect; also health and metrics",
		set: text(func(c *Config) *string { return &c.HTTPAddr }, listenAddr)},
	{group: groupListen, name: "pprof-addr", kind: "host:port", usage: "where \"go tool pprof http://ADDR/debug/pprof/profile\" gets profiles of this process, on this machine only; nowhere if empty",
		set: text(func(c *Config) *string { return &c.PprofAddr }, loopbackAddr)},
	{group: groupListen, name: "tls-cert", kind: "file", usage: "a PEM file with the server's certificate and those between it and its authority: both listeners speak TLS, and notice when the file is renewed",
		set: text(func(c *Config) *string { return &c.TLSCertFile }, anything)},
	{group: groupListen, name: "tls-key", kind: "file", usage: "a PEM file with the key of the certificate",
		set: setTLSKey},
	{group: groupListen, name: "insecure-plaintext", kind: "bool", def: "false", usage: "listen beyond this machine without TLS: the network itself must be trusted",
		set: boolean(func(c *Config) *bool { return &c.InsecurePlaintext })},
	{group: groupListen, name: "public-url", kind: "url", defFrom: func(c *Config) string { return c.BaseURL(c.HTTPAddr) }, usage: "the address people open, for links",
		set: setPublicURL},
	{group: groupListen, name: "allowed-origins", kind: "urls", usage: "other web pages that may call the server, comma-separated, for example https://host.example.org",
		set: setOrigins},

	{group: groupSignIn, name: "jwt-hs256-secret-file", kind: "file", usage: "a file with the secret, at least 32 bytes, that an embedding host signs tokens with",
		set: setSecretFile},
	{group: groupSignIn, name: "jwt-hs256-secret", envOnly: true, secret: true, usage: "the same secret itself",
		set: setSecret},
	{group: groupSignIn, name: "jwt-rs256-key-file", kind: "file", usage: "a PEM file with the public RSA key of an identity provider",
		set: setRSAKey},
	{group: groupSignIn, name: "jwt-issuer", kind: "text", usage: "what the claim iss of tokens must be",
		set: text(func(c *Config) *string { return &c.Issuer }, anything)},
	{group: groupSignIn, name: "jwt-audience", kind: "text", usage: "what the claim aud of tokens must hold",
		set: text(func(c *Config) *string { return &c.Audience }, anything)},

	{group: groupRealtime, name: "realtime", kind: "bool", def: "true", usage: "live sessions; without them calls go on, and pages are refreshed every 30 s",
		set: boolean(func(c *Config) *bool { return &c.Realtime })},
	{group: groupRealtime, name: "transports", kind: "list", def: carriers(","), usage: "how sessions may come, comma-separated: native (gRPC), websocket, watch (for networks that let no websocket through)",
		set: setTransports},
	{group: groupRealtime, name: "heartbeat-interval", kind: "duration", def: "25s", usage: "how often clients send something",
		set: duration(func(c *Config) *time.Duration { return &c.HeartbeatInterval }, time.Second, 10*time.Minute)},
	{group: groupRealtime, name: "heartbeat-timeout", kind: "duration", def: "60s", usage: "how long a silent client is kept",
		set: duration(func(c *Config) *time.Duration { return &c.HeartbeatTimeout }, 2*time.Second, time.Hour)},
	{group: groupRealtime, name: "auth-timeout", kind: "duration", def: "5s", usage: "how long a new websocket may take to send its token",
		set: duration(func(c *Config) *time.Duration { return &c.AuthTimeout }, 100*time.Millisecond, time.Minute)},
	{group: groupRealtime, name: "linger", kind: "duration", def: "12ms", usage: "how long events wait for more to go with them, to a client that was sent some just now: longer costs less, and 0s sends each at once",
		set: duration(func(c *Config) *time.Duration { return &c.Linger }, 0, time.Second)},
	{group: groupRealtime, name: "queue-bytes", kind: "bytes", def: "262144", usage: "what may wait in memory for one session that reads slowly; the rest waits in the log",
		set: integer(func(c *Config) *int { return &c.QueueBytes }, 16<<10, 64<<20)},
	{group: groupRealtime, name: "replay-events", kind: "number", def: "100000", usage: "who is further behind in a room starts anew from a snapshot",
		set: integer(func(c *Config) *int { return &c.ReplayEvents }, store.LeastHistory, 1e9)},

	{group: groupLimits, name: "max-connections", kind: "number", def: "10000", usage: "connections on each listener; more are refused",
		set: integer(func(c *Config) *int { return &c.MaxConnections }, 1, 1e6)},
	{group: groupLimits, name: "max-sessions", kind: "number", def: "1000", usage: "live sessions of all users; more are refused",
		set: integer(func(c *Config) *int { return &c.MaxSessions }, 1, 1e6)},
	{group: groupLimits, name: "max-user-sessions", kind: "number", def: "50", usage: "live sessions of one user",
		set: integer(func(c *Config) *int { return &c.MaxUserSessions }, 1, 1e6)},
	{group: groupLimits, name: "max-rooms", kind: "number", def: "100", usage: "rooms that one session may be in",
		set: integer(func(c *Config) *int { return &c.MaxRooms }, 1, 10_000)},
	{group: groupLimits, name: "max-message-bytes", kind: "bytes", def: "4194304", usage: "the largest message accepted",
		set: integer(func(c *Config) *int { return &c.MaxMessageBytes }, 64<<10, 64<<20)},
	{group: groupLimits, name: "call-rate", kind: "number", def: "500", usage: "calls and opened streams a second, of one user; 0 for no limit",
		set: rate(func(c *Config) *float64 { return &c.CallRate })},
	{group: groupLimits, name: "call-burst", kind: "number", def: "2000", usage: "as many of them at once",
		set: integer(func(c *Config) *int { return &c.CallBurst }, 1, 1e6)},
	{group: groupLimits, name: "message-rate", kind: "number", def: "2000", usage: "streamed messages a second, of one user to one method; 0 for no limit",
		set: rate(func(c *Config) *float64 { return &c.MessageRate })},
	{group: groupLimits, name: "message-burst", kind: "number", def: "8000", usage: "as many of them at once",
		set: integer(func(c *Config) *int { return &c.MessageBurst }, 1, 1e6)},
	{group: groupLimits, name: "command-rate", kind: "number", def: "200", usage: "commands and joins in sessions a second, of one user and of each kind; 0 for no limit",
		set: rate(func(c *Config) *float64 { return &c.CommandRate })},
	{group: groupLimits, name: "command-burst", kind: "number", def: "1000", usage: "as many of them at once",
		set: integer(func(c *Config) *int { return &c.CommandBurst }, 1, 1e6)},
	{group: groupLimits, name: "signal-rate", kind: "number", def: "50", usage: "typing, presence and pings in sessions a second, of one user and of each kind; 0 for no limit",
		set: rate(func(c *Config) *float64 { return &c.SignalRate })},
	{group: groupLimits, name: "signal-burst", kind: "number", def: "200", usage: "as many of them at once",
		set: integer(func(c *Config) *int { return &c.SignalBurst }, 1, 1e6)},

	{group: groupHistory, name: "run-grace", kind: "duration", def: "2m", usage: "how long a run whose runners are all lost is waited for before it is aborted",
		set: duration(func(c *Config) *time.Duration { return &c.RunGrace }, time.Second, 24*time.Hour)},
	{group: groupHistory, name: "history-events", kind: "number", def: "100000", usage: "how many events of a room are kept for those who come back",
		set: integer(func(c *Config) *int { return &c.HistoryEvents }, store.LeastHistory, 1e9)},
	{group: groupHistory, name: "history-age", kind: "duration", def: "720h", usage: "how long they are kept, but for the newest 20 of a room",
		set: duration(func(c *Config) *time.Duration { return &c.HistoryAge }, time.Minute, 10*365*24*time.Hour)},

	{group: groupHistory, name: "keep-runs", kind: "number", def: "0", usage: "how many runs of a project are kept, the newest ones; 0 for all",
		set: integer(func(c *Config) *int { return &c.KeepRuns }, 0, 1e9)},
	{group: groupHistory, name: "keep-runs-age", kind: "duration", def: "0s", usage: "how long a run is kept after its end; 0 for ever",
		set: durationOrNone(func(c *Config) *time.Duration { return &c.KeepRunsAge }, time.Hour, 100*365*24*time.Hour)},
	{group: groupHistory, name: "keep-results-age", kind: "duration", def: "0s", usage: "how long the output of a run, and its results that passed, are kept; the run, its counts and its failures stay; 0 for as long as the run",
		set: durationOrNone(func(c *Config) *time.Duration { return &c.KeepResultsAge }, time.Hour, 100*365*24*time.Hour)},

	{group: groupBackup, name: "backup-dir", kind: "dir", usage: "a folder for backups that the server takes by itself, better on another disk; none are taken without",
		set: text(func(c *Config) *string { return &c.BackupDir }, anything)},
	{group: groupBackup, name: "backup-every", kind: "duration", def: "24h", usage: "how often; the first one at once if the newest is older",
		set: duration(func(c *Config) *time.Duration { return &c.BackupEvery }, time.Minute, 365*24*time.Hour)},
	{group: groupBackup, name: "backup-keep", kind: "number", def: "7", usage: "how many of them stay",
		set: integer(func(c *Config) *int { return &c.BackupKeep }, 1, 10_000)},
}

// carriers names all ways into a session.
func carriers(between string) string {
	names := make([]string, 0, len(session.Carriers))
	for _, c := range session.Carriers {
		names = append(names, string(c))
	}
	return strings.Join(names, between)
}

// optionNamed finds an option.
func optionNamed(name string) (option, bool) {
	i := slices.IndexFunc(options, func(o option) bool { return o.name == name })
	if i < 0 {
		return option{}, false
	}
	return options[i], true
}

// list reports whether several values may be given, with commas between them.
func (o option) list() bool { return o.kind == "list" || o.kind == "urls" }

func (o option) env() string {
	return "TCM_" + strings.ToUpper(strings.ReplaceAll(o.name, "-", "_"))
}

// source is where a value came from.
type source struct {
	kind string // "flag", "env", "file" or "default"
	path string // of the file
	line int
}

func (s source) String() string {
	if s.kind == "file" {
		return fmt.Sprintf("file %s:%d", s.path, s.line)
	}
	return s.kind
}

// sources are the places where values are looked for.
type sources struct {
	flags     *pflag.FlagSet
	lookupEnv func(string) (string, bool)
	file      document
}

// of returns what an option was set to, and where. An empty variable counts as
// not set.
func (s sources) of(o option) (string, source) {
	if f := s.flags.Lookup(o.name); f != nil && f.Changed {
		return f.Value.String(), source{kind: "flag"}
	}
	if v, ok := s.lookupEnv(o.env()); ok && v != "" {
		return v, source{kind: "env"}
	}
	if v, ok := s.file.values[o.name]; ok {
		return v.text, source{kind: "file", path: s.file.path, line: v.line}
	}
	return "", source{kind: "default"}
}

func (o option) defaultOf(c *Config) string {
	if o.defFrom != nil {
		return o.defFrom(c)
	}
	return o.def
}

// shownDefault is the default in the help text, with every other option at its own.
func (o option) shownDefault() string {
	if o.defFrom == nil {
		return o.def
	}
	c := Config{HTTPAddr: "127.0.0.1:8080"}
	return o.defFrom(&c)
}

func (o option) shown(_ *Config, text string) string {
	switch {
	case o.secret && text != "":
		return "(set, not shown)"
	case text == "" && o.kind == "file", o.secret:
		return "(not set)"
	}
	return text
}

// label is how a person finds the value that is wrong.
func (o option) label(from source) string {
	switch from.kind {
	case "env":
		return o.env()
	case "file":
		return fmt.Sprintf("%s:%d: %s", from.path, from.line, o.name)
	}
	return "--" + o.name
}

func text(field func(*Config) *string, check func(string) error) func(*Config, string) error {
	return func(c *Config, s string) error {
		*field(c) = s
		return check(s)
	}
}

func anything(string) error { return nil }

func notEmpty(s string) error {
	if s == "" {
		return errors.New("it must not be empty")
	}
	return nil
}

func oneOf(allowed ...string) func(string) error {
	return func(s string) error {
		if slices.Contains(allowed, s) {
			return nil
		}
		return fmt.Errorf("%q is not one of %s", s, strings.Join(allowed, ", "))
	}
}

func listenAddr(s string) error {
	_, port, err := net.SplitHostPort(s)
	if err != nil {
		return fmt.Errorf("%q is not host:port, for example 127.0.0.1:9090", s)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return fmt.Errorf("%q: the port must be a number from 0 (any free port) to 65535", s)
	}
	return nil
}

// loopbackAddr takes an address that only this machine reaches, or none.
func loopbackAddr(s string) error {
	if s == "" {
		return nil
	}
	if err := listenAddr(s); err != nil {
		return err
	}
	if !IsLoopback(s) {
		return fmt.Errorf("%q can be reached from other machines, and profiles show anybody what the server does: give 127.0.0.1:PORT", s)
	}
	return nil
}

func boolean(field func(*Config) *bool) func(*Config, string) error {
	return func(c *Config, s string) error {
		v, err := strconv.ParseBool(s)
		if err != nil {
			return fmt.Errorf("%q is not true or false", s)
		}
		*field(c) = v
		return nil
	}
}

func duration(field func(*Config) *time.Duration, low, high time.Duration) func(*Config, string) error {
	return func(c *Config, s string) error {
		v, err := time.ParseDuration(s)
		if err != nil || v < low || v > high {
			example := "30s or 2m"
			if high <= time.Second {
				example = "0s or 20ms"
			}
			return fmt.Errorf("%q is not a duration from %s to %s, for example %s", s, low, high, example)
		}
		*field(c) = v
		return nil
	}
}

// durationOrNone takes 0 too, which is in no range that would make sense.
func durationOrNone(field func(*Config) *time.Duration, low, high time.Duration) func(*Config, string) error {
	some := duration(field, low, high)
	return func(c *Config, s string) error {
		if v, err := time.ParseDuration(s); err == nil && v == 0 {
			*field(c) = 0
			return nil
		}
		if err := some(c, s); err != nil {
			return fmt.Errorf("%w, or 0", err)
		}
		return nil
	}
}

func integer(field func(*Config) *int, low, high int) func(*Config, string) error {
	return func(c *Config, s string) error {
		v, err := strconv.Atoi(s)
		if err != nil || v < low || v > high {
			return fmt.Errorf("%q is not a whole number from %d to %d", s, low, high)
		}
		*field(c) = v
		return nil
	}
}

// rate is a number a second; nobody does a million.
func rate(field func(*Config) *float64) func(*Config, string) error {
	return func(c *Config, s string) error {
		v, err := strconv.ParseFloat(s, 64)
		if err != nil || !(v >= 0 && v <= 1e6) { // written so that NaN is refused too
			return fmt.Errorf("%q is not a number from 0 to %g", s, 1e6)
		}
		*field(c) = v
		return nil
	}
}

func setLogLevel(c *Config, s string) error {
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}
	level, ok := levels[strings.ToLower(s)]
	if !ok {
		return fmt.Errorf("%q is not one of debug, info, warn, error", s)
	}
	c.LogLevel = level
	return nil
}

// setStore takes the address of a database. Its errors don't quote it: it may hold
// a password.
func setStore(c *Config, s string) error {
	c.Store = s
	if s != "" && !strings.HasPrefix(s, "postgres://") && !strings.HasPrefix(s, "postgresql://") {
		return errors.New("it must be postgres://user:password@host:5432/database, or empty for a file in the data directory")
	}
	return nil
}

// setPublicURL leaves the field empty for the default: a port of 0 is only known
// once the server listens.
func setPublicURL(c *Config, s string) error {
	if s == c.BaseURL(c.HTTPAddr) {
		return nil
	}
	u, err := origin(s)
	if err != nil {
		return err
	}
	c.PublicURL = u
	return nil
}

func setOrigins(c *Config, s string) error {
	var errs []error
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		o, err := origin(part)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		c.AllowedOrigins = append(c.AllowedOrigins, o)
	}
	return errors.Join(errs...)
}

func setTransports(c *Config, s string) error {
	for part := range strings.SplitSeq(s, ",") {
		carrier := session.Carrier(strings.TrimSpace(part))
		switch {
		case carrier == "", slices.Contains(c.Transports, carrier):
		case !slices.Contains(session.Carriers, carrier):
			return fmt.Errorf("%q is not one of %s", carrier, carriers(", "))
		default:
			c.Transports = append(c.Transports, carrier)
		}
	}
	return nil
}

// setTLSKey reads the pair only to see that it is one: whoever listens reads it
// again whenever it is renewed.
func setTLSKey(c *Config, path string) error {
	c.TLSKeyFile = path
	if path == "" || c.TLSCertFile == "" {
		return nil // whether both are missing is between the options
	}
	_, err := certificate.Load(c.TLSCertFile, path)
	return err
}

func setSecretFile(c *Config, path string) error {
	if path == "" {
		return nil
	}
	c.HS256SecretFile = path
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read the secret: %w", err)
	}
	return useSecret(c, bytes.TrimRight(b, "\r\n"))
}

func setSecret(c *Config, s string) error {
	if s == "" {
		return nil
	}
	if c.HS256SecretFile != "" {
		return errors.New("--jwt-hs256-secret-file is set too: use one of them")
	}
	return useSecret(c, []byte(s))
}

func useSecret(c *Config, secret []byte) error {
	c.HS256Secret = secret
	if len(secret) < identity.MinSecretBytes {
		return fmt.Errorf("the secret has %d bytes and needs at least %d; make one with \"openssl rand -hex 32\"", len(secret), identity.MinSecretBytes)
	}
	return nil
}

func setRSAKey(c *Config, path string) error {
	if path == "" {
		return nil
	}
	c.RS256KeyFile = path
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read the key: %w", err)
	}
	if bytes.Contains(b, []byte("PRIVATE KEY")) {
		return fmt.Errorf("%s holds a private key: give the public one (\"openssl rsa -in %s -pubout\")", path, path)
	}
	key, err := jwt.ParseRSAPublicKeyFromPEM(b)
	if err != nil {
		return fmt.Errorf("%s is not a PEM file with a public RSA key", path)
	}
	if key.N.BitLen() < 2048 {
		return fmt.Errorf("%s holds a key of %d bits; at least 2048 are needed", path, key.N.BitLen())
	}
	c.RS256PublicKey = key
	return nil
}

// defaultDataDir is where the XDG base directory specification puts a user's data.
func defaultDataDir(lookupEnv func(string) (string, bool)) string {
	if dir, _ := lookupEnv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "tcmanager")
	}
	if home, _ := lookupEnv("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".local", "share", "tcmanager")
	}
	return "data"
}
