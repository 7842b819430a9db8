//go:build linux

package faults_test

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/internal/faults"
)

// A restart must bring a thousand devices back one after the other. The slots
// begin when the grace is over, so it is longer than any machine needs to stop a
// server and to start the next one; nobody waits for its end, since all devices
// leave when they have their acks. How evenly devices come is judged by when they
// set out: how soon they are served is a matter of the machine.
func TestFaultRestartWithoutStorm(t *testing.T) {
	t.Parallel()
	const devices, grace, spread = 1000, 30 * time.Second, 10 * time.Second
	s := faults.Start(t, faults.Options{
		Expect: "after a restart 1,000 devices come back evenly over the spread of 10 s: each of its tenths of a second is the slot of 10 ± 2 of them, " +
			"nobody comes before its slot, and nobody has to come twice",
		Server: faults.ServerOptions{Flags: []string{"--spread", spread.String(), "--grace", grace.String()}},
	})
	// The server checks 256 handshakes at a time and sends others away, for the
	// minute of class L: so they come in four parts.
	const parts = 4
	var loads []*faults.Load
	for range parts {
		load := s.Load(faults.LoadOptions{Devices: devices / parts, Rate: 2000 / parts, Rows: 5, Backoff: 1, Flags: []string{"--log-level", "debug"}})
		load.AwaitConnected(devices / parts)
		loads = append(loads, load)
	}
	for _, load := range loads {
		load.AwaitAcked(5000 / parts)
	}
	// A slot is for devices that got somewhere (PROTOCOL §9.3).
	s.Await("a row of each device", func() error {
		if count := s.SQL("SELECT count(DISTINCT device_id) FROM mooring.samples")[0][0]; count != strconv.Itoa(devices) {
			return fmt.Errorf("%s devices have rows", count)
		}
		return nil
	})
	before := s.SQL("SELECT max(id) FROM mooring.sessions")[0][0]
	began := time.Now()
	code, took := s.Server.Terminate()
	require.Zero(t, code)
	require.Less(t, took, 3*time.Second+10*time.Second, "nobody waits for the grace's end")
	s.Injected("SIGTERM and start")
	s.Server.Start()
	require.Less(t, time.Since(began), grace, "the server is back before the slots begin")
	for _, load := range loads {
		load.AwaitConnected(devices / parts)
		load.AwaitAcked(5000 / parts)
	}

	var waits, due []float64
	for _, load := range loads {
		for _, parting := range load.Partings() {
			require.Equal(t, wantedParting, parting.Code)
			waits = append(waits, parting.Wait.Seconds())
			due = append(due, float64(parting.At.UnixMilli())/1e3+parting.Wait.Seconds())
		}
	}
	require.Len(t, waits, devices, "each device leaves once, and is let in when it comes back")
	gaps := comebacks(s, before)
	require.Len(t, gaps, devices)
	var at, away []float64
	for _, gap := range gaps {
		at, away = append(at, gap.back), append(away, gap.away)
	}
	slices.Sort(due)
	slices.Sort(at)
	slices.Sort(away)
	late := 0.0
	for i := range at {
		require.GreaterOrEqual(t, at[i], due[i], "nobody comes before its slot")
		late = max(late, at[i]-due[i])
	}
	slots := tenths(waits, 100)
	t.Logf("slots in each 100 ms: %v", slots)
	t.Logf("set out in each 100 ms: %v", tenths(due, 150))
	t.Logf("came back in each 100 ms: %v", tenths(at, 150))
	for i, count := range slots { // at random, with one range for all, it would be so for 57 of them
		require.InDelta(t, devices/100, count, 2, "tenth %d of a second", i)
	}
	first, last := slices.Min(waits), slices.Max(waits)
	s.Figure(fmt.Sprintf("%d devices had slots over %.1f s, at most %d within 100 ms; came at most %.1f s after they set out; away for %.1f s at the median, %.1f s at p99, %.1f s at most",
		devices, last-first, slices.Max(slots), late, away[len(away)/2], away[len(away)*99/100], away[len(away)-1]))
	require.Greater(t, last-first, 0.9*spread.Seconds())
	require.GreaterOrEqual(t, first, grace.Seconds())
	require.LessOrEqual(t, last, (grace + spread).Seconds())
	s.Verdict()
}

// wantedParting is the close code that a restart's GOAWAY gives (PROTOCOL §9.1 DRAIN).
const wantedParting = "4000"

// tenths counts times, in seconds, in so many tenths of a second from the first on;
// the last one has what comes later too.
func tenths(seconds []float64, n int) []int {
	counts, first := make([]int, n), slices.Min(seconds)
	for _, at := range seconds {
		counts[min(int((at-first)*10), n-1)]++
	}
	return counts
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
	s.Await("rows to gather in the server", func() error { // many more than were on their way
		if waiting := bytesWaiting(t, s.Server); waiting < 50_000 {
			return fmt.Errorf("%.0f bytes wait", waiting)
		}
		return nil
	})
	code, took := s.Server.Terminate()
	s.Injected("SIGTERM")
	s.Postgres.Resume(t)
	s.Figure(fmt.Sprintf("ended after %.1f s, of 4 s allowed", took.Seconds()))
	require.Equal(t, 1, code, "it says that it could not write all")
	require.Less(t, took, 4*time.Second+5*time.Second, "and some for a busy machine")
	// The same in a hurry: a second signal does not wait for either.
	s.Server.Options().Flags = []string{"--grace", "10m", "--stop-timeout", "10m"}
	s.Server.Start()
	load.AwaitAcked(2000)
	s.Postgres.Pause(t)
	said := len(s.Server.Log())
	s.Server.Signal(syscall.SIGTERM)
	s.Await("the first signal to be heard", func() error { // two that wait are one
		if !strings.Contains(s.Server.Log()[said:], "stopping: devices are told") {
			return errors.New("the server does not stop")
		}
		return nil
	})
	_, took = s.Server.Terminate()
	s.Injected("SIGTERM twice")
	s.Postgres.Resume(t)
	require.Less(t, took, 5*time.Second)
	s.Server.Start()
	load.AwaitAcked(2000)
	s.Verdict()
}
