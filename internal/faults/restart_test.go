//go:build linux

package faults_test

import (
	"fmt"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mooring/internal/faults"
)

// A restart must bring a thousand devices back one after the other.
func TestFaultRestartWithoutStorm(t *testing.T) {
	t.Parallel()
	const devices, spread = 1000, 10 * time.Second
	s := faults.Start(t, faults.Options{
		Expect: "after a restart 1,000 devices come back evenly over the spread of 10 s: two thirds of its tenths of a second have 10 ± 2 of them, " +
			"no second has more than twice its share, and each device comes in its slot",
		Server: faults.ServerOptions{Flags: []string{"--spread", "10s", "--grace", "3s"}},
	})
	// The server checks 256 handshakes at a time and sends others away, for the
	// minute of class L: so they come in four parts.
	const parts = 4
	var loads []*faults.Load
	for range parts {
		load := s.Load(faults.LoadOptions{Devices: devices / parts, Rate: 2000 / parts, Rows: 5, Backoff: 1})
		load.AwaitConnected(devices / parts)
		loads = append(loads, load)
	}
	for _, load := range loads {
		load.AwaitAcked(5000 / parts)
	}
	before := s.SQL("SELECT max(id) FROM mooring.sessions")[0][0]
	code, took := s.Server.Terminate()
	require.Zero(t, code)
	require.Less(t, took, 3*time.Second+10*time.Second, "grace and the last writes")
	s.Injected("SIGTERM and start")
	s.Server.Start()
	for _, load := range loads {
		load.AwaitConnected(devices / parts)
		load.AwaitAcked(5000 / parts)
	}

	gaps := comebacks(s, before)
	require.Len(t, gaps, devices)
	var at, away []float64
	for _, gap := range gaps {
		at, away = append(at, gap.back), append(away, gap.away)
	}
	first := slices.Min(at)
	buckets := make([]int, 150) // of 100 ms
	for _, seconds := range at {
		buckets[min(int((seconds-first)*10), len(buckets)-1)]++
	}
	fullest, even := slices.Max(buckets), 0
	for i, count := range buckets[:100] {
		if count >= 8 && count <= 12 { // at random, with one range for all, it would be 57 of them
			even++
		}
		inSecond := 0
		for _, count := range buckets[i : i+10] {
			inSecond += count
		}
		assert.LessOrEqual(t, inSecond, 2*devices/10, "from %d tenths of a second on", i) // a busy machine stalls some
	}
	slices.Sort(away)
	p99 := away[len(away)*99/100]
	t.Logf("came back per 100 ms: %v", buckets)
	s.Figure(fmt.Sprintf("%d devices came back over %.1f s, at most %d within 100 ms, 8 to 12 in %d of 100 such; away for %.1f s at the median, %.1f s at p99, %.1f s at most",
		devices, slices.Max(at)-first, fullest, even, away[len(away)/2], p99, away[len(away)-1]))
	require.GreaterOrEqual(t, even, 67)
	require.Greater(t, slices.Max(at)-first, 0.9*spread.Seconds())
	require.LessOrEqual(t, away[len(away)-1], (3*time.Second + spread + reconnecting).Seconds())
	s.Verdict()
}

// reconnecting is what a device may need beside its slot, on a busy machine.
const reconnecting = 3 * time.Second

// comeback is a device's return, in seconds.
type comeback struct{ back, away float64 }

// comebacks are the first sessions of each device behind the one numbered last:
// when they began, since 1970, and how long the device had had none.
func comebacks(s *faults.Stage, last string) []comeback {
	var all []comeback
	for _, row := range s.SQL(`
		SELECT extract(epoch FROM n.connected_at), coalesce(extract(epoch FROM n.connected_at - p.ended), 0)
		FROM (SELECT DISTINCT ON (device_id) device_id, connected_at FROM mooring.sessions WHERE id > ` + last + ` ORDER BY device_id, id) n
		JOIN (SELECT device_id, max(disconnected_at) AS ended FROM mooring.sessions WHERE id <= ` + last + ` GROUP BY device_id) p USING (device_id)`) {
		var gap comeback
		for i, to := range []*float64{&gap.back, &gap.away} {
			var err error
			if *to, err = strconv.ParseFloat(row[i], 64); err != nil {
				panic(err)
			}
		}
		all = append(all, gap)
	}
	return all
}

// With PostgreSQL stuck, a server that is to stop stops all the same.
func TestFaultStopWithPostgresStuck(t *testing.T) {
	t.Parallel()
	s := faults.Start(t, faults.Options{
		Expect:      "a server told to stop while PostgreSQL hangs ends within --grace and --stop-timeout; nothing acknowledged is lost, the rest is sent again",
		OwnPostgres: true,
		Server:      faults.ServerOptions{Flags: []string{"--grace", "1s", "--stop-timeout", "3s"}},
	})
	load := s.Load(faults.LoadOptions{Devices: 20, Rate: 2000})
	load.AwaitAcked(2000)
	s.Postgres.Pause(t)
	s.Injected("PostgreSQL stopped with SIGSTOP")
	time.Sleep(500 * time.Millisecond) // rows gather in the server
	code, took := s.Server.Terminate()
	s.Injected("SIGTERM")
	s.Postgres.Resume(t)
	s.Figure(fmt.Sprintf("ended after %.1f s, of 4 s allowed", took.Seconds()))
	require.Equal(t, 1, code, "it says that it could not write all")
	require.Less(t, took, 4*time.Second+5*time.Second, "and some for a busy machine")
	s.Server.Start()
	load.AwaitAcked(2000)

	// The same in a hurry: a second signal does not wait for either.
	s.Postgres.Pause(t)
	s.Server.Signal(syscall.SIGTERM)
	time.Sleep(200 * time.Millisecond)
	_, took = s.Server.Terminate()
	s.Injected("SIGTERM twice")
	s.Postgres.Resume(t)
	require.Less(t, took, 5*time.Second)
	s.Server.Start()
	load.AwaitAcked(2000)
	s.Verdict()
}
