package storage

import (
	"testing"

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
