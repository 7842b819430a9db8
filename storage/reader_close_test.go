package storage

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/internal/pgtest"
)

// TestReaderClosesWhileTheDatabaseHangs: it cuts what would be waited for to say
// goodbye for a quarter of a minute.
func TestReaderClosesWhileTheDatabaseHangs(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Cluster(t)
	reader, err := OpenReader(t.Context(), cluster.URL())
	require.NoError(t, err)
	cluster.Pause(t)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, _, err = reader.Table(ctx, "SELECT 1")
	require.Error(t, err)
	reader.Close()
	cluster.Resume(t)
	reader.sockets.mu.Lock()
	defer reader.sockets.mu.Unlock()
	require.True(t, reader.sockets.cut, "it waited")
}
