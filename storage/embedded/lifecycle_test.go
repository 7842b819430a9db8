//go:build linux || darwin

package embedded

import (
	"bytes"
	"context"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

func TestRestartKeepsDataAndAddress(t *testing.T) {
	t.Parallel()
	config := testConfig(t)
	config.Unsafe = false // as in production, once
	first := start(t, config)
	execute(t, first.URL(), "CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (42)")
	for name, want := range map[string]string{
		"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "data_checksums": "on",
		"unix_socket_directories": "", "cluster_name": "mooring",
		"password_encryption": "scram-sha-256", "listen_addresses": "127.0.0.1", "TimeZone": "UTC", "lc_collate": "C",
	} {
		if name == "lc_collate" {
			require.Equal(t, want, ask(t, first.URL(), "SELECT datcollate FROM pg_database WHERE datname = 'mooring'"))
			continue
		}
		require.Equal(t, want, ask(t, first.SuperuserURL(), "SHOW "+name), name)
	}
	stop(t, first)
	require.False(t, alive(first.Info().PID))
	require.False(t, exists(pidFilePath(first.paths.cluster)), "it was stopped in good order")

	second := start(t, config)
	require.Equal(t, first.URL(), second.URL())
	require.Equal(t, first.ReaderURL(), second.ReaderURL())
	require.Equal(t, "42", ask(t, second.URL(), "SELECT n::text FROM kept"))
}

func TestRolesAndSecrets(t *testing.T) {
	t.Parallel()
	config := testConfig(t)
	var said bytes.Buffer
	config.Logger = slog.New(slog.NewTextHandler(&said, &slog.HandlerOptions{Level: slog.LevelDebug}))
	cluster := start(t, config)

	require.Equal(t, "mooring", ask(t, cluster.URL(), "SELECT current_user"))
	require.Equal(t, "mooring", ask(t, cluster.URL(), "SELECT current_database()"))
	require.Equal(t, "false", ask(t, cluster.URL(), "SELECT rolsuper::text FROM pg_roles WHERE rolname = current_user"))
	execute(t, cluster.URL(), "CREATE SCHEMA mooring", "CREATE TABLE mooring.samples (n int)",
		"GRANT USAGE ON SCHEMA mooring TO mooring_reader", "GRANT SELECT ON mooring.samples TO mooring_reader")

	require.Equal(t, "0", ask(t, cluster.ReaderURL(), "SELECT count(*)::text FROM samples"), "found without naming the schema")
	require.Equal(t, "8GB", ask(t, cluster.ReaderURL(), "SHOW temp_file_limit"))
	require.Equal(t, "5min", ask(t, cluster.ReaderURL(), "SHOW statement_timeout"))
	reader, err := pgx.Connect(t.Context(), cluster.ReaderURL())
	require.NoError(t, err)
	defer reader.Close(t.Context())
	for _, forbidden := range []string{
		"INSERT INTO samples VALUES (1)",
		"CREATE TABLE public.mine (n int)",
		"CREATE TEMPORARY TABLE mine (n int)",
	} {
		_, err = reader.Exec(t.Context(), forbidden)
		require.ErrorContains(t, err, "read-only", forbidden)
	}
	_, err = reader.Exec(t.Context(), "SET default_transaction_read_only = off")
	require.NoError(t, err)
	for _, forbidden := range []string{
		"INSERT INTO samples VALUES (1)",
		"CREATE TABLE public.mine (n int)",
		"CREATE TEMPORARY TABLE mine (n int)",
		"SET temp_file_limit = '1TB'",
	} {
		_, err = reader.Exec(t.Context(), forbidden)
		require.ErrorContains(t, err, "permission denied", forbidden)
	}

	wrong, err := url.Parse(cluster.URL())
	require.NoError(t, err)
	wrong.User = url.UserPassword("mooring", "guess")
	_, err = pgx.Connect(t.Context(), wrong.String())
	require.ErrorContains(t, err, "password authentication failed")

	info, err := os.Stat(cluster.paths.state)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), info.Mode().Perm())
	info, err = os.Stat(cluster.paths.cluster)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o700), info.Mode().Perm())
	require.False(t, exists(filepath.Join(cluster.paths.cluster, "password")))
	// Nothing in the cluster is anybody else's to read, and no socket lies about.
	require.NoError(t, filepath.WalkDir(cluster.paths.cluster, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // PostgreSQL removes files while it works
		}
		info, err := entry.Info()
		if err == nil {
			require.Zero(t, info.Mode().Perm()&0o077, path)
			require.Zero(t, info.Mode()&fs.ModeSocket, path)
		}
		return nil
	}))
	require.Equal(t, "127.0.0.1", ask(t, cluster.URL(), "SHOW listen_addresses"))
	require.Equal(t, "", ask(t, cluster.state.superuserURL(), "SHOW unix_socket_directories"))
	require.Equal(t, "0", ask(t, cluster.state.superuserURL(), "SELECT count(*)::text FROM pg_hba_file_rules WHERE auth_method <> 'scram-sha-256'"))

	stop(t, cluster)
	log, err := os.ReadFile(cluster.paths.log)
	require.NoError(t, err)
	require.NotEmpty(t, log)
	for _, secret := range []string{cluster.state.OwnerPassword, cluster.state.ReaderPassword, cluster.state.SuperuserPassword} {
		require.Len(t, secret, 64)
		require.NotContains(t, said.String(), secret)
		require.NotContains(t, string(log), secret)
	}
}

