//go:build linux || darwin

package embedded

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func needsRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to become other users")
	}
}

// ordinaryUser is an account other than root's.
func ordinaryUser(t *testing.T) uint32 {
	t.Helper()
	for _, name := range []string{"postgres", "nobody"} {
		if found, err := user.Lookup(name); err == nil {
			id, err := strconv.ParseUint(found.Uid, 10, 32)
			require.NoError(t, err)
			return uint32(id)
		}
	}
	t.Skip("there is no ordinary user")
	return 0
}

// userOf tells as whom a process runs: real, effective, saved and file system
// user id.
func userOf(t *testing.T, pid int) string {
	t.Helper()
	if runtime.GOOS != "linux" {
		output, err := exec.CommandContext(t.Context(), "ps", "-o", "uid=", "-p", itoa(pid)).Output()
		require.NoError(t, err)
		return strings.TrimSpace(string(output))
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	require.NoError(t, err)
	for line := range strings.Lines(string(status)) {
		if ids, found := strings.CutPrefix(line, "Uid:"); found {
			fields := strings.Fields(ids)
			for _, id := range fields {
				require.Equal(t, fields[0], id)
			}
			return fields[0]
		}
	}
	t.Fatal("no user id")
	return ""
}

func TestRootDropsPrivileges(t *testing.T) {
	t.Parallel()
	needsRoot(t)
	config := testConfig(t)
	cluster := start(t, config)
	id := userOf(t, cluster.Info().PID)
	require.NotEqual(t, "0", id)
	require.Equal(t, strconv.FormatUint(uint64(cluster.account.uid), 10), id)
	if runtime.GOOS == "linux" {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cluster.Info().PID))
		require.NoError(t, err)
		require.Contains(t, string(status), "Groups:\t \n", "root's other groups are gone")
		require.Contains(t, string(status), "CapEff:\t0000000000000000")
		environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", cluster.Info().PID))
		require.NoError(t, err)
		require.NotContains(t, string(environ), "HOME=/root")
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", cluster.Info().PID))
		require.NoError(t, err)
		require.NotContains(t, string(line), cluster.state.SuperuserPassword)
	}
}

func TestRootAsNobody(t *testing.T) {
	t.Parallel()
	needsRoot(t)
	config := testConfig(t)
	config.User = "nobody"
	cluster := start(t, config)
	require.Equal(t, "nobody", cluster.account.name)
	require.True(t, answers(t, cluster.URL()))
	stop(t, cluster)

	config.User = "postgres" // too late: the cluster has an owner
	cluster = start(t, config)
	require.Equal(t, "nobody", cluster.account.name)
}

func TestUnknownUser(t *testing.T) {
	t.Parallel()
	needsRoot(t)
	config := testConfig(t)
	config.User = "no-such-user"
	_, err := Start(t.Context(), config)
	require.ErrorContains(t, err, "looked for: no-such-user")
}

func TestOrdinaryUser(t *testing.T) {
	t.Parallel()
	needsRoot(t)
	config := testConfig(t)
	id := ordinaryUser(t)
	require.NoError(t, os.Chown(filepath.Dir(config.DataDir), int(id), -1))
	server := startServer(t, config, id)
	require.Empty(t, server.Error)
	require.Equal(t, strconv.FormatUint(uint64(id), 10), userOf(t, server.Info.PID))
	execute(t, server.Info.URL, "CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (42)")
	server.stop(t)
	require.False(t, alive(server.Info.PID))

	// Root takes the directory over, and gives it back as it was.
	cluster := start(t, config)
	require.Equal(t, id, cluster.account.uid)
	require.Equal(t, "42", ask(t, cluster.URL(), "SELECT n::text FROM kept"))
	stop(t, cluster)

	again := startServer(t, config, id)
	require.Empty(t, again.Error)
	require.Equal(t, "42", ask(t, again.Info.URL, "SELECT n::text FROM kept"))
	again.kill(t)

	// Another user may not have it.
	for _, stranger := range []uint32{12345} {
		refused := startServer(t, config, stranger)
		require.Contains(t, refused.Error, "permission denied")
	}
}

func TestOrdinaryUsersThrowaway(t *testing.T) {
	t.Parallel()
	needsRoot(t)
	config := testConfig(t)
	config.Throwaway, config.DataDir = true, ""
	server := startServer(t, config, ordinaryUser(t))
	require.Empty(t, server.Error)
	server.kill(t)
	waitUntil(t, func() bool { return !exists(server.Info.DataDir) && !alive(server.Info.PID) })
}

