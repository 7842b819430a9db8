//go:build linux || darwin

package pgtest_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/internal/pgtest"
)

// roleVariable makes this test binary, started again by one of its tests,
// behave in a certain way in TestRole.
const roleVariable = "MOORING_PGTEST_ROLE"

func TestMain(m *testing.M) { pgtest.Main(m) }

// TestRole is a test that ends badly, when it is told to.
func TestRole(t *testing.T) {
	role := os.Getenv(roleVariable)
	if role == "" {
		t.Skip("is run by other tests")
	}
	fmt.Println("directory", ask(t, pgtest.SuperuserURL(t, pgtest.URL(t)), "SHOW data_directory"))
	switch role {
	case "panic":
		panic("as asked")
	case "exit":
		os.Exit(3)
	case "fail":
		t.Error("as asked")
	case "leak":
		go func() { time.Sleep(time.Hour) }()
	case "hang":
		time.Sleep(time.Hour)
	}
}

// again prepares another run of this test binary in which TestRole has a role.
func again(t *testing.T, role string, environment ...string) *exec.Cmd {
	t.Helper()
	program, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), program, "-test.run=^TestRole$", "-test.v")
	cmd.Env = append(os.Environ(), append(environment, roleVariable+"="+role)...)
	return cmd
}

func clusterFolder(t *testing.T, output string) string {
	t.Helper()
	for line := range strings.Lines(output) {
		if folder, found := strings.CutPrefix(strings.TrimSpace(line), "directory "); found {
			return folder
		}
	}
	t.Fatalf("no folder in:\n%s", output)
	return ""
}

// requireGone waits until neither the folder nor a process of the cluster is
// left.
func requireGone(t *testing.T, folder string) {
	t.Helper()
	folder = filepath.Dir(folder)
	require.Contains(t, folder, "mooring-pgtest-")
	require.Eventually(t, func() bool {
		_, err := os.Stat(folder)
		processes, psErr := exec.CommandContext(t.Context(), "ps", "-eo", "args").Output()
		require.NoError(t, psErr)
		return os.IsNotExist(err) && !bytes.Contains(processes, []byte(folder))
	}, time.Minute, 50*time.Millisecond)
}

func TestNothingIsLeftBehind(t *testing.T) {
	t.Parallel()
	for role, code := range map[string]int{"pass": 0, "fail": 1, "leak": 1, "panic": 2, "exit": 3} {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			cmd := again(t, role)
			output, _ := cmd.CombinedOutput()
			require.Equal(t, code, cmd.ProcessState.ExitCode(), string(output))
			if role == "leak" {
				require.Contains(t, string(output), "goleak: found unexpected goroutines")
			}
			requireGone(t, clusterFolder(t, string(output)))
		})
	}
}

func TestNothingIsLeftBehindByKill(t *testing.T) {
	t.Parallel()
	cmd := again(t, "hang")
	output, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := bufio.NewScanner(output)
	for lines.Scan() && !strings.HasPrefix(lines.Text(), "directory ") {
	}
	folder := clusterFolder(t, lines.Text())
	require.DirExists(t, folder)
	require.NoError(t, cmd.Process.Signal(syscall.SIGKILL))
	require.Error(t, cmd.Wait())
	requireGone(t, folder)
}

func TestWithoutPostgres(t *testing.T) {
	t.Parallel()
	nothing := "MOORING_TEST_POSTGRES_BIN=" + t.TempDir()
	output, err := again(t, "pass", nothing, "CI=").CombinedOutput()
	require.NoError(t, err)
	require.Contains(t, string(output), "--- SKIP: TestRole")
	require.Contains(t, string(output), "pgtest: needs a PostgreSQL server; install one with: ")

	output, err = again(t, "pass", nothing, "CI=true").CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(output), "--- FAIL: TestRole")
}
