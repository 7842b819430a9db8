//go:build linux

package faults_test

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/internal/faults"
)

// noneAcked sees to it that for a while nothing more is acknowledged than is
// stored, although devices send. Each writer has to say first, behind what the log
// said before, that PostgreSQL refuses its rows with this SQLSTATE, "" for any: so
// what it wrote before is settled, and what devices are told of it can be counted.
func noneAcked(t *testing.T, s *faults.Stage, load *faults.Load, said int, state string, while time.Duration) {
	t.Helper()
	const writers = 2 // the default
	s.Await("each writer's rows to wait", func() error {
		for writer := range writers {
			if !complains(s.Server.Log()[said:], writer, state) {
				return fmt.Errorf("writer %d does not say so", writer)
			}
		}
		return nil
	})
	var settled float64
	for _, outcome := range []string{`outcome="committed"`, `outcome="duplicate"`} {
		rows, err := s.Server.Metric("mooring_ingest_rows_total", outcome)
		require.NoError(t, err)
		settled += rows
	}
	s.Await("the last acks to arrive", func() error {
		if acked := load.Acked(); acked != uint64(settled) {
			return fmt.Errorf("%d rows are acknowledged, %.0f are settled", acked, settled)
		}
		return nil
	})
	before := load.Acked()
	time.Sleep(while)
	require.Equal(t, before, load.Acked())
	require.LessOrEqual(t, before, s.StoredRows())
}

// complains tells whether a writer says in the log that its rows wait.
func complains(log string, writer int, state string) bool {
	for line := range strings.Lines(log) {
		if strings.Contains(line, "rows wait: Postgres does not take them") &&
			strings.Contains(line, fmt.Sprintf(`"writer":%d,`, writer)) && strings.Contains(line, state) {
			return true
		}
	}
	return false
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
		said := len(s.Server.Log())
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
		noneAcked(t, s, load, said, "", 2*time.Second) // it may first say that its connections were ended
		s.Await("the server to say why", func() error {
			if !strings.Contains(s.Server.Log()[said:], "53300") {
				return errors.New("it does not")
			}
			return nil
		})
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
		said := len(s.Server.Log())
		s.SQL("ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")
		s.Injected("read-only")
		noneAcked(t, s, load, said, "25006", 2*time.Second)
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
		held := time.Now()
		stored, err := holder.Query("SELECT count(*) FROM mooring.samples")
		require.NoError(t, err)
		s.Await("the last acks to arrive", func() error {
			if acked := load.Acked(); strconv.FormatUint(acked, 10) != stored[0][0] {
				return fmt.Errorf("%d rows are acknowledged, %s are stored", acked, stored[0][0])
			}
			return nil
		})
		before := load.Acked()
		time.Sleep(max(4*time.Second, time.Until(held.Add(5*time.Second))))
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
