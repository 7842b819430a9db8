package live

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/devices"
	"mooring/storage"
)

const quick = "every=100ms"

// TestSnapshotThenChanges: first what there is, then what is new, and only of
// what was asked for.
func TestSnapshotThenChanges(t *testing.T) {
	t.Parallel()
	s := newStage(t, 3, nil)
	s.world.commit(0, 100, 1, 2)
	s.world.commit(1, 100, 3, 4)
	w := s.watch(quick+"&device=d000&device=d001&channel=a&events=readings,presence", "")
	require.False(t, w.until("hello").Resumed)
	first := w.until("snapshot")
	list := first.snapshot(t)
	require.Len(t, list, 2)
	require.Equal(t, "d000", list[0].Device)
	require.True(t, list[0].Online)
	require.Len(t, list[0].Channels, 1, "channel b was not asked for")
	require.InDelta(t, 1, *list[0].Channels["a"].Value, 0)
	require.Equal(t, "V", list[0].Channels["a"].Unit)
	require.NotEmpty(t, w.until("snapshot_end").Cursor)

	s.world.commit(2, 101, 9, 9) // nobody asked
	s.world.commit(1, 101, 5, 6)
	m := w.until("readings")
	require.Len(t, m.Readings, 1)
	require.Equal(t, "d001", m.Readings[0].Device)
	require.Equal(t, 1, m.Readings[0].Rows)
	require.Len(t, m.Readings[0].Channels, 1)
	require.InDelta(t, 5, *m.Readings[0].Channels["a"].Value, 0)
	require.NotEmpty(t, m.Cursor)
}

// TestConflation: of a thousand values a viewer is told the last, and of a
// thousand rows that there were so many; older readings are none.
func TestConflation(t *testing.T) {
	t.Parallel()
	s := newStage(t, 1, nil)
	w := s.watch(quick, "")
	w.until("snapshot_end")
	for i := range 1000 {
		s.world.commit(0, 100+int64(i), float64(i), 0)
	}
	require.Equal(t, 1000, w.untilValue(0, 999))
	s.world.commit(0, 5, -1, 0) // late
	s.world.commit(0, 2000, 7, 0)
	require.Equal(t, 2, w.untilValue(0, 7))
}

// TestNothingFallsBetween: rows that are committed while the hub asks who fits,
// and while it asks for their last values, are seen.
func TestNothingFallsBetween(t *testing.T) {
	t.Parallel()
	s := newStage(t, 1, nil)
	s.world.commit(0, 100, 1, 1)
	s.world.onLatest = func() { s.world.commit(0, 101, 2, 2) } // behind what was read
	w := s.watch(quick, "")
	w.until("snapshot")
	require.Equal(t, 1, w.untilValue(0, 2))
}

// TestViewersWhoComeAnyTime: whenever a viewer comes, it sees values rise without
// going back, up to the last.
func TestViewersWhoComeAnyTime(t *testing.T) {
	t.Parallel()
	s := newStage(t, 4, nil)
	const first, last = 1, 2000
	for d := range 4 { // before anybody comes: every snapshot has a value
		s.world.commit(d, first, first, 0)
	}
	go func() {
		for i := int64(first + 1); i <= last; i++ {
			for d := range 4 {
				s.world.commit(d, i, float64(i), 0)
			}
			if i%10 == 0 {
				time.Sleep(time.Millisecond) // or all is over before anybody comes
			}
		}
	}()
	var all sync.WaitGroup
	for i := range 20 {
		w := s.watch(quick+"&device="+name(i%4)+"&channel=a&events=readings", "")
		all.Go(func() {
			known := -1.0
			see := func(list []told) {
				for _, d := range list {
					if reading, ok := d.Channels["a"]; ok {
						require.GreaterOrEqual(t, *reading.Value, known)
						known = *reading.Value
					}
				}
			}
			for known < last {
				m, ok := w.next()
				require.True(t, ok)
				switch m.Type {
				case "snapshot":
					see(m.snapshot(t))
				case "snapshot_end":
					require.GreaterOrEqual(t, known, float64(first))
				case "readings":
					see(m.Readings)
				}
			}
		})
	}
	all.Wait()
}

