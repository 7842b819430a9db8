package main

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/cmd/internal/app"
	"mooring/cmd/internal/conform"
	"mooring/internal/pgtest"
)

// TestConformJudgesPrograms gives conform a program that ends at once: nothing is
// shown, and that is no success.
func TestConformJudgesPrograms(t *testing.T) {
	t.Parallel()
	code, stdout, stderr := call(t, "conform", "--scenario", "command", "--json", "--exec", "echo {url} {token} no device >&2; exit 3")
	require.Equal(t, exitFailed, code, stderr)
	var report conform.Report
	require.NoError(t, json.Unmarshal([]byte(stdout), &report))
	require.Zero(t, report.Kept)
	require.Equal(t, conform.NotShown, report.Finding("command").State)
	require.Contains(t, report.Finding("command").Detail, "exit status 3")
	require.Contains(t, report.Finding("command").Detail, "no device")

	code, stdout, _ = call(t, "conform", "--scenario", "command", "--exec", "echo {url} {token} no device >&2; exit 3")
	require.Equal(t, exitFailed, code)
	require.Equal(t, 1, strings.Count(stdout, "exit status 3"), "said once, of all rules: %s", stdout)
	require.NotContains(t, stdout, "poison", "nobody looked at it")
	require.Regexp(t, `0 rules kept, 0 broken, 0 departures from a SHOULD, \d+ not shown \(\d+ of them because no scenario`, stdout)

	code, _, stderr = call(t, "conform", "--scenario", "other", "--exec", "{url} {token}")
	require.Equal(t, exitUsage, code)
	require.Contains(t, stderr, `no scenario "other"; there are: two faults, `)
}

// TestProbeSaysWhy probes the real server with a wrong token.
func TestProbeSaysWhy(t *testing.T) {
	t.Parallel()
	database := pgtest.URL(t)
	server := app.New(app.Config{Location: app.Location{DatabaseURL: database}, Listen: "127.0.0.1:0", Gateway: t.Name()})
	require.NoError(t, server.Start(t.Context()))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		require.NoError(t, server.Stop(ctx))
	})
	code, _, stderr := call(t, "probe", "--url", "ws://"+server.Addr()+"/v1/stream", "--token", "wrong")
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "HTTP 401")
}
