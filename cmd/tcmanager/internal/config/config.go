// Package config reads the server's options: a flag wins over its TCM_
// environment variable, which wins over the configuration file, which wins over
// the default.
//
// Every option stands once, in the table of options.go; the file is YAML with the
// names of the flags as keys. Load reports all wrong values at once, each with its
// name, where it came from and what is allowed.
package config

import (
	"crypto/rsa"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/tcmanager/tcmanager/service/identity"
	"github.com/tcmanager/tcmanager/service/session"
)

// Config is what is in force.
type Config struct {
	ConfigFile  string // empty for none
	Store       string // the address of a PostgreSQL database; empty for a file in DataDir
	DataDir     string
	Dev         bool
	Reflection  bool
	StopTimeout time.Duration // how long a stop waits for calls and streams
	LogLevel    slog.Level
	LogFormat   string // "auto", "text" or "json"

	GRPCAddr          string // of the native listener, host:port
	HTTPAddr          string // of the listener for pages, grpc-web and health
	PprofAddr         string // where profiles are served, on the loopback; empty for nowhere
	TLSCertFile       string // both are empty, or both set
	TLSKeyFile        string
	InsecurePlaintext bool
	PublicURL         string   // without a trailing slash; empty: derived from HTTPAddr
	AllowedOrigins    []string // beside the public address; "scheme://host[:port]"

	HS256SecretFile string
	HS256Secret     []byte // nil for none
	RS256KeyFile    string
	RS256PublicKey  *rsa.PublicKey // nil for none
	Issuer          string
	Audience        string

	Realtime          bool              // whether there are live sessions
	Transports        []session.Carrier // how they may come
	HeartbeatInterval time.Duration     // how often clients are to send something
	HeartbeatTimeout  time.Duration     // how long a silent client is kept
	AuthTimeout       time.Duration     // how long an open websocket may take to send its header block
	PresenceGrace     time.Duration     // how long a broken connection keeps its place; no option: 0 for presence's own
	Linger            time.Duration     // between two frames of events to a client for which more come; 0 for none
	QueueBytes        int               // what may wait in memory for one session
	ReplayEvents      int               // who is further behind in a room starts anew

	MaxConnections  int // on each listener
	MaxSessions     int
	MaxUserSessions int
	MaxRooms        int // of one session
	MaxMessageBytes int
	CallRate        float64 // calls a second, of one user; 0 for no limit
	CallBurst       int
	MessageRate     float64 // streamed messages a second, of one user to one method; 0 for no limit
	MessageBurst    int
	CommandRate     float64 // commands and joins a second in sessions, of one user and of each kind; 0 for no limit
	CommandBurst    int
	SignalRate      float64 // typing, presence and pings likewise
	SignalBurst     int

	RunGrace      time.Duration // how long a run whose runners are all lost is waited for
	HistoryEvents int           // of one room; at least the 20 that are its recent activity
	HistoryAge    time.Duration

	KeepRuns       int           // of a project, the newest so many; 0 for all
	KeepRunsAge    time.Duration // since their end; 0 for ever
	KeepResultsAge time.Duration // since the end of their run; 0 for as long as the run

	BackupDir   string // of the backups the server takes by itself; empty for none
	BackupEvery time.Duration
	BackupKeep  int
}

// Setting is one option as it is in force.
type Setting struct {
	Name   string `json:"name"`
	Env    string `json:"env"`
	Value  string `json:"value"`
	Source string `json:"source"` // "flag", "env", "file PATH:LINE" or "default"
}

// Keys returns the keys that tokens are checked with.
func (c Config) Keys() identity.Keys {
	return identity.Keys{HS256Secret: c.HS256Secret, RS256PublicKey: c.RS256PublicKey, Issuer: c.Issuer, Audience: c.Audience}
}

// TLS reports whether the listeners speak TLS.
func (c Config) TLS() bool { return c.TLSCertFile != "" }

// Allows reports whether sessions may come by a transport.
func (c Config) Allows(transport session.Carrier) bool {
	return c.Realtime && slices.Contains(c.Transports, transport)
}

// BaseURL is the address people open, for a server that listens at httpAddr.
func (c Config) BaseURL(httpAddr string) string {
	if c.PublicURL != "" {
		return c.PublicURL
	}
	scheme := "http://"
	if c.TLS() {
		scheme = "https://"
	}
	host, port, err := net.SplitHostPort(httpAddr)
	if err != nil {
		return scheme + httpAddr
	}
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return scheme + net.JoinHostPort(host, port)
}

// Flags adds the flag of every option to a flag set.
func Flags(fs *pflag.FlagSet) {
	for _, o := range options {
		if o.envOnly {
			continue
		}
		f := fs.VarPF(&rawValue{kind: o.kind, text: o.shownDefault()}, o.name, "", o.usage+" ["+o.env()+"]")
		if o.kind == "bool" {
			f.NoOptDefVal = "true"
		}
	}
}

// rawValue keeps what was given as it is: Load reads it, so that every wrong
// value is reported and not only the first.
type rawValue struct{ kind, text string }

func (v *rawValue) String() string     { return v.text }
func (v *rawValue) Set(s string) error { v.text = s; return nil }
func (v *rawValue) Type() string       { return v.kind }

