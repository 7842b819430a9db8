package storage

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/internal/pgtest"
)

// Somebody reads for long, a backup say, while retention takes a partition away. What
// is left half done waits for its end, but not with a lock in hand that keeps new
// partitions from being made; and when it is over, one run is enough.
func TestRetentionKeepsNobodyFromNewPartitions(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	f := newFixture(t, url)
	day := int64(24 * time.Hour / time.Microsecond)
	var b batch
	for back := range int64(4) {
		b.add(f.devices[0], f.numbers, uint64(back), base-back*day, number(float64(back)))
	}
	f.write(t, &b)
	// The store's own run, or a backend whose statement was cut off, may take a moment.
	alone := func() {
		t.Helper()
		require.Eventually(t, func() bool {
			return one[bool](t, url, `SELECT NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory'
				AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))`)
		}, time.Minute, 5*time.Millisecond)
	}
	alone()
	reader := connect(t, url)
	tx, err := reader.Begin(t.Context())
	require.NoError(t, err)
	var n int
	require.NoError(t, tx.QueryRow(t.Context(), "SELECT count(*) FROM mooring.samples").Scan(&n))
	f.partitions.retention = 2 * 24 * time.Hour
	const halfDone = "SELECT count(*) FROM pg_inherits WHERE inhdetachpending"
	short, cut := context.WithCancel(t.Context())
	defer cut()
	dropped := make(chan error, 1)
	go func() { dropped <- f.partitions.dropOld(short) }()
	require.Eventually(t, func() bool { return one[int](t, url, halfDone) == 1 }, patience, 5*time.Millisecond, "it waits for the reader")
	cut()
	require.Error(t, <-dropped)
	require.Equal(t, 1, one[int](t, url, halfDone))

	alone()
	bounded, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, f.partitions.dropOld(bounded), "it is left for the next run")
	require.Equal(t, 1, one[int](t, url, halfDone))
	require.NoError(t, f.partitions.ensure(t.Context(), []time.Time{time.Now().AddDate(0, 0, -100)}))

	require.NoError(t, tx.Rollback(t.Context()))
	alone()
	require.NoError(t, f.partitions.dropOld(t.Context()))
	require.Zero(t, one[int](t, url, halfDone))
	require.Equal(t, 3, f.stored(t))
	require.Zero(t, one[int](t, url, `SELECT count(*) FROM pg_class c WHERE relnamespace = 'mooring'::regnamespace
		AND relkind = 'r' AND relname LIKE 'samples\_%' AND NOT relispartition`), "nothing is left of it")
}
