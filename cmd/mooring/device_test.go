package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"mooring/devices"
	"mooring/internal/pgtest"
)

func TestDeviceLifecycle(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	do := func(args ...string) result {
		t.Helper()
		return mooring(t, append(append([]string{"device"}, args...), "--database-url", url)...)
	}
	require.Contains(t, do("list").stdout, "No device")

	added := do("add", "boiler-7", "--model", "B2", "--label", "site=north", "--label", "floor=2", "--lifetime", "90d")
	require.Equal(t, exitDone, added.code, added.stderr)
	token := strings.TrimSpace(added.stdout)
	require.True(t, strings.HasPrefix(token, "mrg_"), token)

	again := do("add", "boiler-7")
	require.Equal(t, exitExists, again.code)
	require.Contains(t, again.stderr, "boiler-7")

	var shown detailJSON
	require.NoError(t, json.Unmarshal([]byte(do("show", "boiler-7", "--json").stdout), &shown))
	require.Equal(t, "B2", shown.Model)
	require.Equal(t, "offline", shown.State)
	require.Equal(t, map[string]any{"site": "north", "floor": "2"}, shown.Labels)
	require.Len(t, shown.Tokens, 1)
	require.True(t, shown.Tokens[0].Live)
	require.NotNil(t, shown.Tokens[0].ExpiresAt)
	require.Nil(t, shown.LastSeen)
	text := do("show", "boiler-7").stdout
	require.Contains(t, text, "floor=2 site=north")
	require.NotContains(t, text, token, "a token is shown once")
	require.Contains(t, text, " in 0 sessions: ")

	rotated := do("rotate", "boiler-7", "--json")
	require.Equal(t, exitDone, rotated.code, rotated.stderr)
	var renewed addedJSON
	require.NoError(t, json.Unmarshal([]byte(rotated.stdout), &renewed))
	require.NotEqual(t, token, renewed.Token)
	require.Contains(t, do("rotate", "boiler-7", "--now").stderr, "is revoked")

	require.Equal(t, exitDone, do("disable", "boiler-7").code)
	require.Regexp(t, `boiler-7\s+disabled\s+never\s+B2`, do("list").stdout)
	require.Regexp(t, `boiler-7`, do("list", "--disabled").stdout)
	require.Contains(t, do("list", "--offline").stdout, "No device that is offline.")
	require.Contains(t, do("list", "--prefix", "pump").stdout, `No device with a name that begins with "pump". mooring device list`)
	require.JSONEq(t, `{"name":"boiler-7","state":"enabled"}`, do("enable", "boiler-7", "--json").stdout)
	require.Contains(t, do("list", "--offline").stdout, "boiler-7")
	require.Equal(t, exitUsage, do("list", "--offline", "--online").code)

	require.Equal(t, exitDone, do("remove", "boiler-7").code)
	for _, command := range []string{"show", "disable", "enable", "rotate", "remove"} {
		missing := do(command, "boiler-7")
		require.Equal(t, exitNoDevice, missing.code, command)
		require.Contains(t, missing.stderr, "no such device: boiler-7")
	}
}

