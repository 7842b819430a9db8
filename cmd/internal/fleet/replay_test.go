package fleet

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/cmd/internal/app"
	"mooring/internal/pgtest"
	"mooring/storage"
	"mooring/wire"
)

func greenhouse() RecordingFormat {
	return RecordingFormat{Time: []string{"Date", "Time"}, TimeLayout: "2/1/2006 15:04:05", Missing: []string{"-200"}}
}

func TestReplayStoresTheFile(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	server := startServer(t, url, func(cfg *app.Config) { require.NoError(t, cfg.Oldest.UnmarshalText([]byte("2000-01-01"))) })
	cfg := ReplayConfig{
		URL: stream(server), Device: addDevices(t, url, 1)[0], File: "testdata/greenhouse.csv",
		Format: greenhouse(), Rows: 3,
	}
	for range 2 { // the second time everything is a duplicate
		var settled, all uint64
		cfg.OnProgress = func(s, a uint64) { settled, all = s, a }
		result, err := Replay(t.Context(), cfg)
		require.NoError(t, err)
		require.Equal(t, "greenhouse", result.Layout)
		require.Equal(t, []string{"Temp____C_", "Humidity", "CO2_ppm", "CO2_ppm_2", "Door"}, result.Channels)
		require.Equal(t, []uint64{4, 17, 3, 0}, []uint64{result.Rows, result.Readings, result.Missing, result.Refused})
		require.Equal(t, time.Date(2026, 3, 1, 6, 0, 0, 0, time.UTC), result.First.UTC())
		require.Equal(t, []uint64{4, 4}, []uint64{settled, all})
	}
	reader, err := storage.OpenReader(t.Context(), url)
	require.NoError(t, err)
	defer reader.Close()
	_, rows, err := reader.Table(t.Context(), `SELECT metric, count(value), min(value), max(value), sum(value) FROM readings
		WHERE device = $1 GROUP BY metric ORDER BY metric COLLATE "C"`, cfg.Device.Name)
	require.NoError(t, err)
	require.Equal(t, [][]string{
		{"CO2_ppm", "4", "612", "1001", "2866"},
		{"CO2_ppm_2", "2", "610", "998", "1608"},
		{"Door", "4", "0", "1", "1"},
		{"Humidity", "3", "64.125", "81", "226.125"},
		{"Temp____C_", "4", "-0.25", "19", "41.75"},
	}, rows)
	_, rows, err = reader.Table(t.Context(), `SELECT count(*), count(DISTINCT ts) FROM mooring.samples`)
	require.NoError(t, err)
	require.Equal(t, [][]string{{"4", "3"}}, rows, "two rows with one time are two rows")
}

func TestReplayTellsWhatIsRefused(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	server := startServer(t, url, func(cfg *app.Config) { require.NoError(t, cfg.Oldest.UnmarshalText([]byte("1d"))) })
	cfg := ReplayConfig{URL: stream(server), Device: addDevices(t, url, 1)[0], File: "testdata/greenhouse.csv", Format: greenhouse()}
	result, err := Replay(t.Context(), cfg)
	require.NoError(t, err)
	require.EqualValues(t, 4, result.Refused)
	require.Equal(t, map[string]uint64{"whole rows: TIME_PAST": 4}, result.Reasons)

	// Shifted, only the last is young enough.
	cfg.ShiftToNow = true
	result, err = Replay(t.Context(), cfg)
	require.NoError(t, err)
	require.EqualValues(t, 3, result.Refused)
	require.WithinDuration(t, time.Now(), result.Last, time.Minute)

	cfg.Device.Name = "somebody-else"
	_, err = Replay(t.Context(), cfg)
	require.ErrorIs(t, err, ErrRefused)
	require.ErrorContains(t, err, "401")
}

func TestRecordingsAreCheckedFirst(t *testing.T) {
	t.Parallel()
	open := func(content string, format RecordingFormat) (*recording, error) {
		path := filepath.Join(t.TempDir(), "file.csv")
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		return openRecording(path, format)
	}
	unix := RecordingFormat{Time: []string{"t"}, TimeLayout: "unix"}
	for content, names := range map[string]string{
		"":                      "header",
		"a,b\n1,2\n":            `no column "t"`,
		"t\n1\n":                "0 of channels",
		"t,a\n":                 "no rows",
		"t,a\n1,2\n3,warm\n":    "line 3: column a",
		"t,a\n1,2\nnow,3\n":     "line 3: time",
		"t,a\n1,2\n3\n":         "wrong number of fields",
		"t,a\n1,\"2\n":          "line",
		"t,a\n1,0x\n":           "line 2",
		"t," + "a\n1,NaN,3\n":   "wrong number",
		"t,a,a\n1,2,3\n1,2,,\n": "wrong number",
	} {
		_, err := open(content, unix)
		require.ErrorIs(t, err, ErrRecording, content)
		require.ErrorContains(t, err, names, content)
	}

	file, err := open("\ufefft,a\n1.5,2\n", unix)
	require.NoError(t, err)
	require.Equal(t, int64(1500), file.first.UnixMilli())
	file, err = open("t,a\n1700000000123,1e300\n", RecordingFormat{Time: []string{"t"}, TimeLayout: "unixms"})
	require.NoError(t, err)
	require.Equal(t, int64(1700000000123), file.first.UnixMilli())
	require.NoError(t, file.each(func(_ time.Time, values []wire.Value) error {
		require.Equal(t, []wire.Value{{Kind: wire.ValueNumber, Number: 1e300}}, values)
		return nil
	}))

	zone := time.FixedZone("CET", 3600)
	file, err = open("t,a\n2026-01-01 00:00,5\n", RecordingFormat{Time: []string{"t"}, TimeLayout: "2006-01-02 15:04", Zone: zone})
	require.NoError(t, err)
	require.Equal(t, time.Date(2025, 12, 31, 23, 0, 0, 0, time.UTC), file.first.UTC())
}
