package app

import (
	"testing"

	"github.com/stretchr/testify/require"

	"mooring/storage/embedded"
)

func TestConfiguredDatabase(t *testing.T) {
	t.Parallel()
	const settings = "-c%20role=mooring_reader%20-c%20default_transaction_read_only=on%20-c%20search_path=mooring%2Cmooring_layout%2Cpublic"
	for text, want := range map[string]string{
		"postgres://m:p%40ss@db/mooring":                        "postgres://m:p%40ss@db/mooring?options=" + settings,
		"postgresql://m@a:5432,b:5433/x?sslmode=require":        "postgresql://m@a:5432,b:5433/x?sslmode=require&options=" + settings,
		"postgres://m@db/x?options=-c%20geqo%3Doff&sslmode=off": "postgres://m@db/x?sslmode=off&options=-c%20geqo=off%20" + settings,
	} {
		got, err := FindDatabase(t.Context(), Location{DatabaseURL: text})
		require.NoError(t, err)
		require.Equal(t, text, got.URL)
		require.Equal(t, want, got.ReaderURL)
		require.Nil(t, got.Embedded)
	}
	_, err := FindDatabase(t.Context(), Location{DatabaseURL: "host=db password=secret"})
	require.ErrorContains(t, err, "--database-url must be")
	require.NotContains(t, err.Error(), "secret")
}

func TestFindDatabaseNotRunning(t *testing.T) {
	t.Parallel()
	_, err := FindDatabase(t.Context(), Location{DataDir: t.TempDir()})
	require.ErrorIs(t, err, embedded.ErrNotRunning)
}

func TestRedact(t *testing.T) {
	t.Parallel()
	require.Equal(t, "postgres://m:…@a:5432,b:5433/x", Redact("postgres://m:pa:ss@a:5432,b:5433/x"))
	require.Equal(t, "postgres://m@a:5432/x", Redact("postgres://m@a:5432/x"))
}
