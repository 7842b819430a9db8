//go:build linux || darwin

package embedded

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTakeOverAfterKill(t *testing.T) {
	t.Parallel()
	config := testConfig(t)
	former := startServer(t, config, 0)
	require.Empty(t, former.Error)
	execute(t, former.Info.URL, "CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (42)")
	former.kill(t)
	require.True(t, alive(former.Info.PID), "Postgres outlives the server")

	cluster := start(t, config)
	require.Equal(t, former.Info.PID, cluster.Info().PID, "taken over, not restarted")
	require.Equal(t, former.Info.URL, cluster.URL())
	require.Equal(t, "42", ask(t, cluster.URL(), "SELECT n::text FROM kept"))

	// The adopted process is supervised like a child.
	require.NoError(t, syscall.Kill(former.Info.PID, syscall.SIGKILL))
	waitUntil(t, func() bool { return cluster.Info().PID != former.Info.PID && answers(t, cluster.URL()) })
	require.Equal(t, "42", ask(t, cluster.URL(), "SELECT n::text FROM kept"))
}

func TestTakenOverPostgresIsStopped(t *testing.T) {
	t.Parallel()
	config := testConfig(t)
	former := startServer(t, config, 0)
	require.Empty(t, former.Error)
	former.kill(t)
	cluster := start(t, config)
	require.Equal(t, former.Info.PID, cluster.Info().PID)
	stop(t, cluster)
	require.False(t, alive(former.Info.PID))
}

func TestOtherSettingsRestartInsteadOfTakeOver(t *testing.T) {
	t.Parallel()
	config := testConfig(t)
	former := startServer(t, config, 0)
	require.Empty(t, former.Error)
	former.kill(t)
	config.Settings = map[string]string{"work_mem": "5MB"}
	cluster := start(t, config)
	require.NotEqual(t, former.Info.PID, cluster.Info().PID)
	require.False(t, alive(former.Info.PID))
	require.Equal(t, former.Info.URL, cluster.URL())
	require.Equal(t, "5MB", ask(t, cluster.URL(), "SHOW work_mem"))
}

func TestBothServerAndPostgresKilled(t *testing.T) {
	t.Parallel()
	config := testConfig(t)
	former := startServer(t, config, 0)
	require.Empty(t, former.Error)
	execute(t, former.Info.URL, "CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (42)")
	former.kill(t)
	require.NoError(t, syscall.Kill(former.Info.PID, syscall.SIGKILL))
	cluster := start(t, config)
	require.Equal(t, former.Info.URL, cluster.URL())
	require.Equal(t, "42", ask(t, cluster.URL(), "SELECT n::text FROM kept"))
}

// A Postgres that breaks a connection while it is taken over is waited for if it ends,
// and one that says what is wrong is not.
func TestEndsSoon(t *testing.T) {
	t.Parallel()
	p := &postmaster{watched: make(chan struct{})}
	require.False(t, endsSoon(t.Context(), p, fmt.Errorf("%w: told so", errPassword)))
	ended, end := context.WithCancel(t.Context())
	end()
	require.False(t, endsSoon(ended, p, io.ErrUnexpectedEOF), "it goes on")
	close(p.watched)
	require.True(t, endsSoon(t.Context(), p, io.ErrUnexpectedEOF))
	require.False(t, endsSoon(t.Context(), p, fmt.Errorf("%w: told so", errPassword)))
}

func TestStalePIDFile(t *testing.T) {
	t.Parallel()
	config := testConfig(t)
	cluster := start(t, config)
	path := pidFilePath(cluster.paths.cluster)
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	_, rest, _ := cutLine(string(content))
	stop(t, cluster)

	// A process of Postgres' user that is not Postgres.
	bystander := exec.CommandContext(t.Context(), "/bin/sleep", "600")
	bystander.SysProcAttr = &syscall.SysProcAttr{}
	if cluster.account.drop {
		bystander.SysProcAttr.Credential = &syscall.Credential{Uid: cluster.account.uid, Gid: cluster.account.gid}
	}
	require.NoError(t, bystander.Start())
	defer func() {
		require.NoError(t, bystander.Process.Kill())
		_ = bystander.Wait()
	}()
	ended := exec.CommandContext(t.Context(), "/bin/sleep", "0")
	require.NoError(t, ended.Run())

	for name, pid := range map[string]int{
		"ended process": ended.ProcessState.Pid(), "this process": os.Getpid(), "process 1": 1, "bystander": bystander.Process.Pid,
	} {
		require.NoError(t, os.WriteFile(path, []byte(itoa(pid)+"\n"+rest), 0o600))
		require.NoError(t, os.Chown(path, int(cluster.account.uid), int(cluster.account.gid)))
		_, err := Discover(config.DataDir)
		require.ErrorIs(t, err, ErrNotRunning, name)
		again := start(t, config)
		require.True(t, answers(t, again.URL()), name)
		stop(t, again)
	}
	require.True(t, alive(bystander.Process.Pid), "nobody else's process was touched")
}

func cutLine(text string) (first, rest string, found bool) {
	for i, letter := range text {
		if letter == '\n' {
			return text[:i], text[i+1:], true
		}
	}
	return text, "", false
}

// fingerprint is a hash over every path and content below a directory.
func fingerprint(t *testing.T, directory string) string {
	t.Helper()
	sum := sha256.New()
	require.NoError(t, filepath.WalkDir(directory, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		sum.Write([]byte(path))
		sum.Write(content)
		return err
	}))
	return hex.EncodeToString(sum.Sum(nil))
}

