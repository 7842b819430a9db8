package app

import (
	"testing"

	"github.com/stretchr/testify/require"

	"mooring/internal/pgtest"
	"mooring/storage"
	"mooring/storage/embedded"
)

func TestWithOptions(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"postgres://m:p%40ss@db/mooring":                        "postgres://m:p%40ss@db/mooring?options=-c%20a%3Db%2Cc",
		"postgresql://m@a:5432,b:5433/x?sslmode=require":        "postgresql://m@a:5432,b:5433/x?sslmode=require&options=-c%20a%3Db%2Cc",
		"postgres://m@db/x?options=-c%20geqo%3Doff&sslmode=off": "postgres://m@db/x?sslmode=off&options=-c%20geqo%3Doff%20-c%20a%3Db%2Cc",
	} {
		got, err := withOptions(text, "-c a=b,c")
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	_, err := FindDatabase(Location{DatabaseURL: "host=db password=secret"})
	require.ErrorContains(t, err, "--database-url must be")
	require.NotContains(t, err.Error(), "secret")
}

// A login that may take the reader's role on can do no more than read; one that
// may not, is told so.
func TestReaderOfConfiguredDatabase(t *testing.T) {
	t.Parallel()
	postgres := pgtest.Cluster(t)
	for _, c := range []struct {
		url     string
		limited bool
	}{
		{postgres.SuperuserURL(t), true},
		{postgres.URL(), false},
		{postgres.URL() + "&target_session_attrs=read-write", false},
	} {
		url, limited, err := Database{URL: c.url}.Reader(t.Context())
		require.NoError(t, err)
		require.Equal(t, c.limited, limited)
		reader, err := storage.OpenReader(t.Context(), url)
		require.NoError(t, err)
		defer reader.Close()
		_, rows, err := reader.Table(t.Context(), "SELECT count(*) FROM readings")
		require.NoError(t, err, "without naming the schema")
		require.Equal(t, [][]string{{"0"}}, rows)
		_, _, err = reader.Table(t.Context(), "DELETE FROM mooring.devices")
		require.Error(t, err)
		_, _, err = reader.Table(t.Context(), "SELECT * FROM mooring.tokens")
		require.Equal(t, c.limited, err != nil)
	}
	_, _, err := Database{URL: "postgres://nobody@127.0.0.1:1/none"}.Reader(t.Context())
	require.Error(t, err)
}

func TestFindDatabaseNotRunning(t *testing.T) {
	t.Parallel()
	_, err := FindDatabase(Location{DataDir: t.TempDir()})
	require.ErrorIs(t, err, embedded.ErrNotRunning)
}

func TestRedact(t *testing.T) {
	t.Parallel()
	require.Equal(t, "postgres://m:…@a:5432,b:5433/x", Redact("postgres://m:pa:ss@a:5432,b:5433/x"))
	require.Equal(t, "postgres://m@a:5432/x", Redact("postgres://m@a:5432/x"))
	require.Equal(t, "postgres://u:…@h/db", Redact("postgres://u:s3c/r@et@h/db"))
	require.Equal(t, "postgres://h/db?user=u&password=…&sslPassword=…&x=y", Redact("postgres://h/db?user=u&password=s3cret&sslPassword=p&x=y"))
	require.Equal(t, "postgres://u@h/db?password=…", Redact("postgres://u@h/db?password=a@b"))
}
