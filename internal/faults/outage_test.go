//go:build linux

package faults_test

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/internal/faults"
)

// outageLength is ten minutes for make soak-outage.
func outageLength(t *testing.T) (length time.Duration, long bool) {
	t.Helper()
	text := os.Getenv("MOORING_FAULTS_OUTAGE")
	if text == "" {
		return 30 * time.Second, false
	}
	length, err := time.ParseDuration(text)
	require.NoError(t, err)
	return length, true
}

// A fleet that makes 20,000 rows a second keeps them while PostgreSQL is away.
// Memory and what becomes of the rows are judged always; how fast the backlog
// goes, which a machine that is busy with other tests says nothing about, is
// judged in the long run.
func TestFaultOutage(t *testing.T) {
	length, long := outageLength(t)
	const rate, growth = 20_000, 100e6
	s := faults.Start(t, faults.Options{
		Expect: fmt.Sprintf("PostgreSQL away for %v at 20,000 rows/s: the server's memory grows by less than 100 MB, devices keep their rows, nothing is dropped; "+
			"afterwards the backlog goes at more than twice the live rate, and within 30 s frames are acknowledged within 1 s", length),
		OwnPostgres: true, Plain: true,
	})
	load := s.Load(faults.LoadOptions{
		Devices: 1000, Rate: rate, Settle: length + faults.Patience,
		Flags: []string{"--buffer", (length + time.Minute).String()},
	})
	load.AwaitConnected(1000)
	load.AwaitAcked(5 * rate) // live, and warm
	before := s.Server.Memory()

	s.Postgres.Stop(t)
	s.Injected(fmt.Sprintf("PostgreSQL away for %v", length))
	time.Sleep(length)
	during, backlog := s.Server.Memory(), load.Progress()
	require.Less(t, s.Server.Peak()-before, int64(growth), "memory during the outage")
	waiting, err := s.Server.Metric("mooring_ingest_bytes_waiting")
	require.NoError(t, err)
	s.Postgres.Start(t)
	back := time.Now()

	caughtUp, quick := watchDrain(t, s, load, back)
	after := s.Server.Memory()
	result := load.Stop()
	require.Zero(t, result.Dropped)
	require.Equal(t, result.Produced, result.Acked)
	require.Less(t, s.Server.Peak()-before, int64(growth), "memory over all")
	left := backlog.Produced - backlog.Acked
	drained := float64(left)/caughtUp.Seconds() + rate
	t.Logf("outage of %v: resident %d MB before, %d MB at its end, %d MB afterwards, peak %d MB; %.0f bytes waited in the server, %d rows on devices and server; "+
		"drained in %.1f s at %.0f rows/s; ack p99 under 1 s from %.1f s on",
		length, before/1e6, during/1e6, after/1e6, s.Server.Peak()/1e6, waiting, left, caughtUp.Seconds(), drained, quick.Seconds())
	if !long {
		s.Verdict()
		return
	}
	faults.Note(fmt.Sprintf("| outage of %v | %d rows/s from 1,000 devices | %d MB before, %d MB at most | %d rows | %.0f rows/s | %.1f s |",
		length, rate, before/1e6, s.Server.Peak()/1e6, left, drained, quick.Seconds()))
	require.Greater(t, drained, 2.0*rate)
	require.Less(t, quick, 30*time.Second)
	s.Verdict()
}

// watchDrain waits until the devices have no more than two seconds' rows left.
// It tells when that was, and since when acks took less than a second: since the
// last tenth of a second in which p99 was more, or that ended a second without
// any ack. Both are counted from PostgreSQL's return.
func watchDrain(t *testing.T, s *faults.Stage, load *faults.Load, back time.Time) (caughtUp, quick time.Duration) {
	t.Helper()
	const rate, period = 20_000, 5 * time.Second
	slow, acked := time.Now(), time.Now()
	var last faults.Progress
	var all, most []int64 // p99 of each tenth of a second with acks; the most of each period
	defer func() {
		slices.Sort(all)
		t.Logf("p99 of acks, each of a tenth of a second: median %d ms; most of each %v: %d ms", all[len(all)/2]/1000, period, most)
	}()
	deadline := time.Now().Add(20 * time.Minute)
	for time.Now().Before(deadline) {
		now := load.Progress()
		if now.TimeMillis != last.TimeMillis {
			last = now
			for len(most) <= int(time.Since(back)/period) {
				most = append(most, 0)
			}
			most[len(most)-1] = max(most[len(most)-1], now.RecentP99/1000)
			switch {
			case now.RecentP99 != 0:
				all, acked = append(all, now.RecentP99), time.Now()
				if now.RecentP99 >= time.Second.Microseconds() {
					slow = time.Now()
				}
			case time.Since(acked) >= time.Second:
				slow = time.Now()
			}
		}
		if now.Produced-now.Acked < 2*rate {
			return time.Since(back), max(slow.Sub(back), 0)
		}
		time.Sleep(20 * time.Millisecond)
	}
	s.Await("the backlog to drain", func() error { return errChanged })
	return 0, 0
}
