//go:build linux

package faults_test

import (
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/internal/faults"
)

var errChanged = errors.New("it still changes")

func TestFaultServerTerminated(t *testing.T) {
	t.Parallel()
	s := faults.Start(t, faults.Options{
		Expect: "SIGTERM under load: what devices sent is written and acknowledged, the server ends with 0 soon after its grace, and devices go on with the next one",
	})
	load := s.Load(faults.LoadOptions{Devices: 50, Rate: 4000})
	for range 5 {
		load.AwaitAcked(1000)
		pauseAtRandom(s, 300*time.Millisecond)
		code, took := s.Server.Terminate()
		s.Injected("SIGTERM")
		require.Zero(t, code, s.Server.Log())
		require.Less(t, took, 20*time.Second, "2 s of grace, and some for a busy machine")
		s.Server.Start()
	}
	s.Verdict()
}

func TestFaultServerRestartLoop(t *testing.T) {
	t.Parallel()
	s := faults.Start(t, faults.Options{
		Expect: "a server that is stopped and killed again and again, also while it stops, makes progress in between and loses nothing",
		Server: faults.ServerOptions{Flags: []string{"--grace", "300ms"}},
	})
	load := s.Load(faults.LoadOptions{Devices: 20, Rate: 3000, Faults: "light", AnyAnswer: true})
	for range 12 {
		load.AwaitAcked(1)
		switch s.Random.IntN(3) {
		case 0:
			s.Server.Terminate()
			s.Injected("SIGTERM")
		case 1:
			s.Server.Kill()
			s.Injected("kill -9")
		default:
			s.Server.Signal(syscall.SIGTERM)
			pauseAtRandom(s, 400*time.Millisecond)
			s.Server.Kill()
			s.Injected("kill -9 while stopping")
		}
		s.Server.Start()
	}
	s.Verdict()
}

// limitFiles changes how many files a running process may have open.
func limitFiles(t *testing.T, pid, limit int) {
	t.Helper()
	output, err := exec.Command("prlimit", "--pid", strconv.Itoa(pid), "--nofile="+strconv.Itoa(limit)+":").CombinedOutput()
	require.NoError(t, err, string(output))
}

func TestFaultServerOutOfFiles(t *testing.T) {
	t.Parallel()
	s := faults.Start(t, faults.Options{
		Expect: "a server that may open no more files keeps serving those it has, lets more in when it may, and does not lose its way back to PostgreSQL",
	})
	first := s.Load(faults.LoadOptions{Devices: 20, Rate: 1000})
	first.AwaitConnected(20)
	first.AwaitAcked(500)

	limitFiles(t, s.Server.PID(), 10) // fewer than it has open
	s.Injected("no more files")
	second := s.Load(faults.LoadOptions{Devices: 20, Rate: 1000})
	first.AwaitAcked(3000)
	require.Zero(t, second.Acked(), "nobody can have come in")

	s.TerminateBackends(s.WriterBackends())
	s.Injected("connections to PostgreSQL ended meanwhile")
	s.Await("the writers to miss their connections", func() error {
		if len(s.WriterBackends()) > 0 {
			return errChanged
		}
		return nil
	})
	stored := s.StoredRows()
	time.Sleep(2 * time.Second) // in which it must not end, nor acknowledge
	require.True(t, s.Server.Alive())
	require.LessOrEqual(t, first.Acked(), stored)

	limitFiles(t, s.Server.PID(), 4096)
	first.AwaitAcked(1000)
	second.AwaitConnected(20)
	second.AwaitAcked(1000)
	s.Verdict()
}

