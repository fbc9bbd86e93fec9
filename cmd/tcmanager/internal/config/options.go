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

	"github.com/tcmanager/tcmanager/service/identity"
)

// option is one row of the table.
type option struct {
	name    string
	kind    string // shown in the help: what sort of value is asked for
	usage   string
	def     string
	defFrom func(*Config) string // a default that depends on the options before this one
	secret  bool                 // its value is never shown
	envOnly bool                 // a flag would show it to everyone who can list processes
	set     func(*Config, string) error
}

// options is the table. An option may use what those before it have set.
var options = []option{
	{name: "grpc-addr", kind: "host:port", def: "127.0.0.1:9090", usage: "where runners, services and grpcurl connect",
		set: text(func(c *Config) *string { return &c.GRPCAddr }, listenAddr)},
	{name: "http-addr", kind: "host:port", def: "127.0.0.1:8080", usage: "where browsers connect; also health and metrics",
		set: text(func(c *Config) *string { return &c.HTTPAddr }, listenAddr)},
	{name: "data-dir", kind: "dir", defFrom: func(*Config) string { return defaultDataDir(os.LookupEnv) }, usage: "where everything is kept",
		set: text(func(c *Config) *string { return &c.DataDir }, notEmpty)},
	{name: "dev", kind: "bool", def: "false", usage: "development: sign in without a password, project \"demo\", reflection; loopback only",
		set: boolean(func(c *Config) *bool { return &c.Dev })},
	{name: "public-url", kind: "url", defFrom: func(c *Config) string { return c.BaseURL(c.HTTPAddr) }, usage: "the address people open, for links",
		set: setPublicURL},
	{name: "reflection", kind: "bool", defFrom: func(c *Config) string { return strconv.FormatBool(c.Dev) }, usage: "let grpcurl list and describe the services (default: with --dev)",
		set: boolean(func(c *Config) *bool { return &c.Reflection })},
	{name: "allowed-origins", kind: "urls", usage: "other web pages that may call the server, comma-separated, for example https://host.example.org",
		set: setOrigins},
	{name: "insecure-plaintext", kind: "bool", def: "false", usage: "listen beyond this machine without TLS: the network itself must be trusted",
		set: boolean(func(c *Config) *bool { return &c.InsecurePlaintext })},

	{name: "jwt-hs256-secret-file", kind: "file", usage: "a file with the secret, at least 32 bytes, that an embedding host signs tokens with",
		set: setSecretFile},
	{name: "jwt-hs256-secret", envOnly: true, secret: true, usage: "the same secret itself",
		set: setSecret},
	{name: "jwt-rs256-key-file", kind: "file", usage: "a PEM file with the public RSA key of an identity provider",
		set: setRSAKey},
	{name: "jwt-issuer", kind: "text", usage: "what the claim iss of tokens must be",
		set: text(func(c *Config) *string { return &c.Issuer }, anything)},
	{name: "jwt-audience", kind: "text", usage: "what the claim aud of tokens must hold",
		set: text(func(c *Config) *string { return &c.Audience }, anything)},

	{name: "log-level", kind: "level", def: "info", usage: "debug, info, warn or error",
		set: setLogLevel},
	{name: "log-format", kind: "format", def: "auto", usage: "text, json, or auto: text in a terminal and JSON when piped",
		set: text(func(c *Config) *string { return &c.LogFormat }, oneOf("auto", "text", "json"))},

	{name: "run-grace", kind: "duration", def: "2m", usage: "how long a run whose runners are all lost is waited for before it is aborted",
		set: duration(func(c *Config) *time.Duration { return &c.RunGrace }, time.Second, 24*time.Hour)},
	{name: "heartbeat-interval", kind: "duration", def: "25s", usage: "how often clients send something",
		set: duration(func(c *Config) *time.Duration { return &c.HeartbeatInterval }, time.Second, 10*time.Minute)},
	{name: "heartbeat-timeout", kind: "duration", def: "60s", usage: "how long a silent client is kept",
		set: duration(func(c *Config) *time.Duration { return &c.HeartbeatTimeout }, 2*time.Second, time.Hour)},
	{name: "auth-timeout", kind: "duration", def: "5s", usage: "how long a new websocket may take to send its token",
		set: duration(func(c *Config) *time.Duration { return &c.AuthTimeout }, 100*time.Millisecond, time.Minute)},
	{name: "stop-timeout", kind: "duration", def: "10s", usage: "how long a stop waits for calls and streams to end",
		set: duration(func(c *Config) *time.Duration { return &c.StopTimeout }, 0, 10*time.Minute)},

	{name: "call-rate", kind: "number", def: "500", usage: "calls and opened streams a second, of one user; 0 for no limit",
		set: decimal(func(c *Config) *float64 { return &c.CallRate }, 0, 1e6)},
	{name: "call-burst", kind: "number", def: "2000", usage: "as many of them at once",
		set: integer(func(c *Config) *int { return &c.CallBurst }, 1, 1e6)},
	{name: "message-rate", kind: "number", def: "2000", usage: "streamed messages a second, of one user to one method; 0 for no limit",
		set: decimal(func(c *Config) *float64 { return &c.MessageRate }, 0, 1e6)},
	{name: "message-burst", kind: "number", def: "8000", usage: "as many of them at once",
		set: integer(func(c *Config) *int { return &c.MessageBurst }, 1, 1e6)},
	{name: "max-message-bytes", kind: "bytes", def: "4194304", usage: "the largest message accepted",
		set: integer(func(c *Config) *int { return &c.MaxMessageBytes }, 64<<10, 64<<20)},
	{name: "max-connections", kind: "number", def: "10000", usage: "connections on each listener; more are refused",
		set: integer(func(c *Config) *int { return &c.MaxConnections }, 1, 1e6)},
}

func (o option) env() string {
	return "TCM_" + strings.ToUpper(strings.ReplaceAll(o.name, "-", "_"))
}

// given returns what was set, and where. An empty variable counts as not set.
func (o option) given(fs *pflag.FlagSet, lookupEnv func(string) (string, bool)) (text, source string) {
	if f := fs.Lookup(o.name); f != nil && f.Changed {
		return f.Value.String(), "flag"
	}
	if v, ok := lookupEnv(o.env()); ok && v != "" {
		return v, "env"
	}
	return "", "default"
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

func (o option) label(source string) string {
	if source == "env" {
		return o.env()
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
			return fmt.Errorf("%q is not a duration from %s to %s, for example 30s or 2m", s, low, high)
		}
		*field(c) = v
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

func decimal(field func(*Config) *float64, low, high float64) func(*Config, string) error {
	return func(c *Config, s string) error {
		v, err := strconv.ParseFloat(s, 64)
		if err != nil || !(v >= low && v <= high) { // written so that NaN is refused too
			return fmt.Errorf("%q is not a number from %g to %g", s, low, high)
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
