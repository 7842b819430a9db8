//go:build linux

package faults_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/internal/faults"
)

// noneAcked sees to it that for a while nothing more is acknowledged than is
// stored, although devices send.
func noneAcked(t *testing.T, s *faults.Stage, load *faults.Load, while time.Duration) {
	t.Helper()
	s.Await("the last acks to arrive", func() error {
		acked := load.Acked()
		time.Sleep(300 * time.Millisecond)
		if load.Acked() != acked {
			return errChanged
		}
		return nil
	})
	before := load.Acked()
	time.Sleep(while)
	require.Equal(t, before, load.Acked())
	require.LessOrEqual(t, before, s.StoredRows())
}

func TestFaultPostgresTooManyConnections(t *testing.T) {
	t.Parallel()
	s := faults.Start(t, faults.Options{
		Expect:      "a PostgreSQL that has no connection left keeps rows waiting until it has",
		OwnPostgres: true, Settings: map[string]string{"max_connections": "20"},
	})
	load := s.Load(faults.LoadOptions{Devices: 20, Rate: 2000})
	load.AwaitAcked(500)
	for range 3 {
		s.SQL("ALTER ROLE mooring CONNECTION LIMIT 0",
			"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'mooring'")
		hogs := s.Connect()
		_ = hogs
		s.Injected("too many connections")
		noneAcked(t, s, load, 2*time.Second)
		s.SQL("ALTER ROLE mooring CONNECTION LIMIT -1")
		load.AwaitAcked(500)
	}
	s.Verdict()
}

func TestFaultPostgresReadOnly(t *testing.T) {
	t.Parallel()
	s := faults.Start(t, faults.Options{
		Expect:      "a PostgreSQL that turned read-only keeps rows waiting until it writes again",
		OwnPostgres: true,
	})
	load := s.Load(faults.LoadOptions{Devices: 20, Rate: 2000})
	for range 3 {
		load.AwaitAcked(500)
		s.SQL("ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")
		s.Injected("read-only")
		noneAcked(t, s, load, 2*time.Second)
		s.SQL("ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()")
	}
	load.AwaitAcked(500)
	s.Verdict()
}

func TestFaultPartitionLocked(t *testing.T) {
	t.Parallel()
	s := faults.Start(t, faults.Options{
		Expect: "a lock on the partitions that somebody holds for seconds makes rows wait, no longer than it",
	})
	load := s.Load(faults.LoadOptions{Devices: 20, Rate: 2000})
	for range 3 {
		load.AwaitAcked(500)
		holder := s.Connect()
		holder.Exec("BEGIN")
		holder.Exec("LOCK TABLE mooring.samples IN ACCESS EXCLUSIVE MODE") // and its partitions
		s.Injected("ACCESS EXCLUSIVE for 5 s")
		time.Sleep(time.Second)
		before := load.Acked()
		time.Sleep(4 * time.Second)
		require.Equal(t, before, load.Acked())
		holder.Close()
		load.AwaitAcked(500)
	}
	s.Verdict()
}

// The sessions keep the timeout that they began with: it takes new ones to get
// rid of it.
func TestFaultStatementTimeout(t *testing.T) {
	t.Parallel()
	s := faults.Start(t, faults.Options{
		Expect:      "a statement_timeout too short for anything keeps rows waiting; when it is taken back they are stored, without a restart of the server",
		OwnPostgres: true,
	})
	load := s.Load(faults.LoadOptions{Devices: 20, Rate: 2000})
	for range 2 {
		load.AwaitAcked(500)
		hold := s.HoldBeforeCommit() // so that no statement is short enough
		hold.Await(1)
		s.SQL("ALTER ROLE mooring SET statement_timeout = '20ms'")
		s.TerminateBackends(s.WriterBackends())
		s.Injected("statement_timeout 20 ms, and every commit slower")
		noneAcked(t, s, load, 3*time.Second)
		s.SQL("ALTER ROLE mooring RESET statement_timeout")
		time.Sleep(time.Second)
		hold.Release()
		load.AwaitAcked(500)
	}
	s.Verdict()
}
