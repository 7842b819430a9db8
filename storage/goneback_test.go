package storage

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/internal/pgtest"
)

// A database that was restored, or failed over and lost its last commits, may
// have given a layout's number to another layout. Rows that would be read as
// something else then are not stored, and the server is told.
func TestRowsOfALayoutThatTheDatabaseLostAreNotStored(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]string{
		"gone":          `DELETE FROM mooring.layouts WHERE name = 'env'`,
		"another's now": `UPDATE mooring.layouts SET fingerprint = sha256('another'), name = 'pressures' WHERE name = 'env'`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			told := make(chan error, 10)
			f := newFixture(t, pgtest.URL(t), func(c *Config) { c.OnGoneBack = func(err error) { told <- err } })
			var before batch
			before.series(f.devices[0], f.numbers, 1, 3)
			f.write(t, &before)
			execute(t, f.url, lose, endWriters)

			var after batch
			after.series(f.devices[0], f.numbers, 10, 3)
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			_, err := f.Write(ctx, 0, after.rows, after.count, nil)
			require.ErrorIs(t, err, ErrGoneBack)
			require.Equal(t, 3, f.stored(t), "nothing is stored under a number that means something else")
			require.ErrorIs(t, <-told, ErrGoneBack)

			// What other layouts have in memory is as doubtful.
			var others batch
			others.add(f.devices[0], f.mixed, 20, base, number(1), boolean(true), text("on"))
			_, err = f.Write(ctx, 1, others.rows, others.count, nil)
			require.ErrorIs(t, err, ErrGoneBack)
			_, err = f.ResolveLayout(ctx, f.devices[0], &mixedLayout)
			require.ErrorIs(t, err, ErrGoneBack)
			require.False(t, errors.Is(err, ErrLayoutRefused))
			require.Empty(t, told, "it is said once")
		})
	}
}

// A new connection alone is no reason to doubt.
func TestLayoutsAreLookedAtOnNewConnections(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.URL(t), func(c *Config) { c.OnGoneBack = func(err error) { t.Error(err) } })
	for round := range uint64(3) {
		var b batch
		b.series(f.devices[0], f.numbers, 100*round, 3)
		b.add(f.devices[1], f.mixed, 100*round, base, number(1), boolean(true), text("on"))
		f.write(t, &b)
		execute(t, f.url, endWriters)
	}
	require.Equal(t, 12, f.stored(t))
}

const endWriters = `SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
	WHERE datname = current_database() AND application_name LIKE 'mooring writer%'`
