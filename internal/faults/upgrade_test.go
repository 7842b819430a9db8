//go:build linux

package faults_test

import (
	"bytes"
	"fmt"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/internal/faults"
	"mooring/internal/loopback"
	"mooring/internal/pgtest"
)

// olderSource is the program as it was when its schema was at version 3.
const olderSource = "testdata/schema3.tar.gz"

// olderProgram builds mooring as it was then.
func olderProgram(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	output, err := exec.Command("tar", "-xzf", olderSource, "-C", folder).CombinedOutput()
	require.NoError(t, err, string(output))
	build := exec.Command("go", "build", "-buildvcs=false", "-o", filepath.Join(folder, "older"), "./cmd/mooring")
	build.Dir = folder
	output, err = build.CombinedOutput()
	require.NoError(t, err, string(output))
	return filepath.Join(folder, "older")
}

func startOlder(t *testing.T, program, address, database string) *faults.Program {
	t.Helper()
	return faults.StartProgram(t, exec.Command(program, "serve", "--listen", address, "--database-url", database, "--gateway", "older",
		"--spread", "1s", "--grace", "1s", "--heartbeat", "5s"))
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
	address := loopback.FreeAddress(t)
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
	server.Signal(syscall.SIGTERM)
	ended, code, _ := server.Wait()
	require.Zero(t, code, "the older server ends in good order on the newer schema, and not with: %s", ended)

	again := startOlder(t, older, address, s.DatabaseURL)
	_, code, output := again.Wait()
	require.NotZero(t, code)
	require.Contains(t, output, "newer")
	s.Injected("older program on the newer schema")
	both.AwaitAcked(500)
	s.Verdict()
}
