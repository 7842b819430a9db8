//go:build linux || darwin

package embedded

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// helperVariable makes the test binary act as a server: it starts a cluster
// with the configuration in the variable, says what it got as a line of JSON,
// and lives until its standard input ends, when it stops in good order.
const helperVariable = "MOORING_EMBEDDED_HELPER"

type helperReport struct {
	Info  Info
	Error string
	InUse bool
}

func TestMain(m *testing.M) {
	if encoded := os.Getenv(helperVariable); encoded != "" {
		os.Exit(helper(encoded))
	}
	goleak.VerifyTestMain(m)
}

func helper(encoded string) int {
	var config Config
	if err := json.Unmarshal([]byte(encoded), &config); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	cluster, err := Start(context.Background(), config)
	var report helperReport
	if err != nil {
		report.Error = err.Error()
	} else {
		report.Info = cluster.Info()
	}
	_ = json.NewEncoder(os.Stdout).Encode(report)
	_, _ = io.Copy(io.Discard, os.Stdin)
	if cluster != nil {
		if err := cluster.Stop(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return 0
}

// server is a helper process.
type server struct {
	cmd   *exec.Cmd
	input io.Closer
	helperReport
}

// startServer starts a cluster in another process, which runs as user if that
// is not 0.
func startServer(t *testing.T, config Config, user uint32) *server {
	t.Helper()
	encoded, err := json.Marshal(config)
	require.NoError(t, err)
	program, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), program)
	if user != 0 {
		// Nobody else may enter the folder that go test builds in.
		cmd = exec.CommandContext(context.WithoutCancel(t.Context()), publicCopy(t, program))
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
	}
	cmd.Env = append(os.Environ(), helperVariable+"="+string(encoded))
	cmd.Stderr = os.Stderr
	input, err := cmd.StdinPipe()
	require.NoError(t, err)
	output, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	s := &server{cmd: cmd, input: input}
	t.Cleanup(func() { s.kill(t) })
	line, err := bufio.NewReader(output).ReadBytes('\n')
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(line, &s.helperReport))
	return s
}

// kill kills the process as the system does when memory runs out.
func (s *server) kill(t *testing.T) {
	t.Helper()
	if s.cmd.ProcessState != nil {
		return
	}
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

// stop ends the process in good order.
func (s *server) stop(t *testing.T) {
	t.Helper()
	require.NoError(t, s.input.Close())
	require.NoError(t, s.cmd.Wait())
}

// publicCopy copies a program to where every user can run it. Another process
// does it: a file that this one has open for writing can't be run while any
// child is being forked.
func publicCopy(t *testing.T, program string) string {
	t.Helper()
	target := filepath.Join(publicDir(t), "program")
	require.NoError(t, exec.CommandContext(t.Context(), "cp", program, target).Run())
	require.NoError(t, os.Chmod(target, 0o755))
	return target
}

// publicDir makes a folder that every user may enter, unlike t.TempDir's.
func publicDir(t *testing.T) string {
	t.Helper()
	return publicDirIn(t, "/tmp")
}

func publicDirIn(t *testing.T, base string) string {
	t.Helper()
	directory, err := os.MkdirTemp(base, "mooring-embedded-test-") //nolint:usetesting // see publicDir
	require.NoError(t, err)
	require.NoError(t, os.Chmod(directory, 0o755))
	directory, err = filepath.EvalSymlinks(directory)
	require.NoError(t, err)
	t.Cleanup(func() {
		// A test that failed may have left Postgres running.
		if file, live, _ := running(filepath.Join(directory, "data", "cluster")); live {
			_ = syscall.Kill(file.pid, syscall.SIGQUIT)
			waitUntil(t, func() bool { return !alive(file.pid) })
		}
		require.NoError(t, os.RemoveAll(directory))
	})
	return directory
}

// testConfig is a cluster for tests, in a folder that is yet to be made.
func testConfig(t *testing.T) Config {
	t.Helper()
	binDir := os.Getenv("MOORING_TEST_POSTGRES_BIN")
	look := search{account: account{uid: uint32(os.Geteuid())}, binDir: binDir}
	if _, found := look.find(t.Context()); !found {
		if os.Getenv("CI") == "true" {
			t.Fatalf("no PostgreSQL: %v", look.skipped)
		}
		t.Skipf("needs a PostgreSQL server; install one with: %s", installCommand(0))
	}
	// Clusters are mostly files, which are quicker to make in memory.
	base := "/tmp"
	var memory syscall.Statfs_t
	if err := syscall.Statfs("/dev/shm", &memory); err == nil && memory.Bavail*uint64(memory.Bsize) > 2<<30 {
		base = "/dev/shm"
	}
	return Config{DataDir: filepath.Join(publicDirIn(t, base), "data"), BinDir: binDir, Unsafe: true, Download: DownloadNever}
}

// start starts a cluster and stops it when the test ends.
func start(t *testing.T, config Config) *Cluster {
	t.Helper()
	cluster, err := Start(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, cluster.Stop(context.Background())) })
	return cluster
}

func stop(t *testing.T, cluster *Cluster) {
	t.Helper()
	require.NoError(t, cluster.Stop(t.Context()))
}

func execute(t *testing.T, url string, statements ...string) {
	t.Helper()
	connection, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer connection.Close(t.Context())
	for _, statement := range statements {
		_, err := connection.Exec(t.Context(), statement)
		require.NoError(t, err, statement)
	}
}

func ask(t *testing.T, url, query string) string {
	t.Helper()
	connection, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer connection.Close(t.Context())
	var answer string
	require.NoError(t, connection.QueryRow(t.Context(), query).Scan(&answer))
	return answer
}

func answers(t *testing.T, url string) bool {
	t.Helper()
	connection, err := pgx.Connect(t.Context(), url)
	if err != nil {
		return false
	}
	return connection.Close(t.Context()) == nil
}

func waitUntil(t *testing.T, condition func() bool) {
	t.Helper()
	require.Eventually(t, condition, time.Minute, 20*time.Millisecond)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func itoa(number int) string { return strconv.Itoa(number) }
