package ingest

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"mooring/wire"
)

// shard gathers the rows of its share of the devices for one writer. All
// sessions of a device share a shard, so that what a device sends is committed
// in the order in which it came in.
//
// It holds two batches: one gathers, one is with the store. The gathering one
// takes at most limit bytes; a session first reserves room, and waits for it
// while there is none, before it decodes a frame. So what waits is the frame as
// received, not its rows, and the limit holds exactly.
type shard struct {
	index   int
	limit   int // bytes that the gathering batch takes
	store   RowStore
	metrics *metrics
	cfg     *Config

	wake    chan struct{} // capacity 1: the gathering batch is no longer empty
	pressed atomic.Bool   // sessions wait for room: windows are kept small
	shrunk  atomic.Int64  // sessions that were told a small window
	pace    pace

	mu         sync.Mutex
	gathering  *batch
	spare      *batch
	generation uint64 // of the gathering batch
	writing    int    // bytes with the store, until they are committed
	busy       bool   // a batch is with the store
	reserved   int    // bytes promised to sessions that decode
	waiters    []*waiter
	stopping   bool
	idle       []chan struct{} // closed when nothing gathers and nothing is with the store
	counts     shardCounts
}

// shardCounts are totals over all sessions, under the shard's lock.
type shardCounts struct {
	frames, rowsIn, rowsRefused, rowsLost uint64
	committed, duplicate, poisoned        uint64
	waiting, returned                     uint64 // rows not yet settled, and given up unsettled
	waits                                 uint64
}

// batch is what one write takes.
type batch struct {
	rows   []byte
	count  int
	notes  []note
	resent []int32   // devices that may be sending rows again
	since  time.Time // when its first frame came; only with Config.Linger
	needed time.Time // when a write last used a fair part of the buffers
}

// note is what a batch holds of one session: how far the session is when the
// batch is committed. Counts that are totals let later notes replace earlier
// ones.
type note struct {
	session  *session
	firstSeq uint64
	next     uint64
	frames   uint64 // total
	received int64  // when the oldest frame came in, by clock
	rows     int    // of this batch
	tally    tally  // totals
	rejected uint64 // of this batch
	rejects  []wire.Reject
	stored   int  // of rows, once the batch is committed; so the next two
	twice    int  // stored before
	refused  int  // by the store, for good
	resent   bool // its device is among the batch's resent
}

// entry is one frame on its way into a batch.
type entry struct {
	session  *session
	rows     []byte
	count    int
	seq      uint64
	next     uint64
	received int64
	rowsIn   uint64
	refused  uint64 // whole rows
	lost     uint64 // rows skipped before this frame
	rejected uint64
	rejects  []wire.Reject // copied
	resent   bool          // its rows may be stored already
}

type waiter struct {
	bytes int
	ready chan struct{}
	given bool
}

func newShard(index int, cfg *Config, store RowStore, metrics *metrics) *shard {
	return &shard{
		index: index, limit: cfg.MaxBatchBytes, store: store, metrics: metrics, cfg: cfg,
		wake:      make(chan struct{}, 1),
		gathering: &batch{}, spare: &batch{}, generation: 1,
	}
}

// fits tells whether the gathering batch takes n more bytes. What is larger
// than the limit is taken alone.
func (sh *shard) fits(n int) bool {
	used := len(sh.gathering.rows) + sh.reserved
	return used == 0 || used+n <= sh.limit
}

// reserve promises room for n bytes. While there is none it waits, in order of
// arrival, and the session counts as held; it fails only when ctx ends.
func (sh *shard) reserve(ctx context.Context, s *session, n int) error {
	sh.mu.Lock()
	if len(sh.waiters) == 0 && sh.fits(n) {
		sh.reserved += n
		sh.mu.Unlock()
		return nil
	}
	w := &waiter{bytes: n, ready: make(chan struct{})}
	sh.waiters = append(sh.waiters, w)
	sh.counts.waits++
	sh.pressed.Store(true)
	sh.mu.Unlock()
	sh.nudge() // no lingering now

	s.hold()
	defer s.resume()
	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
		sh.mu.Lock()
		if w.given {
			sh.reserved -= n
		} else if i := slices.Index(sh.waiters, w); i >= 0 {
			sh.waiters = slices.Delete(sh.waiters, i, i+1)
		}
		sh.grant()
		sh.mu.Unlock()
		return ctx.Err()
	}
}

// release gives promised room back.
func (sh *shard) release(n int) {
	sh.mu.Lock()
	sh.reserved -= n
	sh.grant()
	sh.mu.Unlock()
}

// grant promises room to those who wait, as far as there is some. sh.mu is held.
func (sh *shard) grant() {
	for len(sh.waiters) > 0 {
		w := sh.waiters[0]
		if !sh.fits(w.bytes) {
			return
		}
		sh.reserved += w.bytes
		w.given = true
		close(w.ready)
		sh.waiters[0] = nil
		sh.waiters = sh.waiters[1:]
	}
	sh.waiters = nil
	if len(sh.gathering.rows)+sh.reserved < sh.limit/2 {
		sh.pressed.Store(false)
	}
}

// add puts a frame into the gathering batch. reserved is what was promised for
// it; if the rows need more, it waits for that, and fails when ctx ends. The
// promise is used up in any case.
func (sh *shard) add(ctx context.Context, e *entry, reserved int) error {
	if len(e.rows) > reserved {
		sh.release(reserved)
		if err := sh.reserve(ctx, e.session, len(e.rows)); err != nil {
			return err
		}
		reserved = len(e.rows)
	}
	sh.mu.Lock()
	b := sh.gathering
	wasEmpty := len(b.notes) == 0
	if wasEmpty && sh.cfg.Linger > 0 {
		b.since = time.Now()
	}
	sh.reserved -= reserved
	b.rows = append(b.rows, e.rows...)
	b.count += e.count
	sh.note(b, e)
	sh.counts.frames++
	sh.counts.rowsIn += e.rowsIn
	sh.counts.waiting += uint64(e.count)
	sh.counts.rowsRefused += e.refused
	sh.counts.rowsLost += e.lost
	if len(sh.waiters) > 0 {
		sh.grant()
	}
	sh.mu.Unlock()
	if wasEmpty {
		sh.nudge()
	}
	return nil
}

// note merges a frame into its session's note of the gathering batch. sh.mu is
// held.
func (sh *shard) note(b *batch, e *entry) {
	s := e.session
	if s.noteGeneration != sh.generation {
		s.noteGeneration, s.noteIndex = sh.generation, len(b.notes)
		if len(b.notes) < cap(b.notes) {
			b.notes = b.notes[:len(b.notes)+1] // keeps the old note's room for rejects
		} else {
			b.notes = append(b.notes, note{})
		}
		n := &b.notes[s.noteIndex]
		*n = note{session: s, firstSeq: e.seq, received: e.received, rejects: n.rejects[:0]}
	}
	n := &b.notes[s.noteIndex]
	n.next = e.next
	n.frames = s.frames
	n.rows += e.count
	n.tally = s.tally
	n.rejected += e.rejected
	n.rejects = wire.AppendRejects(n.rejects, e.rejects)
	if e.resent && !n.resent {
		n.resent = true
		b.resent = append(b.resent, s.device.ID)
	}
}

func (sh *shard) nudge() {
	select {
	case sh.wake <- struct{}{}:
	default:
	}
}

// waiting is the number of bytes not yet committed.
func (sh *shard) waiting() int {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return len(sh.gathering.rows) + sh.writing
}
