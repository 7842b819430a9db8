package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/cmd/internal/app"
	"mooring/cmd/internal/fleet"
	"mooring/devices"
	"mooring/internal/pgtest"
	"mooring/storage"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func call(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errors bytes.Buffer
	code = run(t.Context(), args, &out, &errors)
	return code, out.String(), errors.String()
}

func TestHelpAndUsage(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{nil, {"--help"}, {"run", "--help"}, {"verify", "--help"}, {"replay", "--help"}, {"conform", "--help"}, {"probe", "--help"}, {"help"}, {"help", "run"}} {
		code, stdout, _ := call(t, args...)
		require.Equal(t, exitDone, code)
		require.Contains(t, stdout, "Usage: fleet")
	}
	for _, args := range [][]string{{"run"}, {"other"}, {"verify", "--ledger", "absent"}, {"run", "--faults", "all"}, {"conform"}, {"conform", "--exec", "device {url}"}, {"probe"}} {
		code, _, stderr := call(t, args...)
		require.Equal(t, exitUsage, code, stderr)
		require.Contains(t, stderr, "fleet:")
	}
	tokens, ledger := filepath.Join(t.TempDir(), "tokens"), filepath.Join(t.TempDir(), "ledger")
	require.NoError(t, os.WriteFile(tokens, []byte("a,b\n"), 0o600))
	require.NoError(t, os.WriteFile(ledger, []byte("precious"), 0o600))
	for want, args := range map[string][]string{
		"--backoff-scale: negative": {"run", "--tokens", tokens, "--backoff-scale", "-1"},
		"--rows: not within":        {"run", "--tokens", tokens, "--rows", "-1"},
		"--devices 2:":              {"run", "--tokens", tokens, "--devices", "2"},
		"Try: fleet run --help":     {"run"},
		"--zone: unknown time zone": {"replay", tokens, "--device", "a", "--token", "b", "--time", "a", "--zone", "Nowhere/None"},
		"--ca: open":                {"replay", tokens, "--device", "a", "--token", "b", "--time", "a", "--ca", filepath.Join(t.TempDir(), "absent")},
		"--ca: no certificate":      {"probe", "--token", "a", "--ca", tokens},
		`no scenario "absent"`:      {"bench", "absent"},
		"--force overwrites it":     {"run", "--tokens", tokens, "--ledger", ledger},
	} {
		code, _, stderr := call(t, args...)
		require.Equal(t, exitUsage, code, stderr)
		require.Contains(t, stderr, want)
	}
	kept, err := os.ReadFile(ledger)
	require.NoError(t, err)
	require.Equal(t, "precious", string(kept))
	recording := filepath.Join(t.TempDir(), "recording.csv")
	require.NoError(t, os.WriteFile(recording, []byte("at,level\n17/3/2026,5\n"), 0o600))
	for _, args := range [][]string{{"--version"}, {"version"}} {
		code, stdout, stderr := call(t, args...)
		require.Equal(t, exitDone, code, stderr)
		require.Equal(t, app.ReadBuild().String()+"\n", stdout, "as mooring says it")
	}
	code, stdout, _ := call(t, "version", "--json")
	require.Equal(t, exitDone, code)
	var build app.Build
	require.NoError(t, json.Unmarshal([]byte(stdout), &build))
	require.Equal(t, app.ReadBuild(), build)
	code, _, stderr := call(t, "replay", recording, "--device", "a", "--token", "b", "--time", "at")
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "line 2")
	require.Contains(t, stderr, "--time-layout says how it is written")
	// Nobody listens there: not a row is sent, and that is no success.
	code, _, stderr = call(t, "run", "--tokens", tokens, "--url", "ws://127.0.0.1:9/v1/stream", "--for", "100ms", "--settle", "100ms",
		"--ledger", ledger, "--force")
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "not a single row was acknowledged")
	require.Contains(t, stderr, "refused")
	code, _, stderr = call(t, "verify", "--ledger", ledger, "--database-url", "postgres://host:notaport/x")
	require.Equal(t, exitUsage, code, stderr)
	require.Contains(t, stderr, "--database-url must be like")
	require.Equal(t, []string{"replay", "--missing=-200", "--x", "-y", "--a=b", "-1"},
		joinNegative([]string{"replay", "--missing", "-200", "--x", "-y", "--a=b", "-1"}))
}

