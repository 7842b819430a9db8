package ingest

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/wire"
)

// silent expects that nothing but Pings comes for a while.
func (d *device) silent(during time.Duration) {
	d.t.Helper()
	for {
		_ = d.conn.SetReadDeadline(time.Now().Add(during))
		opcode, payload, err := d.messageWithin()
		if err != nil {
			var timeout net.Error
			require.ErrorAs(d.t, err, &timeout)
			require.True(d.t, timeout.Timeout())
			return
		}
		require.Equal(d.t, byte(opPing), opcode, "% x", payload)
	}
}

// messageWithin is message under the deadline already set; only for what fits
// into one read or does not come at all.
func (d *device) messageWithin() (byte, []byte, error) {
	if _, err := d.in.Peek(1); err != nil {
		return 0, nil, err
	}
	return d.message()
}

func TestAckComesAfterTheCommitAndNeverBefore(t *testing.T) {
	t.Parallel()
	store := newFakeStore()
	store.gate = make(chan struct{})
	sv := serve(t, quick(), store)
	d := sv.join(t, 1)
	for commit := range uint64(5) {
		d.data(commit*10, 10)
		d.silent(30 * time.Millisecond)
		require.Equal(t, int(commit)*10, store.count(), "nothing is committed yet")
		store.gate <- struct{}{}
		require.Equal(t, commit*10+10, d.ack().Next)
		require.Equal(t, int(commit)*10+10, store.count())
	}
}

func TestAckNeverComesFromAStoreThatFails(t *testing.T) {
	t.Parallel()
	store := newFakeStore()
	store.failed.Store(true)
	sv := serve(t, quick(), store)
	d := sv.join(t, 1)
	for seq := range uint64(10) {
		d.data(seq, 1)
	}
	d.silent(200 * time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, sv.gateway.Stop(ctx), context.DeadlineExceeded)
	for {
		opcode, payload, err := d.message()
		if err != nil || opcode == opClose {
			break
		}
		if opcode == opBinary {
			kind, err := wire.FrameTypeOf(payload)
			require.NoError(t, err)
			require.NotEqual(t, wire.FrameAck, kind, "also not at the end")
		}
	}
	require.Zero(t, store.count())
	ends := sv.registry.endings()
	require.Len(t, ends, 1, "the end is recorded all the same")
	require.False(t, ends[0].HasNext)
	require.Zero(t, ends[0].Counts.RowsCommitted)
}

// A store that gives a batch back although it should not keeps getting it.
func TestAckSurvivesAStoreThatErrs(t *testing.T) {
	t.Parallel()
	store := newFakeStore()
	sv := serve(t, quick(), store)
	erring := &erringStore{fakeStore: store, left: 2}
	for _, sh := range sv.gateway.shards {
		sh.mu.Lock() // nothing is under way; for the race detector
		sh.store = erring
		sh.mu.Unlock()
	}
	d := sv.join(t, 1)
	d.data(0, 3)
	d.ackUpTo(3)
	require.Len(t, store.stored(1), 3)
	require.InDelta(t, 2, counted(t, sv.gateway.metrics.writeErrors), 0)
}

type erringStore struct {
	*fakeStore
	left int
}

func (e *erringStore) Write(ctx context.Context, writer int, rows []byte, count int, resent []int32) (Outcome, error) {
	if e.left--; e.left >= 0 {
		return Outcome{}, errAway
	}
	return e.fakeStore.Write(ctx, writer, rows, count, resent)
}

func TestAckIsOneForAllThatGathered(t *testing.T) {
	t.Parallel()
	store := newFakeStore()
	store.gate = make(chan struct{})
	sv := serve(t, quick(), store)
	d := sv.join(t, 1)
	for seq := range uint64(16) {
		d.data(seq*2, 2)
	}
	shard := d.shardOf(sv, 1)
	eventually(t, func() bool {
		shard.mu.Lock()
		defer shard.mu.Unlock()
		return shard.counts.frames == 16
	}, "all frames are in")
	close(store.gate)
	acks := 0
	for next := uint64(0); next < 32; acks++ {
		next = d.ack().Next
	}
	require.LessOrEqual(t, acks, 3, "the first frames, the rest, and one that may fall between")
}

// What a device has been told, the totals show: an ACK waits for its batch to be
// counted.
func TestAckIsCountedBefore(t *testing.T) {
	t.Parallel()
	store := newFakeStore()
	store.gate = make(chan struct{})
	sv := serve(t, quick(), store)
	d := sv.join(t, 1)
	d.data(0, 7)
	shard := d.shardOf(sv, 1)
	eventually(t, func() bool {
		shard.mu.Lock()
		defer shard.mu.Unlock()
		return shard.busy
	}, "the batch is being written")
	func() {
		shard.mu.Lock() // nothing can be counted
		defer shard.mu.Unlock()
		store.gate <- struct{}{}
		d.silent(50 * time.Millisecond)
	}()
	d.ackUpTo(7)
	stats := sv.gateway.Stats()
	require.Equal(t, uint64(7), stats.RowsCommitted)
	require.Zero(t, stats.RowsWaiting)
}

// Nor does what a device has been told is committed count as waiting, although its
// batch is not put away yet.
func TestWhatIsAckedWaitsNoMore(t *testing.T) {
	t.Parallel()
	sh := looseShard(Config{}, newFakeStore())
	s := loose(sh, 1)
	s.frames++
	require.NoError(t, sh.reserve(t.Context(), s, 10))
	require.NoError(t, sh.add(t.Context(), &entry{session: s, rows: make([]byte, 10), count: 1, next: 1}, 10))
	b := sh.take()
	require.Equal(t, 10, sh.waiting())
	sh.settle(b, Outcome{})
	require.Zero(t, sh.waiting())
}

