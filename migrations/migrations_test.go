package migrations_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"mooring/internal/pgtest"
	"mooring/migrations"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func logger(t *testing.T) *slog.Logger {
	t.Helper()
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}

func execute(t *testing.T, url string, statements ...string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.Background()) }()
	for _, statement := range statements {
		_, err := conn.Exec(t.Context(), statement)
		require.NoError(t, err, statement)
	}
}

func one[T any](t *testing.T, url, sql string) T {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.Background()) }()
	rows, err := conn.Query(t.Context(), sql)
	require.NoError(t, err)
	value, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[T])
	require.NoError(t, err)
	return value
}

func TestUpAndStatus(t *testing.T) {
	t.Parallel()
	url := pgtest.EmptyURL(t)
	list, err := migrations.Status(t.Context(), url)
	require.NoError(t, err)
	require.NotEmpty(t, list)
	last := int64(0)
	for _, migration := range list {
		require.Greater(t, migration.Version, last, "in order")
		last = migration.Version
		require.True(t, migration.Pending())
	}
	require.False(t, one[bool](t, url, "SELECT to_regnamespace('mooring') IS NOT NULL"), "Status changes nothing")

	applied, err := migrations.Up(t.Context(), url, logger(t))
	require.NoError(t, err)
	require.Equal(t, len(list), applied)
	pending, err := migrations.Pending(t.Context(), url)
	require.NoError(t, err)
	require.Zero(t, pending)
	applied, err = migrations.Up(t.Context(), url, logger(t))
	require.NoError(t, err)
	require.Zero(t, applied)
	after, err := migrations.Status(t.Context(), url)
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), after[0].AppliedAt, time.Minute)
}

// Several servers start at once, on several databases of one cluster: each
// migration is applied once, and the role that they share is no trouble.
func TestUpFromManyAtOnce(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Cluster(t, pgtest.Options{Empty: true}) // without the role of readers
	super := cluster.SuperuserURL(t)
	execute(t, super, "DROP OWNED BY mooring_reader", "DROP ROLE mooring_reader")
	urls := []string{cluster.URL()}
	for i := range 2 {
		name := fmt.Sprintf("other%d", i)
		execute(t, super, "CREATE DATABASE "+name)
		config, err := pgx.ParseConfig(super)
		require.NoError(t, err)
		urls = append(urls, fmt.Sprintf("postgres://%s:%s@%s:%d/%s", config.User, config.Password, config.Host, config.Port, name))
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	applied := make(map[string]int)
	for _, url := range urls {
		for range 3 {
			all.Go(func() {
				n, err := migrations.Up(t.Context(), url, logger(t))
				if err != nil {
					t.Errorf("up: %v", err)
				}
				mu.Lock()
				defer mu.Unlock()
				applied[url] += n
			})
		}
	}
	all.Wait()
	list, err := migrations.Status(t.Context(), urls[0])
	require.NoError(t, err)
	for _, url := range urls {
		require.Equal(t, len(list), applied[url])
	}
	require.Equal(t, 1, one[int](t, super, "SELECT count(*) FROM pg_roles WHERE rolname = 'mooring_reader'"))
}

// The owner of a database who may not create roles gets everything but the
// readers' role, and is told how to have it made.
func TestUpWithoutCreateRole(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Cluster(t, pgtest.Options{Empty: true})
	super := cluster.SuperuserURL(t)
	execute(t, super, "DROP OWNED BY mooring_reader", "DROP ROLE mooring_reader",
		"CREATE ROLE modest LOGIN PASSWORD 'modest'", "CREATE DATABASE modest OWNER modest")
	config, err := pgx.ParseConfig(super)
	require.NoError(t, err)
	url := fmt.Sprintf("postgres://modest:modest@%s:%d/modest", config.Host, config.Port)
	_, err = migrations.Up(t.Context(), url, logger(t))
	require.NoError(t, err)
	require.Zero(t, one[int](t, url, "SELECT count(*) FROM pg_roles WHERE rolname = 'mooring_reader'"))
	execute(t, super, "CREATE ROLE mooring_reader LOGIN")
	applied, err := migrations.Up(t.Context(), url, logger(t)) // the next start sees to its rights
	require.NoError(t, err)
	require.Zero(t, applied)
	require.True(t, one[bool](t, url, "SELECT has_table_privilege('mooring_reader', 'mooring.readings', 'select')"))
	require.False(t, one[bool](t, url, "SELECT has_table_privilege('mooring_reader', 'mooring.tokens', 'select')"))
}

func TestNewerSchemaIsRefused(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	execute(t, url, "INSERT INTO mooring.schema_migrations (version_id, is_applied) VALUES (99999, true)")
	_, err := migrations.Up(t.Context(), url, logger(t))
	require.ErrorIs(t, err, migrations.ErrNewerSchema)
}

// Everything that readers meet explains itself.
func TestViewsAndColumnsHaveComments(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	require.Equal(t, "", one[string](t, url, `SELECT coalesce(string_agg(c.relname, ', '), '') FROM pg_class c
		WHERE c.relnamespace = 'mooring'::regnamespace AND c.relkind = 'v' AND obj_description(c.oid, 'pg_class') IS NULL`))
}
