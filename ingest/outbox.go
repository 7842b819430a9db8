package ingest

import (
	"sync"
	"time"

	"mooring/wire"
)

// maxServerMessage is the size no message to a device exceeds, in bytes: client
// libraries with small buffers choke on more (PROTOCOL §2.6).
const maxServerMessage = 1023

// outbox is what waits to be sent to one device: at most one ACK, one Pong and
// one Ping, and a bounded queue for the rest. Under the session's lock.
type outbox struct {
	queue []byte // ready WebSocket frames, at most Config.MaxOutbox bytes

	ping, pong bool
	reply      bool // a PONG frame is due
	ack        bool
	shrunk     bool   // the last window sent was smaller than the full one
	pongFor    []byte // payload to echo, of the device's latest Ping
	replyTo    uint64

	// Of the ACK.
	next     uint64
	frames   uint64 // DATA frames it covers, total
	received int64  // when the oldest frame newly covered came in, by clock; 0: none
	rejected uint64
	rejects  []wire.Reject // at most wire.MaxAckRejects
}

var encoders = sync.Pool{New: func() any { return wire.NewEncoder() }}

// welcome queues WELCOME, the first frame, and makes the session known by its
// number at the same moment: whoever replaces it comes after WELCOME, and whoever
// was welcomed can be sent commands.
//
// If more came in behind the first frame, from a device that does not wait for
// WELCOME, it is not sent at once: it goes out with the ACK of the rows that are in
// hand, in one write. That is for no longer than the timers' next look, and not if
// there are no rows (docs/decisions/154).
func (s *session) welcome(maxReceive int, welcome wire.Welcome) {
	encoder := encoders.Get().(*wire.Encoder)
	defer encoders.Put(encoder)
	frame := encoder.Welcome(welcome)
	s.mu.Lock()
	if maxReceive > 0 {
		s.maxReceive = min(maxReceive, maxServerMessage)
	}
	s.number.Store(welcome.Session)
	s.outbox.queue = appendMessage(s.outbox.queue, opBinary, frame)
	s.held.Store(true)
	s.mu.Unlock()
	if s.link.behind == 0 {
		s.release()
	}
}

// release sends WELCOME, if nothing else has taken it along.
func (s *session) release() {
	s.mu.Lock()
	told := s.held.Load() && !s.flushing && !s.closing
	if told {
		s.flushing = true
		s.gateway.flushers.Add(1)
	}
	s.mu.Unlock()
	if told {
		deliver(s) // a goroutine and a deadline only if the socket has no room
	}
}

// enqueue queues one frame. A device that lets the queue fill up does not
// read: the session is closed SLOW_READER.
func (s *session) enqueue(encode func(*wire.Encoder) []byte) {
	if s.tryEnqueue(encode) != nil {
		s.shut(closeSlowReader)
	}
}

// tryEnqueue queues one frame, or tells that it does not fit.
func (s *session) tryEnqueue(encode func(*wire.Encoder) []byte) error {
	encoder := encoders.Get().(*wire.Encoder)
	defer encoders.Put(encoder)
	frame := encode(encoder)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closing:
		return ErrNotConnected
	case len(frame) > s.maxReceive:
		return ErrTooLarge
	case len(s.outbox.queue)+len(frame)+4 > s.gateway.cfg.MaxOutbox:
		return ErrOutboxFull
	}
	s.outbox.queue = appendMessage(s.outbox.queue, opBinary, frame)
	s.kick()
	return nil
}

// echo answers a WebSocket Ping with its payload; only the latest is answered
// (RFC 6455 §5.5.3).
func (s *session) echo(payload []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.outbox.pong = true
	s.outbox.pongFor = append(s.outbox.pongFor[:0], payload...)
	s.kick()
}

// pong answers a PING frame; only the latest is answered.
func (s *session) pong(echo uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.outbox.reply, s.outbox.replyTo = true, echo
	s.kick()
}

