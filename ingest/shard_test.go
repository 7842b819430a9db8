package ingest

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/wire"
)

// loose is a session without a connection, for tests of the shard alone.
func loose(sh *shard, id int32) *session {
	g := &Gateway{metrics: sh.metrics, cfg: *sh.cfg, shards: []*shard{sh}, clock: newClock(), life: context.Background()}
	s := &session{
		gateway: g, device: Device{ID: id}, shard: sh, link: newLink(nil, nil, g.clock),
		flushing: true, maxReceive: maxServerMessage,
	}
	return s
}

func looseShard(cfg Config, store RowStore) *shard {
	cfg = cfg.withDefaults()
	return newShard(0, &cfg, store, newMetrics())
}

// blob is a store whose rows are bytes.
type blob struct {
	*fakeStore
	writes chan int
	gate   chan struct{}
}

func (b *blob) Write(ctx context.Context, _ int, _ []byte, count int, _ []int32) (Outcome, error) {
	select {
	case b.writes <- count:
	case <-ctx.Done():
		return Outcome{}, ctx.Err()
	}
	select {
	case <-b.gate:
		return Outcome{}, nil
	case <-ctx.Done():
		return Outcome{}, ctx.Err()
	}
}

func TestShardGivesRoomInOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sh := looseShard(Config{MaxBatchBytes: 64 << 10}, newFakeStore())
		full := loose(sh, 1)
		require.NoError(t, sh.reserve(t.Context(), full, 60<<10))
		var order []int
		var mu sync.Mutex
		for n := range 5 {
			go func() {
				if sh.reserve(t.Context(), loose(sh, int32(n)), 20<<10) == nil {
					mu.Lock()
					order = append(order, n)
					mu.Unlock()
				}
			}()
			synctest.Wait()
		}
		require.Empty(t, order)
		require.True(t, sh.pressed.Load())

		// One that gives up makes room for the next.
		ctx, cancel := context.WithCancel(t.Context())
		gaveUp := loose(sh, 9)
		var err error
		go func() { err = sh.reserve(ctx, gaveUp, 1) }()
		synctest.Wait()
		require.True(t, gaveUp.blocked.Load(), "the heartbeat spares it")
		cancel()
		synctest.Wait()
		require.ErrorIs(t, err, context.Canceled)
		require.False(t, gaveUp.blocked.Load())

		sh.release(60 << 10)
		synctest.Wait()
		require.ElementsMatch(t, []int{0, 1, 2}, order)
		sh.release(20 << 10)
		synctest.Wait()
		require.ElementsMatch(t, []int{0, 1, 2, 3}, order)
		sh.release(20 << 10)
		sh.release(20 << 10)
		synctest.Wait()
		require.ElementsMatch(t, []int{0, 1, 2, 3, 4}, order)
		sh.release(20 << 10)
		sh.release(20 << 10)
		require.Zero(t, sh.reserved)
		require.False(t, sh.pressed.Load())
	})
}

// Rows that need more than was promised wait for that; what is larger than a
// batch goes alone.
func TestShardTakesWhatWasUnderestimated(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sh := looseShard(Config{MaxBatchBytes: 64 << 10}, newFakeStore())
		s := loose(sh, 1)
		require.NoError(t, sh.reserve(t.Context(), s, 100))
		s.frames++
		require.NoError(t, sh.add(t.Context(), &entry{session: s, rows: make([]byte, 100<<10), count: 1, next: 1}, 100))
		require.Zero(t, sh.reserved)
		added := false
		go func() {
			other := loose(sh, 2)
			other.frames++
			_ = sh.reserve(t.Context(), other, 10)
			_ = sh.add(t.Context(), &entry{session: other, rows: make([]byte, 10), count: 1, next: 1}, 10)
			added = true
		}()
		synctest.Wait()
		require.False(t, added)
		sh.recycle(sh.take())
		synctest.Wait()
		require.True(t, added)
		require.Zero(t, sh.reserved)
	})
}

