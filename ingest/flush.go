package ingest

import (
	"errors"
	"os"
	"time"
)

// flush writes what is in the outbox until it is empty, in one write a round. At
// most one a session writes to the connection after the handshake, this or
// deliver. A device that does not read makes it wait for Config.WriteTimeout, no
// longer, and nobody waits for it.
func (s *session) flush() { s.flushOn(letters.Get().(*letter), false, 0) }

// flushOn is flush, after deliver has composed a letter and got so many bytes of
// it sent.
func (s *session) flushOn(l *letter, composed bool, sent int) {
	g := s.gateway
	defer g.flushers.Done()
	defer letters.Put(l)
	for {
		s.mu.Lock()
		if !composed && !s.compose(l) {
			s.flushing = false
			s.mu.Unlock()
			return
		}
		if l.gone {
			s.mu.Unlock()
			close(s.flushed)
			return
		}
		s.mu.Unlock()
		if sent == 0 && s.link.raw != nil {
			// What there is room for goes out however long this thread is held up
			// before it gets to write: only a device that does not read runs out of
			// time.
			sent = s.link.sendNow(l)
		}
		if sent < len(l.bytes) {
			if err := s.sendInTime(l.bytes[sent:]); err != nil {
				s.failed(err)
				return
			}
		}
		s.wrote(l)
		if l.last {
			close(s.flushed)
			return
		}
		composed, sent = false, 0
	}
}

// sendInTime writes what a device has to make room for, within the time it has for
// that.
func (s *session) sendInTime(rest []byte) error {
	s.mu.Lock()
	patience := s.gateway.cfg.WriteTimeout
	if s.closing {
		patience = s.gateway.cfg.CloseTimeout
	}
	// Under the lock, so that shut can shorten it.
	_ = s.link.SetWriteDeadline(time.Now().Add(patience))
	s.mu.Unlock()
	return s.link.send(rest)
}

// wrote counts what a letter that was sent has told.
func (s *session) wrote(l *letter) {
	if !l.acks {
		return
	}
	g := s.gateway
	g.metrics.acks.Inc()
	if l.received != 0 {
		latency := s.link.clock.now() - l.received
		g.metrics.ackSeconds.Observe(time.Duration(latency).Seconds())
		g.latency.observe(latency)
	}
}

// manyLetters is how many sessions one goroutine delivers to: some hundred µs.
const manyLetters = 64

// deliver writes what the outboxes of a session and of those behind it by nextTold
// hold, all of which count as being flushed. It does not wait for their sockets: a
// goroutine for each and its deadline cost as much as half of its system call.
func deliver(told *session) {
	l := letters.Get().(*letter)
	for told != nil {
		s := told
		told, s.nextTold = s.nextTold, nil // before it can be told again
		if !s.deliver(l) {
			l = letters.Get().(*letter)
		}
	}
	letters.Put(l)
}

// deliver is flush as far as it goes without waiting; what is left is a flusher's.
// false: so is the letter.
func (s *session) deliver(l *letter) (kept bool) {
	for {
		s.mu.Lock()
		if s.closing || s.link.raw == nil {
			s.mu.Unlock()
			go s.flush()
			return true
		}
		if !s.compose(l) {
			s.flushing = false
			s.mu.Unlock()
			s.gateway.flushers.Done()
			return true
		}
		s.mu.Unlock()
		if sent := s.link.sendNow(l); sent < len(l.bytes) {
			go s.flushOn(l, true, sent)
			return false
		}
		s.wrote(l)
	}
}

// failed ends the session after a failed write: hard, as nothing more gets
// through. The flusher counts as running for ever, so that none starts again.
func (s *session) failed(err error) {
	reason := closeLost
	if errors.Is(err, os.ErrDeadlineExceeded) {
		reason = closeSlowReader
	}
	reason.gone = true
	s.mu.Lock()
	if s.closing {
		s.reason.gone = true // the farewell did not arrive; why it ends stays
	} else {
		s.end(reason)
	}
	s.mu.Unlock()
	s.link.abort()
	close(s.flushed)
}
