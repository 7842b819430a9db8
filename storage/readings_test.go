package storage

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/internal/pgtest"
	"mooring/wire"
)

func openReader(t *testing.T, url string) *Reader {
	t.Helper()
	r, err := OpenReader(t.Context(), pgtest.ReaderURL(t, url))
	require.NoError(t, err)
	t.Cleanup(r.Close)
	return r
}

func TestReadingsOfAStretch(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.URL(t))
	var b batch
	start := time.Now().UTC().Truncate(time.Hour).Add(-2 * time.Hour)
	for i := range int64(120) { // one a minute: c1 rises, c2 is there every other time
		second := number(float64(-i))
		if i%2 == 1 {
			second = wire.Value{} // none
		}
		b.add(f.devices[0], f.numbers, uint64(i), start.UnixMicro()+i*60_000_000, number(float64(i)), second, number(0), number(0), number(0))
	}
	f.write(t, &b)
	r := openReader(t, f.url)

	var got []Reading
	collect := func(reading Reading) error { got = append(got, reading); return nil }
	stretch := Stretch{Device: "dev-1", From: start.Add(10 * time.Minute), Until: start.Add(14 * time.Minute), Metrics: []string{"c1", "c2"}}
	require.NoError(t, r.Readings(t.Context(), stretch, collect))
	require.Len(t, got, 6, "four of c1 and two of c2; the end is excluded")
	require.Equal(t, "c1", got[0].Metric)
	require.InDelta(t, 10, *got[0].Value, 0)
	require.Equal(t, "c2", got[1].Metric)
	require.InDelta(t, -10, *got[1].Value, 0)
	require.True(t, got[0].Time.Equal(stretch.From))

	stretch.Limit, got = 2, nil
	require.NoError(t, r.Readings(t.Context(), stretch, collect))
	require.Len(t, got, 2)
	enough := errors.New("enough")
	require.ErrorIs(t, r.Readings(t.Context(), stretch, func(Reading) error { return enough }), enough)

	latest, err := r.Latest(t.Context(), "dev-1")
	require.NoError(t, err)
	require.Len(t, latest, 5)
	require.InDelta(t, 119, *latest[0].Value, 0)
	require.InDelta(t, -118, *latest[1].Value, 0, "the last one that had a reading")
	layouts, err := r.Layouts(t.Context(), "dev-1")
	require.NoError(t, err)
	require.Len(t, layouts, 2)
	require.Equal(t, "number", layouts[1].Channels[0].Kind)
}

func TestDownsampled(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.URL(t))
	var b batch
	start := time.Now().UTC().Truncate(time.Hour).Add(-2 * time.Hour)
	for i := range int64(120) {
		b.add(f.devices[0], f.numbers, uint64(i), start.UnixMicro()+i*60_000_000, number(float64(i%7)), number(float64(i)), number(0), number(0), number(0))
	}
	f.write(t, &b)
	r := openReader(t, f.url)
	var got []Bucket
	err := r.Downsampled(t.Context(), Stretch{Device: "dev-1", From: start, Until: start.Add(2 * time.Hour), Metrics: []string{"c1", "c2"}},
		time.Hour, func(b Bucket) error { got = append(got, b); return nil })
	require.NoError(t, err)
	require.Len(t, got, 4)
	require.Equal(t, Bucket{Start: got[1].Start, Metric: "c2", Unit: got[1].Unit, Count: 60, Min: 0, Max: 59, Avg: 29.5, Last: 59}, got[1])
	require.True(t, got[0].Start.Equal(start))
	require.True(t, got[3].Start.Equal(start.Add(time.Hour)))
	require.InDelta(t, float64(119%7), got[2].Last, 0)
}

// TestReadingsStream: a reader who is done, or gone, ends the query.
func TestReadingsStream(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.URL(t))
	var b batch
	b.series(f.devices[0], f.numbers, 0, 2000)
	f.write(t, &b)
	r := openReader(t, f.url)
	ctx, cancel := context.WithCancel(t.Context())
	err := r.Readings(ctx, Stretch{Device: "dev-1", From: time.UnixMicro(base), Until: time.Now().Add(time.Hour)}, func(Reading) error {
		cancel()
		return nil
	})
	require.ErrorIs(t, err, context.Canceled)
	list, err := r.RecentRejects(t.Context(), "dev-1", 0, 10)
	require.NoError(t, err)
	require.Empty(t, list)
}
