package client

import (
	"sync"
	"time"

	"mooring/wire"
)

// far is a time to look again when nothing is due.
const far = 24 * time.Hour

// headBound is more than a DATA frame takes before its values, and timeBound
// what a row's time takes at most.
const (
	headBound = 64
	timeBound = 9
)

// maxElements is what the array of a DATA frame's values holds.
const maxElements = 1<<16 - 1

// frameBuilder is what it takes to encode a frame. All clients share a pool of
// them, so that a client between two frames holds none.
type frameBuilder struct {
	encoder *wire.Encoder
	data    wire.Data
	rows    []wire.Row
	values  []wire.Value
}

var builders = sync.Pool{New: func() any { return &frameBuilder{encoder: wire.NewEncoder()} }}

// step is what the writer does next: send a frame (builder is set), tell of a
// dropped row, leave, or sleep until again.
type step struct {
	builder *frameBuilder
	frame   []byte // valid until the builder goes back
	dropped uint64
	seq     uint64
	why     error // of dropped; nil: the row itself is too large
	leave   *leaving

	again     time.Duration
	heartbeat time.Duration
}

// nextFrame decides and encodes. The rows lie in memory that an acknowledgement
// or DropOldest may free, so encoding is done under the lock.
func (l *link) nextFrame(now time.Duration) step {
	c := l.client
	c.mu.Lock()
	defer c.mu.Unlock()
	s := step{again: now + far, heartbeat: c.heartbeat}
	if l.leave != nil {
		s.leave = l.leave
		return s
	}
	if l.goAway != nil {
		if now >= l.goAway.until || l.goAway.graceful && c.flight.count == 0 {
			s.leave = &leaving{code: 1000, class: l.goAway.code.Class(), err: errLeft}
		}
		s.again = l.goAway.until
		return s
	}
	if c.send.seq <= c.buffer.head.seq {
		c.send = c.buffer.head
	}
	waiting := int(c.buffer.next - c.send.seq)
	if waiting == 0 || c.flight.count >= c.window {
		return s
	}
	if wait := l.untilAllowed(now, waiting); wait > now {
		s.again = wait
		return s
	}
	l.encode(&s, now, waiting)
	return s
}

// untilAllowed is when a frame may go that the window allows: now, or after the
// gap of a THROTTLE, or when the rows have lingered enough.
func (l *link) untilAllowed(now time.Duration, waiting int) time.Duration {
	c := l.client
	allowed := now
	if l.gap > 0 && now < l.gapUntil {
		allowed = l.lastSent + l.gap
	}
	if waiting < c.frameRows && c.send.seq >= c.flushTo {
		allowed = max(allowed, c.since+c.cfg.Linger)
	}
	return allowed
}

// encode makes a LAYOUT or a DATA frame of the rows at the send cursor.
func (l *link) encode(s *step, now time.Duration, waiting int) {
	c := l.client
	id, millis, encoded, size := peek(&c.send)
	if c.layouts[id].size > c.maxFrame {
		if !l.welcomed {
			return // WELCOME will tell whether it fits
		}
		s.why = c.tooLarge(&c.layouts[id])
		l.giveUp(s)
		return
	}
	layout := &c.layouts[id].layout
	builder := builders.Get().(*frameBuilder)
	if l.declared&(1<<id) == 0 {
		l.declared |= 1 << id
		s.builder, s.frame = builder, builder.encoder.Layout(layout)
		return
	}
	width := len(layout.Channels)
	limit := min(waiting, c.frameRows, maxElements/(width+1))
	builder.rows, builder.values = builder.rows[:0], builder.values[:0]
	from, bound, sameLayout := c.send, headBound, id
	for len(builder.rows) < limit && sameLayout == id {
		bound += size - rowHead + timeBound
		if bound > c.maxFrame && len(builder.rows) > 0 {
			break
		}
		builder.rows = append(builder.rows, wire.Row{Time: millis * 1000})
		builder.values = readValues(encoded, builder.values)
		from.skip(size)
		if len(builder.rows) < limit {
			sameLayout, millis, encoded, size = peek(&from)
		}
	}
	for i := range builder.rows {
		builder.rows[i].Values = builder.values[i*width : (i+1)*width]
	}
	builder.data = wire.Data{Seq: c.send.seq, Layout: layout.Number, Rows: builder.rows}
	frame, err := builder.encoder.Data(&builder.data)
	if err != nil || len(frame) > c.maxFrame {
		builders.Put(builder)
		if l.welcomed { // else WELCOME will tell whether it fits
			l.giveUp(s)
		}
		return
	}
	c.send = from
	c.since = now
	l.lastSent = now
	c.flight.push(sentFrame{next: from.seq, at: now})
	c.stats.FramesSent++
	c.stats.RowsSent += uint64(len(builder.rows))
	c.stats.BytesSent += uint64(len(frame))
	s.builder, s.frame = builder, frame
}

// giveUp drops the row at the send cursor, which no frame can hold, once the
// rows before it are settled: only the oldest row can be dropped.
func (l *link) giveUp(s *step) {
	c := l.client
	if c.send.seq > c.buffer.head.seq {
		return
	}
	s.seq = c.buffer.head.seq
	s.dropped = uint64(c.free(s.seq + 1))
	c.stats.RowsDropped += s.dropped
}