// OfServer tells the server's options from the flags of a command.
func (v *rawValue) OfServer() {}

// Group is a part of the options, for the help.
type Group struct {
	Title string
	Flags *pflag.FlagSet // in the order of the table
}

// Groups returns the flags that Flags adds, below their headings.
func Groups() []Group {
	all := pflag.NewFlagSet("", pflag.ContinueOnError)
	Flags(all)
	var groups []Group
	for _, o := range options {
		if len(groups) == 0 || groups[len(groups)-1].Title != o.group {
			fs := pflag.NewFlagSet("", pflag.ContinueOnError)
			fs.SortFlags = false
			groups = append(groups, Group{o.group, fs})
		}
		if f := all.Lookup(o.name); f != nil {
			groups[len(groups)-1].Flags.AddFlag(f)
		}
	}
	return groups
}

// Load reads the options from flags that were added with Flags, from the
// environment, and from the file that one of these names, and checks them. Its
// error names everything that is wrong; the settings are complete also then.
func Load(fs *pflag.FlagSet, lookupEnv func(string) (string, bool)) (Config, []Setting, error) {
	var c Config
	var errs []error
	from := sources{flags: fs, lookupEnv: lookupEnv}
	if path, _ := from.of(option{name: configName}); path != "" {
		from.file, errs = readFile(path)
	}
	settings := make([]Setting, 0, len(options))
	for _, o := range options {
		text, where := from.of(o)
		if where.kind == "default" {
			text = o.defaultOf(&c)
		}
		if err := o.set(&c, text); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", o.label(where), err))
		}
		settings = append(settings, Setting{Name: o.name, Env: o.env(), Value: o.shown(&c, text), Source: where.String()})
	}
	errs = append(errs, c.check()...)
	return c, settings, errors.Join(errs...)
}

// Check reports what keeps a server with these options from being started; it
// is apart from Load because "tcmanager config" shows the options all the same.
func (c Config) Check() error {
	var errs []error
	for _, listener := range []struct{ name, addr string }{{"grpc-addr", c.GRPCAddr}, {"http-addr", c.HTTPAddr}} {
		switch {
		case IsLoopback(listener.addr):
		case c.Dev:
			errs = append(errs, fmt.Errorf("--dev signs anybody in without a password, so it serves this machine only: set --%s to 127.0.0.1:PORT, not %s", listener.name, listener.addr))
		case !c.TLS() && !c.InsecurePlaintext:
			errs = append(errs, fmt.Errorf("--%s %s can be reached from other machines, and tokens would cross the network unencrypted: give --tls-cert and --tls-key, or listen on 127.0.0.1 behind a proxy that does TLS, or add --insecure-plaintext if the network itself is trusted", listener.name, listener.addr))
		}
	}
	if !c.Dev && c.HS256Secret == nil && c.RS256PublicKey == nil && c.HS256SecretFile == "" && c.RS256KeyFile == "" {
		errs = append(errs, errors.New("no key to check tokens with. To try the server out, start it with --dev. "+
			"To use a shared secret: \"openssl rand -hex 32 > secret && chmod 600 secret\", then --jwt-hs256-secret-file secret (and \"tcmanager token\" signs tokens with it). "+
			"To use an identity provider: --jwt-rs256-key-file, --jwt-issuer and --jwt-audience"))
	}
	return errors.Join(errs...)
}

// check finds what is wrong between options that are right by themselves.
func (c Config) check() []error {
	var errs []error
	if c.HeartbeatInterval > 0 && c.HeartbeatTimeout > 0 && c.HeartbeatTimeout < 2*c.HeartbeatInterval {
		errs = append(errs, fmt.Errorf("--heartbeat-timeout %s must be at least twice --heartbeat-interval %s, so that one lost heartbeat ends nothing", c.HeartbeatTimeout, c.HeartbeatInterval))
	}
	if (c.TLSCertFile == "") != (c.TLSKeyFile == "") {
		errs = append(errs, errors.New("--tls-cert and --tls-key belong together: give both for TLS, or neither"))
	}
	if c.Realtime && len(c.Transports) == 0 {
		errs = append(errs, fmt.Errorf("--transports names none, so no session could ever come: give some of %s, or --realtime=false", carriers(", ")))
	}
	if c.RS256PublicKey != nil && (c.Issuer == "" || c.Audience == "") {
		errs = append(errs, errors.New("--jwt-rs256-key-file needs --jwt-issuer and --jwt-audience: an identity provider signs tokens for other services too"))
	}
	return errs
}

// IsLoopback reports whether an address to listen at can only be reached from
// this machine.
func IsLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// origin checks the address of a web page's server, "scheme://host[:port]".
func origin(s string) (string, error) {
	u, err := url.Parse(s)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil ||
		strings.TrimSuffix(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return "", fmt.Errorf("%q is not an address like https://tests.example.org", s)
	}
	return u.Scheme + "://" + strings.ToLower(u.Host), nil
}

// StoreName says where the data is, for people, without a password.
func (c Config) StoreName() string {
	if c.Store == "" {
		return c.DataDir
	}
	u, err := url.Parse(c.Store)
	if err != nil {
		return "PostgreSQL"
	}
	return fmt.Sprintf("PostgreSQL, %s at %s", strings.TrimPrefix(u.Path, "/"), u.Host)
}
