package ingest

import (
	"context"
	"fmt"
	"time"

	"mooring/wire"
)

// Stop ends the gateway: refuse, tell, drain, flush, acknowledge, close.
//
//  1. Handshakes are answered with 503 and Retry-After.
//  2. Every device is told to go away, each with a slot of its own in which to
//     come back. The slots lie side by side over Config.Spread and begin when
//     the grace is over: before that nobody here would answer.
//  3. For Config.DrainGrace, or until all have gone, everything goes on.
//  4. Reading stops; what was read is written and acknowledged.
//  5. Connections are closed with 4000.
//
// All of it takes until ctx ends at most. If that is too early, connections are
// cut and writes given up; what was not committed is not acknowledged, and the
// error tells so. Stop returns when every goroutine has ended; further calls
// wait for the first one.
func (g *Gateway) Stop(ctx context.Context) error {
	g.gate.Lock()
	before := g.state.Swap(stateStopping)
	g.gate.Unlock()
	switch before {
	case stateNew:
		close(g.stopped)
		return nil
	case stateStopping:
		<-g.stopped
		return g.stopErr
	}
	g.stopErr = g.drain(ctx)
	close(g.stopped)
	return g.stopErr
}

// drain does the work of Stop.
func (g *Gateway) drain(ctx context.Context) error {
	g.tellAll()
	gone := make(chan struct{})
	go func() { // ends with the last session, which this function waits for
		g.sessions.Wait()
		close(gone)
	}()
	grace := time.NewTimer(g.cfg.DrainGrace)
	defer grace.Stop()
	select {
	case <-gone:
	case <-grace.C:
	case <-ctx.Done():
	}

	err := g.flush(ctx)
	for _, s := range g.hub.snapshot() {
		s.shut(closeDrain)
	}
	select {
	case <-gone:
	case <-ctx.Done():
		for _, s := range g.hub.snapshot() {
			s.link.abort()
		}
		<-gone
	}
	g.flushers.Wait()

	for _, sh := range g.shards {
		sh.stop()
	}
	writersDone := make(chan struct{})
	go func() {
		g.writers.Wait()
		close(writersDone)
	}()
	select {
	case <-writersDone:
	case <-ctx.Done():
		g.writeEnd()
		<-writersDone
	}
	g.writeEnd()
	close(g.timersEnd)
	g.timersDone.Wait()
	g.lifeEnd()
	g.flushers.Wait()
	if err != nil {
		return fmt.Errorf("ingest: stopped before everything was committed: %w", err)
	}
	return nil
}

// tellAll sends every session a GOAWAY with a slot of its own.
func (g *Gateway) tellAll() {
	sessions := g.hub.snapshot()
	now := g.clock.now()
	for i, s := range sessions {
		back := slotOf(i, len(sessions), g.cfg.Spread).after(now + int64(g.cfg.DrainGrace))
		s.mu.Lock()
		s.back = back
		s.mu.Unlock()
		notice := wire.Notice{
			Kind:        wire.NoticeGoAway,
			Code:        wire.CloseDrain,
			GraceMillis: int(g.cfg.DrainGrace.Milliseconds()),
			Text:        closeDrain.Text,
		}
		notice.MinMillis, notice.MaxMillis = back.millis(now)
		s.enqueue(func(encoder *wire.Encoder) []byte { return encoder.Notice(notice) })
	}
}

// comeback is when a device is to come back, by clock; zero: whenever its class
// lets it.
type comeback struct{ from, to int64 }

// slotOf is the i-th of n slots that share a spread evenly.
func slotOf(i, n int, spread time.Duration) comeback {
	width := float64(spread) / float64(n)
	return comeback{int64(width * float64(i)), int64(width * float64(i+1))}
}

func (c comeback) after(at int64) comeback { return comeback{c.from + at, c.to + at} }

// millis is the slot as counted from now, as a GOAWAY tells it. A slot is never
// narrower than a millisecond: 0 and 0 would mean that there is none.
func (c comeback) millis(now int64) (least, most int) {
	least = int(max(c.from-now, 0) / int64(time.Millisecond))
	return least, max(int(max(c.to-now, 0)/int64(time.Millisecond)), least+1)
}

// flush stops all reading and waits until what was read is settled.
func (g *Gateway) flush(ctx context.Context) error {
	sessions := g.hub.snapshot()
	parked := make([]<-chan struct{}, len(sessions))
	for i, s := range sessions {
		if s.number.Load() == 0 {
			s.shut(closeDrain) // it may wait for the registry, and has nothing to lose
		}
		parked[i] = s.link.pause()
	}
	for i := range sessions {
		select {
		case <-parked[i]:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for _, sh := range g.shards {
		if err := sh.flush(ctx); err != nil {
			return err
		}
	}
	return nil
}