func (d *device) shardOf(sv *server, id int) *shard {
	return sv.gateway.shards[id%len(sv.gateway.shards)]
}

func TestAckTellsDuplicatesAndPoisonApart(t *testing.T) {
	t.Parallel()
	store := newFakeStore()
	store.poison = map[uint64]bool{4: true}
	sv := serve(t, quick(), store)
	d := sv.join(t, 1)
	d.data(0, 10)
	ack := d.ackUpTo(10)
	require.Equal(t, uint64(1), ack.Rejected)
	require.Equal(t, []wire.Reject{{Seq: 4, N: 1, Channel: wire.WholeRow, Code: wire.CodeStorage}}, ack.Rejects)
	d.conn.Close()
	eventually(t, func() bool { return len(sv.registry.endings()) == 1 }, "the end is recorded")

	again := sv.join(t, 1) // retransmits in other groups, and goes on
	again.data(0, 3)
	again.data(3, 9)
	again.ackUpTo(12)
	again.conn.Close()
	eventually(t, func() bool { return len(sv.registry.endings()) == 2 }, "both ends are recorded")
	ends := sv.registry.endings()
	require.Equal(t, SessionCounts{RowsIn: 10, RowsCommitted: 9, RowsRejected: 1}, ends[0].Counts)
	require.Equal(t, SessionCounts{RowsIn: 12, RowsCommitted: 2, RowsDuplicate: 9, RowsRejected: 1}, ends[1].Counts)
	require.Len(t, store.stored(1), 11)
	stats := sv.gateway.Stats()
	require.Zero(t, stats.Unaccounted())
	require.Equal(t, uint64(9), stats.RowsDuplicate)
	require.Equal(t, uint64(2), stats.RowsRejected)
	require.Equal(t, uint64(11), stats.RowsCommitted)
}

// Refused values hold back nothing else; frames with nothing to store are
// acknowledged in their turn.
func TestAckListsRefusals(t *testing.T) {
	t.Parallel()
	store := newFakeStore()
	store.gate = make(chan struct{}, 100)
	sv := serve(t, quick(), store)
	d := sv.join(t, 1)
	good := rows(0, 3)
	good[1].Values[1] = wire.Value{Kind: wire.ValueText, Text: []byte("no number")}
	frame, err := d.encoder.Data(&wire.Data{Seq: 0, Layout: 1, Rows: good})
	require.NoError(t, err)
	d.send(frame)
	d.silent(20 * time.Millisecond)

	far := rows(3, 2)
	far[0].Time, far[1].Time = 1000, 2000 // 1970
	frame, err = d.encoder.Data(&wire.Data{Seq: 3, Layout: 1, Rows: far})
	require.NoError(t, err)
	d.send(frame)
	d.silent(20 * time.Millisecond) // refused, but behind what is not committed
	store.gate <- struct{}{}
	ack := d.ackUpTo(5)
	require.Equal(t, uint64(3), ack.Rejected)
	require.Equal(t, []wire.Reject{
		{Seq: 1, N: 1, Channel: 1, Code: wire.CodeType},
		{Seq: 3, N: 2, Channel: wire.WholeRow, Code: wire.CodeTimePast},
	}, ack.Rejects)
	stored := store.stored(1)
	require.Len(t, stored, 3)
	require.Equal(t, wire.ValueNil, stored[1].values[1].Kind)
	require.Equal(t, 1, store.writes, "nothing to store, nothing written")
	require.Len(t, store.rejects, 2)
}

// More refusals than an ACK takes are counted; a device that takes little gets
// little.
func TestAckStaysWithinWhatTheDeviceTakes(t *testing.T) {
	t.Parallel()
	sv := serve(t, quick(), newFakeStore())
	d := sv.connect(t, 1)
	d.send(d.encoder.Hello(wire.Hello{MaxReceive: 256}))
	d.welcome()
	d.send(d.encoder.Layout(twoNumbers()))
	many := rows(1<<40, 200)
	for i := range many {
		many[i].Values[i%2] = wire.Value{Kind: wire.ValueText, Text: []byte("x")}
	}
	frame, err := d.encoder.Data(&wire.Data{Seq: 1 << 40, Layout: 1, Rows: many})
	require.NoError(t, err)
	d.send(frame)
	payload := d.next()
	require.LessOrEqual(t, len(payload), 256)
	ack, err := d.decoder.Ack(payload)
	require.NoError(t, err)
	require.Equal(t, uint64(200), ack.Rejected)
	require.NotEmpty(t, ack.Rejects)
	require.Less(t, len(ack.Rejects), 32)
}

// What a flusher leaves behind, a deadline that passes some time, keeps no later ack
// from being sent at once, without a flusher.
func TestAPastDeadlineOfAFlusher(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	peer, err := net.Dial("tcp", listener.Addr().String())
	require.NoError(t, err)
	defer peer.Close()
	conn, err := listener.Accept()
	require.NoError(t, err)
	defer conn.Close()
	l := newLink(conn, nil, newClock())
	if l.raw == nil {
		t.Skip("sockets can't be written to without waiting here")
	}
	require.NoError(t, l.SetWriteDeadline(time.Now().Add(-time.Second)))
	post := letters.Get().(*letter)
	post.bytes = append(post.bytes[:0], "an ack"...)
	require.Equal(t, 6, l.sendNow(post))
	require.Equal(t, 6, l.sendNow(post))
	got := make([]byte, 12)
	require.NoError(t, peer.SetReadDeadline(time.Now().Add(patience)))
	_, err = io.ReadFull(peer, got)
	require.NoError(t, err)
	require.Equal(t, "an ackan ack", string(got))
}
