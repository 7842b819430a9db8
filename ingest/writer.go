package ingest

import (
	"context"
	"slices"
	"time"
)

// run writes batches until the shard is stopped and empty, or ctx ends. What
// ctx keeps from being written is never acknowledged.
func (sh *shard) run(ctx context.Context) {
	defer sh.abandon()
	for sh.wait(ctx) {
		b := sh.take()
		started := time.Now()
		outcome, err := sh.write(ctx, b)
		if err != nil {
			sh.giveUp(b)
			sh.recycle(b)
			return
		}
		took := time.Since(started)
		sh.metrics.batch(b, took)
		sh.pace.wrote(len(b.rows), took, sh.cfg)
		sh.settle(b, outcome)
		sh.recycle(b)
	}
}

// wait waits until there is a batch to write; false: there won't be one.
func (sh *shard) wait(ctx context.Context) bool {
	for {
		sh.mu.Lock()
		empty, stopping := len(sh.gathering.notes) == 0, sh.stopping
		linger := time.Duration(0)
		if !empty && !stopping && len(sh.waiters) == 0 {
			linger = sh.cfg.Linger - time.Since(sh.gathering.since)
		}
		sh.mu.Unlock()
		switch {
		case empty && stopping:
			return false
		case empty:
			select {
			case <-sh.wake:
			case <-ctx.Done():
				return false
			}
		case linger > 0:
			timer := time.NewTimer(linger)
			select {
			case <-timer.C:
			case <-sh.wake: // it fills up, or it is to stop
			case <-ctx.Done():
				timer.Stop()
				return false
			}
			timer.Stop()
		default:
			return true
		}
	}
}

// take makes the gathering batch the one to write.
func (sh *shard) take() *batch {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	b := sh.gathering
	sh.gathering, sh.spare = sh.spare, nil
	sh.generation++
	sh.writing, sh.busy = len(b.rows), true
	sh.grant()
	return b
}

// write hands a batch to the store until it is taken. RowStore.Write gives up
// only when ctx ends; an error before that is a fault that people must hear of,
// and rows are too dear to drop for it.
func (sh *shard) write(ctx context.Context, b *batch) (Outcome, error) {
	if b.count == 0 {
		return Outcome{}, nil
	}
	slices.Sort(b.resent)
	pause := 100 * time.Millisecond
	for {
		outcome, err := sh.store.Write(ctx, sh.index, b.rows, b.count, b.resent)
		if err == nil {
			return outcome, nil
		}
		if ctx.Err() != nil {
			return Outcome{}, ctx.Err()
		}
		sh.metrics.writeErrors.Inc()
		sh.cfg.Logger.Error("the store gave a batch back; trying again", "writer", sh.index, "rows", b.count, "error", err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return Outcome{}, ctx.Err()
		}
		pause = min(2*pause, 5*time.Second)
	}
}

// recycle makes a written batch the spare one. A buffer that a burst has made
// large is given up once it has been mostly empty for a while.
func (sh *shard) recycle(b *batch) {
	const largeRows, largeNotes, patience = 256 << 10, 1024, 10 * time.Second
	now := time.Now()
	if (cap(b.rows) <= largeRows || len(b.rows) >= cap(b.rows)/4) &&
		(cap(b.notes) <= largeNotes || len(b.notes) >= cap(b.notes)/4) {
		b.needed = now
	}
	for i := range b.notes {
		b.notes[i].session = nil
	}
	if now.Sub(b.needed) > patience {
		b.rows, b.notes, b.needed = make([]byte, 0, 2*len(b.rows)), make([]note, 0, 2*len(b.notes)), now
		b.resent = nil
	}
	b.rows, b.count, b.notes, b.resent = b.rows[:0], 0, b.notes[:0], b.resent[:0]

	sh.mu.Lock()
	sh.spare, sh.writing, sh.busy = b, 0, false
	idle := sh.takeIdle()
	sh.mu.Unlock()
	for _, done := range idle {
		close(done)
	}
}

// takeIdle gives those who wait for idleness, if it is there. sh.mu is held.
func (sh *shard) takeIdle() []chan struct{} {
	if sh.busy || len(sh.gathering.notes) > 0 {
		return nil
	}
	idle := sh.idle
	sh.idle = nil
	return idle
}

// flush waits until everything gathered so far is settled.
func (sh *shard) flush(ctx context.Context) error {
	done := make(chan struct{})
	sh.mu.Lock()
	sh.idle = append(sh.idle, done)
	idle := sh.takeIdle()
	sh.mu.Unlock()
	for _, waiting := range idle {
		close(waiting)
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// stop lets the writer end once the shard is empty.
func (sh *shard) stop() {
	sh.mu.Lock()
	sh.stopping = true
	sh.mu.Unlock()
	sh.nudge()
}

// abandon gives up what still gathers, unacknowledged. The writer is gone.
func (sh *shard) abandon() {
	sh.mu.Lock()
	b := sh.gathering
	sh.gathering = &batch{}
	sh.generation++
	sh.mu.Unlock()
	sh.giveUp(b)
}

// giveUp ends the wait for a batch that is not stored, or not wholly.
func (sh *shard) giveUp(b *batch) {
	sh.mu.Lock()
	sh.counts.waiting -= uint64(b.count)
	sh.counts.returned += uint64(b.count)
	sh.mu.Unlock()
	for i := range b.notes {
		b.notes[i].session.abandoned(b.notes[i].frames)
	}
}
