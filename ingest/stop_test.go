package ingest

import (
	"context"
	"net/http"
	"sort"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/wire"
)

// Stop refuses, tells, drains, flushes, acknowledges and closes, in that order.
func TestStopDrains(t *testing.T) {
	t.Parallel()
	store := newFakeStore()
	store.gate = make(chan struct{}, 1000)
	cfg := quick()
	cfg.DrainGrace = 300 * time.Millisecond
	cfg.Spread = 10 * time.Second
	sv := serve(t, cfg, store)
	const devices = 10
	var all []*device
	for n := range devices {
		d := sv.join(t, n)
		d.data(0, 3)
		all = append(all, d)
	}
	mute := sv.connect(t, 50) // never said anything
	eventually(t, func() bool {
		return sv.gateway.Stats().Frames == devices && len(sv.gateway.hub.snapshot()) == devices+1
	}, "all rows are in")

	stopped := make(chan error, 2)
	go func() { stopped <- sv.gateway.Stop(t.Context()) }()
	go func() { stopped <- sv.gateway.Stop(t.Context()) }() // both return when it is done
	var slots [][2]int
	for _, d := range all {
		notice := d.notice()
		require.Equal(t, wire.NoticeGoAway, notice.Kind)
		require.Equal(t, wire.CloseDrain, notice.Code)
		require.Equal(t, 300, notice.GraceMillis)
		slots = append(slots, [2]int{notice.MinMillis, notice.MaxMillis})
	}
	sort.Slice(slots, func(i, j int) bool { return slots[i][0] < slots[j][0] })
	for i, slot := range slots[1:] {
		require.LessOrEqual(t, slots[i][1], slot[0], "every device has a slot of its own")
	}
	require.LessOrEqual(t, slots[devices-1][1], 10_000)
	_, _, response := sv.handshake(t, "GET", wire.StreamPath, http.Header{"Authorization": {"Bearer token-60"}})
	require.Equal(t, http.StatusServiceUnavailable, response.StatusCode)
	require.NotEmpty(t, response.Header.Get("Retry-After"))

	for range 100 {
		store.gate <- struct{}{}
	}
	all[0].data(3, 2) // within the grace
	for i, d := range all {
		want := uint64(3)
		if i == 0 {
			want = 5
		}
		require.Equal(t, want, d.ackUpTo(want).Next)
		d.closesWith(wire.CloseDrain, true)
	}
	mute.closesWith(wire.CloseDrain, true)
	require.NoError(t, <-stopped)
	require.NoError(t, <-stopped)
	require.Equal(t, devices*3+2, store.count())
	require.Len(t, sv.registry.endings(), devices)
	for _, end := range sv.registry.endings() {
		require.Equal(t, wire.CloseDrain, end.Code)
	}
}

// What was read when the grace ended is committed and acknowledged before the
// close, however long that takes within ctx.
func TestStopAcknowledgesWhatItHasRead(t *testing.T) {
	t.Parallel()
	store := newFakeStore()
	store.gate = make(chan struct{})
	sv := serve(t, quick(), store)
	d := sv.join(t, 1)
	d.data(0, 3)
	d.data(3, 3)
	eventually(t, func() bool { return sv.gateway.Stats().Frames == 2 }, "the rows are in")
	stopped := make(chan error, 1)
	go func() { stopped <- sv.gateway.Stop(t.Context()) }()
	require.Equal(t, wire.NoticeGoAway, d.notice().Kind)
	d.silent(4 * 50 * time.Millisecond) // the grace is over
	d.data(6, 3)                        // is not read any more
	close(store.gate)
	d.ackUpTo(6)
	d.closesWith(wire.CloseDrain, true)
	require.NoError(t, <-stopped)
	require.Len(t, store.stored(1), 6)
}

// Devices that go at once are not waited for.
func TestStopEndsEarlyWhenAllHaveGone(t *testing.T) {
	t.Parallel()
	cfg := quick()
	cfg.DrainGrace = time.Hour
	sv := serve(t, cfg, newFakeStore())
	d := sv.join(t, 1)
	stopped := make(chan error, 1)
	go func() { stopped <- sv.gateway.Stop(t.Context()) }()
	require.Equal(t, wire.NoticeGoAway, d.notice().Kind)
	d.raw(masked(0x88, []byte{3, 0xE8}))
	require.NoError(t, <-stopped)
}

// When ctx ends early, Stop cuts and returns; nothing uncommitted is
// acknowledged, peers that read nothing and registries that hang included.
func TestStopIsBoundedByItsContext(t *testing.T) {
	t.Parallel()
	store := newFakeStore()
	store.failed.Store(true)
	sv := serve(t, quick(), store)
	stuck := sv.join(t, 1)
	stuck.data(0, 3)
	sv.registry.mu.Lock()
	sv.registry.openGate = make(chan struct{})
	sv.registry.mu.Unlock()
	opening := sv.connect(t, 2)
	opening.send(opening.encoder.Hello(wire.Hello{}))
	eventually(t, func() bool { return sv.gateway.Stats().Frames == 1 }, "the rows are in")
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	began := time.Now()
	require.ErrorIs(t, sv.gateway.Stop(ctx), context.DeadlineExceeded)
	require.Less(t, time.Since(began), 3*time.Second)
	require.Len(t, sv.registry.endings(), 1, "its end is recorded once, although its rows never settle")
	require.Zero(t, sv.registry.endings()[0].Counts.RowsCommitted)
	require.Equal(t, uint64(3), sv.registry.endings()[0].Counts.RowsIn)
	require.Zero(t, sv.gateway.Stats().Connections)
}
