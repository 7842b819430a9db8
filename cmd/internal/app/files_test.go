package app

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Devices never take the files that PostgreSQL's connections need.
func TestConnectionLimitLeavesFiles(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ wanted, writers, files, want int }{
		{100_000, 2, 0, 100_000}, // not known
		{100_000, 2, 1024, 926},
		{100_000, 2, 60, 23},
		{10, 2, 1024, 10},
		{100_000, 2, 1 << 20, 100_000},
	} {
		limit, err := connectionLimit(c.wanted, c.writers, c.files)
		require.NoError(t, err)
		require.Equal(t, c.want, limit, "%+v", c)
	}
	for _, c := range []struct {
		wanted      Limit
		files, want int
	}{{10_000, 0, 10_000}, {10_000, 1024, 64}, {NoLimit, 1024, 64}, {NoLimit, 0, -1}, {10, 1024, 10}} {
		require.Equal(t, c.want, unfinishedLimit(c.wanted, c.files), "%+v", c)
	}
	_, err := connectionLimit(100, 2, 32)
	require.ErrorContains(t, err, "raise the limit")
}
