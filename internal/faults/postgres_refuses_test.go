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
		// Out with the server, then somebody else takes all but the three that
		// are kept for superusers, then the server may come again.
		s.SQL("ALTER ROLE mooring CONNECTION LIMIT 0",
			"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'mooring'")
		s.Await("the server's connections to end", func() error {
			if s.SQL("SELECT count(*) FROM pg_stat_activity WHERE usename = 'mooring'")[0][0] != "0" {
				return errChanged
			}
			return nil
		})
		var others []*faults.Connection
		for range 17 {
			others = append(others, s.Connect())
		}
		s.SQL("ALTER ROLE mooring CONNECTION LIMIT -1")
		s.Injected("too many connections")
		noneAcked(t, s, load, 2*time.Second)
		require.Contains(t, s.Server.Log(), "53300")
		for _, other := range others {
			other.Close()
		}
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

func TestFaultStatementTimeout(t *testing.T) {
	t.Parallel()
	s := faults.Start(t, faults.Options{
		Expect: "a statement_timeout that is shorter than any commit, set for everybody, does not stop rows: the server bounds its statements itself",
	})
	load := s.Load(faults.LoadOptions{Devices: 20, Rate: 2000})
	load.AwaitAcked(500)
	s.SQL(`CREATE FUNCTION public.slow() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM pg_sleep(0.1); RETURN NULL; END$$`,
		"CREATE TRIGGER slow BEFORE INSERT ON mooring.samples FOR EACH STATEMENT EXECUTE FUNCTION public.slow()",
		"DO $$BEGIN EXECUTE format('ALTER ROLE mooring IN DATABASE %I SET statement_timeout = 20', current_database()); END$$")
	for range 5 {
		s.TerminateBackends(s.WriterBackends())
		s.Injected("statement_timeout 20 ms, and every COPY slower")
		load.AwaitAcked(500)
	}
	// The verdict's own questions take longer than that.
	s.SQL("DO $$BEGIN EXECUTE format('ALTER ROLE mooring IN DATABASE %I RESET statement_timeout', current_database()); END$$")
	s.Verdict()
}