// TestResume goes on behind a cursor, and begins anew where it can't.
func TestResume(t *testing.T) {
	t.Parallel()
	s := newStage(t, 2, func(cfg *Config) { cfg.Resume = time.Hour })
	const query = quick + "&events=readings,presence,refusals"
	w := s.watch(query, "")
	w.until("snapshot_end")
	cursor := w.last
	require.NoError(t, w.body.Close())
	require.Eventually(t, func() bool { s.hub.mu.RLock(); defer s.hub.mu.RUnlock(); return s.hub.open == 0 }, time.Minute, time.Millisecond)
	s.world.commit(1, 100, 5, 6)
	require.Eventually(t, func() bool { s.world.mu.Lock(); defer s.world.mu.Unlock(); return s.world.presence != nil }, time.Minute, time.Millisecond)
	require.NoError(t, s.world.presence([]devices.PresenceChange{{DeviceID: 0, Session: 1, Online: false, Since: time.Unix(2, 0)}}))

	again := s.watch(query, cursor)
	require.True(t, again.until("hello").Resumed)
	m, _ := again.next()
	require.Equal(t, "presence", m.Type, "no snapshot")
	require.Equal(t, "d000", m.Device)
	again.untilValue(1, 5)

	for why, other := range map[string][2]string{
		"another filter":   {query + "&channel=a", cursor},
		"another run":      {query, "00000000" + cursor[8:]},
		"the future":       {query, s.hub.epoch + cursor[8:18] + "999999.0"},
		"another program":  {query, "42"},
		"no cursor at all": {query, "x.y.z.w"},
	} {
		w := s.watch(other[0], other[1])
		require.False(t, w.until("hello").Resumed, why)
		w.until("snapshot_end")
	}
}

// TestSkippedIsTold: a ring that has gone round says how much was in it.
func TestSkippedIsTold(t *testing.T) {
	t.Parallel()
	s := newStage(t, 1, nil)
	w := s.watch("every=1s&events=commands", "")
	w.until("snapshot_end")
	require.Eventually(t, func() bool { s.world.mu.Lock(); defer s.world.mu.Unlock(); return s.world.commands != nil }, time.Minute, time.Millisecond)
	const sent = ringEvents + 500
	many := make([]devices.Command, sent)
	for i := range many {
		many[i] = devices.Command{ID: int64(i + 1), Device: name(0)}
	}
	s.world.commands(many) // at once: no beat comes between
	skipped, seen := 0, 0
	for skipped+seen < sent {
		switch m, ok := w.next(); m.Type {
		case "skipped":
			require.Equal(t, "events", m.What)
			skipped += m.Count
		case "command":
			require.InDelta(t, skipped+seen+1, m.Command["number"], 0, "in their order")
			seen++
		default:
			require.True(t, ok)
		}
	}
	require.GreaterOrEqual(t, skipped, 1)
	require.Equal(t, sent, skipped+seen)
}

// TestRefusals come in their order, once, only those of the devices asked for.
func TestRefusals(t *testing.T) {
	t.Parallel()
	s := newStage(t, 2, nil)
	w := s.watch(quick+"&device=d001&events=refusals", "")
	w.until("snapshot_end")
	s.world.mu.Lock()
	for i := range 6 {
		s.world.rejects = append(s.world.rejects, storage.DeviceReject{
			NumberedReject: storage.NumberedReject{ID: int64(i + 1), Seq: int64(i), N: 1, Code: "C" + strconv.Itoa(i)}, Device: int32(i % 2), Name: name(i % 2),
		})
	}
	s.world.mu.Unlock()
	for _, code := range []string{"C1", "C3", "C5"} {
		require.Equal(t, code, w.until("refusal").Code)
	}
	s.world.mu.Lock()
	s.world.rejects = append(s.world.rejects, storage.DeviceReject{NumberedReject: storage.NumberedReject{ID: 7, Code: "C7"}, Name: name(1)})
	s.world.mu.Unlock()
	require.Equal(t, "C7", w.until("refusal").Code, "and none of the others again")
}

