package ingest

import (
	"context"
	"io"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/wire"
)

// While the store takes nothing, the cap holds, sessions wait and live, and all
// goes on afterwards.
func TestBackpressureHoldsTheCapAndSparesTheBlocked(t *testing.T) {
	t.Parallel()
	store := newFakeStore()
	store.gate = make(chan struct{})
	cfg := quick()
	cfg.Writers, cfg.MaxBatchBytes = 1, 64<<10
	cfg.Heartbeat = 5 * time.Second
	sv := serve(t, cfg, store)
	const devices, frames, perFrame = 24, 16, 40
	shard := sv.gateway.shards[0]
	var all []*device
	for n := range devices {
		d := sv.join(t, n)
		all = append(all, d)
		for f := range uint64(frames) {
			d.data(f*perFrame, perFrame) // 1.6 KB of store bytes a frame: 600 KB in all
		}
	}
	eventually(t, func() bool { return sv.gateway.Stats().Blocked >= devices-6 }, "sessions wait")
	require.LessOrEqual(t, shard.waiting(), 2*64<<10)
	require.True(t, shard.pressed.Load())

	// Far beyond any heartbeat, as the timers see it: blocked sessions are not
	// judged.
	blocked := 0
	for _, s := range sv.gateway.hub.snapshot() {
		if s.blocked.Load() {
			blocked++
			sv.gateway.hub.mu.Lock()
			s.tick(sv.gateway.clock.now() + int64(time.Hour))
			sv.gateway.hub.mu.Unlock()
		}
	}
	require.Positive(t, blocked)

	close(store.gate)
	for _, d := range all {
		d.ackUpTo(frames * perFrame)
	}
	require.Equal(t, devices*frames*perFrame, store.count())
	require.LessOrEqual(t, store.largest, 64<<10, "no batch is larger than the limit")
	for n := range devices {
		for i, row := range store.stored(int32(n)) {
			require.Equal(t, uint64(i), row.seq, "rows of a device are committed in order")
		}
	}
	eventually(t, func() bool { return !shard.pressed.Load() && shard.shrunk.Load() == 0 }, "windows are open again")
	shard.mu.Lock()
	defer shard.mu.Unlock()
	require.Zero(t, shard.reserved)
	require.Empty(t, shard.waiters)
}

// A device that was told a small window is told the full one without asking.
func TestWindowShrinksUnderPressureAndIsReopened(t *testing.T) {
	t.Parallel()
	cfg := quick()
	cfg.Writers = 1
	sv := serve(t, cfg, newFakeStore())
	d := sv.join(t, 1)
	d.data(0, 1)
	require.Equal(t, 16, d.ackUpTo(1).Window)
	shard := sv.gateway.shards[0]
	shard.pressed.Store(true)
	shard.mu.Lock()
	shard.waiters = []*waiter{{bytes: shard.limit, ready: make(chan struct{})}}
	shard.reserved = shard.limit // nobody can be granted anything: pressure stays
	shard.mu.Unlock()
	s := sv.gateway.hub.current(1)
	s.mu.Lock()
	s.outbox.ack = true
	s.kick()
	s.mu.Unlock()
	require.Equal(t, 1, d.ack().Window)
	require.Equal(t, int64(1), shard.shrunk.Load())
	shard.mu.Lock()
	shard.waiters = nil
	shard.reserved = 0
	shard.grant()
	shard.mu.Unlock()
	ack := d.ack() // unsolicited
	require.Equal(t, 16, ack.Window)
	require.Equal(t, uint64(1), ack.Next)
	require.Zero(t, shard.shrunk.Load())
	d.data(1, 1)
	d.ackUpTo(2)
}

func TestWindowExceededCloses(t *testing.T) {
	t.Parallel()
	store := newFakeStore()
	store.gate = make(chan struct{})
	sv := serve(t, quick(), store)
	d := sv.join(t, 1)
	for seq := range uint64(16) {
		d.data(seq, 1)
	}
	d.silent(50 * time.Millisecond)
	d.data(16, 1)
	d.closesWith(wire.CloseWindow, true)
	close(store.gate)
	eventually(t, func() bool { return len(store.stored(1)) == 16 }, "what was within the window is committed")
	eventually(t, func() bool { return len(sv.registry.endings()) == 1 }, "and then the end recorded")
	end := sv.registry.endings()[0]
	require.Equal(t, uint64(16), end.Counts.RowsCommitted)
	require.Equal(t, uint64(16), end.Next)
}

const frozenPeers = 100

// freeze lets peers that read nothing be sent as much as is queued for one.
func freeze(t *testing.T, sv *server) (peers []*device) {
	t.Helper()
	for n := range frozenPeers {
		d := sv.join(t, n)
		tinyBuffers(t, sv, n)
		peers = append(peers, d)
	}
	return peers
}

