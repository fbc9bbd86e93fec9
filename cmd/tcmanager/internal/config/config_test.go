package config

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/certificate/certtest"
	"github.com/tcmanager/tcmanager/service/session"
)

const secret = "0123456789abcdef0123456789abcdef"

// load reads options as the program does.
func load(t *testing.T, args []string, env map[string]string) (Config, []Setting, error) {
	t.Helper()
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	Flags(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return Load(fs, func(name string) (string, bool) { v, ok := env[name]; return v, ok })
}

func file(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func publicKey(t *testing.T, bits int) string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return file(t, string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))
}

func TestTheDefaultsAreRight(t *testing.T) {
	c, settings, err := load(t, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.GRPCAddr != "127.0.0.1:9090" || c.HTTPAddr != "127.0.0.1:8080" || c.BaseURL(c.HTTPAddr) != "http://127.0.0.1:8080" || c.PprofAddr != "" ||
		c.Dev || c.Reflection || c.HeartbeatInterval != 25*time.Second || c.HeartbeatTimeout != time.Minute ||
		c.AuthTimeout != 5*time.Second || c.MaxMessageBytes != 4<<20 || c.LogLevel != slog.LevelInfo || c.LogFormat != "auto" {
		t.Errorf("%+v", c)
	}
	if len(settings) != len(options) {
		t.Errorf("%d settings of %d", len(settings), len(options))
	}
	for _, s := range settings {
		if s.Source != "default" || !strings.HasPrefix(s.Env, "TCM_") {
			t.Errorf("%+v", s)
		}
	}
}

func TestTheDefaultsOfSessionsAreRight(t *testing.T) {
	c, _, err := load(t, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.TLS() || !c.Allows(session.Native) || !c.Allows(session.Websocket) || !c.Allows(session.Watching) || c.MaxRooms != 100 ||
		c.MaxSessions != 1000 || c.MaxUserSessions != 50 || c.Linger != 12*time.Millisecond || c.QueueBytes != 256<<10 || c.ReplayEvents != 100_000 || c.HistoryEvents != 100_000 ||
		c.HistoryAge != 30*24*time.Hour || c.CommandRate != 200 || c.CommandBurst != 1000 || c.SignalRate != 50 || c.SignalBurst != 200 {
		t.Errorf("%+v", c)
	}
	if c.KeepRuns != 0 || c.KeepRunsAge != 0 || c.KeepResultsAge != 0 { // nobody loses a run without having said so
		t.Errorf("%+v", c)
	}
	if c.BackupDir != "" || c.BackupEvery != 24*time.Hour || c.BackupKeep != 7 {
		t.Errorf("%+v", c)
	}
}

func TestAFlagWinsOverTheEnvironmentOverTheDefault(t *testing.T) {
	c, settings, err := load(t, []string{"--grpc-addr", "127.0.0.1:1"}, map[string]string{
		"TCM_GRPC_ADDR": "127.0.0.1:2", "TCM_HTTP_ADDR": "127.0.0.1:3", "TCM_LOG_LEVEL": "",
	})
	if err != nil || c.GRPCAddr != "127.0.0.1:1" || c.HTTPAddr != "127.0.0.1:3" || c.LogLevel != slog.LevelInfo {
		t.Errorf("%+v: %v", c, err)
	}
	want := map[string]string{"grpc-addr": "flag", "http-addr": "env", "log-level": "default", "public-url": "default"}
	for _, s := range settings {
		if w, ok := want[s.Name]; ok && s.Source != w {
			t.Errorf("%+v, want %s", s, w)
		}
		if s.Name == "public-url" && s.Value != "http://127.0.0.1:3" {
			t.Errorf("the derived value is not shown: %+v", s)
		}
	}
}

func TestEveryOptionCanBeSetByTheEnvironment(t *testing.T) {
	pair := certtest.NewAuthority(t).Issue(t)
	env := map[string]string{
		"TCM_GRPC_ADDR": "localhost:1", "TCM_HTTP_ADDR": "[::1]:2", "TCM_PPROF_ADDR": "[::1]:3", "TCM_DATA_DIR": "/d", "TCM_DEV": "true", "TCM_PUBLIC_URL": "https://X.example.org/",
		"TCM_REFLECTION": "false", "TCM_ALLOWED_ORIGINS": "https://a.example.org, http://b:8,", "TCM_INSECURE_PLAINTEXT": "1",
		"TCM_JWT_HS256_SECRET": secret, "TCM_JWT_RS256_KEY_FILE": publicKey(t, 2048), "TCM_JWT_ISSUER": "i", "TCM_JWT_AUDIENCE": "a",
		"TCM_LOG_LEVEL": "WARN", "TCM_LOG_FORMAT": "json", "TCM_RUN_GRACE": "7s", "TCM_HEARTBEAT_INTERVAL": "3s", "TCM_HEARTBEAT_TIMEOUT": "8s",
		"TCM_AUTH_TIMEOUT": "1s", "TCM_STOP_TIMEOUT": "2s", "TCM_CALL_RATE": "1.5", "TCM_CALL_BURST": "2", "TCM_MESSAGE_RATE": "0", "TCM_MESSAGE_BURST": "4",
		"TCM_MAX_MESSAGE_BYTES": "65536", "TCM_MAX_CONNECTIONS": "9", "TCM_JWT_HS256_SECRET_FILE": "",
		"TCM_CONFIG": file(t, ""), "TCM_TLS_CERT": pair.Cert, "TCM_TLS_KEY": pair.Key, "TCM_REALTIME": "true", "TCM_TRANSPORTS": "watch, native,watch",
		"TCM_LINGER": "20ms", "TCM_QUEUE_BYTES": "65536", "TCM_REPLAY_EVENTS": "20", "TCM_MAX_SESSIONS": "10", "TCM_MAX_USER_SESSIONS": "11", "TCM_MAX_ROOMS": "12",
		"TCM_COMMAND_RATE": "13", "TCM_COMMAND_BURST": "14", "TCM_SIGNAL_RATE": "15", "TCM_SIGNAL_BURST": "16",
		"TCM_HISTORY_EVENTS": "21", "TCM_HISTORY_AGE": "17h", "TCM_KEEP_RUNS": "22", "TCM_KEEP_RUNS_AGE": "23h", "TCM_KEEP_RESULTS_AGE": "24h",
		"TCM_STORE": "postgres://tcm:" + secret + "@db/tcm", "TCM_BACKUP_DIR": "/b", "TCM_BACKUP_EVERY": "18h", "TCM_BACKUP_KEEP": "3",
	}
	c, settings, err := load(t, nil, env)
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(c.GRPCAddr, c.HTTPAddr, c.PprofAddr, c.DataDir, c.Dev, c.PublicURL, c.Reflection, c.AllowedOrigins, c.InsecurePlaintext,
		string(c.HS256Secret), c.RS256PublicKey != nil, c.Issuer, c.Audience, c.LogLevel, c.LogFormat, c.RunGrace, c.HeartbeatInterval,
		c.HeartbeatTimeout, c.AuthTimeout, c.StopTimeout, c.CallRate, c.CallBurst, c.MessageRate, c.MessageBurst, c.MaxMessageBytes, c.MaxConnections,
		c.TLSCertFile, c.TLSKeyFile, c.Realtime, c.Transports, c.Linger, c.QueueBytes, c.ReplayEvents, c.MaxSessions, c.MaxUserSessions, c.MaxRooms,
		c.CommandRate, c.CommandBurst, c.SignalRate, c.SignalBurst, c.HistoryEvents, c.HistoryAge, c.KeepRuns, c.KeepRunsAge, c.KeepResultsAge,
		c.BackupDir, c.BackupEvery, c.BackupKeep, c.Store)
	want := fmt.Sprint("localhost:1", "[::1]:2", "[::1]:3", "/d", true, "https://x.example.org", false, []string{"https://a.example.org", "http://b:8"}, true,
		secret, true, "i", "a", slog.LevelWarn, "json", 7*time.Second, 3*time.Second,
		8*time.Second, time.Second, 2*time.Second, 1.5, 2, 0.0, 4, 65536, 9,
		pair.Cert, pair.Key, true, []string{"watch", "native"}, 20*time.Millisecond, 65536, 20, 10, 11, 12, 13.0, 14, 15.0, 16, 21, 17*time.Hour, 22, 23*time.Hour, 24*time.Hour, "/b", 18*time.Hour, 3, "postgres://tcm:"+secret+"@db/tcm")
	if got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
	for _, s := range settings {
		if _, known := env[s.Env]; !known {
			t.Errorf("%s is not tried here", s.Env)
		}
		if strings.Contains(s.Value, secret) {
			t.Errorf("the secret is shown: %+v", s)
		}
	}
}

func TestAWrongValueNamesItselfAndWhatIsAllowed(t *testing.T) {
	short := file(t, "short\n")
	private := file(t, "-----BEGIN RSA PRIVATE KEY-----\n")
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"--grpc-addr", "9090"}, []string{"--grpc-addr", `"9090"`, "host:port"}},
		{[]string{"--grpc-addr", "127.0.0.1:http2"}, []string{"--grpc-addr", "65535"}},
		{[]string{"--pprof-addr", "6060"}, []string{"--pprof-addr", `"6060"`, "host:port"}},
		{[]string{"--pprof-addr", ":6060"}, []string{"--pprof-addr", `":6060"`, "other machines", "127.0.0.1:PORT"}},
		{[]string{"--pprof-addr", "0.0.0.0:6060"}, []string{"--pprof-addr", "other machines"}},
		{[]string{"--pprof-addr", "[::]:6060"}, []string{"--pprof-addr", "other machines"}},
		{[]string{"--pprof-addr", "192.0.2.7:6060"}, []string{"--pprof-addr", "other machines"}},
		{[]string{"--pprof-addr", "profiles.example.org:6060"}, []string{"--pprof-addr", "other machines"}},
		{[]string{"--data-dir", ""}, []string{"--data-dir", "empty"}},
		{[]string{"--dev=maybe"}, []string{"--dev", `"maybe"`, "true or false"}},
		{[]string{"--public-url", "tests.example.org"}, []string{"--public-url", "https://"}},
		{[]string{"--public-url", "https://x/path"}, []string{"--public-url", "https://"}},
		{[]string{"--allowed-origins", "https://ok,*"}, []string{"--allowed-origins", `"*"`}},
		{[]string{"--jwt-hs256-secret-file", "/not/there"}, []string{"--jwt-hs256-secret-file", "/not/there"}},
		{[]string{"--jwt-hs256-secret-file", short}, []string{"--jwt-hs256-secret-file", "5 bytes", "32", "openssl rand"}},
		{[]string{"--jwt-rs256-key-file", short}, []string{"--jwt-rs256-key-file", "PEM"}},
		{[]string{"--jwt-rs256-key-file", private}, []string{"--jwt-rs256-key-file", "private key", "-pubout"}},
		{[]string{"--jwt-rs256-key-file", publicKey(t, 1024)}, []string{"--jwt-rs256-key-file", "1024 bits", "2048"}},
		{[]string{"--jwt-rs256-key-file", publicKey(t, 2048)}, []string{"--jwt-issuer", "--jwt-audience"}},
		{[]string{"--log-level", "loud"}, []string{"--log-level", `"loud"`, "debug, info, warn, error"}},
		{[]string{"--log-format", "xml"}, []string{"--log-format", `"xml"`, "auto, text, json"}},
		{[]string{"--run-grace", "5"}, []string{"--run-grace", `"5"`, "duration", "1s", "24h"}},
		{[]string{"--heartbeat-interval", "40s"}, []string{"--heartbeat-timeout", "twice"}},
		{[]string{"--call-rate", "NaN"}, []string{"--call-rate", "NaN", "0 to"}},
		{[]string{"--call-rate", "-1"}, []string{"--call-rate"}},
		{[]string{"--message-burst", "0"}, []string{"--message-burst", "1 to"}},
		{[]string{"--transports", "native,carrier-pigeon"}, []string{"--transports", `"carrier-pigeon"`, "native, websocket, watch"}},
		{[]string{"--transports", ""}, []string{"--transports", "--realtime=false"}},
		{[]string{"--history-events", "19"}, []string{"--history-events", "from 20"}},
		{[]string{"--keep-runs", "-1"}, []string{"--keep-runs", "from 0"}},
		{[]string{"--keep-runs-age", "30"}, []string{"--keep-runs-age", "from 1h0m0s", "or 0"}},
		{[]string{"--keep-results-age", "59m"}, []string{"--keep-results-age", "from 1h0m0s", "or 0"}},
		{[]string{"--backup-every", "1s"}, []string{"--backup-every", "1m0s"}},
		{[]string{"--backup-keep", "0"}, []string{"--backup-keep", "from 1"}},
		{[]string{"--max-rooms", "0"}, []string{"--max-rooms", "from 1"}},
		{[]string{"--max-sessions", "0"}, []string{"--max-sessions", "from 1"}},
		{[]string{"--linger", "2s"}, []string{"--linger", "from 0s to 1s, for example 0s or 20ms"}},
		{[]string{"--linger", "-1ms"}, []string{"--linger", "from 0s to 1s"}},
		{[]string{"--queue-bytes", "1"}, []string{"--queue-bytes", "from 16384"}},
		{[]string{"--tls-cert", short}, []string{"--tls-cert and --tls-key belong together"}},
		{[]string{"--tls-key", short}, []string{"--tls-cert and --tls-key belong together"}},
		{[]string{"--tls-cert", "/not/there", "--tls-key", short}, []string{"--tls-key", "read the certificate", "/not/there"}},
		{[]string{"--tls-cert", short, "--tls-key", short}, []string{"holds no certificate"}},
		{[]string{"--config", "/not/there"}, []string{"read the configuration", "/not/there"}},
		{[]string{"--config", t.TempDir()}, []string{"read the configuration", "is a directory"}},
		{[]string{"--max-message-bytes", "1k"}, []string{"--max-message-bytes", "65536"}},
	} {
		_, _, err := load(t, c.args, nil)
		if err == nil {
			t.Errorf("%v: accepted", c.args)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%v: %q is not in %q", c.args, want, err)
			}
		}
	}
}

