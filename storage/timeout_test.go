package storage

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/internal/pgtest"
)

// A statement_timeout that an administrator sets for everybody does not stop
// rows; people who read keep theirs.
func TestStatementTimeoutOfTheDatabase(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	super := connect(t, pgtest.SuperuserURL(t, url))
	_, err := super.Exec(t.Context(), `CREATE FUNCTION public.slow() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM pg_sleep(0.2); RETURN NULL; END$$;
		CREATE TRIGGER slow BEFORE INSERT ON mooring.samples FOR EACH STATEMENT EXECUTE FUNCTION public.slow()`)
	require.NoError(t, err)
	_, err = super.Exec(t.Context(), "DO $$BEGIN EXECUTE format('ALTER DATABASE %I SET statement_timeout = 50', current_database()); END$$")
	require.NoError(t, err)

	f := newFixture(t, url)
	var b batch
	b.series(f.devices[0], f.numbers, 0, 10)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	outcome, err := f.Write(ctx, 0, b.rows, b.count, nil)
	require.NoError(t, err)
	require.Empty(t, outcome.Rejected)

	reader, err := OpenReader(t.Context(), url)
	require.NoError(t, err)
	defer reader.Close()
	_, _, err = reader.Table(t.Context(), "SELECT pg_sleep(1)")
	require.ErrorContains(t, err, "statement timeout")
}