// A writer takes what gathered while its last write was under way.
func TestShardBatchesNaturally(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &blob{newFakeStore(), make(chan int), make(chan struct{})}
		sh := looseShard(Config{}, store)
		ctx, cancel := context.WithCancel(t.Context())
		go sh.run(ctx)
		s := loose(sh, 1)
		put := func() {
			s.frames++
			require.NoError(t, sh.reserve(ctx, s, 10))
			require.NoError(t, sh.add(ctx, &entry{session: s, rows: make([]byte, 10), count: 1, next: s.frames}, 10))
		}
		put()
		require.Equal(t, 1, <-store.writes, "at once")
		for range 10 {
			put()
		}
		store.gate <- struct{}{}
		require.Equal(t, 10, <-store.writes, "all that gathered")
		store.gate <- struct{}{}
		synctest.Wait()
		require.Equal(t, uint64(11), s.settled.frames)
		require.NoError(t, sh.flush(ctx))
		cancel()
		synctest.Wait()
	})
}

func TestShardLingers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &blob{newFakeStore(), make(chan int), make(chan struct{}, 10)}
		sh := looseShard(Config{Linger: 20 * time.Millisecond}, store)
		ctx, cancel := context.WithCancel(t.Context())
		go sh.run(ctx)
		began := time.Now()
		for n := range int32(3) {
			s := loose(sh, n)
			s.frames++
			require.NoError(t, sh.reserve(ctx, s, 10))
			require.NoError(t, sh.add(ctx, &entry{session: s, rows: make([]byte, 10), count: 1, next: 1}, 10))
			time.Sleep(5 * time.Millisecond)
		}
		require.Equal(t, 3, <-store.writes)
		require.Equal(t, 20*time.Millisecond, time.Since(began))
		store.gate <- struct{}{}
		synctest.Wait()
		cancel()
		synctest.Wait()
	})
}

// Sessions that gave up waiting leave the queue, also behind one that goes on.
func TestShardForgetsWaitersThatGaveUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sh := looseShard(Config{MaxBatchBytes: 100}, newFakeStore())
		require.NoError(t, sh.reserve(t.Context(), loose(sh, 1), 100))
		patient, giveUp := context.WithCancel(t.Context())
		defer giveUp()
		go func() { _ = sh.reserve(patient, loose(sh, 2), 100) }()
		synctest.Wait()
		hurried, cancel := context.WithCancel(t.Context())
		for n := range int32(50) {
			go func() { _ = sh.reserve(hurried, loose(sh, 3+n), 10) }()
		}
		synctest.Wait()
		require.Len(t, sh.waiters, 51)
		cancel()
		synctest.Wait()
		require.Len(t, sh.waiters, 1)
		sh.release(100)
		synctest.Wait()
		require.Empty(t, sh.waiters)
		require.Equal(t, 100, sh.reserved, "the patient one has it")
	})
}

// One note a session and batch, whatever the number of frames.
func TestShardCoalescesNotes(t *testing.T) {
	t.Parallel()
	sh := looseShard(Config{}, newFakeStore())
	a, b := loose(sh, 1), loose(sh, 2)
	for i := range uint64(100) {
		for _, s := range []*session{a, b} {
			s.frames++
			require.NoError(t, sh.reserve(t.Context(), s, 10))
			require.NoError(t, sh.add(t.Context(), &entry{
				session: s, rows: make([]byte, 10), count: 1, seq: i, next: i + 1, received: int64(i + 1), rejected: 1,
				rejects: []wire.Reject{{Seq: 2 * i, N: 1, Code: wire.CodeType}}, // no two join
			}, 10))
		}
	}
	batch := sh.take()
	require.Len(t, batch.notes, 2)
	require.Equal(t, 200, batch.count)
	n := batch.notes[0]
	require.Equal(t, a, n.session)
	require.Equal(t, uint64(100), n.next)
	require.Equal(t, uint64(100), n.frames)
	require.Equal(t, uint64(100), n.rejected)
	require.Equal(t, int64(1), n.received)
	require.Len(t, n.rejects, wire.MaxAckRejects)
}

