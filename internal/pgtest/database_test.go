//go:build linux || darwin

package pgtest_test

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"mooring/internal/pgtest"
)

func ask(t *testing.T, url, query string) string {
	t.Helper()
	connection, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer connection.Close(t.Context())
	var answer string
	require.NoError(t, connection.QueryRow(t.Context(), query).Scan(&answer))
	return answer
}

const tables = "SELECT count(*)::text FROM pg_tables WHERE schemaname = 'mooring'"

func TestDatabases(t *testing.T) {
	t.Parallel()
	first, second, empty := pgtest.URL(t), pgtest.URL(t), pgtest.EmptyURL(t)
	names := make(map[string]bool)
	for _, url := range []string{first, second, empty} {
		names[ask(t, url, "SELECT current_database()")] = true
		require.Equal(t, "mooring", ask(t, url, "SELECT current_user"))
		require.Equal(t, "mooring", ask(t, url, "SELECT pg_get_userbyid(datdba)::text FROM pg_database WHERE datname = current_database()"))
	}
	require.Len(t, names, 3)
	require.NotEqual(t, "0", ask(t, first, tables))
	require.Equal(t, "0", ask(t, empty, tables))

	require.Equal(t, "mooring_reader", ask(t, pgtest.ReaderURL(t, first), "SELECT current_user"))
	require.Equal(t, ask(t, first, "SELECT current_database()"), ask(t, pgtest.ReaderURL(t, first), "SELECT current_database()"))
	require.Equal(t, "on", ask(t, pgtest.SuperuserURL(t, first), "SHOW is_superuser"))
}

func TestDatabaseIsDroppedThoughInUse(t *testing.T) {
	t.Parallel()
	var name, url string
	var connection *pgx.Conn
	t.Run("user", func(t *testing.T) {
		url = pgtest.URL(t)
		name = ask(t, url, "SELECT current_database()")
		var err error
		connection, err = pgx.Connect(context.WithoutCancel(t.Context()), url)
		require.NoError(t, err)
	})
	defer connection.Close(t.Context())
	require.Error(t, connection.Ping(t.Context()))
	require.Equal(t, "0", ask(t, pgtest.EmptyURL(t), "SELECT count(*)::text FROM pg_database WHERE datname = '"+name+"'"))
}

func TestManyDatabasesAtOnce(t *testing.T) {
	t.Parallel()
	for i := range 8 {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			t.Parallel()
			require.NotEqual(t, "0", ask(t, pgtest.URL(t), tables))
		})
	}
}

func TestOwnCluster(t *testing.T) {
	t.Parallel()
	own := pgtest.Cluster(t, pgtest.Options{Settings: map[string]string{"work_mem": "5MB"}})
	address := own.URL()
	require.Equal(t, "5MB", ask(t, address, "SHOW work_mem"))
	require.NotEqual(t, "0", ask(t, address, tables))
	require.Equal(t, "mooring", ask(t, own.SuperuserURL(t), "SELECT current_database()"))
	require.Equal(t, "mooring_reader", ask(t, own.ReaderURL(), "SELECT current_user"))

	for name, down := range map[string]func(testing.TB){"stop": own.Stop, "kill": own.Kill9} {
		down(t)
		_, err := pgx.Connect(t.Context(), address)
		require.Error(t, err, name)
		own.Start(t)
		require.Equal(t, address, own.URL())
		require.NotEqual(t, "0", ask(t, address, tables), name)
	}
}

func TestPauseAndResume(t *testing.T) {
	t.Parallel()
	own := pgtest.Cluster(t, pgtest.Options{Empty: true})
	require.Equal(t, "0", ask(t, own.URL(), tables))
	connection, err := pgx.Connect(t.Context(), own.URL())
	require.NoError(t, err)
	defer connection.Close(t.Context())

	own.Pause(t)
	answer := make(chan error, 1)
	go func() { answer <- connection.Ping(context.WithoutCancel(t.Context())) }()
	limited, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err = pgx.Connect(limited, own.URL())
	require.ErrorIs(t, err, context.DeadlineExceeded, "new connections hang too")
	require.Empty(t, answer)
	own.Resume(t)
	require.NoError(t, <-answer, "the connection lived through it")
}

func TestPausedClusterIsCleanedUp(t *testing.T) {
	t.Parallel()
	pgtest.Cluster(t, pgtest.Options{Empty: true}).Pause(t)
}
