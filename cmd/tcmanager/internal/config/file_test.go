package config

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tcmanager/tcmanager/service/session"
)

// loadFile reads options with a file of this content.
func loadFile(t *testing.T, content string, args []string, env map[string]string) (path string, c Config, settings []Setting, err error) {
	t.Helper()
	path = file(t, content)
	c, settings, err = load(t, append([]string{"--config", path}, args...), env)
	return path, c, settings, err
}

func TestAFlagWinsOverTheEnvironmentOverTheFileOverTheDefault(t *testing.T) {
	path, c, settings, err := loadFile(t, `
# comments, and values with and without quotes
grpc-addr: "127.0.0.1:11"
http-addr: 127.0.0.1:12
run-grace: 13s
jwt-issuer:
max-rooms: 14
realtime: true
call-rate: 1.5
transports: [native, watch]
allowed-origins:
  - https://a.example.org
  - https://b.example.org
`, []string{"--grpc-addr", "127.0.0.1:1"}, map[string]string{"TCM_GRPC_ADDR": "127.0.0.1:2", "TCM_HTTP_ADDR": "127.0.0.1:3", "TCM_MAX_ROOMS": ""})
	if err != nil {
		t.Fatal(err)
	}
	if c.GRPCAddr != "127.0.0.1:1" || c.HTTPAddr != "127.0.0.1:3" || c.RunGrace != 13*time.Second || c.StopTimeout != 10*time.Second || c.MaxRooms != 14 ||
		c.CallRate != 1.5 || !c.Allows(session.Watching) || c.Allows(session.Websocket) || !slices.Equal(c.AllowedOrigins, []string{"https://a.example.org", "https://b.example.org"}) {
		t.Errorf("%+v", c)
	}
	want := map[string]string{
		"config": "flag", "grpc-addr": "flag", "http-addr": "env", "run-grace": "file " + path + ":5", "max-rooms": "file " + path + ":7",
		"allowed-origins": "file " + path + ":11", "stop-timeout": "default", "jwt-issuer": "default",
	}
	for _, s := range settings {
		if w, ok := want[s.Name]; ok && s.Source != w {
			t.Errorf("%+v, want %s", s, w)
		}
	}
}

func TestTheFileIsNamedByTheEnvironmentToo(t *testing.T) {
	c, _, err := load(t, nil, map[string]string{"TCM_CONFIG": file(t, "log-level: warn\n")})
	if err != nil || c.LogLevel.String() != "WARN" {
		t.Error(c.LogLevel, err)
	}
}

func TestPathsInAFileStartFromItsFolder(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "jwt.secret"), []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "tcmanager.yaml")
	if err := os.WriteFile(path, []byte("jwt-hs256-secret-file: jwt.secret\ndata-dir: /var/lib/tcmanager\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, settings, err := load(t, []string{"--config", path}, nil)
	if err != nil || string(c.HS256Secret) != secret || c.DataDir != "/var/lib/tcmanager" {
		t.Error(c.DataDir, err)
	}
	for _, s := range settings {
		if s.Name == "jwt-hs256-secret-file" && s.Value != filepath.Join(dir, "jwt.secret") {
			t.Errorf("%+v", s)
		}
	}
}

func TestAFileThatIsWrongSaysWhereAndWhatToDo(t *testing.T) {
	for _, c := range []struct {
		content string
		line    int
		want    []string
	}{
		{"grpc-addr: 127.0.0.1:1\nheartbeat-intervall: 3s\n", 2, []string{`no option "heartbeat-intervall"`, "did you mean heartbeat-interval?"}},
		{"grpc_addr: x", 1, []string{"did you mean grpc-addr?"}},
		{"TCM_MAX_ROOMS: 3", 1, []string{"did you mean max-rooms?"}},
		{"colour-of-the-bike-shed: red", 1, []string{"no option", "tcmanager config --example"}},
		{"\n\nmax-rooms: many", 3, []string{"max-rooms: ", `"many"`, "from 1 to"}},
		{"dev: yes", 1, []string{"dev: ", `"yes" is not true or false`}},
		{"dev: [true]", 1, []string{"dev takes one bool, not a list"}},
		{"grpc-addr:\n  host: x\n", 2, []string{"grpc-addr takes a host:port, not options of its own"}},
		{"transports:\n  - native\n  - [watch]\n", 3, []string{"transports", "must be a text"}},
		{"transports: []", 0, []string{"--transports names none"}},
		{"max-rooms: 1\nlog-level: info\nmax-rooms: 2", 3, []string{"max-rooms stands in line 1 already"}},
		{"jwt-hs256-secret: " + secret, 1, []string{"secrets don't stand in this file", "jwt-hs256-secret-file"}},
		{"config: other.yaml", 1, []string{"can't name another"}},
		{"a: &x 1\nmax-rooms: *x", 2, []string{"max-rooms", "aliases"}},
		{"? [max-rooms]\n: 1", 1, []string{"a name of an option"}},
		{"- max-rooms: 1", 1, []string{"no list of options"}},
		{"just text", 1, []string{"no list of options"}},
		{"max-rooms: 1\n---\nmax-rooms: 2", 2, []string{"a second document"}},
		{"max-rooms: 1\n\tdev: true", 2, []string{"this is no YAML", "tab"}},
		{"max-rooms: [1", 0, []string{"this is no YAML"}},
		{strings.Repeat("# far too long\n", 100_000), 0, []string{"more than 1048576 bytes"}},
	} {
		path, _, settings, err := loadFile(t, c.content, nil, nil)
		if err == nil {
			t.Errorf("%q: accepted", c.content)
			continue
		}
		want := c.want
		if c.line > 0 {
			want = append(want, fmt.Sprintf("%s:%d: ", path, c.line))
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%.40q: %q is not in %q", c.content, w, err)
			}
		}
		if strings.Contains(err.Error(), secret) {
			t.Errorf("the secret is shown: %q", err)
		}
		if len(settings) != len(options) {
			t.Error("not all settings are shown beside the errors")
		}
	}
}

