//go:build linux

package faults_test

import (
	"errors"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/internal/faults"
)

const away = "while PostgreSQL is away nothing is acknowledged, devices wait, and when it is back every row is stored once"

// comeAndGo takes PostgreSQL away in one way, again and again.
func comeAndGo(t *testing.T, what string, halt func(s *faults.Stage)) {
	t.Helper()
	s := faults.Start(t, faults.Options{Expect: away, OwnPostgres: true})
	load := s.Load(faults.LoadOptions{Devices: 20, Rate: 3000, Faults: "light"})
	for range 4 {
		load.AwaitAcked(500)
		pauseAtRandom(s, 300*time.Millisecond)
		halt(s)
		s.Injected(what)
		pauseAtRandom(s, 3*time.Second)
		s.Postgres.Start(t)
	}
	load.AwaitAcked(500)
	s.Verdict()
}

func TestFaultPostgresKilled(t *testing.T) {
	t.Parallel()
	comeAndGo(t, "kill -9 of the postmaster", func(s *faults.Stage) { s.Postgres.Kill9(t) })
}

func TestFaultPostgresStoppedAtOnce(t *testing.T) {
	t.Parallel()
	comeAndGo(t, "immediate stop", func(s *faults.Stage) { s.Postgres.StopImmediately(t) })
}

func TestFaultPostgresRestarted(t *testing.T) {
	t.Parallel()
	comeAndGo(t, "restart", func(s *faults.Stage) { s.Postgres.Stop(t) })
}

func TestFaultPostgresBackendKilled(t *testing.T) {
	t.Parallel()
	s := faults.Start(t, faults.Options{
		Expect:      "a backend killed while it writes makes PostgreSQL recover; its rows are stored once",
		OwnPostgres: true,
	})
	load := s.Load(faults.LoadOptions{Devices: 20, Rate: 3000})
	for range 6 {
		load.AwaitAcked(500)
		pauseAtRandom(s, 300*time.Millisecond)
		s.Await("a writer's backend", func() error {
			// PostgreSQL notices a moment later that a backend was killed, and may
			// have answered Reachable before.
			backends, err := s.TryWriterBackends()
			if err != nil || len(backends) == 0 {
				return errors.Join(errChanged, err)
			}
			pid, err := strconv.Atoi(backends[s.Random.IntN(len(backends))])
			require.NoError(t, err)
			return syscall.Kill(pid, syscall.SIGKILL)
		})
		s.Injected("kill -9 of a writing backend")
		s.Await("PostgreSQL to recover", func() error { return s.Reachable() })
	}
	load.AwaitAcked(500)
	s.Verdict()
}

func TestFaultPostgresFrozen(t *testing.T) {
	t.Parallel()
	const frozen = 30 * time.Second
	s := faults.Start(t, faults.Options{
		Expect:      "PostgreSQL frozen for 30 s, its connections open: nothing is acknowledged, /readyz says so, devices keep their connections; afterwards all goes on",
		OwnPostgres: true,
	})
	load := s.Load(faults.LoadOptions{Devices: 20, Rate: 3000})
	load.AwaitAcked(2000)
	s.Postgres.Pause(t)
	s.Injected("SIGSTOP for 30 s")
	thaw := time.Now().Add(frozen)
	s.Await("the server to notice", func() error { return s.Server.NotReady() })
	require.Less(t, time.Now(), thaw)
	before := load.Acked()
	time.Sleep(time.Until(thaw))
	// What was committed in the moment of freezing may have been told since.
	require.LessOrEqual(t, load.Acked(), before+3000)
	require.Equal(t, 20, load.Progress().Connected)
	s.Postgres.Resume(t)
	load.AwaitAcked(5000)
	s.Verdict()
}
