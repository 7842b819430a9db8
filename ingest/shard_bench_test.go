package ingest

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// batchOf puts eight frames of each session into the gathering batch, by turns,
// then settles and recycles it as its writer does.
func batchOf(sh *shard, sessions []*session, rows []byte, e *entry) {
	for range 8 {
		for _, s := range sessions {
			s.frames++
			*e = entry{session: s, rows: rows, count: 10, seq: s.nextSeq, next: s.nextSeq + 10, received: 1, resent: s.device.ID%2 == 0}
			s.nextSeq += 10
			if sh.reserve(context.Background(), s, len(rows)) != nil || sh.add(context.Background(), e, len(rows)) != nil {
				panic("no room")
			}
		}
	}
	b := sh.take()
	sh.settle(b, Outcome{})
	sh.recycle(b)
}

func looseFleet(sh *shard, devices int) (sessions []*session) {
	for n := range int32(devices) {
		sessions = append(sessions, loose(sh, n))
	}
	return sessions
}

// BenchmarkBatch is what a frame costs between decoding and COPY, and from the
// commit to its ACK's place in the outbox: room, the batch, the note, settling.
func BenchmarkBatch(b *testing.B) {
	for _, size := range []int{1, 10} {
		b.Run(fmt.Sprintf("frames of %d rows", size), func(b *testing.B) {
			sh := looseShard(Config{}, newFakeStore())
			sessions, rows := looseFleet(sh, 100), make([]byte, size*130)
			var e entry
			batchOf(sh, sessions, rows, &e)
			batchOf(sh, sessions, rows, &e)
			b.SetBytes(int64(800 * len(rows)))
			b.ReportAllocs()
			for b.Loop() {
				batchOf(sh, sessions, rows, &e)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/800, "ns/frame")
		})
	}
}

func TestBatchesDoNotAllocate(t *testing.T) {
	sh := looseShard(Config{}, newFakeStore())
	sessions, rows := looseFleet(sh, 100), make([]byte, 1300)
	var e entry
	for range 4 { // both batches have their size
		batchOf(sh, sessions, rows, &e)
	}
	require.Zero(t, testing.AllocsPerRun(20, func() { batchOf(sh, sessions, rows, &e) }))
}