func TestStopIsIdempotent(t *testing.T) {
	t.Parallel()
	cluster := start(t, testConfig(t))
	done := make(chan error, 3)
	for range cap(done) {
		go func() { done <- cluster.Stop(t.Context()) }()
	}
	for range cap(done) {
		require.NoError(t, <-done)
	}
	require.NoError(t, cluster.Stop(t.Context()))
	require.ErrorIs(t, cluster.Resume(t.Context()), ErrStopped)
	require.ErrorIs(t, cluster.Halt(t.Context(), syscall.SIGINT), ErrStopped)
}

func TestStopInAHurryDisconnectsClients(t *testing.T) {
	t.Parallel()
	cluster := start(t, testConfig(t))
	connection, err := pgx.Connect(t.Context(), cluster.URL())
	require.NoError(t, err)
	defer connection.Close(t.Context())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, cluster.Stop(ctx))
	require.Error(t, connection.Ping(t.Context()))
	require.False(t, alive(cluster.Info().PID))
}

func TestPostgresDiesAndComesBack(t *testing.T) {
	t.Parallel()
	cluster := start(t, testConfig(t))
	execute(t, cluster.URL(), "CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (42)")
	for range 2 {
		before := cluster.Info()
		require.NoError(t, syscall.Kill(before.PID, syscall.SIGKILL))
		waitUntil(t, func() bool { return cluster.Info().PID != before.PID && answers(t, before.URL) })
		require.Equal(t, before.URL, cluster.URL())
		require.Equal(t, "42", ask(t, before.URL, "SELECT n::text FROM kept"))
	}
}

func TestHaltAndResume(t *testing.T) {
	t.Parallel()
	cluster := start(t, testConfig(t))
	address := cluster.URL()
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGKILL} {
		require.NoError(t, cluster.Halt(t.Context(), signal))
		require.NoError(t, cluster.Halt(t.Context(), signal), "halted already")
		require.False(t, answers(t, address))
		require.NoError(t, cluster.Resume(t.Context()))
		require.NoError(t, cluster.Resume(t.Context()), "resumed already")
		require.True(t, answers(t, address))
	}
	require.NoError(t, cluster.Halt(t.Context(), syscall.SIGINT))
	stop(t, cluster) // a halted one stops too
}

