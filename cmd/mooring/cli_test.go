package main

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/cmd/internal/app"
)

func TestHelp(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"--help"}, {}, {"serve", "--help"}, {"device", "add", "--help"}, {"demo", "--help"}, {"dsn", "--help"}, {"help"}, {"help", "device", "add"}} {
		shown := mooring(t, args...)
		require.Equal(t, exitDone, shown.code, "%v: %s", args, shown.stderr)
		require.Empty(t, shown.stderr)
		require.Contains(t, shown.stdout, "Usage: mooring")
		require.NotRegexp(t, regexp.MustCompile(`\$\{\w+\}`), shown.stdout, "a variable was not filled in")
	}
	top := mooring(t, "--help").stdout
	for _, command := range []string{"serve", "demo", "device", "audit", "dsn", "migrate", "healthcheck", "version"} {
		require.Regexp(t, `(?m)^  `+command+`\b`, top)
	}
	require.Contains(t, top, "Exit codes")
	serve := mooring(t, "serve", "--help").stdout
	for _, group := range []string{"Database:", "Network:", "Devices:"} {
		require.Contains(t, serve, group)
	}
	require.Contains(t, serve, "$MOORING_DATA_DIR")
}

func TestBadUsage(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = taken.Close() })
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"devic"}, `did you mean "device"`},
		{[]string{"serve", "--listen"}, "--listen needs a value\nTry: mooring serve --help"},
		{[]string{"help", "devic"}, `did you mean "device"`},
		{[]string{"serve", "--lisen", ":1"}, `did you mean "--listen"`},
		{[]string{"serve", "--window", "many"}, "--window"},
		{[]string{"serve", "--window", "5000"}, "--window must be 1 to 1024, not 5000"},
		{[]string{"serve", "--oldest", "yesterday"}, "neither a date like 2000-01-01 nor an age like 90d"},
		{[]string{"serve", "--partition", "decade"}, "--partition"},
		{[]string{"serve", "--newest", "0"}, "--newest must be"},
		{[]string{"serve", "--config", "/no/such/file"}, "/no/such/file"},
		{[]string{"device", "add"}, "name"},
		{[]string{"device", "add", "a:b"}, "name"},
		{[]string{"device", "add", "--count", "3"}, "--prefix"},
		{[]string{"device", "add", "boiler", "--count", "3", "--prefix", "x-"}, "--count"},
		{[]string{"demo", "--for", "soon"}, "--for"},
		{[]string{"device", "list", "--database-url", "mysql://x"}, "--database-url must be like"},
		{[]string{"audit", "--database-url", "postgres://u:secret@host:notaport/x"}, "--database-url must be like"},
		{[]string{"serve", "--database-url", "postgres://u:secret@host:notaport/x", "--listen", taken.Addr().String()}, "--database-url must be like"},
	} {
		got := mooring(t, c.args...)
		require.Equal(t, exitUsage, got.code, "%v: %s", c.args, got.stderr)
		require.Contains(t, got.stderr, c.says)
		require.NotContains(t, got.stderr, "secret")
		require.Empty(t, got.stdout)
	}
}

// parseServe reads a command line for serve without running it.
func parseServe(t *testing.T, args ...string) app.Config {
	t.Helper()
	var line commandLine
	parser, err := newParser(&line, io.Discard, io.Discard)
	require.NoError(t, err)
	_, err = parser.Parse(append([]string{"serve"}, args...))
	require.NoError(t, err)
	return line.Serve.Config
}

// A flag counts more than the environment, that more than the file, that more
// than the default. Not parallel: it sets the environment.
func TestWhereSettingsComeFrom(t *testing.T) {
	file := filepath.Join(t.TempDir(), "mooring.yaml")
	require.NoError(t, os.WriteFile(file, []byte("window: 3\nheartbeat: 20s\nretention: 90d\noldest: 2000-01-01\nlisten: \":9000\"\n"), 0o600))
	t.Setenv("MOORING_CONFIG", file)
	t.Setenv("MOORING_HEARTBEAT", "25s")
	t.Setenv("MOORING_RETENTION", "30d")

	got := parseServe(t, "--retention", "7d")
	require.Equal(t, 7*24*time.Hour, time.Duration(got.Retention), "flag")
	require.Equal(t, 25*time.Second, time.Duration(got.Heartbeat), "environment")
	require.Equal(t, 3, got.Window, "file")
	require.Equal(t, ":9000", got.Listen)
	require.Equal(t, "2000-01-01", got.Oldest.String())
	require.Equal(t, 64<<20, int(got.MaxWaitingBytes), "default")
}

func TestFlagsAndConfigAgreeOnDefaults(t *testing.T) {
	want := app.DefaultConfig()
	got := parseServe(t)
	want.DataDir, want.Gateway, want.Logger = "", "", nil // filled in by app.New
	require.Equal(t, want, got)
}

func TestConfigFileWithUnknownKey(t *testing.T) {
	t.Parallel()
	for content, says := range map[string]string{
		"widnow: 3\n":              `"widnow" is no flag`,
		"oldest:\n  - 1y\n":        "oldest must be a single value",
		"listen: [\n":              "mooring.yaml",
		"window: several\n":        "--window",
		"window: 3\nwindow: 4\n":   "already defined",
		"- just\n- a\n- list\n":    "mooring.yaml",
		"max-waiting-bytes: 10x\n": "is no size",
	} {
		file := filepath.Join(t.TempDir(), "mooring.yaml")
		require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
		got := mooring(t, "serve", "--config", file)
		require.Equal(t, exitUsage, got.code, content)
		require.Contains(t, got.stderr, says, content)
	}
	file := filepath.Join(t.TempDir(), "ours.yaml")
	require.NoError(t, os.WriteFile(file, []byte("widnow: 3\n"), 0o600))
	require.Contains(t, mooring(t, "serve", "--config", file).stderr, file)
}

// Programs that read the log get durations as numbers of seconds.
func TestDurationsInJSONLogs(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	c := &console{stderr: io.Discard, logFormat: "json"}
	c.logger(&out).Info("x", "took", 1500*time.Millisecond, slog.Group("g", "wait", time.Minute))
	require.Contains(t, out.String(), `"took":1.5,"g":{"wait":60}`)
}

func TestVersion(t *testing.T) {
	t.Parallel()
	require.Contains(t, mooring(t, "version").stdout, "mooring ")
	require.Contains(t, mooring(t, "version", "--json").stdout, `"go": "go1.`)
}

// What docker-compose.yml runs must be a command line of this program.
func TestComposeCommandsParse(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docker-compose.yml")
	require.NoError(t, err)
	commands := regexp.MustCompile(`(?m)^    command: \[(.+)\]$`).FindAllStringSubmatch(string(text), -1)
	require.Len(t, commands, 2)
	for _, command := range commands {
		var line commandLine
		parser, err := newParser(&line, io.Discard, io.Discard)
		require.NoError(t, err)
		_, err = parser.Parse(regexp.MustCompile(`,\s*`).Split(command[1], -1))
		require.NoError(t, err, command[1])
	}
}