// flood queues commands for the frozen peers until no more go in. PINGs are answered
// with PONGs, which they do not read: 5,000 bytes each way fill no buffer of the
// kernel, so commands do it.
func flood(sv *server, times int) {
	name := string(make([]byte, 900))
	for n := range frozenPeers {
		for range times {
			if sv.gateway.SendCommand(int32(n), wire.Command{ID: 1, Name: name}) != nil {
				break
			}
		}
	}
}

// A hundred peers that read nothing cost bounded memory and slow nobody down: while
// all of them are waited for, others are acknowledged.
func TestFrozenPeersDoNotSlowOthers(t *testing.T) { // alone, as it measures memory
	cfg := quick()
	cfg.WriteTimeout = time.Hour
	sv := serve(t, cfg, newFakeStore())
	freeze(t, sv)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	eventually(t, func() bool {
		flood(sv, 200)
		return waitedFor(sv) == frozenPeers
	}, "there is a flusher that waits for each")
	fast := sv.join(t, 500)
	for seq := range uint64(50) {
		fast.data(seq, 1)
		fast.ackUpTo(seq + 1)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	grown := int64(after.HeapAlloc) - int64(before.HeapAlloc)
	require.Less(t, grown, int64(frozenPeers*16<<10), "memory for peers that read nothing")
	for _, s := range sv.gateway.hub.snapshot() {
		require.NoError(t, s.lifetime().Err(), "it is still waited for")
	}
}

// waitedFor is how many of the frozen peers something is being sent to.
func waitedFor(sv *server) (waited int) {
	for n := range frozenPeers {
		s := sv.gateway.hub.current(int32(n))
		s.mu.Lock()
		if s.flushing {
			waited++
		}
		s.mu.Unlock()
	}
	return waited
}

// Peers that read nothing are told so in the end, and cut.
func TestFrozenPeersAreCut(t *testing.T) {
	t.Parallel()
	cfg := quick()
	cfg.WriteTimeout = 300 * time.Millisecond
	sv := serve(t, cfg, newFakeStore())
	peers := freeze(t, sv)
	eventually(t, func() bool {
		n := 0
		for _, s := range sv.gateway.hub.snapshot() {
			if s.lifetime().Err() == nil {
				n++
			}
		}
		if n > 0 {
			flood(sv, 200)
		}
		return n == 0
	}, "they are closed")
	eventually(t, func() bool { return len(sv.registry.endings()) == frozenPeers }, "hard")
	for _, end := range sv.registry.endings() {
		require.Equal(t, wire.CloseSlowReader, end.Code)
	}
	for _, peer := range peers[:5] {
		_ = peer.conn.SetReadDeadline(time.Now().Add(patience))
		_, err := io.Copy(io.Discard, peer.conn)
		require.ErrorIs(t, err, syscall.ECONNRESET, "what the kernel held for it is thrown away")
	}
}

// tinyBuffers makes the kernel's buffer towards a device small.
func tinyBuffers(t *testing.T, sv *server, n int) {
	t.Helper()
	s := sv.gateway.hub.current(int32(n))
	require.NotNil(t, s)
	require.NoError(t, s.link.Conn.(interface{ SetWriteBuffer(int) error }).SetWriteBuffer(4096))
}

// A device that makes notices and reads none overruns its outbox, which has a
// bound.
func TestOutboxIsBounded(t *testing.T) {
	t.Parallel()
	sv := serve(t, quick(), newFakeStore())
	d := sv.join(t, 1)
	s := sv.gateway.hub.current(1)
	require.Eventually(t, func() bool { // the flusher of WELCOME is done
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.flushing {
			return false
		}
		s.flushing = true // as if a write waited
		return true
	}, time.Minute, time.Millisecond)
	command := wire.Command{ID: 1, Name: string(make([]byte, 500))}
	queued := 0
	for sv.gateway.SendCommand(1, command) == nil {
		queued++
	}
	require.ErrorIs(t, sv.gateway.SendCommand(1, command), ErrOutboxFull)
	require.LessOrEqual(t, queued*500, 4096)
	require.ErrorIs(t, sv.gateway.SendCommand(1, wire.Command{Name: string(make([]byte, 1100))}), ErrTooLarge)
	require.ErrorIs(t, sv.gateway.SendCommand(2, command), ErrNotConnected)

	s.needLayout(7) // a notice fits in still
	for range 500 {
		s.needLayout(7)
	}
	require.ErrorIs(t, s.lifetime().Err(), context.Canceled)
	require.Error(t, s.lifetime().Err(), "and then the session ends")
	s.mu.Lock()
	require.Equal(t, wire.CloseSlowReader, s.reason.Code)
	s.flushing = false
	s.kick()
	s.mu.Unlock()
	_ = d
}
