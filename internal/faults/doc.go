// Package faults is the fault suite: it runs the built programs, a real
// PostgreSQL and the simulated fleet, breaks something, and asks the fleet's
// ledger whether a row was lost, doubled or changed.
//
//	go test ./... -run Fault                          # all, in some minutes
//	go test ./internal/faults -run FaultServerKilled -v
//	MOORING_FAULTS_SEED=7 go test ./... -run Fault    # the same choices again
//	UPDATE_DOCS=1 go test ./internal/faults           # and write docs/RELIABILITY.md
//	make soak                                         # all of it mixed, for an hour
//
// # A scenario
//
//	func TestFaultServerKilled(t *testing.T) {
//		t.Parallel()
//		s := faults.Start(t, faults.Options{
//			Expect: "a server killed under load loses nothing that it acknowledged",
//		})
//		load := s.Load(faults.LoadOptions{Devices: 20, Rate: 2000})
//		for range 5 {
//			load.AwaitAcked(1000)                // so many more than now
//			s.Server.Kill()                      // waits for its end
//			s.Injected("kill -9")
//			s.Server.Start()                     // at the same address
//		}
//		s.Verdict()                              // stops loads; fails unless 0 missing, 0 twice, 0 wrong
//	}
//
// Stage.Server is the first server; Stage.NewServer makes more on the same
// database. Server can Start, Kill, Terminate, Pause and Resume, and tells
// Metric, Memory and Log. Stage.Postgres is there with Options.OwnPostgres: Stop,
// StopImmediately, Kill9, Start, Pause, Resume, PID. Stage.SQL and Stage.Connect
// speak to it as the superuser; without OwnPostgres the scenario has a database
// of its own in the cluster that all scenarios share, and must not break that.
// A load whose LoadOptions.URL is that of a proxy reaches the server through it.
//
// # Processes and goroutines
//
// Each program runs in a process group of its own and is killed when the test
// ends, or by the kernel when the test process dies: more exactly, when the thread
// dies that started the program, so only begin starts programs that last, on a
// thread that it keeps (StartProgram for those that are no server). A Stage owns
// one goroutine for each process, which waits for its end, and one for each server
// and load, which watches it; all have ended when the test's cleanup is over.
// PostgreSQL belongs to internal/pgtest, whose watchdog outlives a killed test.
//
// # Race detector
//
// The programs are built once per test process, unless MOORING_TEST_PROGRAMS names
// a folder with plain and race in which they are, with the race detector if the
// tests have it; Options.Plain builds without, for figures of memory. A data race
// or panic that a server reports fails the scenario.
package faults
