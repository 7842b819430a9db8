//go:build linux || darwin

package pgtest_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"mooring/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func one(t *testing.T, url, query string) string {
	t.Helper()
	connection, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer connection.Close(t.Context())
	var answer string
	require.NoError(t, connection.QueryRow(t.Context(), query).Scan(&answer))
	return answer
}

func TestDatabasesAreSeparate(t *testing.T) {
	t.Parallel()
	first, second := pgtest.URL(t), pgtest.URL(t)
	require.NotEqual(t, one(t, first, "SELECT current_database()"), one(t, second, "SELECT current_database()"))
	require.Equal(t, "mooring", one(t, first, "SELECT current_user"))
	require.Equal(t, "mooring_reader", one(t, pgtest.ReaderURL(t, first), "SELECT current_user"))
}

func TestClusterStopStart(t *testing.T) {
	t.Parallel()
	own := pgtest.Cluster(t)
	require.Equal(t, "mooring", one(t, own.URL(), "SELECT current_user"))
	own.Stop(t)
	_, err := pgx.Connect(t.Context(), own.URL())
	require.Error(t, err)
	own.Start(t)
	require.Equal(t, "mooring", one(t, own.URL(), "SELECT current_user"))
	own.Kill9(t)
	own.Start(t)
	require.Equal(t, "mooring", one(t, own.URL(), "SELECT current_user"))
	own.Pause(t)
	own.Resume(t)
	require.Equal(t, "mooring", one(t, own.URL(), "SELECT current_user"))
}
