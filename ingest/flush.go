package ingest

import (
	"errors"
	"os"
	"time"
)

// flush writes what is in the outbox until it is empty, in one write a round.
// It is the only one who writes to the connection after the handshake; at most
// one runs a session. A device that does not read makes it wait for
// Config.WriteTimeout, no longer, and nobody waits for it.
func (s *session) flush() {
	g := s.gateway
	defer g.flushers.Done()
	l := letters.Get().(*letter)
	defer letters.Put(l)
	for {
		s.mu.Lock()
		if !s.compose(l) {
			s.flushing = false
			s.mu.Unlock()
			return
		}
		if l.gone {
			s.mu.Unlock()
			close(s.flushed)
			return
		}
		patience := g.cfg.WriteTimeout
		if s.closing {
			patience = g.cfg.CloseTimeout
		}
		// Under the lock, so that shut can shorten it.
		_ = s.link.SetWriteDeadline(time.Now().Add(patience))
		s.mu.Unlock()

		if err := s.link.send(l.bytes); err != nil {
			s.failed(err)
			return
		}
		if l.acks {
			g.metrics.acks.Inc()
			if l.received != 0 {
				latency := s.link.clock.now() - l.received
				g.metrics.ackSeconds.Observe(time.Duration(latency).Seconds())
				g.latency.observe(latency)
			}
		}
		if l.last {
			close(s.flushed)
			return
		}
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
