//go:build linux

package faults_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/internal/faults"
)

func TestFaultConnectionEndedMidCopy(t *testing.T) {
	t.Parallel()
	s := faults.Start(t, faults.Options{
		Expect: "a connection ended, or a statement cancelled, in the middle of a COPY stores nothing of it; the rows are written again",
	})
	load := s.Load(faults.LoadOptions{Devices: 20, Rate: 3000})
	for round := range 10 {
		load.AwaitAcked(500)
		hold := s.HoldDuringCopy()
		held := hold.Await(1)
		if round%2 == 0 {
			s.TerminateBackends(held)
			s.Injected("connection ended mid-COPY")
		} else {
			s.SQL("SELECT pg_cancel_backend(" + held[0] + ")")
			s.Injected("COPY cancelled")
		}
		hold.Release()
	}
	load.AwaitAcked(500)
	s.Verdict()
}

// Ended with its rows copied, the transaction is rolled back; ended with its
// commit in the log, it stays committed. The server can't tell one from the
// other.
func TestFaultConnectionEndedMidCommit(t *testing.T) {
	t.Parallel()
	s := faults.Start(t, faults.Options{
		Expect:      "a connection ended during a commit leaves its outcome unknown; the rows are stored once whether it happened or not",
		OwnPostgres: true,
	})
	load := s.Load(faults.LoadOptions{Devices: 20, Rate: 3000})
	for round := range 10 {
		load.AwaitAcked(500)
		if round%2 == 0 {
			hold := s.HoldBeforeCommit()
			s.TerminateBackends(hold.Await(1))
			s.Injected("connection ended before the commit was logged")
			hold.Release()
		} else {
			hold := s.HoldAfterCommit()
			s.TerminateBackends(hold.Await(1))
			s.Injected("connection ended after the commit was logged")
			hold.Release()
		}
	}
	load.AwaitAcked(500)
	recalled, err := s.Server.Metric("mooring_storage_batches_total", `path="recall"`)
	require.NoError(t, err)
	require.Positive(t, recalled, "batches whose commits happened must have been found committed")
	s.Verdict()
}

func TestFaultConnectionsEndedAtRandom(t *testing.T) {
	t.Parallel()
	s := faults.Start(t, faults.Options{
		Expect: "all connections of the server ended by an administrator, again and again: it makes new ones and loses nothing",
	})
	load := s.Load(faults.LoadOptions{Devices: 20, Rate: 3000, Faults: "light"})
	for range 15 {
		load.AwaitAcked(100)
		pauseAtRandom(s, 300*time.Millisecond)
		s.SQL("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND usename = 'mooring'")
		s.Injected("every connection ended")
	}
	load.AwaitAcked(500)
	s.Verdict()
}