// TestDevicesComeAndGo: who fits the filter only now, or no longer.
func TestDevicesComeAndGo(t *testing.T) {
	t.Parallel()
	s := newStage(t, 3, func(cfg *Config) { cfg.MaxDevices = 3 })
	w := s.watch(quick+"&model=m&events=readings,presence", "")
	w.until("snapshot_end")
	s.world.commit(7, 100, 1, 1) // before anybody can hear of it: its snapshot has what is stored, and no news
	s.world.mu.Lock()
	s.world.devices[1].Model = "other"
	s.world.devices = append(s.world.devices, devices.Watched{ID: 7, Name: "d007", Model: "m"}, devices.Watched{ID: 8, Name: "d008", Model: "m"})
	s.world.mu.Unlock()
	var names []string
	require.NoError(t, json.Unmarshal(w.until("gone").Devices, &names))
	require.Equal(t, []string{"d001"}, names)
	m := w.until("snapshot")
	list := m.snapshot(t)
	require.Len(t, list, 1)
	require.Equal(t, "d007", list[0].Device)
	require.InDelta(t, 1, *list[0].Channels["a"].Value, 0, "with what is stored")
	skipped := w.until("skipped")
	require.Equal(t, "devices", skipped.What)
	require.Equal(t, 1, skipped.Count)
	s.world.commit(7, 101, 2, 2)
	require.Equal(t, 1, w.untilValue(7, 2))
}

// TestManyDevicesInParts: a snapshot of many devices comes in messages of bounded
// size, each device once.
func TestManyDevicesInParts(t *testing.T) {
	t.Parallel()
	const count = 1200
	s := newStage(t, count, nil)
	for i := range count {
		s.world.commit(i, 100, 1, 2)
	}
	w := s.watch(quick, "")
	seen := make(map[string]bool)
	for {
		m, ok := w.next()
		require.True(t, ok)
		if m.Type == "snapshot_end" {
			break
		}
		if m.Type != "snapshot" {
			continue
		}
		require.Empty(t, m.Cursor, "to resume in the middle would lack the rest")
		require.Less(t, len(m.Devices), 2*messageBytes)
		for _, d := range m.snapshot(t) {
			require.False(t, seen[d.Device], d.Device)
			require.Len(t, d.Channels, 2)
			seen[d.Device] = true
		}
	}
	require.Len(t, seen, count)
	// Another viewer of the same devices costs the database nothing.
	asked := s.world.latestAsked
	s.watch(quick, "").until("snapshot_end")
	require.Equal(t, asked, s.world.latestAsked)
}

// TestLimits: too many viewers, too many values, filters that can't be.
func TestLimits(t *testing.T) {
	t.Parallel()
	s := newStage(t, 4, func(cfg *Config) { cfg.MaxViewers, cfg.MaxValues = 2, 3 })
	for i := range 4 {
		s.world.commit(i, 100, 1, 2)
	}
	first := s.watch(quick, "")
	first.until("snapshot_end")
	m := first.until("skipped")
	require.Equal(t, "channels", m.What)
	second := s.watch(quick, "")
	second.until("snapshot_end")
	status := func(query string) int {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.server.URL+"?"+query, http.NoBody)
		require.NoError(t, err)
		response, err := s.server.Client().Do(request)
		require.NoError(t, err)
		_ = response.Body.Close()
		return response.StatusCode
	}
	require.Equal(t, http.StatusServiceUnavailable, status(quick))
	for _, query := range []string{"every=1ms", "every=2m", "every=x", "events=all", "label=x", "snapshot=1", "devices=x", "model=a&model=b", "device="} {
		require.Equal(t, http.StatusUnprocessableEntity, status(query), query)
	}
	require.NoError(t, second.body.Close())
	require.Eventually(t, func() bool { s.hub.mu.RLock(); defer s.hub.mu.RUnlock(); return s.hub.open == 1 }, time.Minute, time.Millisecond)
	s.watch(quick, "").until("snapshot_end")
}

