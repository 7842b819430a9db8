package fleet_test

import (
	"bytes"
	"context"
	"path/filepath"
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

// startServer starts the real server on this database until the test ends.
func startServer(t *testing.T, url string, change func(*app.Config)) *app.App {
	t.Helper()
	cfg := app.Config{Location: app.Location{DatabaseURL: url}, Listen: "127.0.0.1:0", Gateway: t.Name()}
	if change != nil {
		change(&cfg)
	}
	server := app.New(cfg)
	require.NoError(t, server.Start(t.Context()))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		require.NoError(t, server.Stop(ctx))
	})
	return server
}

func stream(server *app.App) string { return "ws://" + server.Addr() + "/v1/stream" }

func addDevices(t *testing.T, url string, count int) []fleet.Credential {
	t.Helper()
	admin, err := devices.OpenAdmin(t.Context(), url)
	require.NoError(t, err)
	defer admin.Close()
	added, err := admin.AddMany(t.Context(), devices.NewDevices{Prefix: "sim-", Count: count})
	require.NoError(t, err)
	var tokens []fleet.Credential
	for _, device := range added {
		tokens = append(tokens, fleet.Credential{Name: device.Device.Name, Token: device.Token})
	}
	return tokens
}

func verify(t *testing.T, url, ledgerPath string) fleet.Verdict {
	t.Helper()
	reader, err := storage.OpenReader(t.Context(), url)
	require.NoError(t, err)
	defer reader.Close()
	ledger, err := fleet.ReadLedger(ledgerPath)
	require.NoError(t, err)
	verdict, err := fleet.Verify(t.Context(), reader, ledger)
	require.NoError(t, err)
	var text bytes.Buffer
	verdict.Print(&text)
	t.Log(text.String())
	return verdict
}

func TestHeavyFaultsEndInACleanVerdict(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	server := startServer(t, url, nil)
	path := filepath.Join(t.TempDir(), "ledger")
	result, err := fleet.Run(t.Context(), fleet.Config{
		URL: stream(server), Tokens: addDevices(t, url, 50), Rate: 5000, Channels: 8,
		For: 8 * time.Second, Settle: 60 * time.Second, Seed: 7, Faults: fleet.FaultsHeavy, Ledger: path,
	})
	require.NoError(t, err)
	var text bytes.Buffer
	result.Print(&text)
	t.Log(text.String())
	verdict := verify(t, url, path)
	require.True(t, verdict.Clean)
	require.True(t, result.Settled())
	require.Empty(t, result.Surprises())
	require.Equal(t, 50, verdict.Devices)
	require.Equal(t, result.Acked, verdict.Acked)
	require.Positive(t, verdict.RefusedRows)
	require.Positive(t, verdict.RefusedValues)
	require.Positive(t, result.Reboots)
	require.NotEmpty(t, result.LinkFaults)
}
