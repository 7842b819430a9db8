package ingest

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestComplaintIsMadeNowAndThen(t *testing.T) {
	t.Parallel()
	var c complaint
	_, due := c.due(0)
	require.True(t, due)
	for now := range int64(5) {
		_, due = c.due(now)
		require.False(t, due)
	}
	skipped, due := c.due(complainEvery + 1)
	require.True(t, due)
	require.Equal(t, uint64(5), skipped)
}
