//go:build linux

package faults_test

import (
	"testing"
	"time"

	"mooring/internal/faults"
)

func TestFaultServerKilled(t *testing.T) {
	t.Parallel()
	s := faults.Start(t, faults.Options{
		Expect: "a server killed at any moment has acknowledged nothing that is not stored; what it had not acknowledged is sent again and stored once",
	})
	load := s.Load(faults.LoadOptions{Devices: 20, Rate: 4000})
	for range 5 {
		load.AwaitAcked(1)
		time.Sleep(time.Duration(s.Random.IntN(200)) * time.Millisecond) // the random moment
		s.Server.Kill()
		s.Injected("kill -9")
		s.Server.Start()
	}
	s.Verdict()
}