func TestPostgresRunsApart(t *testing.T) {
	t.Parallel()
	cluster := start(t, testConfig(t))
	pid := cluster.Info().PID
	group, err := syscall.Getpgid(pid)
	require.NoError(t, err)
	require.Equal(t, pid, group, "Ctrl-C reaches the terminal's process group, which must be another")
}

func TestSecondServerIsRefused(t *testing.T) {
	t.Parallel()
	config := testConfig(t)
	cluster := start(t, config)

	_, err := Start(t.Context(), config)
	var inUse *InUseError
	require.ErrorAs(t, err, &inUse)
	require.Equal(t, os.Getpid(), inUse.PID)
	require.Equal(t, cluster.Info().DataDir, inUse.DataDir)

	other := startServer(t, config, 0)
	require.Contains(t, other.Error, "is in use by the Mooring server with process id "+itoa(os.Getpid()))
	require.True(t, answers(t, cluster.URL()), "the first one is unharmed")
}

func TestPortOfAnotherProcess(t *testing.T) {
	t.Parallel()
	config := testConfig(t)
	cluster := start(t, config)
	stop(t, cluster)
	taken, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp4", "127.0.0.1:"+itoa(cluster.state.Port))
	require.NoError(t, err)
	defer taken.Close()

	again := start(t, config)
	require.NotEqual(t, cluster.state.Port, again.state.Port)
	require.True(t, answers(t, again.URL()))
	stop(t, again)

	config.Port = cluster.state.Port
	_, err = Start(t.Context(), config)
	require.ErrorContains(t, err, "port "+itoa(config.Port)+" on 127.0.0.1 is taken")
}

func TestStartErrorHasPostgresLastWords(t *testing.T) {
	t.Parallel()
	config := testConfig(t)
	config.Settings = map[string]string{"shared_buffers": "plenty"}
	_, err := Start(t.Context(), config)
	var failure *StartError
	require.ErrorAs(t, err, &failure)
	require.Contains(t, failure.Tail, `invalid value for parameter "shared_buffers": "plenty"`)
	require.Contains(t, err.Error(), failure.Tail[:20])
	require.Contains(t, err.Error(), filepath.Join(config.DataDir, "postgres.log"))

	config.Settings = map[string]string{"application_name": `it's a \ test`, "work_mem": "5MB"}
	cluster := start(t, config)
	require.Equal(t, "5MB", ask(t, cluster.URL(), "SHOW work_mem"))
	content, err := os.ReadFile(filepath.Join(cluster.paths.cluster, settingsFile))
	require.NoError(t, err)
	require.Contains(t, string(content), `application_name = 'it''s a \\ test'`)
}

func TestThrowaway(t *testing.T) {
	t.Parallel()
	config := testConfig(t)
	config.Throwaway, config.DataDir = true, ""
	cluster := start(t, config)
	directory := cluster.Info().DataDir
	require.True(t, exists(directory))
	stop(t, cluster)
	require.False(t, exists(directory))
	require.False(t, alive(cluster.Info().PID))

	config.DataDir = publicDir(t)
	require.NoError(t, os.WriteFile(filepath.Join(config.DataDir, "precious"), nil, 0o600))
	_, err := Start(t.Context(), config)
	require.ErrorContains(t, err, "is not empty")
	require.True(t, exists(filepath.Join(config.DataDir, "precious")))
}

func TestThrowawayDiesWithItsProcess(t *testing.T) {
	t.Parallel()
	config := testConfig(t)
	config.Throwaway = true
	server := startServer(t, config, 0)
	require.Empty(t, server.Error)
	require.True(t, answers(t, server.Info.URL))
	server.kill(t)
	waitUntil(t, func() bool { return !exists(server.Info.DataDir) })
	require.False(t, alive(server.Info.PID))
	watchdogs, _ := exec.CommandContext(t.Context(), "ps", "-eo", "args").Output()
	waitUntil(t, func() bool {
		watchdogs, _ = exec.CommandContext(t.Context(), "ps", "-eo", "args").Output()
		return !strings.Contains(string(watchdogs), server.Info.DataDir)
	})
}