// Devices must not take the descriptors that the connections to PostgreSQL need:
// then all of them would wait for acks and none would leave.
func TestFaultServerFewFilesFromTheStart(t *testing.T) {
	t.Parallel()
	s := faults.Start(t, faults.Options{
		Expect: "a server whose limit of open files is below its number of devices serves as many as leave room for PostgreSQL, also after PostgreSQL's connections broke, and the others when it may open more",
		Server: faults.ServerOptions{Limits: "ulimit -n 60"},
	})
	s.Injected("ulimit -n 60 for 100 devices")
	load := s.Load(faults.LoadOptions{Devices: 100, Rate: 2000})
	load.AwaitConnected(20)
	load.AwaitAcked(1000)
	require.Less(t, load.Progress().Connected, 40)
	for range 3 {
		s.TerminateBackends(s.WriterBackends())
		s.Injected("connections to PostgreSQL ended")
		load.AwaitAcked(200)
	}
	s.Server.Kill()
	s.Injected("kill -9, then without the limit")
	s.Server.Options().Limits = ""
	s.Server.Start()
	load.AwaitConnected(100)
	s.Verdict()
}

func TestFaultServerLittleMemory(t *testing.T) {
	const room = 1 << 20
	s := faults.Start(t, faults.Options{
		Expect: "a server told to make do with 24 MiB of heap serves 200 devices that misbehave, while PostgreSQL comes and goes, with less than 100 MB resident; rows that wait for it never take more than --max-waiting-bytes",
		Server: faults.ServerOptions{Env: []string{"GOMEMLIMIT=24MiB"}, Flags: []string{"--max-waiting-bytes", "1MiB"}},
		Plain:  true, OwnPostgres: true,
	})
	s.Injected("GOMEMLIMIT=24MiB")
	load := s.Load(faults.LoadOptions{Devices: 200, Rate: 10_000, Faults: "light"})
	for range 3 {
		load.AwaitAcked(5000)
		s.Postgres.Kill9(t)
		s.Injected("PostgreSQL away for 2 s")
		// What is with the writers may be little; what gathers behind it takes its half.
		s.Await("rows to take their room", func() error {
			if waiting := bytesWaiting(t, s.Server); waiting < room/4 {
				return fmt.Errorf("%.0f bytes wait", waiting)
			}
			return nil
		})
		time.Sleep(2 * time.Second)
		require.LessOrEqual(t, bytesWaiting(t, s.Server), float64(room))
		s.Postgres.Start(t)
	}
	load.AwaitAcked(5000)
	s.Verdict()
	require.Less(t, s.Server.Peak(), int64(100e6))
}

func bytesWaiting(t *testing.T, server *faults.Server) float64 {
	t.Helper()
	waiting, err := server.Metric("mooring_ingest_bytes_waiting")
	require.NoError(t, err)
	return waiting
}

// A process that runs out of address space dies of it, as one that the kernel's
// killer takes does: whatever keeps servers running starts it again.
func TestFaultServerKilledForMemory(t *testing.T) {
	t.Parallel()
	s := faults.Start(t, faults.Options{
		Expect:   "a server that dies because memory runs out loses nothing that it acknowledged",
		NoServer: true, Plain: true, LacksMemory: true,
	})
	s.Server.Start()
	load := s.Load(faults.LoadOptions{Devices: 50, Rate: 5000, Rows: 50})
	for range 5 {
		load.AwaitAcked(2000)
		limitAddressSpace(t, s.Server.PID())
		s.Injected("no more memory")
		// More devices want memory that it does not get.
		more := s.Load(faults.LoadOptions{Devices: 200, Rate: 1000})
		s.Await("the server to die, or to bear it", func() error {
			if s.Server.Alive() && more.Acked() == 0 {
				return errChanged
			}
			return nil
		})
		if s.Server.Alive() {
			s.Server.Kill()
		}
		s.Server.Start()
		more.AwaitAcked(100)
		more.Stop()
	}
	s.Verdict()
}

// limitAddressSpace lets a process have no more memory than it has.
func limitAddressSpace(t *testing.T, pid int) {
	t.Helper()
	output, err := exec.Command("prlimit", "--pid", strconv.Itoa(pid), "--as=1:", "--data=1:").CombinedOutput()
	require.NoError(t, err, string(output))
}
