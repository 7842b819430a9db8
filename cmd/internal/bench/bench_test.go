package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"mooring/wire"
)

func TestMain(m *testing.M) {
	if code, is := Child(); is {
		os.Exit(code)
	}
	goleak.VerifyTestMain(m)
}

// promised are the figures that readers of the JSON rely on.
var promised = map[string][]string{
	"saturate":      {"rows_per_s", "ceiling1_rows_per_s", "ceiling2_rows_per_s", "ratio", "gateway_cpu_us_per_row", "postgres_cpu_us_per_row"},
	"saturate-1row": {"frames_per_s", "gateway_cpu_us_per_frame"},
	"steady":        {"rows_per_s", "ack_p50_ms", "ack_p99_ms", "lone_commit_ms"},
	"idle":          {"connections", "rss_bytes_per_connection", "bare_rss_bytes_per_connection", "cpu_percent"},
	"storm":         {"seconds_until_all_acked", "bare_handshake_seconds", "ratio", "queries"},
	// With 100,000 devices and 50 million rows: ratio_100k_devices and ratio_50m_rows.
	"growth":     {"ratio_most_devices", "ratio_stored_rows", "most_devices", "stored_rows"},
	"duplicates": {"ratio_1pct", "ratio_100pct"},
	"storage":    {"bytes_per_reading_1", "bytes_per_reading_5", "bytes_per_reading_10"},
	"live":       {"ratio_reading", "ratio_still", "ratio_alone_least", "viewers_cores_reading", "steady_ratio", "ack_p99_ms_steady_reading"},
}

