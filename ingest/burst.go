package ingest

import "slices"

// A device that sends now and then has gws wake up for each time: a connection
// object, a buffer of 1 KiB to read through, bytes that begin within a message, which
// swift does not take, and two seconds later a nod. With 100,000 devices of which each
// sends once in a minute that was a fifth of what the gateway does
// (docs/decisions/167). So what has come in when a connection wakes up is looked at
// in a larger buffer first, and if it is plain messages it rests again. What sends again
// before Config.RestAfter is over is busy, and gws's from then on until it is silent.

const (
	// burstBytes is a full window of frames of ten rows, twice.
	burstBytes = 16 << 10
	// maxBursts are handled at a time, which bounds their memory: they may wait for
	// room. Further ones wake gws.
	maxBursts = 64
)

// burst is a buffer for what has come in, and how it gets there.
type burst struct {
	bytes [burstBytes]byte
	n     int                // so many did
	get   func(uintptr) bool // adds what has come in now
}

func newBurst() any {
	b := new(burst)
	b.get = func(socket uintptr) bool {
		b.n += readNow(socket, b.bytes[b.n:])
		return true
	}
	return b
}

// burst handles what has come in at rest, without gws, and tells whether that was
// all. Else what is left of it is in link.ahead or link.watched, for gws.
func (s *session) burst() (all bool) {
	g, l := s.gateway, s.link
	lately := l.wokenAt
	l.wokenAt = l.heard.Load()
	if lately != 0 && l.wokenAt-lately < int64(g.cfg.RestAfter) {
		return false
	}
	defer g.bursting.Add(-1)
	if g.bursting.Add(1) > maxBursts {
		return false
	}
	b := g.bursts.Get().(*burst)
	defer g.bursts.Put(b)
	defer s.recovered()

	b.n = copy(b.bytes[:], l.ahead)
	l.ahead = nil
	_ = l.raw.Read(b.get) // an error is met again
	came := b.bytes[:l.watch(b.bytes[:b.n])]
	l.heeded = true
	left := len(came) - l.swift(came)
	if left == 0 && l.breach == nil && b.n < burstBytes {
		return true
	}
	l.watched = slices.Clone(came[:left])
	return false
}
