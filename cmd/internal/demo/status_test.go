package demo

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/ingest"
)

func TestStatusLines(t *testing.T) {
	t.Parallel()
	begun := time.Unix(1000, 0)
	ended := false
	s := status{
		url: "http://localhost:1", begun: begun, length: 20 * time.Second, all: 26,
		ended: func() bool { return ended },
	}
	s.lines(begun, ingest.Stats{})
	stats := ingest.Stats{
		Connections: 27, RowsIn: 5012, RowsCommitted: 4000, RowsDuplicate: 1000, RowsRejected: 12,
		BytesWaiting: 2048, AckP50: 1800 * time.Microsecond, AckP99: 25 * time.Millisecond,
	}
	block, plain := s.lines(begun.Add(2*time.Second), stats)
	require.Equal(t, "2s of 20s: devices 26 of 26 online, rows 2,500/s, acked 5,000, ack p50 1.8 ms, p99 25 ms, waiting 2.0 KiB", plain,
		"connections under way are no devices beyond all")
	require.Contains(t, block, "  rows     2,500/s, 5,012 received, 4,000 committed, 1,000 again, 12 refused")

	// The rate is that of the last seconds.
	for i := range 10 {
		_, plain = s.lines(begun.Add(time.Duration(3+i)*time.Second), stats)
	}
	require.Contains(t, plain, "rows 0/s")
	ended = true
	_, plain = s.lines(begun.Add(21*time.Second), stats)
	require.Contains(t, plain, "21s, waiting for the last acks: devices")
}

func TestNumbers(t *testing.T) {
	t.Parallel()
	require.Equal(t, "1,234,567", group(1234567))
	require.Equal(t, "999", group(999))
	require.Equal(t, "-", short(0))
	require.Equal(t, "1.5 s", short(1500*time.Millisecond))
	require.Equal(t, "3.0 MiB", size(3<<20))
	require.Equal(t, "17 B", size(17))
}
