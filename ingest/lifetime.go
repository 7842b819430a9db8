package ingest

import (
	"context"
	"time"
)

// lifetime is a session as a context that ends when the session begins to end.
// It takes no memory until somebody waits on it: of a hundred thousand idle
// sessions nobody does, and contexts of the standard library would be the
// largest part of each.
type lifetime struct{ s *session }

var _ context.Context = lifetime{}

// lifetime gives the session's context. Its Done must not be called with s.mu held.
func (s *session) lifetime() context.Context { return lifetime{s} }

// Deadline implements context.Context.
func (lifetime) Deadline() (deadline time.Time, ok bool) { return time.Time{}, false }

// Done implements context.Context.
func (l lifetime) Done() <-chan struct{} {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	if l.s.done == nil {
		l.s.done = make(chan struct{})
		if l.s.ending.Load() {
			close(l.s.done)
		}
	}
	return l.s.done
}

// Err implements context.Context.
func (l lifetime) Err() error {
	if l.s.ending.Load() {
		return context.Canceled
	}
	return nil
}

// Value implements context.Context.
func (l lifetime) Value(key any) any { return l.s.gateway.life.Value(key) }

// end begins the session's end for reason: its context ends, and nothing is
// read any more. s.mu is held, and s.closing not yet set.
func (s *session) end(reason CloseReason) {
	s.closing, s.reason = true, reason
	s.flushed = make(chan struct{})
	s.link.stop()
	s.ending.Store(true)
	if s.done != nil {
		close(s.done)
	}
	if s.cancel != nil {
		s.cancel()
	}
}

// waiting gives a context that ends with the session, after longest (0: never), or
// when the returned function is called, as it must be. For the read goroutine, one at a
// time. Unlike one derived from lifetime, it leaves nothing behind.
func (s *session) waiting(longest time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := s.gateway.life, context.CancelFunc(nil)
	if longest > 0 {
		ctx, cancel = context.WithTimeout(ctx, longest)
	} else {
		ctx, cancel = context.WithCancel(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending.Load() {
		cancel()
	}
	s.cancel = cancel
	return ctx, func() {
		s.mu.Lock()
		s.cancel = nil
		s.mu.Unlock()
		cancel()
	}
}
