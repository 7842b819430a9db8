package storage

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/internal/pgtest"
	"mooring/wire"
)

var sink []byte

func BenchmarkAppendRow(b *testing.B) {
	for name, values := range map[string][]wire.Value{
		"5 numbers":                  {number(1), number(2), number(3), number(4), number(5)},
		"10 numbers":                 {number(1), number(2), number(3), number(4), number(5), number(6), number(7), number(8), number(9), {}},
		"2 numbers, a bool, a text":  {number(1), number(2), boolean(true), text("running on batteries")},
		"100 numbers, as of a meter": make([]wire.Value, 100),
	} {
		b.Run(name, func(b *testing.B) {
			row := wire.Row{Seq: 1, Time: base, Values: values}
			sink = appendRow(sink[:0], 1, 1, &row)
			b.SetBytes(int64(len(sink)))
			b.ReportAllocs()
			for b.Loop() {
				row.Seq++
				sink = appendRow(sink[:0], 1, 1, &row)
			}
		})
	}
}

func TestAppendRowDoesNotAllocate(t *testing.T) {
	row := wire.Row{Seq: 1, Time: base, Values: []wire.Value{number(1), boolean(true), text("on"), {}}}
	buffer := make([]byte, 0, 1024)
	require.Zero(t, testing.AllocsPerRun(100, func() { buffer = appendRow(buffer[:0], 1, 1, &row) }))
}

// The bookkeeping beside each batch of 10,000 rows of 1,000 devices.
func BenchmarkTracker(b *testing.B) {
	var rows batch
	for device := range int32(1000) {
		rows.series(device, 1, 0, 10)
	}
	t := newTracker(1)
	var arranged arrangement
	b.SetBytes(int64(len(rows.rows)))
	b.ReportAllocs()
	for b.Loop() {
		_ = arranged.arrange(rows.rows, rows.count)
		t.begin(arranged.runs, testTime)
		t.end(arranged.runs, true, testTime)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(rows.count), "ns/row")
}

// Batches of 10,000 rows × 5 values of 1,000 devices, over one connection.
func BenchmarkWrite(b *testing.B) {
	for _, way := range []string{"copy", "one duplicate", "all duplicates"} {
		b.Run(way, func(b *testing.B) {
			f := newFixture(b, pgtest.URL(b))
			var rows batch
			seq := uint64(0)
			fill := func() {
				rows = batch{rows: rows.rows[:0]}
				for device := range int32(1000) {
					rows.series(device, f.numbers, seq, 10)
				}
				seq += 10
			}
			fill()
			f.write(b, &rows)
			b.SetBytes(int64(len(rows.rows)))
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				b.StopTimer()
				switch way {
				case "copy":
					fill()
				case "one duplicate":
					fill()
					rows.series(0, f.numbers, seq-1, 1)
				}
				b.StartTimer()
				f.write(b, &rows)
			}
			b.ReportMetric(float64(rows.count)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

// Bringing the last known values of 1,000 devices × 5 channels to the database,
// which happens twice a minute while they send.
func BenchmarkSettle(b *testing.B) {
	f := newFixture(b, pgtest.URL(b))
	var rows batch
	seq := uint64(0)
	for b.Loop() {
		b.StopTimer()
		rows = batch{rows: rows.rows[:0]}
		for device := range int32(1000) {
			rows.series(device, f.numbers, seq, 1)
		}
		seq++
		f.write(b, &rows)
		b.StartTimer()
		require.NoError(b, f.tracker.settle(b.Context(), f.pool, time.Now().Add(settleEvery), false))
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/1000, "µs/pair")
}

// interleaved is a batch as it comes in: frames of ten rows of 100 devices, turn
// by turn.
func interleaved() (b batch) {
	for frame := range uint64(8) {
		for device := range int32(100) {
			b.series(1+device*37%100, 1, frame*10, 10)
		}
	}
	return b
}

// What happens to a batch before its COPY: rows found, put in order, runs and
// marks, and pieces made of it.
func BenchmarkArrange(b *testing.B) {
	rows := interleaved()
	t := newTracker(1)
	var w writer
	b.SetBytes(int64(len(rows.rows)))
	b.ReportAllocs()
	for b.Loop() {
		prepareBatch(b, t, &w, &rows)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(rows.count), "ns/row")
}

func prepareBatch(tb testing.TB, t *tracker, w *writer, rows *batch) {
	tb.Helper()
	if err := w.arranged.arrange(rows.rows, rows.count); err != nil {
		tb.Fatal(err)
	}
	t.begin(w.arranged.runs, testTime)
	w.sql.Reset()
	t.appendMarks(&w.sql, w.arranged.runs)
	sinkPieces = w.arranged.pieces()
	t.end(w.arranged.runs, true, testTime)
	w.arranged.release()
}

var sinkPieces [][]byte

func TestPreparingABatchDoesNotAllocate(t *testing.T) {
	rows := interleaved()
	tracked := newTracker(1)
	var w writer
	prepareBatch(t, tracked, &w, &rows) // buffers and marks
	require.Zero(t, testing.AllocsPerRun(20, func() { prepareBatch(t, tracked, &w, &rows) }))
}
