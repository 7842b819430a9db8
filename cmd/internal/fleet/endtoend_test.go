package fleet

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mooring/cmd/internal/app"
	"mooring/devices"
	"mooring/internal/loopback"
	"mooring/internal/pgtest"
	"mooring/storage"
	"mooring/wire"
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

func addDevices(t *testing.T, url string, count int) []Credential {
	t.Helper()
	admin, err := devices.OpenAdmin(t.Context(), url)
	require.NoError(t, err)
	defer admin.Close()
	added, err := admin.AddMany(t.Context(), devices.NewDevices{Prefix: "sim-", Count: count})
	require.NoError(t, err)
	var tokens []Credential
	for _, device := range added {
		tokens = append(tokens, Credential{Name: device.Device.Name, Token: device.Token})
	}
	return tokens
}

func verifyRun(t *testing.T, url, ledgerPath string) Verdict {
	t.Helper()
	reader, err := storage.OpenReader(t.Context(), url)
	require.NoError(t, err)
	defer reader.Close()
	ledger, err := ReadLedger(ledgerPath)
	require.NoError(t, err)
	verdict, err := Verify(t.Context(), reader, ledger)
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
	result, err := Run(t.Context(), Config{
		URL: stream(server), Tokens: addDevices(t, url, 50), Rate: 5000, Channels: 8,
		For: 8 * time.Second, Settle: 60 * time.Second, Seed: 7, Faults: FaultsHeavy, Ledger: path,
	})
	require.NoError(t, err)
	var text bytes.Buffer
	result.Print(&text)
	t.Log(text.String())
	verdict := verifyRun(t, url, path)
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

// TestPlantedFaultsAreFound damages a real database behind the server's back.
func TestPlantedFaultsAreFound(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	server := startServer(t, url, nil)
	path := filepath.Join(t.TempDir(), "ledger")
	result, err := Run(t.Context(), Config{
		URL: stream(server), Tokens: addDevices(t, url, 3), Rate: 3000,
		For: time.Second, Settle: 30 * time.Second, Ledger: path,
	})
	require.NoError(t, err)
	require.True(t, result.Settled())
	require.True(t, verifyRun(t, url, path).Clean)

	reader, err := storage.OpenReader(t.Context(), url)
	require.NoError(t, err)
	defer reader.Close()
	plant := func(sql string) {
		_, rows, err := reader.Table(t.Context(), sql)
		require.NoError(t, err)
		require.Len(t, rows, 1)
	}
	const of = ` WHERE device_id = (SELECT id FROM mooring.devices WHERE name = '%s') AND seq = %d RETURNING seq`
	plant("DELETE FROM mooring.samples" + fmt.Sprintf(of, "sim-1", 11))
	plant("UPDATE mooring.samples SET vals[3] = vals[3] + 0.01" + fmt.Sprintf(of, "sim-3", 33))
	plant(`INSERT INTO mooring.samples SELECT ts + interval '1 ms', seq, device_id, layout_id, vals, texts
		FROM mooring.samples WHERE device_id = (SELECT id FROM mooring.devices WHERE name = 'sim-2') AND seq = 22 RETURNING seq`)

	verdict := verifyRun(t, url, path)
	require.False(t, verdict.Clean)
	require.EqualValues(t, []uint64{1, 1, 1, 0}, []uint64{verdict.Missing, verdict.Twice, verdict.Wrong, verdict.Unexpected})
	require.EqualValues(t, 2, verdict.Unbalanced)
	require.Len(t, verdict.Problems, 5)
	for i, want := range []Problem{
		{Kind: ProblemBooks, Device: "sim-1", Boot: -1},
		{Kind: ProblemMissing, Device: "sim-1", Seq: 11},
		{Kind: ProblemTwice, Device: "sim-2", Seq: 22},
		{Kind: ProblemBooks, Device: "sim-2", Boot: -1},
		{Kind: ProblemWrong, Device: "sim-3", Seq: 33, Channel: "pressure"},
	} {
		got := verdict.Problems[i]
		require.NotEmpty(t, got.Detail)
		got.Detail = ""
		require.Equal(t, want, got)
	}
}

// TestEveryBadInputGetsItsAnswer is PROTOCOL §11 against the real server.
func TestEveryBadInputGetsItsAnswer(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	server := startServer(t, url, nil)
	inputs := badInputs()
	tokens := addDevices(t, url, len(inputs)) // one each, so that they don't replace each other
	for i, input := range inputs {
		t.Run(input.line+" "+input.text, func(t *testing.T) {
			t.Parallel()
			in := newIntruder(&run{cfg: Config{URL: stream(server), Seed: 1}.withDefaults()}, i)
			result, detail := in.input(t.Context(), &device{token: tokens[i]}, input)
			require.Equal(t, asStated, result, detail)
		})
	}
}

func TestMisdeedsAgainstALiveDevice(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	server := startServer(t, url, nil)
	path := filepath.Join(t.TempDir(), "ledger")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var once sync.Once
	// The device stays away after it was replaced, so that the intruder is not.
	cfg := Config{
		URL: stream(server), Tokens: addDevices(t, url, 1), Rate: 0, Settle: time.Millisecond,
		BackoffScale: 1, Ledger: path, ProgressEvery: 20 * time.Millisecond,
	}
	var r *run
	cfg.OnProgress = func(progress Progress) {
		if progress.Acked > 500 && progress.Phase == PhaseMeasuring {
			once.Do(func() {
				in := newIntruder(r, 0)
				result, detail := sendAgain(t.Context(), in, r.devices[0])
				assert.Equal(t, asStated, result, detail)
				result, detail = secondConnection(t.Context(), in, r.devices[0])
				assert.Equal(t, asStated, result, detail)
				stop()
			})
		}
	}
	r, err := newRun(cfg.withDefaults())
	require.NoError(t, err)
	_, err = r.all(ctx)
	require.NoError(t, err)
	require.True(t, verifyRun(t, url, path).Clean)
}

// TestServerRestart stops the server in the middle of a run, without grace, and
// starts another on the same port.
func TestServerRestart(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	path := filepath.Join(t.TempDir(), "ledger")
	tokens := addDevices(t, url, 10)
	address := loopback.FreeAddress(t)
	first := app.New(app.Config{Location: app.Location{DatabaseURL: url}, Listen: address, Gateway: t.Name()})
	require.NoError(t, first.Start(t.Context()))
	restarted := false
	result, err := Run(t.Context(), Config{
		URL: stream(first), Tokens: tokens, Rate: 1000, For: 6 * time.Second, Settle: time.Minute, BackoffScale: 0.01,
		Ledger: path,
		OnProgress: func(progress Progress) {
			if restarted || progress.Elapsed < 2*time.Second {
				return
			}
			restarted = true
			ended, cancel := context.WithCancel(t.Context())
			cancel()
			_ = first.Stop(ended) // nobody waits for anything
			startServer(t, url, func(cfg *app.Config) { cfg.Listen = address })
		},
	})
	require.NoError(t, err)
	require.True(t, restarted)
	require.True(t, result.Settled())
	require.True(t, verifyRun(t, url, path).Clean)
	require.Greater(t, result.Connects, uint64(len(tokens)))
}

// TestPostgresAway stops the database in the middle of a run.
func TestPostgresAway(t *testing.T) {
	t.Parallel()
	postgres := pgtest.Cluster(t)
	server := startServer(t, postgres.URL(), nil)
	path := filepath.Join(t.TempDir(), "ledger")
	// Acks that were on their way have arrived when none came for as long as quiet.
	const stopAt, quiet, watched = 3 * time.Second, 2 * time.Second, 4 * time.Second
	var stopped, started bool
	var before, last uint64
	var since time.Duration // the latest of before
	result, err := Run(t.Context(), Config{
		URL: stream(server), Tokens: addDevices(t, postgres.URL(), 10), Rate: 1000, For: 10 * time.Second, Settle: time.Minute,
		Faults: FaultsLight, Ledger: path, ProgressEvery: 200 * time.Millisecond,
		OnProgress: func(progress Progress) {
			switch {
			case !stopped && progress.Elapsed >= stopAt:
				stopped = true
				postgres.Stop(t)
			case stopped && last == 0:
				if progress.Acked != before {
					before, since = progress.Acked, progress.Elapsed
				}
				if progress.Elapsed-since >= quiet {
					last = progress.Acked
				}
			case stopped && !started:
				last = progress.Acked
				if progress.Elapsed >= since+quiet+watched {
					started = true
					postgres.Start(t)
				}
			}
		},
	})
	require.NoError(t, err)
	require.True(t, started)
	require.Positive(t, before)
	require.Equal(t, before, last, "no ack while there is no database")
	require.True(t, result.Settled())
	require.True(t, verifyRun(t, postgres.URL(), path).Clean)
}

// TestDevicesThatShareACredential has devices replace each other without end:
// every row that one of them was promised is stored once all the same.
func TestDevicesThatShareACredential(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	server := startServer(t, url, nil)
	path := filepath.Join(t.TempDir(), "ledger")
	result, err := Run(t.Context(), Config{
		URL: stream(server), Tokens: addDevices(t, url, 2), Share: 70, Rate: 1400, For: 2 * time.Second,
		Settle: time.Minute, BackoffScale: 0.02, Ledger: path,
	})
	require.NoError(t, err)
	require.True(t, result.Settled())
	require.Positive(t, result.Closes["4101 REPLACED"], "%v", result.Closes)
	verdict := verifyRun(t, url, path)
	require.True(t, verdict.Clean)
	require.Equal(t, 140, verdict.Boots)
	require.Equal(t, result.Produced, verdict.Acked)
	require.Equal(t, verdict.Acked, verdict.Stored)
}

// TestClocksThatAreYearsOff has every row refused, by the code that fits.
func TestClocksThatAreYearsOff(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	server := startServer(t, url, nil)
	tokens := addDevices(t, url, 2)
	for _, clock := range []time.Time{time.UnixMilli(0), time.Unix(1<<32-3, 0)} {
		path := filepath.Join(t.TempDir(), "ledger")
		result, err := Run(t.Context(), Config{
			URL: stream(server), Tokens: tokens, Rate: 500, For: time.Second, Clock: clock, Ledger: path,
		})
		require.NoError(t, err)
		require.True(t, result.Settled())
		verdict := verifyRun(t, url, path)
		require.True(t, verdict.Clean)
		require.Zero(t, verdict.Stored)
		require.Equal(t, verdict.Acked, verdict.RefusedRows)
		require.Equal(t, result.Produced, verdict.RefusedRows)
		// The other code is not taken for the right one.
		ledger, err := ReadLedger(path)
		require.NoError(t, err)
		for _, boots := range ledger.Devices {
			for _, boot := range boots {
				boot.Off = wire.CodeTimePast + wire.CodeTimeFuture - boot.Off
			}
		}
		reader, err := storage.OpenReader(t.Context(), url)
		require.NoError(t, err)
		defer reader.Close()
		verdict, err = Verify(t.Context(), reader, ledger)
		require.NoError(t, err)
		require.False(t, verdict.Clean)
	}
}
