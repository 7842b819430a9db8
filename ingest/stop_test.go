package ingest

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"sort"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/wire"
)

// Stop refuses, tells, drains, flushes, acknowledges and closes, in that order.
func TestStopDrains(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := quick()
		cfg.DrainGrace = 300 * time.Millisecond
		cfg.Spread = 10 * time.Second
		p := pipe(t, cfg)
		p.store.gate = make(chan struct{}, 1000)
		const devices = 10
		var all []*pipedDevice
		for n := range devices {
			d := p.connect(t, n)
			d.send(d.encoder.Hello(wire.Hello{BootID: 42}))
			d.wait(opBinary) // WELCOME
			d.send(d.encoder.Layout(twoNumbers()))
			d.data(0, 3)
			all = append(all, d)
		}
		mute := p.connect(t, 50) // never said anything
		synctest.Wait()
		require.Equal(t, uint64(devices), p.gateway.Stats().Frames)
		require.Len(t, p.gateway.hub.snapshot(), devices+1)

		stopped := make(chan error, 2)
		go func() { stopped <- p.gateway.Stop(t.Context()) }()
		go func() { stopped <- p.gateway.Stop(t.Context()) }() // both return when it is done
		var slots [][2]int
		own := map[*pipedDevice][2]int{}
		for _, d := range all {
			notice := d.hearNotice()
			require.Equal(t, wire.NoticeGoAway, notice.Kind)
			require.Equal(t, wire.CloseDrain, notice.Code)
			require.Equal(t, 300, notice.GraceMillis)
			slots = append(slots, [2]int{notice.MinMillis, notice.MaxMillis})
			own[d] = slots[len(slots)-1]
		}
		sort.Slice(slots, func(i, j int) bool { return slots[i][0] < slots[j][0] })
		for i, slot := range slots[1:] {
			require.LessOrEqual(t, slots[i][1], slot[0], "every device has a slot of its own")
		}
		require.GreaterOrEqual(t, slots[0][0], 300, "nobody answers here before the grace is over")
		require.LessOrEqual(t, slots[devices-1][1], 300+10_000)
		refused := httptest.NewRecorder()
		p.gateway.ServeHTTP(refused, streamRequest(60))
		require.Equal(t, http.StatusServiceUnavailable, refused.Code)
		require.NotEmpty(t, refused.Header().Get("Retry-After"))

		for range 100 {
			p.store.gate <- struct{}{}
		}
		all[0].data(3, 2) // within the grace
		for i, d := range all {
			want := uint64(3)
			if i == 0 {
				want = 5
			}
			for next := uint64(0); next != want; {
				ack, err := d.decoder.Ack(d.wait(opBinary).payload)
				require.NoError(t, err)
				require.Greater(t, ack.Next, next)
				require.LessOrEqual(t, ack.Next, want)
				next = ack.Next
			}
			last := d.hearNotice()
			require.Equal(t, wire.CloseDrain, last.Code)
			require.LessOrEqual(t, last.MinMillis, max(own[d][0]-299, 0), "less the time since it was given")
			require.LessOrEqual(t, last.MaxMillis, own[d][1]-299)
			require.Greater(t, last.MaxMillis, own[d][1]-302, "but the slot stays the device's own")
			require.Equal(t, wire.CloseDrain, d.wait(opClose).code())
		}
		require.Equal(t, wire.CloseDrain, mute.hearNotice().Code)
		require.Equal(t, wire.CloseDrain, mute.wait(opClose).code())
		require.NoError(t, <-stopped)
		require.NoError(t, <-stopped)
		require.Equal(t, devices*3+2, p.store.count())
		require.Len(t, p.registry.endings(), devices)
		for _, end := range p.registry.endings() {
			require.Equal(t, wire.CloseDrain, end.Code)
		}
	})
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
	link := sv.gateway.hub.current(1).link
	eventually(t, func() bool {
		link.mu.Lock()
		defer link.mu.Unlock()
		return link.parked
	}, "the grace is over, and reading with it")
	d.silent(4 * 50 * time.Millisecond)
	d.data(6, 3) // is not read any more
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
	synctest.Test(t, func(t *testing.T) {
		p := pipe(t, quick())
		p.store.failed.Store(true)
		d := newDevice(t, fakeConn{}, nil, nil)
		stuck := p.connectPlain(t)
		stuck.send(bytes.Clone(d.encoder.Hello(wire.Hello{})), bytes.Clone(d.encoder.Layout(twoNumbers())), d.frame(0, 3))
		require.Equal(t, []wire.FrameType{wire.FrameWelcome}, stuck.frames()) // and it reads nothing more
		p.registry.mu.Lock()
		p.registry.openGate = make(chan struct{})
		p.registry.mu.Unlock()
		opening := p.connect(t, 2)
		opening.send(opening.encoder.Hello(wire.Hello{}))
		synctest.Wait()
		stats := p.gateway.Stats()
		require.Equal(t, uint64(1), stats.Frames)
		require.Equal(t, uint64(3), stats.RowsWaiting)
		require.Zero(t, stats.Unaccounted())
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		began := time.Now()
		require.ErrorIs(t, p.gateway.Stop(ctx), context.DeadlineExceeded)
		require.Equal(t, 300*time.Millisecond, time.Since(began))
		require.Len(t, p.registry.endings(), 1, "its end is recorded once, although its rows never settle")
		require.Zero(t, p.registry.endings()[0].Counts.RowsCommitted)
		require.Equal(t, SessionCounts{RowsIn: 3, RowsReturned: 3}, p.registry.endings()[0].Counts)
		require.True(t, p.registry.endings()[0].Incomplete, "the store may have taken them")
		stats = p.gateway.Stats()
		require.Zero(t, stats.Connections)
		require.Equal(t, uint64(3), stats.RowsReturned)
		require.Zero(t, stats.RowsWaiting)
		require.Zero(t, stats.Unaccounted())
	})
}

// What a socket has room for goes out however late its writer gets to it: only a
// device that does not read runs out of time.
func TestFarewellOfAWriterThatIsHeldUp(t *testing.T) {
	t.Parallel()
	cfg := quick()
	cfg.CloseTimeout = time.Nanosecond // over before anything is written
	sv := serve(t, cfg, newFakeStore())
	d := sv.join(t, 1)
	d.raw(masked(0x81, []byte("text")))
	d.closesWith(wire.CloseText, true)
}

// Slots lie side by side, cover the spread, and differ in length by rounding only.
func TestSlotsShareTheSpreadEvenly(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 2, 7, 1000, 30_000, 100_000} {
		const spread, now = 30 * time.Second, int64(5 * time.Second)
		buckets := make([]int, 300) // of 100 ms
		at := 0
		for i := range n {
			least, most := slotOf(i, n, spread).after(now).millis(now)
			require.GreaterOrEqual(t, least, at, "in order")
			require.Greater(t, most, least)
			require.LessOrEqual(t, most, 30_001)
			require.InDelta(t, spread.Seconds()*1000/float64(n), most-least, 1)
			at = least
			buckets[least/100]++
		}
		if n >= 1000 {
			require.InDelta(t, n/300, slices.Max(buckets), 1, "%d devices", n)
			require.InDelta(t, n/300, slices.Min(buckets), 1, "%d devices", n)
		}
	}
	least, most := comeback{1, 2}.millis(5_000_000_000)
	require.Equal(t, [2]int{0, 1}, [2]int{least, most}, "late, but still its own slot")
}
