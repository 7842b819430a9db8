package ingest

import (
	"bytes"
	"log/slog"
	"sync"
	"testing"
	"time"

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

// While the database is away, devices by the thousand may wait for their layouts,
// and each asks again every few seconds: that is one complaint.
func TestComplaintOfLayoutsThatAreNotResolved(t *testing.T) {
	t.Parallel()
	var log syncBuffer
	cfg := quick()
	cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
	store := newFakeStore()
	store.layoutFails = 10
	sv := serve(t, cfg, store)
	sv.gateway.unresolved.last.Store(sv.gateway.clock.now() + int64(time.Hour)) // just made
	devices := make([]*device, 5)
	for i := range devices {
		devices[i] = sv.join(t, i)
		devices[i].data(0, 1)
	}
	for _, d := range devices {
		d.ackUpTo(1)
	}
	require.NotContains(t, string(log.bytes()), "layout not resolved")
	require.Equal(t, uint64(10), sv.gateway.unresolved.skipped.Load())
}

// syncBuffer is a log that may be read while it is written.
type syncBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *syncBuffer) bytes() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Clone(b.buffer.Bytes())
}
