//go:build linux

package faults

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Hold keeps transactions that store rows at one point of their way.
type Hold struct {
	stage   *Stage
	waiting string // the query for backends that wait there
	release func()
}

// holdKey is the advisory lock that held transactions wait for.
const holdKey = 4711

// HoldDuringCopy holds every transaction that stores rows in the middle of its
// COPY, at one row of some device, by a trigger that waits for a lock.
func (s *Stage) HoldDuringCopy() *Hold {
	s.tb.Helper()
	return s.holdBy("fault_hold_copy", "CREATE TRIGGER fault_hold_copy BEFORE INSERT ON mooring.samples FOR EACH ROW WHEN (NEW.seq % 7 = 3)")
}

// HoldBeforeCommit holds every transaction that stores rows when all its rows
// are copied and it is about to commit, by a deferred trigger that waits for a
// lock. Whoever is held has copied everything and committed nothing.
func (s *Stage) HoldBeforeCommit() *Hold {
	s.tb.Helper()
	return s.holdBy("fault_hold_commit", "CREATE CONSTRAINT TRIGGER fault_hold_commit AFTER INSERT ON mooring.samples DEFERRABLE INITIALLY DEFERRED FOR EACH ROW")
}

// holdBy makes the trigger, unless it is there, and takes the lock.
func (s *Stage) holdBy(name, trigger string) *Hold {
	s.tb.Helper()
	holder := s.Connect()
	there, err := holder.Query("SELECT FROM pg_trigger WHERE tgname = '" + name + "' AND tgparentid = 0")
	if err != nil {
		s.tb.Fatal(err)
	}
	if len(there) == 0 {
		// Making it waits for the writers, so the lock comes afterwards.
		holder.Exec(`CREATE FUNCTION public.` + name + `() RETURNS trigger LANGUAGE plpgsql AS
			$$BEGIN PERFORM pg_catalog.pg_advisory_xact_lock_shared(` + strconv.Itoa(holdKey) + `); RETURN NEW; END$$`)
		holder.Exec(trigger + " EXECUTE FUNCTION public." + name + "()")
	}
	holder.Exec(fmt.Sprintf("SELECT pg_advisory_lock(%d)", holdKey))
	return &Hold{
		stage: s,
		waiting: `SELECT pid FROM pg_stat_activity WHERE datname = current_database()
			AND wait_event_type = 'Lock' AND wait_event = 'advisory' AND application_name LIKE 'mooring writer%'`,
		release: holder.Close,
	}
}

// HoldAfterCommit holds every transaction when its commit is in the write-ahead
// log and no crash can undo it any more, before anybody is told: it waits for a
// synchronous standby that does not exist. Needs Options.OwnPostgres.
func (s *Stage) HoldAfterCommit() *Hold {
	s.tb.Helper()
	if s.Postgres == nil {
		s.tb.Fatal("faults: HoldAfterCommit needs Options.OwnPostgres")
	}
	s.SQL("ALTER SYSTEM SET synchronous_standby_names = 'nobody'", "SELECT pg_reload_conf()")
	return &Hold{
		stage:   s,
		waiting: "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND application_name LIKE 'mooring writer%'",
		release: func() {
			s.SQL("ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")
		},
	}
}

// Await waits until at least so many transactions are held and gives the process
// ids of their backends.
func (h *Hold) Await(least int) []string {
	h.stage.tb.Helper()
	var held []string
	looking := h.stage.Connect()
	defer looking.Close()
	h.stage.Await("a transaction to be held", func() error {
		rows, err := looking.Query(h.waiting)
		if err != nil {
			return waitEndedError{err}
		}
		if len(rows) < least {
			return errors.New("too few are held")
		}
		held = nil
		for _, row := range rows {
			held = append(held, row[0])
		}
		return nil
	})
	return held
}

// AwaitNone waits until nothing is held any more, after Release.
func (h *Hold) AwaitNone() {
	h.stage.tb.Helper()
	looking := h.stage.Connect()
	defer looking.Close()
	h.stage.Await("the held transactions to go on", func() error {
		rows, err := looking.Query(h.waiting)
		if err == nil && len(rows) > 0 {
			err = fmt.Errorf("%d are held", len(rows))
		}
		return err
	})
}

// Release lets them go on.
func (h *Hold) Release() { h.release() }

// TerminateBackends ends, as an administrator does, the backends of these process ids.
func (s *Stage) TerminateBackends(pids []string) {
	s.tb.Helper()
	if len(pids) > 0 {
		s.SQL("SELECT pg_terminate_backend(pid) FROM unnest('{" + strings.Join(pids, ",") + "}'::int[]) AS pid")
	}
}

// WriterBackends are the process ids of the backends that servers write through.
func (s *Stage) WriterBackends() []string {
	s.tb.Helper()
	pids, err := s.TryWriterBackends()
	if err != nil {
		s.tb.Fatal(err)
	}
	return pids
}

// TryWriterBackends is WriterBackends while PostgreSQL may be away.
func (s *Stage) TryWriterBackends() ([]string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), sqlTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.SuperURL)
	if err != nil {
		return nil, fmt.Errorf("faults: %w", err)
	}
	c := &Connection{stage: s, conn: conn}
	defer c.Close()
	rows, err := c.Query("SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'mooring writer%'")
	var pids []string
	for _, row := range rows {
		pids = append(pids, row[0])
	}
	return pids, err
}

// StoredRows counts the rows in the database.
func (s *Stage) StoredRows() uint64 {
	s.tb.Helper()
	var count uint64
	if _, err := fmt.Sscan(s.SQL("SELECT count(*) FROM mooring.samples")[0][0], &count); err != nil {
		s.tb.Fatalf("faults: %v", err)
	}
	return count
}