// TestScenarios runs every scenario, tiny, and holds what is printed against
// what is promised.
func TestScenarios(t *testing.T) {
	t.Parallel()
	report, err := Run(t.Context(), Config{
		Scenarios: append(Scenarios(), "live"), Viewers: 5,
		For: time.Second, Rounds: 1, Devices: 10, OneRowDevices: 20, SteadyDevices: 20, SteadyRate: 2000,
		Connections: 30, IdleFor: 300 * time.Millisecond, Growth: []int{5, 40}, GrowthWarm: 100 * time.Millisecond, PerServer: 25, StoredRows: 22_000, StorageRows: 20_000,
		Quiet: time.Millisecond, Errors: t.Output(),
	})
	require.NoError(t, err)
	text, err := json.Marshal(report)
	require.NoError(t, err)
	var read struct {
		Machine   map[string]any                `json:"machine"`
		Scenarios map[string]map[string]float64 `json:"scenarios"`
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	require.NoError(t, decoder.Decode(&read))
	require.NotEmpty(t, read.Machine["cores"])
	require.Equal(t, "on", read.Machine["postgres_settings"].(map[string]any)["fsync"])
	require.Len(t, read.Scenarios, len(promised))
	for name, figures := range promised {
		for _, figure := range figures {
			require.Contains(t, read.Scenarios[name], figure, name)
		}
	}
	require.Positive(t, read.Scenarios["saturate"]["ratio"])
	require.Positive(t, read.Scenarios["storm"]["seconds_until_all_acked"])
	require.Zero(t, read.Scenarios["idle"]["lost"])
	require.InDelta(t, 2000, read.Scenarios["steady"]["asked_rows_per_s"], 0) // that they are sent: TestPacerKeepsTheRate
	require.Positive(t, read.Scenarios["steady"]["rows_per_s"])
	require.Positive(t, read.Scenarios["live"]["ratio_reading"])
	require.Positive(t, read.Scenarios["live"]["ack_p99_ms_steady_reading"])
	require.Zero(t, read.Scenarios["duplicates"]["stored_100pct"], "a retransmission was stored")
	require.NotContains(t, read.Scenarios["growth"], "ratio_50m_rows", "a name that says more than was done")

	var table bytes.Buffer
	report.Print(&table)
	for name := range promised {
		require.Contains(t, table.String(), name)
	}
}

func TestUnknownScenarioAndTooManyConnections(t *testing.T) {
	t.Parallel()
	_, err := Run(t.Context(), Config{Scenarios: []string{"saturated"}})
	require.ErrorContains(t, err, "saturate-1row")
	_, err = Run(t.Context(), Config{Connections: 1 << 30})
	require.ErrorContains(t, err, "open files")
	require.Len(t, append(Scenarios(), "live"), len(promised))
}

// TestBadSizes: what can't be measured is told before anything starts.
func TestBadSizes(t *testing.T) {
	t.Parallel()
	for _, bad := range []Config{
		{For: -1},
		{IdleFor: -1},
		{GrowthWarm: -1},
		{Quiet: -1},
		{Viewers: -1},
		{TurnFrames: -1},
		{StorageRows: -1},
		{StoredRows: -1},
		{PerServer: -1},
		{PerServer: 1 << 30},
		{Growth: []int{1 << 30}},
		{Growth: []int{5, 2}},
	} {
		_, err := bad.withDefaults()
		require.Error(t, err, bad)
	}
	_, err := Config{}.withDefaults()
	require.NoError(t, err)
}

// TestStoredShape: however few rows are asked for, somebody has one.
func TestStoredShape(t *testing.T) {
	t.Parallel()
	for rows, want := range map[int][2]int{1: {1, 1}, 99: {1, 1}, 22_000: {220, 1}, manyRows: {1000, 455}} {
		devices, rounds := storedShape(rows)
		require.Equal(t, want, [2]int{devices, rounds}, rows)
		require.GreaterOrEqual(t, devices*rounds*tenRows.rows*(storedDays+1), rows)
	}
}

// TestInterruptedIsToldAsSuch, and not as what it led to.
func TestInterruptedIsToldAsSuch(t *testing.T) {
	t.Parallel()
	ctx, interrupt := context.WithCancelCause(t.Context())
	_, err := Run(ctx, Config{Scenarios: []string{"storage"}, OnProgress: func(string) { interrupt(errors.New("enough")) }})
	require.EqualError(t, err, "not measured to the end: enough")
}

// TestSeries: what the ceilings store is what a server would encode.
func TestSeries(t *testing.T) {
	t.Parallel()
	s := &series{bench: &bench{}, shape: tenRows, layout: 7, ids: []int32{3, 70_000}, next: make([]uint64, 2), base: now(), batch: 40}
	next := make([]uint64, 2)
	for range 2 {
		rows, count, err := s.fill()
		require.NoError(t, err)
		require.Equal(t, 40, count)
		var want []byte
		for i, id := range s.ids {
			for range 20 {
				row := tenRows.row(s.base, next[i], nil)
				want = s.bench.probe.AppendRow(want, id, 7, &row)
				next[i]++
			}
		}
		require.Equal(t, want, rows)
	}
}

// TestTemplate decodes what the generator sends, and compares it with what the
// ceiling stores.
func TestTemplate(t *testing.T) {
	t.Parallel()
	for _, s := range []shape{tenRows, oneRow} {
		made := newTemplate(s)
		const base, first = int64(1_700_000_000_000), uint64(730)
		message := made.append(nil, base, first)
		size := len(message) - 6
		if size > 125 {
			size -= 2
		}
		decoder := wire.NewDecoder(wire.Limits{})
		decoder.SetTimeRange(0, 1<<62)
		head, err := decoder.DataHead(message[len(message)-size:])
		require.NoError(t, err)
		require.Equal(t, first, head.Seq)
		require.Equal(t, s.rows, head.N)
		layout := s.layout()
		decoder.Rows(layout, 0)
		var got wire.Row
		number := first
		for decoder.Next(&got) {
			want := s.row(base, number, nil)
			require.Equal(t, want, got)
			number++
		}
		require.NoError(t, decoder.Err())
		require.Equal(t, first+uint64(s.rows), number)
	}
}

func TestProcesses(t *testing.T) {
	t.Parallel()
	self, err := processorTime(os.Getpid(), false)
	require.NoError(t, err)
	tree, err := treeTime(os.Getpid())
	require.NoError(t, err)
	require.GreaterOrEqual(t, tree, self)
	now, err := memory(os.Getpid(), "VmRSS")
	require.NoError(t, err)
	most, err := memory(os.Getpid(), "VmHWM")
	require.NoError(t, err)
	require.GreaterOrEqual(t, most, now)
	_, err = memory(os.Getpid(), "VmNothing")
	require.Error(t, err)
	files, err := fileLimit()
	require.NoError(t, err)
	require.Positive(t, files)
}

func TestText(t *testing.T) {
	t.Parallel()
	numbers := []float64{0.5, 12.34, 999, 1234567, -1234}
	var texts []string
	for _, number := range numbers {
		texts = append(texts, text(number))
	}
	require.True(t, slices.Equal([]string{"0.500", "12.3", "999.0", "1,234,567", "-1,234"}, texts), texts)
}

// TestTableMarksWhatHolds holds a figure against its bound.
func TestTableMarksWhatHolds(t *testing.T) {
	t.Parallel()
	s := Scenario{Name: "made up"}
	s.want("enough", 0.85, atLeast(0.85))
	s.want("too little", 0.84, atLeast(0.85))
	s.want("too much", 5.1, atMost(5))
	s.want("no number", math.NaN(), atMost(5))
	var table bytes.Buffer
	(&Report{Scenarios: []Scenario{s}}).Print(&table)
	require.Regexp(t, `enough +0.850 +≥ 0.850 +yes`, table.String())
	require.Regexp(t, `too little +0.840 +≥ 0.850 +no`, table.String())
	require.Regexp(t, `too much +5.100 +≤ 5.000 +no`, table.String())
	require.Regexp(t, `no number +– +≤ 5.000 +no`, table.String())
}