// ping asks for an empty WebSocket Ping. told: and it is the caller's to deliver.
func (s *session) ping() (told bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.outbox.ping = true
	if s.closing || s.flushing {
		return false
	}
	s.flushing = true
	s.gateway.flushers.Add(1)
	return true
}

// reopen sends an unsolicited ACK if the device was last told a window smaller
// than the full one.
func (s *session) reopen() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.outbox.shrunk {
		s.outbox.ack = true
		s.kick()
	}
}

// kick starts the flusher if none runs. s.mu is held.
func (s *session) kick() {
	if s.flushing {
		return
	}
	s.flushing = true
	if s.closing && s.reason.gone {
		close(s.flushed)
		return
	}
	s.gateway.flushers.Add(1)
	go s.flush()
}

// letter is what a flusher writes at once, and what to do afterwards.
type letter struct {
	encoder  *wire.Encoder
	bytes    []byte
	received int64 // of the oldest frame that an ACK in it covers; 0: none
	acks     bool
	last     bool // ends with the close frame
	gone     bool // nothing more is to be written, not even that

	sent int                // of link.sendNow
	post func(uintptr) bool // its bytes into a socket, as far as they fit
}

var letters = sync.Pool{New: func() any {
	l := &letter{encoder: wire.NewEncoder(), bytes: make([]byte, 0, 256)}
	l.post = func(socket uintptr) bool {
		l.sent = writeNow(socket, l.bytes)
		return true
	}
	return l
}}

// compose takes everything out of the outbox. s.mu is held. It reports whether
// there is anything to do.
func (s *session) compose(l *letter) bool {
	box := &s.outbox
	l.bytes, l.received, l.acks, l.last, l.gone = l.bytes[:0], 0, false, false, false
	if s.closing && s.reason.gone {
		l.gone = true
		return true
	}
	l.bytes = append(l.bytes, box.queue...)
	box.queue = nil // seldom used
	s.held.Store(false)
	if box.pong {
		box.pong = false
		l.bytes = appendMessage(l.bytes, opPong, box.pongFor)
	}
	if box.ping {
		box.ping = false
		l.bytes = appendMessage(l.bytes, opPing, nil)
	}
	if box.reply {
		box.reply = false
		pong := wire.Pong{Echo: box.replyTo, Time: time.Now().UnixMilli()}
		l.bytes = appendMessage(l.bytes, opBinary, l.encoder.Pong(pong))
	}
	if box.ack {
		s.composeAck(l)
	}
	if s.closing {
		l.last = true
		if s.reason.goAway {
			notice := s.reason.notice(s.gateway.cfg.Spread)
			if s.back.to != 0 && s.reason.Code == wire.CloseDrain {
				// The last GOAWAY counts, so it repeats the device's own slot.
				notice.MinMillis, notice.MaxMillis = s.back.millis(s.link.clock.now())
			}
			if frame := l.encoder.Notice(notice); len(frame) <= s.maxReceive {
				l.bytes = appendMessage(l.bytes, opBinary, frame)
			}
		}
		l.bytes = appendClose(l.bytes, s.reason)
	}
	return len(l.bytes) > 0
}

// composeAck appends the one ACK that stands for all settled since the last.
func (s *session) composeAck(l *letter) {
	box := &s.outbox
	window := s.shard.window()
	if shrunk := window < s.gateway.cfg.Window; shrunk != box.shrunk {
		box.shrunk = shrunk
		if shrunk {
			s.shard.shrunk.Add(1)
		} else {
			s.shard.shrunk.Add(-1)
		}
	}
	ack := wire.Ack{Next: box.next, Window: window, Rejected: box.rejected, Rejects: box.rejects}
	frame, _ := l.encoder.AckWithin(&ack, s.maxReceive)
	l.bytes = appendMessage(l.bytes, opBinary, frame)
	l.received, l.acks = box.received, true
	// The device may answer before the write returns, so it counts from here.
	s.acked.Store(box.frames)
	box.ack, box.received, box.rejected, box.rejects = false, 0, 0, box.rejects[:0]
}
