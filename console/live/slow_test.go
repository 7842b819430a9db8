package live

import (
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// memory is what the process holds, without garbage.
func memory() uint64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapInuse + stats.StackInuse
}

// TestViewersThatStandStill: viewers that never read cost a bounded amount of
// memory each, however much there is to tell them, and hold up nobody.
func TestViewersThatStandStill(t *testing.T) {
	const frozen, watched, bound = 300, 100, 48 << 10
	s := newStage(t, watched, func(cfg *Config) { cfg.Timeout = 10 * time.Minute })
	for i := range watched {
		s.world.commit(i, 1, 1, 2)
	}
	reader := s.watch(quick+"&events=readings", "")
	reader.until("snapshot_end")
	before := memory()
	for range frozen {
		s.dial(quick)
	}
	open := func() int { s.hub.mu.RLock(); defer s.hub.mu.RUnlock(); return s.hub.open }
	require.Eventually(t, func() bool { return open() == frozen+1 }, time.Minute, time.Millisecond)
	// Their sockets are full when nothing more is written to them.
	at, stuck, wrote := int64(1), 0, -1.0
	for stuck < 5 {
		for range 10 {
			at++
			for i := range watched {
				s.world.commit(i, at, float64(at), 2)
			}
			reader.untilValue(watched-1, float64(at)) // is told all the while
		}
		if now := s.metric("bytes_total", ""); now-wrote < frozen*messageBytes/4 {
			stuck++
		} else {
			stuck = 0
		}
		wrote = s.metric("bytes_total", "")
	}
	each := (int64(memory()) - int64(before)) / frozen
	t.Logf("%d bytes a viewer that stands still, with %d devices", each, watched)
	require.Less(t, each, int64(bound))
	require.Equal(t, frozen+1, open())
	s.hub.mu.Lock()   // nobody holds the table while it waits for a socket
	s.hub.mu.Unlock() //nolint:staticcheck // that it can be had is all
}

// TestSlowIsClosed: who takes nothing for Config.Timeout is closed, and counted.
func TestSlowIsClosed(t *testing.T) {
	t.Parallel()
	const watched = 300
	s := newStage(t, watched, func(cfg *Config) { cfg.Timeout = 200 * time.Millisecond })
	const query = quick + "&events=readings"
	s.dial(query)
	for errors.Is(<-s.served, errGone) { // held still for so long, the server did not come to answer
		s.dial(query)
	}
	require.Eventually(t, func() bool {
		at := time.Now().UnixMilli()
		for i := range watched {
			s.world.commit(i, at, float64(at), 2)
		}
		return s.metric("closes_total", closedSlow) == 1
	}, 60*time.Second, 20*time.Millisecond)
	require.Eventually(t, func() bool { s.hub.mu.RLock(); defer s.hub.mu.RUnlock(); return s.hub.open == 0 }, time.Minute, time.Millisecond)
}