func TestDeviceFleet(t *testing.T) {
	t.Parallel()
	url, file := pgtest.URL(t), filepath.Join(t.TempDir(), "tokens.csv")
	arguments := []string{"device", "add", "--count", "1000", "--prefix", "sim-", "--out", file, "--database-url", url}
	added := mooring(t, arguments...)
	require.Equal(t, exitDone, added.code, added.stderr)
	require.NotContains(t, added.stdout+added.stderr, "mrg_", "they go to the file alone")
	info, err := os.Stat(file)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	opened, err := os.Open(file)
	require.NoError(t, err)
	defer opened.Close()
	lines, err := csv.NewReader(opened).ReadAll()
	require.NoError(t, err)
	require.Len(t, lines, 1001)
	require.Equal(t, []string{"name", "token"}, lines[0])
	require.Equal(t, "sim-0001", lines[1][0])
	require.Equal(t, "sim-1000", lines[1000][0])

	existing := mooring(t, arguments...)
	require.Equal(t, exitUsage, existing.code)
	require.Contains(t, existing.stderr, "never overwrite")
	require.Equal(t, exitDone, mooring(t, append(arguments, "--unless-exists")...).code)

	// Nothing is added if one name exists, and no empty file stays.
	other := filepath.Join(t.TempDir(), "other.csv")
	clash := mooring(t, "device", "add", "--count", "2", "--first", "1000", "--prefix", "sim-", "--out", other, "--database-url", url)
	require.Equal(t, exitExists, clash.code)
	require.Contains(t, clash.stderr, "sim-1000")
	require.NoFileExists(t, other)

	listed := mooring(t, "device", "list", "--database-url", url, "--limit", "10")
	require.Contains(t, listed.stderr, "--limit 0")
	require.NotContains(t, listed.stdout, "sim-0011")
	var all []deviceJSON
	require.NoError(t, json.Unmarshal([]byte(mooring(t, "device", "list", "--database-url", url, "--limit", "0", "--json").stdout), &all))
	require.Len(t, all, 1000)

	several := mooring(t, "device", "add", "--count", "2", "--prefix", "x-", "--database-url", url)
	require.Len(t, strings.Split(strings.TrimSpace(several.stdout), "\n"), 3, "without a file, they are printed")
}

func TestMigrate(t *testing.T) {
	t.Parallel()
	url := pgtest.EmptyURL(t)
	status := mooring(t, "migrate", "status", "--database-url", url)
	require.Equal(t, exitDone, status.code, status.stderr)
	require.Contains(t, status.stdout, "pending: run mooring migrate up")

	early := mooring(t, "device", "list", "--database-url", url)
	require.Equal(t, exitNoDatabase, early.code)
	require.Contains(t, early.stderr, "mooring migrate up")

	var applied map[string]int
	up := mooring(t, "migrate", "up", "--database-url", url, "--json")
	require.Equal(t, exitDone, up.code, up.stderr)
	require.NoError(t, json.Unmarshal([]byte(up.stdout), &applied))
	require.Positive(t, applied["applied"])
	require.Contains(t, mooring(t, "migrate", "up", "--database-url", url).stdout, "0 applied")

	var list []migrationJSON
	require.NoError(t, json.Unmarshal([]byte(mooring(t, "migrate", "status", "--database-url", url, "--json").stdout), &list))
	require.Len(t, list, applied["applied"])
	for _, migration := range list {
		require.NotNil(t, migration.AppliedAt, migration.Name)
	}
	require.NotContains(t, mooring(t, "migrate", "status", "--database-url", url).stdout, "pending")
}

func TestDsnOfConfiguredDatabase(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	require.Equal(t, url, strings.TrimSpace(mooring(t, "dsn", "--admin", "--database-url", url).stdout))
	require.NotEqual(t, url, strings.TrimSpace(mooring(t, "dsn", "--database-url", url).stdout))
	require.Contains(t, mooring(t, "dsn", "--json", "--database-url", url).stdout, `"role": "reader"`)
}

func TestUnreachableDatabase(t *testing.T) {
	t.Parallel()
	const nowhere = "postgres://someone:secret@127.0.0.1:1/none"
	for _, command := range [][]string{{"device", "list"}, {"migrate", "status"}, {"migrate", "up"}} {
		got := mooring(t, append(command, "--database-url", nowhere)...)
		require.Equal(t, exitNoDatabase, got.code, command)
		require.NotContains(t, got.stderr, "secret")
		require.Equal(t, 1, strings.Count(got.stderr, "connection refused"), "with and without TLS is one reason: %s", got.stderr)
		require.Contains(t, got.stderr, "Is PostgreSQL running there")
	}
}

// What devices say of themselves is no command to the operator's terminal.
func TestShownPlainly(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	printDetail(&out, devices.Detail{Listed: devices.Listed{Name: "b", Model: "pump\x1b[2J", Labels: map[string]any{"k": "\u009b2J"}}}, quotaJSON{})
	shown := out.String() + describe(devices.Command{Device: "b", Name: "identify", State: devices.CommandDone, Detail: []byte("\"\u009b2J\""), Note: "\x1b[2J"})
	require.Contains(t, shown, "pump")
	require.NotContains(t, shown, "\x1b")
	require.NotContains(t, shown, "\u009b")
}