func TestAllErrorsAreToldAtOnceAndByWhereTheyCameFrom(t *testing.T) {
	_, settings, err := load(t, []string{"--log-level", "loud"}, map[string]string{"TCM_GRPC_ADDR": "x", "TCM_RUN_GRACE": "x"})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"--log-level: ", "TCM_GRPC_ADDR: ", "TCM_RUN_GRACE: "} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %q", want, err)
		}
	}
	if len(settings) != len(options) {
		t.Error("not all settings are shown beside the errors")
	}
}

func TestASecretIsSetOnce(t *testing.T) {
	_, _, err := load(t, []string{"--jwt-hs256-secret-file", file(t, secret)}, map[string]string{"TCM_JWT_HS256_SECRET": secret})
	if err == nil || !strings.Contains(err.Error(), "use one of them") {
		t.Error(err)
	}
	c, _, err := load(t, []string{"--jwt-hs256-secret-file", file(t, secret+"\r\n")}, nil)
	if err != nil || string(c.HS256Secret) != secret {
		t.Errorf("%q, %v: the end of the line is a part of the secret", c.HS256Secret, err)
	}
}

func TestWhatAServerRefusesToStartWith(t *testing.T) {
	pair := certtest.NewAuthority(t).Issue(t)
	key := map[string]string{"TCM_JWT_HS256_SECRET": secret}
	for _, c := range []struct {
		name string
		args []string
		env  map[string]string
		want string // empty: it starts
	}{
		{"dev", []string{"--dev"}, nil, ""},
		{"dev on all interfaces", []string{"--dev", "--http-addr", ":8080"}, nil, "--dev signs anybody in"},
		{"dev on all interfaces, insisting", []string{"--dev", "--grpc-addr", "0.0.0.0:9090", "--insecure-plaintext"}, nil, "--dev signs anybody in"},
		{"dev by name", []string{"--dev", "--grpc-addr", "example.org:9090"}, nil, "--dev signs anybody in"},
		{"no key", nil, nil, "openssl rand -hex 32"},
		{"a key", nil, key, ""},
		{"a key on loopback names", []string{"--grpc-addr", "localhost:0", "--http-addr", "[::1]:0"}, key, ""},
		{"a key on all interfaces", []string{"--grpc-addr", "[::]:9090"}, key, "--insecure-plaintext"},
		{"a key on all interfaces, with TLS", []string{"--grpc-addr", "[::]:9090", "--http-addr", ":443", "--tls-cert", pair.Cert, "--tls-key", pair.Key}, key, ""},
		{"dev on all interfaces, with TLS", []string{"--dev", "--http-addr", ":443", "--tls-cert", pair.Cert, "--tls-key", pair.Key}, nil, "--dev signs anybody in"},
		{"a key on all interfaces, insisting", []string{"--grpc-addr", "[::]:9090", "--insecure-plaintext"}, key, ""},
	} {
		cfg, _, err := load(t, c.args, c.env)
		if err != nil {
			t.Fatal(err)
		}
		err = cfg.Check()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestReflectionIsOnInDevelopmentOnly(t *testing.T) {
	for args, want := range map[string]bool{"": false, "--dev": true, "--dev --reflection=false": false, "--reflection": true} {
		c, _, err := load(t, strings.Fields(args), nil)
		if err != nil || c.Reflection != want {
			t.Errorf("%q: %v, %v", args, c.Reflection, err)
		}
	}
}

func TestWherePeopleOpenThePage(t *testing.T) {
	for addr, want := range map[string]string{
		"127.0.0.1:8080": "http://127.0.0.1:8080", "[::1]:8080": "http://[::1]:8080", "0.0.0.0:80": "http://localhost:80", ":80": "http://localhost:80",
	} {
		if got := (Config{}).BaseURL(addr); got != want {
			t.Errorf("%s: %s", addr, got)
		}
	}
	if got := (Config{TLSCertFile: "c", TLSKeyFile: "k"}).BaseURL("127.0.0.1:8443"); got != "https://127.0.0.1:8443" {
		t.Error("with TLS:", got)
	}
	if got := (Config{PublicURL: "https://x"}).BaseURL("127.0.0.1:1"); got != "https://x" {
		t.Error(got)
	}
}

func TestWhereDataGoes(t *testing.T) {
	for _, c := range []struct {
		env  map[string]string
		want string
	}{
		{map[string]string{"XDG_DATA_HOME": "/x", "HOME": "/h"}, "/x/tcmanager"},
		{map[string]string{"XDG_DATA_HOME": "relative", "HOME": "/h"}, "/h/.local/share/tcmanager"},
		{nil, "data"},
	} {
		if got := defaultDataDir(func(k string) (string, bool) { v, ok := c.env[k]; return v, ok }); got != c.want {
			t.Errorf("%v: %s", c.env, got)
		}
	}
}

func TestTheNameOfAStoreHoldsNoPassword(t *testing.T) {
	for address, want := range map[string]string{
		"":                                       "/d",
		"postgres://tcm:hunter2@db.local:5/team": "PostgreSQL, team at db.local:5",
		"postgres://tcm:hunter2@db:x/team":       "PostgreSQL",
	} {
		if got := (Config{DataDir: "/d", Store: address}).StoreName(); got != want {
			t.Errorf("%s is called %q, want %q", address, got, want)
		}
	}
}
