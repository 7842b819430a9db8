//go:build linux

package faults_test

import (
	"bytes"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/internal/faults"
	"mooring/internal/pgtest"
)

// olderCommit is the last one whose schema is at version 3.
const olderCommit = "bc2d9f1"

// olderProgram builds mooring as it was then, from the repository's history.
func olderProgram(t *testing.T) string {
	t.Helper()
	if err := exec.Command("git", "cat-file", "-e", olderCommit+"^{commit}").Run(); err != nil {
		t.Skipf("commit %s is not here: no history, or a shallow clone", olderCommit)
	}
	root, err := exec.Command("git", "rev-parse", "--show-toplevel").Output()
	require.NoError(t, err)
	folder := t.TempDir()
	archive := exec.Command("git", "archive", "--output", filepath.Join(folder, "source.tar"), olderCommit)
	archive.Dir = strings.TrimSpace(string(root))
	output, err := archive.CombinedOutput()
	require.NoError(t, err, string(output))
	output, err = exec.Command("tar", "-xf", filepath.Join(folder, "source.tar"), "-C", folder).CombinedOutput()
	require.NoError(t, err, string(output))
	build := exec.Command("go", "build", "-buildvcs=false", "-o", filepath.Join(folder, "older"), "./cmd/mooring")
	build.Dir = folder
	output, err = build.CombinedOutput()
	require.NoError(t, err, string(output))
	return filepath.Join(folder, "older")
}

// olderServer is a server of the older program.
type olderServer struct {
	cmd    *exec.Cmd
	output bytes.Buffer
	ended  chan struct{}
}

func startOlder(t *testing.T, program, address, database string) *olderServer {
	t.Helper()
	o := &olderServer{ended: make(chan struct{})}
	o.cmd = exec.Command(program, "serve", "--listen", address, "--database-url", database, "--gateway", "older",
		"--spread", "1s", "--grace", "1s", "--heartbeat", "5s")
	o.cmd.Stdout, o.cmd.Stderr = &o.output, &o.output
	o.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(t, o.cmd.Start())
	go func() {
		defer close(o.ended)
		_ = o.cmd.Wait() // how it ended is in ProcessState
	}()
	t.Cleanup(func() {
		_ = o.cmd.Process.Kill()
		<-o.ended
		if t.Failed() {
			t.Logf("the older server said:\n%s", o.output.String())
		}
	})
	return o
}

func (o *olderServer) wait(t *testing.T) int {
	t.Helper()
	select {
	case <-o.ended:
		return o.cmd.ProcessState.ExitCode()
	case <-time.After(faults.Patience):
		require.FailNow(t, "the older server does not end")
		return -1
	}
}

// A rolling upgrade: the newest program brings the schema up to date while the
// older one works on it.
func TestFaultOperatorMigration(t *testing.T) {
	t.Parallel()
	s := faults.Start(t, faults.Options{
		Expect: "a new server brings an older schema up to date while an older server writes under load: no ack waits longer than 5 s for it, " +
			"the older server goes on until it is stopped, and when started again refuses to work on the newer schema",
		NoServer: true,
	})
	older := olderProgram(t)
	s.DatabaseURL = pgtest.EmptyURL(t)
	s.SuperURL = pgtest.SuperuserURL(t, s.DatabaseURL)
	address := faults.FreeAddress(t)
	server := startOlder(t, older, address, s.DatabaseURL)
	tokens := filepath.Join(s.Dir(), "older.csv")
	s.Await("the older schema", func() error {
		output, err := exec.Command(older, "migrate", "status", "--database-url", s.DatabaseURL).CombinedOutput()
		if err == nil && bytes.Contains(output, []byte("pending")) {
			err = fmt.Errorf("%s", output)
		}
		return err
	})
	mooring(t, older, "device", "add", "--count", "20", "--prefix", "older-", "--out", tokens, "--database-url", s.DatabaseURL)
	load := s.Load(faults.LoadOptions{Devices: 20, Rate: 2000, Tokens: tokens, URL: "ws://" + address + "/v1/stream"})
	load.AwaitAcked(3000)
	version := func() string { return s.SQL("SELECT max(version_id) FROM mooring.schema_migrations")[0][0] }
	from := version()
	require.Equal(t, "3", from)

	began := time.Now()
	newer := s.NewServer(faults.ServerOptions{})
	took := time.Since(began)
	to := version()
	require.NotEqual(t, from, to)
	s.Injected("migration from version " + from + " to " + to)
	load.AwaitAcked(3000)
	both := s.Load(faults.LoadOptions{Devices: 10, Rate: 1000, URL: newer.StreamURL()})
	both.AwaitAcked(2000)
	load.Stop()
	require.Less(t, load.Stall(), 5*time.Second)
	s.Figure(fmt.Sprintf("schema %s to %s; the new server served after %.1f s; longest stall of the older one's devices %.1f s (small tables)",
		from, to, took.Seconds(), load.Stall().Seconds()))
	require.NoError(t, server.cmd.Process.Signal(syscall.SIGTERM))
	require.Zero(t, server.wait(t), "the older server ends in good order on the newer schema")

	again := startOlder(t, older, address, s.DatabaseURL)
	require.NotZero(t, again.wait(t))
	require.Contains(t, again.output.String(), "newer")
	s.Injected("older program on the newer schema")
	both.AwaitAcked(500)
	s.Verdict()
}
