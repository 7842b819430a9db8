//go:build linux

package faults_test

import (
	"testing"

	"mooring/internal/faults"
)

func TestFaultFailover(t *testing.T) {
	t.Parallel()
	s := faults.Start(t, faults.Options{
		Expect:      "the primary is killed and its synchronous standby promoted: the server, given both hosts, goes on with the new primary, and no acknowledged row is missing there",
		OwnPostgres: true, NoServer: true,
	})
	replica := s.StartReplica()
	s.Server.Options().DatabaseURL = replica.BothURL()
	s.Server.Start()
	load := s.Load(faults.LoadOptions{Devices: 20, Rate: 4000, Faults: "light"})
	load.AwaitAcked(8000)
	s.Postgres.Kill9(t)
	s.Injected("kill -9 of the primary, promotion of the standby")
	replica.Promote()
	load.AwaitAcked(4000)
	s.Server.Kill()
	s.Injected("kill -9 of the server afterwards")
	s.Server.Start()
	load.AwaitAcked(1000)
	s.Verdict()
}