// TestFromTokensToVerdict is the way through all three commands against the real
// server.
func TestFromTokensToVerdict(t *testing.T) {
	t.Parallel()
	database := pgtest.URL(t)
	server := app.New(app.Config{Location: app.Location{DatabaseURL: database}, Listen: "127.0.0.1:0", Gateway: t.Name()})
	require.NoError(t, server.Start(t.Context()))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		require.NoError(t, server.Stop(ctx))
	})
	url := "ws://" + server.Addr() + "/v1/stream"
	directory := t.TempDir()
	tokens, ledger := filepath.Join(directory, "tokens.csv"), filepath.Join(directory, "ledger")
	added := writeTokens(t, database, tokens)

	code, stdout, stderr := call(t, "run", "--url", url, "--tokens", tokens, "--devices", "2", "--rate", "500",
		"--for", "4s", "--ledger", ledger, "--json", "--progress", filepath.Join(directory, "progress"))
	require.Equal(t, exitDone, code, stderr)
	require.Contains(t, stderr, "rows/s acked", "plain lines where there is no terminal")
	var result fleet.Result
	require.NoError(t, json.Unmarshal([]byte(stdout), &result))
	require.Equal(t, 2, result.Devices)
	require.Positive(t, result.Acked)
	require.Equal(t, result.Produced, result.Acked)

	progress, err := os.ReadFile(filepath.Join(directory, "progress"))
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSuffix(string(progress), "\n"), "\n")
	require.Greater(t, len(lines), 3, "ten a second")
	var last progressLine
	require.NoError(t, json.Unmarshal([]byte(lines[len(lines)-1]), &last))
	require.Equal(t, fleet.PhaseDone, last.Phase)
	require.Equal(t, result.Acked, last.Acked)
	require.Positive(t, last.Time)

	code, stdout, stderr = call(t, "verify", "--database-url", database, "--ledger", ledger)
	require.Equal(t, exitDone, code, stderr)
	require.Contains(t, stdout, "clean: nothing acknowledged is missing")

	reader, err := storage.OpenReader(t.Context(), database)
	require.NoError(t, err)
	defer reader.Close()
	_, _, err = reader.Table(t.Context(), "DELETE FROM mooring.samples WHERE seq = 7")
	require.NoError(t, err)
	code, stdout, _ = call(t, "verify", "--database-url", database, "--ledger", ledger, "--json")
	require.Equal(t, exitFailed, code)
	var verdict fleet.Verdict
	require.NoError(t, json.Unmarshal([]byte(stdout), &verdict))
	require.EqualValues(t, 2, verdict.Missing)

	file := filepath.Join(directory, "cellar.csv")
	require.NoError(t, os.WriteFile(file, []byte("at,depth\n2026-01-01T00:00:00Z,1.5\n2026-01-01T00:01:00Z,-200\n"), 0o600))
	args := []string{
		"replay", file, "--url", url, "--device", added[2].Device.Name, "--token", added[2].Token,
		"--time", "at", "--missing", "-200", "--shift-to-now",
	}
	code, stdout, stderr = call(t, args...)
	require.Equal(t, exitDone, code, stderr)
	require.Contains(t, stdout, "every row is committed")
	code, _, stderr = call(t, append(args, "--token", "wrong")...)
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "HTTP 401")
}

func writeTokens(t *testing.T, database, path string) []devices.Added {
	t.Helper()
	admin, err := devices.OpenAdmin(t.Context(), database)
	require.NoError(t, err)
	defer admin.Close()
	added, err := admin.AddMany(t.Context(), devices.NewDevices{Prefix: "sim-", Count: 3})
	require.NoError(t, err)
	file, err := os.Create(path)
	require.NoError(t, err)
	defer file.Close()
	writer := csv.NewWriter(file)
	for _, device := range added {
		require.NoError(t, writer.Write([]string{device.Device.Name, device.Token}))
	}
	writer.Flush()
	return added
}

// TestUnsettledRunFails: nobody is there.
func TestUnsettledRunFails(t *testing.T) {
	t.Parallel()
	tokens := filepath.Join(t.TempDir(), "tokens.csv")
	require.NoError(t, os.WriteFile(tokens, []byte("a,b\n"), 0o600))
	code, stdout, _ := call(t, "run", "--url", "ws://127.0.0.1:1/v1/stream", "--tokens", tokens, "--for", "100ms", "--settle", "100ms")
	require.Equal(t, exitFailed, code)
	require.Contains(t, stdout, "not settled, for want of acks: 1 device\n")
}