// Buffers that a burst made large are given up after a while.
func TestShardShrinksAfterABurst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sh := looseShard(Config{}, newFakeStore())
		write := func(n int) {
			s := loose(sh, 1)
			s.frames++
			require.NoError(t, sh.reserve(t.Context(), s, n))
			require.NoError(t, sh.add(t.Context(), &entry{session: s, rows: make([]byte, n), count: 1, next: 1}, n))
			sh.recycle(sh.take())
		}
		write(4 << 20)
		write(4 << 20)
		for range 9 {
			time.Sleep(time.Second)
			write(1000)
			write(1000)
			require.GreaterOrEqual(t, cap(sh.gathering.rows)+cap(sh.spare.rows), 8<<20, "another one may follow")
		}
		time.Sleep(2 * time.Second)
		write(1000)
		write(1000)
		require.Less(t, cap(sh.gathering.rows)+cap(sh.spare.rows), 8<<10)
	})
}

// Sequence numbers near 2^53 do not overflow anything.
func TestSequenceNumbersUpToTheirEnd(t *testing.T) {
	t.Parallel()
	sv := serve(t, quick(), newFakeStore())
	d := sv.join(t, 1)
	d.data(0, 1)
	d.ackUpTo(1)
	const last = 1<<53 - 5
	d.data(last, 5)
	require.Equal(t, uint64(1<<53), d.ackUpTo(1<<53).Next)
	d.conn.Close()
	eventually(t, func() bool { return len(sv.registry.endings()) == 1 }, "the end is recorded")
	require.Equal(t, uint64(last-1), sv.registry.endings()[0].Counts.RowsLost)
}

func TestConfigNamesWhatCanNotBe(t *testing.T) {
	t.Parallel()
	registry := newFakeRegistry()
	for field, cfg := range map[string]Config{
		"MaxConnections": {MaxConnections: -1}, "Heartbeat": {Heartbeat: time.Second}, "Window": {Window: 5000},
		"MaxFrame": {MaxFrame: 1 << 20}, "Writers": {Writers: -2}, "MaxBatchBytes": {MaxBatchBytes: 1},
		"Tick": {Tick: time.Hour}, "Spread": {Spread: time.Millisecond}, "MaxOutbox": {MaxOutbox: 1},
	} {
		_, err := New(cfg, registry, registry, newFakeStore())
		require.ErrorContains(t, err, "Config."+field)
	}
	_, err := New(Config{Window: -1, Writers: -1}, registry, registry, newFakeStore())
	require.ErrorContains(t, err, "Config.Window")
	require.ErrorContains(t, err, "Config.Writers", "all of them at once")
	_, err = New(Config{}, nil, registry, newFakeStore())
	require.Error(t, err)
}

func TestLatencyQuantiles(t *testing.T) {
	t.Parallel()
	var l latencies
	require.Zero(t, l.quantile(0.5))
	for i := range int64(1000) {
		l.observe((i + 1) * int64(time.Millisecond))
	}
	for q, want := range map[float64]time.Duration{0.5: 500 * time.Millisecond, 0.99: 990 * time.Millisecond} {
		got := l.quantile(q)
		require.GreaterOrEqual(t, got, want)
		require.LessOrEqual(t, got, want*9/8+time.Millisecond)
	}
	l.turn()
	require.NotZero(t, l.quantile(0.5), "the last period still counts")
	l.turn()
	require.Zero(t, l.quantile(0.5))
	for _, nanos := range []int64{-5, 0, 1, 999, 1000, 1 << 62} {
		bucket := latencyBucket(nanos)
		require.True(t, bucket >= 0 && bucket < latencyBuckets, "%d", nanos)
	}
}
