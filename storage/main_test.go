package storage

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"

	"mooring/internal/pgtest"
	"mooring/wire"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// patience is how long tests wait for what must come, on a busy machine too.
const patience = time.Minute

// ends waits for what must come to its end by itself, whatever else still hangs.
func ends[T any](tb testing.TB, do func() T) (result T) {
	tb.Helper()
	done := make(chan T, 1)
	go func() { done <- do() }()
	select {
	case result = <-done:
	case <-time.After(patience):
		require.FailNow(tb, "it does not end")
	}
	return result
}

// fixture is a store on a database of its own, with one layout of a number, a
// bool and a text, and one of five numbers.
type fixture struct {
	*Store
	url     string
	devices []int32 // dev-1, dev-2, …
	mixed   int32
	numbers int32
}

func newFixture(tb testing.TB, url string, options ...func(*Config)) *fixture {
	tb.Helper()
	config := Config{URL: url, Logger: slog.New(slog.NewTextHandler(tb.Output(), nil))}
	for _, option := range options {
		option(&config)
	}
	store, err := Open(tb.Context(), config)
	require.NoError(tb, err)
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		require.NoError(tb, store.Close(ctx))
	})
	f := &fixture{Store: store, url: url}
	f.devices = addDevices(tb, url, 3)
	f.mixed, err = store.ResolveLayout(tb.Context(), f.devices[0], &mixedLayout)
	require.NoError(tb, err)
	f.numbers, err = store.ResolveLayout(tb.Context(), f.devices[0], &numbersLayout)
	require.NoError(tb, err)
	return f
}

var mixedLayout = wire.Layout{Name: "boiler", Channels: []wire.Channel{
	{Name: "temperature", Unit: "°C"}, {Name: "burning", Kind: wire.KindBool}, {Name: "state", Kind: wire.KindText},
}}

var numbersLayout = wire.Layout{Name: "env", Channels: []wire.Channel{
	{Name: "c1"}, {Name: "c2"}, {Name: "c3"}, {Name: "c4"}, {Name: "c5"},
}}

func addDevices(tb testing.TB, url string, n int) (ids []int32) {
	tb.Helper()
	config, err := pgx.ParseConfig(url)
	require.NoError(tb, err)
	config.RuntimeParams["statement_timeout"] = "0" // whatever the test sets for the database
	conn, err := pgx.ConnectConfig(tb.Context(), config)
	require.NoError(tb, err)
	defer func() { _ = conn.Close(context.Background()) }()
	_, err = conn.Exec(tb.Context(), `INSERT INTO mooring.devices (name) SELECT 'dev-' || g FROM generate_series(1, $1) g ON CONFLICT DO NOTHING`, n)
	require.NoError(tb, err)
	rows, err := conn.Query(tb.Context(), "SELECT id FROM mooring.devices ORDER BY length(name), name")
	require.NoError(tb, err)
	ids, err = pgx.CollectRows(rows, pgx.RowTo[int32])
	require.NoError(tb, err)
	return ids
}

func connect(tb testing.TB, url string) *pgx.Conn {
	tb.Helper()
	conn, err := pgx.Connect(tb.Context(), url)
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// one runs a query that gives one value.
func one[T any](tb testing.TB, url, sql string, args ...any) T {
	tb.Helper()
	conn := connect(tb, url)
	defer func() { _ = conn.Close(context.Background()) }()
	rows, err := conn.Query(tb.Context(), sql, args...)
	require.NoError(tb, err)
	value, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[T])
	require.NoError(tb, err)
	return value
}

func execute(tb testing.TB, url string, statements ...string) {
	tb.Helper()
	conn := connect(tb, url)
	defer func() { _ = conn.Close(context.Background()) }()
	for _, statement := range statements {
		_, err := conn.Exec(tb.Context(), statement)
		require.NoError(tb, err, statement)
	}
}

// base is a time in the middle of the current day's partition.
var base = time.Now().UTC().Truncate(24 * time.Hour).Add(time.Hour).UnixMicro()

func number(v float64) wire.Value { return wire.Value{Kind: wire.ValueNumber, Number: v} }
func text(v string) wire.Value    { return wire.Value{Kind: wire.ValueText, Text: []byte(v)} }
func boolean(v bool) wire.Value {
	if v {
		return wire.Value{Kind: wire.ValueBool, Number: 1}
	}
	return wire.Value{Kind: wire.ValueBool}
}

// batch builds what Write takes.
type batch struct {
	rows  []byte
	count int
}

func (b *batch) add(device, layout int32, seq uint64, at int64, values ...wire.Value) {
	b.rows = appendRow(b.rows, device, layout, &wire.Row{Seq: seq, Time: at, Values: values})
	b.count++
}

// series adds n rows of five numbers, a second apart from base, numbered from seq.
func (b *batch) series(device, layout int32, seq uint64, n int) {
	for i := range n {
		at := seq + uint64(i)
		b.add(device, layout, at, base+int64(at)*1000, number(float64(at)), number(2), number(3), number(4), number(5))
	}
}

func (f *fixture) write(tb testing.TB, b *batch) Outcome {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 60*time.Second)
	defer cancel()
	outcome, err := f.Write(ctx, 0, b.rows, b.count, nil)
	require.NoError(tb, err)
	return outcome
}

func (f *fixture) stored(tb testing.TB) int {
	tb.Helper()
	return one[int](tb, f.url, "SELECT count(*) FROM mooring.samples")
}

var testTime = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func counted(tb testing.TB, counter prometheus.Counter) float64 {
	tb.Helper()
	var got dto.Metric
	require.NoError(tb, counter.Write(&got))
	return got.GetCounter().GetValue()
}