func TestClosedParentDirectory(t *testing.T) {
	t.Parallel()
	needsRoot(t)
	config := testConfig(t)
	closed := filepath.Join(filepath.Dir(config.DataDir), "home")
	require.NoError(t, os.Mkdir(closed, 0o700))
	config.DataDir = filepath.Join(closed, "checkout", "mooring-data")

	_, err := Start(t.Context(), config)
	var blocked *AccessError
	require.ErrorAs(t, err, &blocked)
	require.Equal(t, closed, blocked.Directory)
	require.Contains(t, err.Error(), closed+" (drwx------, owner root) does not let it in")
	require.Contains(t, err.Error(), "chmod o+x "+closed)
	require.Contains(t, err.Error(), "/var/lib/mooring")

	require.NoError(t, os.Chmod(closed, 0o711))
	require.True(t, answers(t, start(t, config).URL()), "the advice helps")
}

func TestClosedProgramDirectory(t *testing.T) {
	t.Parallel()
	needsRoot(t)
	config := testConfig(t)
	closed := filepath.Join(publicDir(t), "closed")
	require.NoError(t, os.Mkdir(closed, 0o700))
	bin := filepath.Join(closed, "bin")
	require.NoError(t, os.Mkdir(bin, 0o755))
	for _, name := range []string{"postgres", "initdb"} {
		require.NoError(t, os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"), 0o755))
	}
	config.BinDir = bin
	_, err := Start(t.Context(), config)
	var missing *NotInstalledError
	require.ErrorAs(t, err, &missing)
	require.Contains(t, err.Error(), closed+" (drwx------, owner root) does not let it in")
}

func TestLinkedClusterIsRefused(t *testing.T) {
	t.Parallel()
	config := testConfig(t)
	elsewhere := filepath.Join(filepath.Dir(config.DataDir), "elsewhere")
	require.NoError(t, os.Mkdir(config.DataDir, 0o755))
	link := filepath.Join(config.DataDir, "cluster")
	require.NoError(t, os.Symlink(elsewhere, link))
	for _, there := range []bool{false, true} {
		if there {
			require.NoError(t, os.Mkdir(elsewhere, 0o700))
			require.NoError(t, os.WriteFile(filepath.Join(elsewhere, "PG_VERSION"), []byte("17\n"), 0o600))
		}
		_, err := Start(t.Context(), config)
		require.ErrorContains(t, err, link+" is a symbolic link")
		_, _, err = clusterMajor(link)
		require.ErrorContains(t, err, link+" is a symbolic link")
	}
}

func TestSwappedWorkDirectory(t *testing.T) {
	t.Parallel()
	needsRoot(t)
	base := publicDir(t)
	dataDir, outside := filepath.Join(base, "data"), filepath.Join(base, "outside")
	own := filepath.Join(dataDir, "own") // root's, but not new
	for _, directory := range []string{outside, dataDir, own, filepath.Join(own, "kept"), filepath.Join(dataDir, "theirs")} {
		require.NoError(t, os.Mkdir(directory, 0o700))
	}
	victim := filepath.Join(outside, "password")
	require.NoError(t, os.WriteFile(victim, []byte("kept"), 0o600))
	id := ordinaryUser(t)
	require.NoError(t, os.Chown(filepath.Join(dataDir, "theirs"), int(id), -1))
	data, err := os.OpenRoot(dataDir)
	require.NoError(t, err)
	defer data.Close()
	who := account{uid: id, gid: id, drop: true}
	for _, target := range []string{outside, "../outside", "own", "theirs", "."} {
		require.NoError(t, os.Symlink(target, filepath.Join(dataDir, "work")))
		_, err := handOver(data, "work", who, "secret")
		require.Error(t, err, target)
		require.NoError(t, os.Remove(filepath.Join(dataDir, "work")))
	}
	for _, path := range []string{outside, victim, own, dataDir} {
		info, err := os.Lstat(path)
		require.NoError(t, err)
		stat, ok := info.Sys().(*syscall.Stat_t)
		require.True(t, ok)
		require.Zero(t, stat.Uid, path)
	}
	content, err := os.ReadFile(victim)
	require.NoError(t, err)
	require.Equal(t, "kept", string(content))

	// Neither may a link in the place of what initdb made lead out.
	work, err := data.OpenRoot("theirs")
	require.NoError(t, err)
	defer work.Close()
	require.NoError(t, work.Symlink(outside, "cluster"))
	require.ErrorContains(t, configureCluster(work), "is no directory")
	require.False(t, exists(filepath.Join(outside, "pg_hba.conf")))
}