// TestOneUserLooksOnOften: one user leaves room for others, and what it closes is
// its own again.
func TestOneUserLooksOnOften(t *testing.T) {
	t.Parallel()
	s := newStage(t, 1, func(cfg *Config) { cfg.MaxOfUser, cfg.MaxViewers = 2, 5 })
	look := func(user, query string) (status int, body io.Closer) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.server.URL+"?"+query, http.NoBody)
		require.NoError(t, err)
		request.Header.Set("User", user)
		response, err := s.server.Client().Do(request)
		require.NoError(t, err)
		t.Cleanup(func() { _ = response.Body.Close() })
		return response.StatusCode, response.Body
	}
	for range 3 { // a request that can't be is no viewer
		status, _ := look("1", "events=all")
		require.Equal(t, http.StatusUnprocessableEntity, status)
	}
	status, first := look("1", quick)
	require.Equal(t, http.StatusOK, status)
	status, _ = look("1", quick)
	require.Equal(t, http.StatusOK, status)
	status, _ = look("1", quick)
	require.Equal(t, http.StatusTooManyRequests, status)
	require.InDelta(t, 1, s.metric("refusals_total", "user"), 0)
	status, _ = look("2", quick)
	require.Equal(t, http.StatusOK, status, "others have room")

	require.NoError(t, first.Close())
	require.Eventually(t, func() bool { s.hub.mu.RLock(); defer s.hub.mu.RUnlock(); return s.hub.ofUser[1] == 1 }, time.Minute, time.Millisecond)
	status, _ = look("1", quick)
	require.Equal(t, http.StatusOK, status)

	// The database does not answer: who did not get in takes no room.
	s.world.fail(true)
	status, _ = look("3", quick+"&model=other")
	require.Equal(t, http.StatusServiceUnavailable, status)
	s.hub.mu.RLock()
	require.NotContains(t, s.hub.ofUser, int32(3))
	s.hub.mu.RUnlock()
}

// TestNobodyWatches: when the last viewer has left for a while, nothing is
// watched or kept any more.
func TestNobodyWatches(t *testing.T) {
	t.Parallel()
	s := newStage(t, 3, func(cfg *Config) { cfg.Resume = 10 * time.Millisecond })
	s.world.commit(0, 1, 1, 1)
	w := s.watch(quick, "")
	w.until("snapshot_end")
	require.NoError(t, w.body.Close())
	require.Eventually(t, func() bool {
		s.hub.mu.RLock()
		defer s.hub.mu.RUnlock()
		s.world.mu.Lock()
		defer s.world.mu.Unlock()
		return !s.hub.active && len(s.hub.entries) == 0 && s.hub.values == 0 && len(s.world.watched) == 0
	}, time.Minute, 10*time.Millisecond)
	// And again.
	s.world.commit(0, 2, 2, 2)
	s.world.mu.Lock()
	s.world.commands = nil
	s.world.mu.Unlock()
	w = s.watch(quick, "")
	w.until("snapshot_end")
	require.Eventually(t, func() bool { s.world.mu.Lock(); defer s.world.mu.Unlock(); return s.world.commands != nil }, time.Minute, time.Millisecond)
	require.Zero(t, s.metric("skipped_total", "commands"), "who comes has missed no commands")
	s.world.commit(0, 3, 3, 3)
	w.untilValue(0, 3)
}

// TestStopSaysSo: viewers are told that the server stops.
func TestStopSaysSo(t *testing.T) {
	t.Parallel()
	s := newStage(t, 1, nil)
	s.hub.patience = time.Minute // the server may be held still for two seconds
	w := s.watch(quick, "")
	w.until("snapshot_end")
	require.NoError(t, s.hub.Stop(t.Context()))
	require.Equal(t, errStopping.Error(), w.until("end").Reason)
	_, ok := w.next()
	require.False(t, ok)
}
