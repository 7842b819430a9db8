package client

import (
	"context"
	"sync"
	"time"

	"mooring/wire"
)

// steady is how long a connection must live to count as progress even if it
// had nothing to acknowledge.
const steady = time.Minute

// faultsToPoison is the number of class-F closes in a row, without progress,
// after which the oldest frame is thought to be their cause (PROTOCOL §9).
const faultsToPoison = 2

// ending is why a connection, or an attempt, is over.
type ending struct {
	class    wire.CloseClass
	code     wire.CloseCode // 1006: no close frame
	status   int            // HTTP status of a refused upgrade
	err      error
	progress bool
	oldest   uint64        // behind the oldest unacknowledged frame; 0: none was sent
	min, max time.Duration // slot of a GOAWAY
	after    time.Duration // Retry-After
}

// Run connects, sends and receives, and comes back after every loss, until ctx
// ends. Then it takes leave of the server, waits for its goroutines, and returns
// ctx's error. Rows that are not acknowledged stay in the buffer for another Run.
func (c *Client) Run(ctx context.Context) error {
	if !c.running.CompareAndSwap(false, true) {
		return ErrRunning
	}
	defer c.running.Store(false)
	ctx, cancel := context.WithCancel(ctx)
	var workers sync.WaitGroup
	defer workers.Wait()
	defer cancel()

	failures, faults := 0, 0
	for {
		end := c.attempt(ctx, &workers)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		failures++
		if end.progress {
			failures, faults = 0, 0
		}
		switch {
		case end.oldest == 0: // no DATA was sent
		case end.class != wire.ClassFault:
			faults = 0 // not in a row
		default:
			if faults++; faults >= faultsToPoison && c.poison(end.oldest) {
				faults = 0
			}
		}
		if !c.pause(ctx, end, failures) {
			return ctx.Err()
		}
	}
}

// pause waits until the next attempt; false: ctx ended.
func (c *Client) pause(ctx context.Context, end ending, failures int) bool {
	c.mu.Lock()
	c.stats.Failures++
	spread := c.spread
	c.mu.Unlock()
	wait := c.cfg.Backoff(Retry{
		Class: end.class, Failures: failures, Spread: spread,
		Min: end.min, Max: end.max, After: end.after,
	})
	c.cfg.Logger.Debug("not connected", "class", end.class, "code", uint16(end.code),
		"status", end.status, "error", end.err, "wait", wait)
	c.event(Event{
		Kind: EventDisconnected, Class: end.class, Code: end.code, Status: end.status,
		Err: end.err, Wait: wait,
	})
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// poison gives up the oldest unacknowledged frame, as the connection sent it.
func (c *Client) poison(next uint64) bool {
	c.mu.Lock()
	first := c.buffer.head.seq
	rows := c.free(next)
	if rows > 0 {
		c.stats.RowsDropped += uint64(rows)
		c.stats.Poisoned++
	}
	c.mu.Unlock()
	if rows == 0 {
		return false
	}
	c.cfg.Logger.Warn("gave up the oldest frame: the server closed because of it twice",
		"seq", first, "rows", rows)
	c.event(Event{Kind: EventDropped, Seq: first, N: uint64(rows)})
	return true
}

// runScope is what a goroutine needs that outlives a connection but not Run.
type runScope struct {
	ctx     context.Context
	workers *sync.WaitGroup
}

// attempt dials and serves one connection until it is over.
func (c *Client) attempt(ctx context.Context, workers *sync.WaitGroup) ending {
	l := &link{client: c, scope: runScope{ctx, workers}, ended: make(chan struct{})}
	if end, ok := l.connect(ctx); !ok {
		return end
	}
	c.mu.Lock()
	c.stats.Connects++
	c.stats.Connected = true
	c.window = framesBeforeWelcome
	c.mu.Unlock()
	c.event(Event{Kind: EventConnected})

	end := l.run(ctx)

	c.mu.Lock()
	c.stats.Connected = false
	if oldest, ok := c.flight.oldest(); ok {
		end.oldest = oldest.next
	}
	c.flight.clear()
	c.send = c.buffer.head // everything unacknowledged is sent again
	c.mu.Unlock()
	return end
}
