package client

import (
	"errors"
	"math"

	"mooring/wire"
)

var (
	errText          = errors.New("the server sent a text message")
	errNotFromServer = errors.New("a frame that only devices send")
)

// maxHolds is how many times a row is sent again after a refusal that is not
// final. Then it counts as final, or the row would hold up all others for ever.
const maxHolds = 3

// hold remembers the oldest row that was refused for a reason that may pass.
type hold struct {
	seq    uint64
	rounds int
}

// complain closes because of a frame that the codec refuses. It is the server's
// fault, so coming back is class R.
func (l *link) complain(err error) {
	why := leaving{code: wire.CloseBadFrame, class: wire.ClassRetry, err: err}
	if fault, ok := errors.AsType[*wire.FrameError](err); ok {
		why.code = fault.Close
	}
	l.client.cfg.Logger.Warn("the server sent a frame that can't be taken", "error", err)
	l.part(why)
}

// acked frees what the server settled.
//
// Rows refused with a code of 64 and above may be taken later, but not on this
// connection, where sequence numbers only rise: they are kept, and so is all
// behind them; the client reconnects, declares its layouts anew and sends again
// from there. What was committed in between is found to be a duplicate.
func (l *link) acked(ack wire.Ack) {
	c := l.client
	c.mu.Lock()
	c.window = ack.Window
	c.stats.Refusals += ack.Rejected
	// An ack covers nothing that was not sent on this connection.
	next := min(ack.Next, max(c.send.seq, c.buffer.head.seq))
	l.holdBack(ack.Rejects, next)
	kept := uint64(math.MaxUint64) // rows from here on are sent again
	if l.holdAt > 0 {
		kept = l.holdAt - 1
		next = min(next, kept)
	}
	now := l.now()
	l.latencies = l.latencies[:0]
	for {
		oldest, ok := c.flight.oldest()
		if !ok || oldest.next > ack.Next {
			break
		}
		l.latencies = append(l.latencies, now-oldest.at)
		c.flight.pop()
	}
	rows := c.free(next)
	c.stats.RowsSettled += uint64(rows)
	l.progress = l.progress || rows > 0
	settled := Ack{Next: c.buffer.head.seq, Rows: rows, Latencies: l.latencies}
	busy := c.buffer.next > c.send.seq || l.goAway != nil || l.leave != nil
	c.mu.Unlock()

	if c.cfg.OnReject != nil {
		for _, reject := range ack.Rejects {
			if !reject.Code.Final() {
				if reject.Seq >= kept {
					continue
				}
				reject.N = min(reject.N, kept-reject.Seq)
			}
			c.cfg.OnReject(reject)
		}
	}
	if rows > 0 && c.cfg.OnAck != nil {
		c.cfg.OnAck(settled)
	}
	if busy {
		c.kick()
	}
}

// holdBack looks for refusals that may pass, and if there are any to try again,
// sets l.holdAt to one more than the oldest such row and has the link reconnect.
func (l *link) holdBack(rejects []wire.Reject, next uint64) {
	c := l.client
	if l.holdAt > 0 {
		return // all that an ACK can still refuse is behind, and is sent again
	}
	oldest, code := next, wire.Code(0)
	for _, reject := range rejects {
		if reject.Code.Final() || reject.Channel != wire.WholeRow {
			continue
		}
		end := min(reject.Seq+reject.N, oldest)
		if seq := c.firstTaken(reject.Seq, end); seq < end {
			oldest, code = seq, reject.Code
		}
	}
	if code == 0 {
		return
	}
	if c.held.rounds > 0 && c.held.seq == oldest {
		c.held.rounds++
	} else {
		c.held = hold{seq: oldest, rounds: 1}
	}
	if c.held.rounds > maxHolds {
		return
	}
	l.holdAt = oldest + 1
	if l.leave == nil {
		l.leave = &leaving{code: 1000, class: wire.ClassRetry, err: errAgain}
		if code == wire.CodeQuota {
			l.leave.class = wire.ClassLater
		}
	}
}

// firstTaken finds the first row of the buffer, from one on and before end, whose
// layout was not rejected for good; end: there is none. An entry of an ACK may be
// of rows of several layouts.
func (c *Client) firstTaken(from, end uint64) uint64 {
	for at := c.buffer.head; at.seq < end; {
		layout, _, _, size := peek(&at)
		if at.seq >= from && !c.layouts[layout].rejected {
			return at.seq
		}
		at.skip(size)
	}
	return end
}
