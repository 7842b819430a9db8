package storage

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/internal/pgtest"
	"mooring/wire"
)

func TestProbe(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	f := newFixture(t, url)
	probe, err := OpenProbe(t.Context(), url, url, 2)
	require.NoError(t, err)
	before, err := probe.Sizes(t.Context())
	require.NoError(t, err)

	var rows []byte
	for seq := range uint64(1000) {
		rows = probe.AppendRow(rows, 1, f.numbers, &wire.Row{Seq: seq, Time: base, Values: []wire.Value{number(1), number(2)}})
	}
	taken, err := probe.Copy(t.Context(), 1, rows)
	require.NoError(t, err)
	require.Equal(t, 1000, taken)
	_, err = probe.Copy(t.Context(), 0, rows)
	require.ErrorContains(t, err, "23505", "a plain COPY takes no row twice")

	count, err := probe.Rows(t.Context())
	require.NoError(t, err)
	require.Equal(t, int64(1000), count)
	after, err := probe.Sizes(t.Context())
	require.NoError(t, err)
	require.Greater(t, after.Heap, before.Heap)
	require.Greater(t, after.Index, before.Index)
	setting, err := probe.Setting(t.Context(), "TimeZone")
	require.NoError(t, err)
	require.Equal(t, "UTC", setting)
	transactions, err := probe.Transactions(t.Context())
	require.NoError(t, err)
	require.GreaterOrEqual(t, transactions, int64(0))

	require.NoError(t, probe.Empty(t.Context()))
	count, err = probe.Rows(t.Context())
	require.NoError(t, err)
	require.Zero(t, count)
	require.NoError(t, probe.Close(t.Context()))
}

// TestProbeLoad fills partitions of days past, sets them aside and puts them
// back, and finds them as a Store's own: same bounds, same indexes.
func TestProbeLoad(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	f := newFixture(t, url)
	probe, err := OpenProbe(t.Context(), url, url, 2)
	require.NoError(t, err)
	defer func() { require.NoError(t, probe.Close(t.Context())) }()
	require.NoError(t, probe.Know(t.Context(), []int32{1, 2, 3}, f.numbers))
	require.NoError(t, probe.Know(t.Context(), []int32{3}, f.numbers))

	day := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for i := range 2 {
		var rows []byte
		for seq := range uint64(100) {
			rows = probe.AppendRow(rows, 1, f.numbers, &wire.Row{Seq: seq, Time: day.UnixMicro(), Values: []wire.Value{number(1), number(2)}})
		}
		turns := 0
		require.NoError(t, probe.Load(t.Context(), i, day, func() []byte {
			if turns++; turns > 3 {
				return nil
			}
			if turns > 1 {
				require.NoError(t, probe.Shift(rows, 1000, 100))
			}
			return rows
		}))
		day = day.AddDate(0, 0, 1)
	}
	rows := func() int64 {
		count, err := probe.Rows(t.Context())
		require.NoError(t, err)
		return count
	}
	require.Equal(t, int64(600), rows())
	again := probe.AppendRow(nil, 1, f.numbers, &wire.Row{Seq: 299, Time: day.AddDate(0, 0, -1).UnixMicro() + 2000, Values: []wire.Value{number(1)}})
	_, err = probe.Copy(t.Context(), 0, again)
	require.ErrorContains(t, err, "23505", "what was loaded is in the key's index")

	require.NoError(t, probe.SetAside(t.Context()))
	require.Zero(t, rows())
	require.NoError(t, probe.Drop(t.Context()))
	require.Zero(t, rows())
	_, err = probe.Copy(t.Context(), 0, again)
	require.ErrorContains(t, err, "23514", "no partition is left")
}
