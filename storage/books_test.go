package storage

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/internal/pgtest"
)

// booked is what the books say of a device.
type booked struct{ committed, duplicate int64 }

func (f *fixture) booked(t *testing.T, device int32) booked {
	t.Helper()
	var c booked
	err := f.pool.QueryRow(t.Context(), `SELECT committed, duplicate FROM mooring.books b
		JOIN mooring.devices d ON d.name = b.device WHERE d.id = $1`, device).Scan(&c.committed, &c.duplicate)
	require.NoError(t, err)
	return c
}

// The books say what is in samples, on every path of a batch, before and after
// they are folded.
func TestBooksAgreeWithSamples(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.URL(t))
	first, second := f.devices[0], f.devices[1]
	var b batch
	b.series(first, f.numbers, 0, 100)
	b.series(second, f.numbers, 0, 10)
	b.series(first, f.numbers, 100, 50)
	f.write(t, &b)
	require.Equal(t, booked{150, 0}, f.booked(t, first))
	require.Equal(t, booked{10, 0}, f.booked(t, second))

	b = batch{}
	b.series(first, f.numbers, 140, 20)
	b.series(second, f.numbers, 10, 5)
	f.write(t, &b)
	require.Equal(t, booked{160, 10}, f.booked(t, first))
	require.Equal(t, booked{15, 0}, f.booked(t, second))

	require.NoError(t, f.books.fold(t.Context(), f.pool))
	require.Zero(t, one[int](t, f.url, "SELECT count(*) FROM mooring.batches"), "all folded")
	require.Equal(t, booked{160, 10}, f.booked(t, first))
	f.write(t, &b) // once more, after the fold
	require.Equal(t, booked{160, 30}, f.booked(t, first))
	require.Equal(t, booked{15, 5}, f.booked(t, second))
	require.Equal(t, 175, f.stored(t))
}

// A batch that may still be asked for is not folded.
func TestFoldLeavesWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	b := newBooks(1)
	first, second, third := b.begin(), b.begin(), b.begin()
	b.end(second)
	require.Equal(t, first-1, b.done())
	b.end(first)
	require.Equal(t, second, b.done())
	b.end(third)
	require.Equal(t, third, b.done())
}

// What a process left behind is folded by another, but not before it is certain
// that the process will not ask for it.
func TestFoldTakesWhatOthersLeft(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.URL(t))
	for number, age := range []time.Duration{time.Minute, 2 * time.Hour} {
		_, err := f.pool.Exec(t.Context(), `INSERT INTO mooring.batches (owner, number, at, devices, rows, committed)
			VALUES (1, $1, now() - make_interval(secs => $2), ARRAY[$3::int4, 9999], '{5,5}', '{3,5}')`, number, age.Seconds(), f.devices[0])
		require.NoError(t, err)
	}
	require.NoError(t, f.books.fold(t.Context(), f.pool))
	require.Equal(t, 1, one[int](t, f.url, "SELECT count(*) FROM mooring.batches"))
	require.Equal(t, 1, one[int](t, f.url, "SELECT count(*) FROM mooring.device_counts"), "not of devices that were removed")
	require.Equal(t, booked{6, 4}, f.booked(t, f.devices[0]))
}