func TestOtherVersionIsNeverWiped(t *testing.T) {
	t.Parallel()
	config := testConfig(t)
	cluster := start(t, config)
	stop(t, cluster)
	path := filepath.Join(cluster.paths.cluster, "PG_VERSION")
	right, err := os.ReadFile(path)
	require.NoError(t, err)
	other := "17"
	if cluster.installation.Major == 17 {
		other = "16"
	}
	config.BinDir = cluster.installation.BinDir
	for _, version := range []string{other, "9.6", "14", "99", "rubbish", ""} {
		require.NoError(t, os.WriteFile(path, []byte(version+"\n"), 0o600))
		before := fingerprint(t, cluster.paths.cluster)
		_, err := Start(t.Context(), config)
		var mismatch *VersionError
		require.ErrorAs(t, err, &mismatch, version)
		require.Equal(t, version, mismatch.Cluster)
		require.Contains(t, err.Error(), "was made by PostgreSQL "+version)
		require.Contains(t, err.Error(), "found: "+cluster.installation.Version+" in "+cluster.installation.BinDir)
		require.Equal(t, before, fingerprint(t, cluster.paths.cluster))
		if version == other {
			require.Contains(t, err.Error(), "install PostgreSQL "+other+" (")
		}
	}
	require.NoError(t, os.Remove(path))
	before := fingerprint(t, cluster.paths.cluster)
	_, err = Start(t.Context(), config)
	require.ErrorContains(t, err, "PG_VERSION is missing")
	require.Equal(t, before, fingerprint(t, cluster.paths.cluster))

	require.NoError(t, os.WriteFile(path, right, 0o600))
	require.NoError(t, os.Chown(path, int(cluster.account.uid), int(cluster.account.gid)))
	require.True(t, answers(t, start(t, config).URL()))
}

func TestInterruptedInitdb(t *testing.T) {
	t.Parallel()
	config := testConfig(t)
	proper := Config{BinDir: config.BinDir}

	// An initdb that dies half-way, as if killed.
	look := search{account: account{uid: uint32(os.Geteuid())}, binDir: proper.BinDir}
	found, ok := look.find(t.Context())
	require.True(t, ok)
	config.BinDir = filepath.Join(publicDir(t), "bin")
	require.NoError(t, os.Mkdir(config.BinDir, 0o755))
	require.NoError(t, os.Symlink(found.program("postgres"), filepath.Join(config.BinDir, "postgres")))
	script := "#!/bin/sh\nfor last; do case $last in --pgdata=*) mkdir ${last#*=}; echo 15 > ${last#*=}/PG_VERSION;; esac; done\necho disk on fire\nkill -9 $$\n"
	require.NoError(t, os.WriteFile(filepath.Join(config.BinDir, "initdb"), []byte(script), 0o755))
	_, err := Start(t.Context(), config)
	var failure *StartError
	require.ErrorAs(t, err, &failure)
	require.Equal(t, "initdb", failure.Step)
	require.Contains(t, err.Error(), "disk on fire")
	require.False(t, exists(filepath.Join(config.DataDir, "cluster")))

	// And one whose server was killed with it, so that nobody cleaned up.
	leftover := filepath.Join(config.DataDir, newClusterPrefix+"123", "cluster")
	require.NoError(t, os.MkdirAll(leftover, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(leftover, "PG_VERSION"), []byte("15\n"), 0o600))
	config.BinDir = proper.BinDir
	cluster := start(t, config)
	require.True(t, answers(t, cluster.URL()))
	require.False(t, exists(leftover))
}

func TestLostStateFile(t *testing.T) {
	t.Parallel()
	config := testConfig(t)
	former := startServer(t, config, 0)
	require.Empty(t, former.Error)
	execute(t, former.Info.URL, "CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (42)")
	former.kill(t)
	path := filepath.Join(former.Info.DataDir, "postgres.json")
	require.NoError(t, os.Remove(path))

	cluster := start(t, config) // while the former Postgres still runs
	require.NotEqual(t, former.Info.URL, cluster.URL())
	require.Equal(t, "42", ask(t, cluster.URL(), "SELECT n::text FROM kept"))
	require.True(t, answers(t, cluster.ReaderURL()))
	stop(t, cluster)

	// A state file of another cluster.
	strange := newState()
	require.NoError(t, strange.write(path))
	again := start(t, config)
	require.Equal(t, "42", ask(t, again.URL(), "SELECT n::text FROM kept"))
	stop(t, again)

	require.NoError(t, os.WriteFile(path, []byte("{"), 0o600))
	_, err := Start(t.Context(), config)
	require.ErrorContains(t, err, "postgres.json is damaged")
}

func TestDiscover(t *testing.T) {
	t.Parallel()
	config := testConfig(t)
	_, err := Discover(config.DataDir)
	require.ErrorIs(t, err, ErrNotRunning)
	require.NoError(t, os.Mkdir(config.DataDir, 0o755))
	_, err = Discover(config.DataDir)
	require.ErrorIs(t, err, ErrNotRunning)

	cluster := start(t, config)
	info, err := Discover(config.DataDir)
	require.NoError(t, err)
	require.Equal(t, cluster.URL(), info.URL)
	require.Equal(t, cluster.ReaderURL(), info.ReaderURL)
	require.Equal(t, cluster.Info().PID, info.PID)
	require.Equal(t, itoa(cluster.installation.Major), info.Version)
	require.True(t, answers(t, info.ReaderURL))

	stop(t, cluster)
	_, err = Discover(config.DataDir)
	require.ErrorIs(t, err, ErrNotRunning)
}