func TestAllThatIsWrongInAFileIsToldAtOnce(t *testing.T) {
	path, c, _, err := loadFile(t, "nonsense: 1\nmax-rooms: 7\nlog-level: loud\n", []string{"--grpc-addr", "x"}, nil)
	if err == nil || c.MaxRooms != 7 {
		t.Fatal(c.MaxRooms, err)
	}
	for _, want := range []string{path + ":1: ", path + ":3: log-level: ", "--grpc-addr: "} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %q", want, err)
		}
	}
}

func TestAnEmptyFileSetsNothing(t *testing.T) {
	for _, content := range []string{"", "# nothing\n", "---\n", "null\n"} {
		if _, _, settings, err := loadFile(t, content, nil, nil); err != nil || settings[1].Source != "default" {
			t.Errorf("%q: %+v, %v", content, settings[1], err)
		}
	}
}

func TestTheExampleIsAFileWithTheDefaults(t *testing.T) {
	var b bytes.Buffer
	if err := Example(&b); err != nil {
		t.Fatal(err)
	}
	commented := regexp.MustCompile(`(?m)^#([a-z])`)
	if n := len(commented.FindAllString(b.String(), -1)); n != len(options)-2 { // all but config itself, and the secret
		t.Errorf("%d of %d options are in\n%s", n, len(options), b.String())
	}
	_, asItIs, _, err := loadFile(t, b.String(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, taken, settings, err := loadFile(t, commented.ReplaceAllString(b.String(), "$1"), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	asItIs.ConfigFile, taken.ConfigFile = "", ""
	if got, want := fmt.Sprintf("%+v", taken), fmt.Sprintf("%+v", asItIs); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
	for _, s := range settings {
		if o, _ := optionNamed(s.Name); s.Source == "default" && o.shownDefault() != "" {
			t.Errorf("%s was not read", s.Name)
		}
	}
}

func TestEveryFlagStandsBelowAHeadingOfTheHelp(t *testing.T) {
	titles, flags := map[string]bool{}, 0
	for _, g := range Groups() {
		if g.Title == "" || titles[g.Title] {
			t.Errorf("the heading %q is empty, or comes twice: options of a group stand together", g.Title)
		}
		titles[g.Title] = true
		flags += strings.Count(g.Flags.FlagUsages(), "[TCM_")
	}
	if flags != len(options)-1 { // the secret has no flag
		t.Errorf("%d of %d options", flags, len(options))
	}
}

func FuzzFile(f *testing.F) {
	f.Add("grpc-addr: 127.0.0.1:1\n")
	f.Add("transports: [native, watch]\nx: {y: 1}\n---\n")
	f.Add("a: &a [*a]\n? : \n")
	f.Add("!!binary x: y")
	path := filepath.Join(f.TempDir(), "file")
	f.Fuzz(func(t *testing.T, content string) {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		values, errs := readFile(path) // it must not panic, and name the file
		for _, err := range errs {
			if !strings.Contains(err.Error(), path) {
				t.Error(err)
			}
		}
		for name := range values.values {
			if _, known := optionNamed(name); !known {
				t.Errorf("%q was taken", name)
			}
		}
	})
}
