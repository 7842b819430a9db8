//go:build linux

package faults_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/internal/faults"
)

// pauseAtRandom is the random moment of an injection.
func pauseAtRandom(s *faults.Stage, most time.Duration) {
	time.Sleep(time.Duration(s.Random.Int64N(int64(most))))
}

func TestFaultServerKilledAtRandom(t *testing.T) {
	t.Parallel()
	s := faults.Start(t, faults.Options{
		Expect: "a server killed at any moment has acknowledged nothing that is not stored; what it had not acknowledged is sent again and stored once",
	})
	load := s.Load(faults.LoadOptions{Devices: 20, Rate: 4000})
	for range 50 {
		load.AwaitAcked(1)
		pauseAtRandom(s, 300*time.Millisecond)
		s.Server.Kill()
		s.Injected("kill -9")
		s.Server.Start()
	}
	s.Verdict()
}

func TestFaultServerKilledWhileStarting(t *testing.T) {
	t.Parallel()
	s := faults.Start(t, faults.Options{
		Expect: "a server killed while it starts leaves nothing that keeps the next one from starting, and no row is lost",
	})
	load := s.Load(faults.LoadOptions{Devices: 20, Rate: 2000, Faults: "light", AnyAnswer: true})
	for range 5 {
		load.AwaitAcked(100)
		s.Server.Kill()
		s.Injected("kill -9")
		for range 3 {
			s.Server.Launch()
			pauseAtRandom(s, 400*time.Millisecond)
			s.Server.Kill()
			s.Injected("kill -9 while starting")
		}
		s.Server.Start()
	}
	s.Verdict()
}

// The transaction is held when every row of it is copied: the server dies then,
// and the transaction ends one way or the other.
func TestFaultServerKilledBetweenCopyAndCommit(t *testing.T) {
	t.Parallel()
	s := faults.Start(t, faults.Options{
		Expect: "rows that were copied and not committed when the server died were not acknowledged: whether PostgreSQL commits them after all or rolls back, they are stored once",
	})
	load := s.Load(faults.LoadOptions{Devices: 20, Rate: 4000})
	for round := range 10 {
		load.AwaitAcked(500)
		hold := s.HoldBeforeCommit()
		held := hold.Await(1)
		s.Server.Kill()
		if round%2 == 0 {
			s.TerminateBackends(held)
			s.Injected("kill -9 between COPY and commit, rolled back")
		} else {
			s.Injected("kill -9 between COPY and commit, committed later")
		}
		hold.Release()
		s.Server.Start()
	}
	s.Verdict()
}

// The commit can't be undone any more, and nobody was told: first because the
// server dies while PostgreSQL holds back its answer, then because it is frozen,
// and dies, with the answer in its socket.
func TestFaultServerKilledBetweenCommitAndAck(t *testing.T) {
	t.Parallel()
	s := faults.Start(t, faults.Options{
		Expect:      "rows that were committed when the server died before it could acknowledge them are sent again, found stored and acknowledged, and stored once",
		OwnPostgres: true,
	})
	load := s.Load(faults.LoadOptions{Devices: 20, Rate: 4000})
	for round := range 10 {
		load.AwaitAcked(500)
		hold := s.HoldAfterCommit()
		hold.Await(1)
		if round%2 == 0 {
			s.Server.Kill()
			s.Injected("kill -9 between commit and its answer")
			hold.Release()
			hold.AwaitNone()
		} else {
			s.Server.Pause()
			hold.Release()
			hold.AwaitNone()
			s.Server.Kill()
			s.Injected("kill -9 between the commit's answer and the ack")
		}
		// The fleet reports ten times a second.
		var acked uint64
		s.Await("the fleet's last report", func() error {
			before := acked
			acked = load.Acked()
			if acked != before {
				time.Sleep(250 * time.Millisecond)
				return errChanged
			}
			return nil
		})
		require.Greater(t, s.StoredRows(), acked, "the kill must have hit between commit and ack")
		s.Server.Start()
	}
	verdict := s.Verdict()
	require.Zero(t, verdict.Missing+verdict.Twice)
}
