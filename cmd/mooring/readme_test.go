package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"mooring/cmd/internal/app"
	"mooring/internal/pgtest"
)

// python finds an interpreter with the modules that the README's device needs;
// CI installs them.
func python(t *testing.T) string {
	t.Helper()
	for _, interpreter := range []string{"python3", "/usr/bin/python3"} {
		if exec.Command(interpreter, "-c", "import msgpack, websockets").Run() == nil {
			return interpreter
		}
	}
	if os.Getenv("CI") != "" {
		require.FailNow(t, "python3 with msgpack and websockets is missing")
	}
	t.Skip("needs python3 with msgpack and websockets: apt-get install python3-msgpack python3-websockets")
	return ""
}

// The Python device in the README stores a row.
func TestReadmePythonDevice(t *testing.T) {
	t.Parallel()
	interpreter := python(t)
	readme, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	script := regexp.MustCompile("(?s)```python\n(.*?)```").FindSubmatch(readme)
	require.NotNil(t, script)

	url := pgtest.URL(t)
	server := app.New(app.Config{Listen: "127.0.0.1:0", Gateway: "readme", Location: app.Location{DatabaseURL: url}})
	require.NoError(t, server.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, server.Stop(context.Background())) })
	added := mooring(t, "device", "add", "boiler-7", "--database-url", url)
	require.Equal(t, exitDone, added.code, added.stderr)

	file := filepath.Join(t.TempDir(), "device.py")
	text := strings.ReplaceAll(string(script[1]), "localhost:8080", server.Addr())
	require.NotEqual(t, string(script[1]), text)
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	command := exec.CommandContext(t.Context(), interpreter, file)
	command.Env = append(os.Environ(), "TOKEN="+strings.TrimSpace(added.stdout))
	output, err := command.CombinedOutput()
	require.NoError(t, err, string(output))
	require.Equal(t, uint64(1), server.Stats().RowsCommitted)
}

// What the documents point to is there.
func TestLinks(t *testing.T) {
	t.Parallel()
	documents, err := filepath.Glob("../../docs/*.md")
	require.NoError(t, err)
	decisions, err := filepath.Glob("../../docs/decisions/*.md")
	require.NoError(t, err)
	link := regexp.MustCompile(`\]\(([^)#]+)`)
	for _, document := range append(append(documents, decisions...), "../../README.md", "../../CHANGELOG.md") {
		text, err := os.ReadFile(document)
		require.NoError(t, err)
		for _, found := range link.FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(found[1], "://") {
				continue
			}
			_, err := os.Stat(filepath.Join(filepath.Dir(document), found[1]))
			require.NoError(t, err, "%s points to %s", document, found[1])
		}
	}
}

// Every decision is in the list, with its title. UPDATE_DOCS=1 writes the list.
func TestDecisionsAreListed(t *testing.T) {
	t.Parallel()
	const path = "../../docs/decisions/README.md"
	decisions, err := filepath.Glob("../../docs/decisions/[0-9]*.md")
	require.NoError(t, err)
	require.NotEmpty(t, decisions)
	var want strings.Builder
	want.WriteString("# Decisions\n\nWhat is not obvious, and why it is so: half a page each. Numbers go by area:\n" +
		"01x protocol, 02x gateway, 03x storage, 04x embedded PostgreSQL, 05x devices,\n06x client and fleet, 07x the whole, 08x speed.\n\n")
	heading := regexp.MustCompile(`^# \d{3}[:.]? +(.+)`)
	for _, decision := range decisions {
		text, err := os.ReadFile(decision)
		require.NoError(t, err)
		title := heading.FindSubmatch(text)
		require.NotNil(t, title, "%s must begin with a heading like # 070 Title", decision)
		name := filepath.Base(decision)
		want.WriteString("- [" + name[:3] + "](" + name + ") " + string(title[1]) + "\n")
	}
	if os.Getenv("UPDATE_DOCS") != "" {
		require.NoError(t, os.WriteFile(path, []byte(want.String()), 0o644))
		return
	}
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, want.String(), string(got), "run UPDATE_DOCS=1 go test -run Decisions ./cmd/mooring")
}
