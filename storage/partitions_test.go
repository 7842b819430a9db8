package storage

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/internal/pgtest"
)

func TestPartitionWidths(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 1, 5, 6, 7, 8000, time.FixedZone("", 3*3600)) // a Sunday
	for width, want := range map[PartitionWidth][2]string{
		PartitionHour:  {"2026-03-01T02:00:00Z", "2026-03-01T03:00:00Z"},
		PartitionDay:   {"2026-03-01T00:00:00Z", "2026-03-02T00:00:00Z"},
		PartitionWeek:  {"2026-02-23T00:00:00Z", "2026-03-02T00:00:00Z"},
		PartitionMonth: {"2026-03-01T00:00:00Z", "2026-04-01T00:00:00Z"},
	} {
		begin := width.floor(at)
		require.Equal(t, want, [2]string{begin.Format(time.RFC3339), width.next(begin).Format(time.RFC3339)}, width)
		require.Equal(t, begin, width.floor(begin))
	}
	require.False(t, PartitionWidth("year").valid())
	require.Equal(t, PartitionDay, PartitionHour.at(coarseDay+1))
	require.Equal(t, PartitionMonth, PartitionDay.at(coarseMonth+1))
	require.Equal(t, PartitionWeek, PartitionWeek.at(time.Hour))
}

func TestNewPartitionsFitBetweenOldOnes(t *testing.T) {
	t.Parallel()
	day := func(n int) time.Time { return time.Date(2026, 5, n, 0, 0, 0, 0, time.UTC) }
	existing := []span{{day(3), day(4)}, {day(20), day(25)}, {beginningOfTime, time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC)}}
	got, ok := fit(day(10), PartitionMonth, existing)
	require.True(t, ok)
	require.Equal(t, span{day(4), day(20)}, got)
	got, ok = fit(day(1), PartitionWeek, existing) // from April 27th
	require.True(t, ok)
	require.Equal(t, span{time.Date(2026, 4, 27, 0, 0, 0, 0, time.UTC), day(3)}, got)
	_, ok = fit(day(3), PartitionDay, existing)
	require.False(t, ok)
	_, ok = fit(time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), PartitionDay, existing)
	require.False(t, ok)
}

func TestParseBounds(t *testing.T) {
	t.Parallel()
	got, err := parseBounds("FOR VALUES FROM ('2026-11-21 00:00:00+00') TO ('2026-11-21 01:02:03.5+00')")
	require.NoError(t, err)
	require.Equal(t, "2026-11-21T01:02:03.5Z", got.to.UTC().Format(time.RFC3339Nano))
	got, err = parseBounds("FOR VALUES FROM (MINVALUE) TO ('infinity')")
	require.NoError(t, err)
	require.True(t, got.contains(time.Unix(0, 0)))
	_, err = parseBounds("FOR VALUES IN ('x')")
	require.ErrorIs(t, err, errBounds)
}

// The width changes between starts: nothing overlaps, rows go on.
func TestWidthChangesBetweenStarts(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	day := int64(24 * time.Hour / time.Microsecond)
	seq := uint64(0)
	for _, width := range []PartitionWidth{PartitionDay, PartitionMonth, PartitionHour, PartitionWeek} {
		f := newFixture(t, url, func(c *Config) { c.Partition = width })
		var b batch
		for back := range int64(100) {
			seq++
			b.add(f.devices[0], f.numbers, seq, base-back*day, number(1))
		}
		require.Empty(t, f.write(t, &b).Rejected)
	}
	require.Equal(t, 400, one[int](t, url, "SELECT count(*) FROM mooring.samples"))
}

// Two gateways need the same partitions and layouts at the same moment.
func TestTwoStoresAtOnce(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	stores := []*fixture{newFixture(t, url), newFixture(t, url)}
	require.Equal(t, stores[0].numbers, stores[1].numbers)
	day := int64(24 * time.Hour / time.Microsecond)
	var all sync.WaitGroup
	for i, f := range stores {
		for writer := range 2 {
			all.Go(func() {
				for round := range int64(20) {
					var b batch
					for n := range int64(10) {
						b.add(f.devices[writer], f.numbers, uint64(i), base-(round*3+n)*day, number(1))
					}
					outcome, err := f.Write(t.Context(), writer, b.rows, b.count, nil)
					if err != nil || len(outcome.Rejected) > 0 {
						t.Errorf("write: %v %v", outcome, err)
					}
				}
			})
		}
	}
	for n := range 12 {
		all.Go(func() {
			if err := stores[n%2].partitions.ensure(t.Context(), []time.Time{time.Now().AddDate(0, 0, -n/4-100)}); err != nil {
				t.Errorf("ensure: %v", err)
			}
		})
	}
	all.Wait()
	require.Equal(t, 2*2*67, stores[0].stored(t))
}

func TestRetentionDropsWholePartitions(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	f := newFixture(t, url)
	day := int64(24 * time.Hour / time.Microsecond)
	var b batch
	for back := range int64(10) {
		b.add(f.devices[0], f.numbers, uint64(back), base-back*day, number(float64(back)))
	}
	f.write(t, &b)
	f.partitions.retention = 5 * 24 * time.Hour
	require.NoError(t, f.partitions.dropOld(t.Context()))
	require.Equal(t, 6, f.stored(t), "today and the days that are not yet over for five days")
	require.Zero(t, one[int](t, url, `SELECT count(*) FROM pg_class c WHERE relnamespace = 'mooring'::regnamespace
		AND relkind = 'r' AND relname LIKE 'samples\_%' AND NOT relispartition`), "nothing is left of them")

	// A reader holds the oldest partition: ingestion goes on, the drop waits.
	reader := connect(t, url)
	tx, err := reader.Begin(t.Context())
	require.NoError(t, err)
	var n int
	require.NoError(t, tx.QueryRow(t.Context(), "SELECT count(*) FROM mooring.samples").Scan(&n))
	f.partitions.retention = 2 * 24 * time.Hour
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	require.Error(t, f.partitions.dropOld(ctx))
	b = batch{}
	b.add(f.devices[0], f.numbers, 100, base, number(1))
	f.write(t, &b)
	require.NoError(t, tx.Rollback(t.Context()))
	require.Eventually(t, func() bool { return f.partitions.dropOld(t.Context()) == nil && f.stored(t) == 4 }, time.Minute, 20*time.Millisecond)
}
