package ingest

import (
	"math"
	"math/rand/v2"
	"time"
)

// timers looks after all sessions at every tick until the gateway stops.
func (g *Gateway) timers() {
	ticker := time.NewTicker(g.cfg.Tick)
	defer ticker.Stop()
	latencyTurn := time.Now()
	for {
		select {
		case <-ticker.C:
		case <-g.timersEnd:
			return
		}
		begun := g.clock.now()
		g.hub.sweep(begun, g.cfg.HandshakeTimeout, g.log.Progress)
		g.sweeping.Add(g.clock.now() - begun)
		g.reopenWindows()
		if time.Since(latencyTurn) >= latencyPeriod {
			latencyTurn = time.Now()
			g.latency.turn()
		}
	}
}

// reopenWindows tells devices that were told a small window, once the pressure
// is off.
func (g *Gateway) reopenWindows() {
	for _, sh := range g.shards {
		if sh.shrunk.Load() == 0 || sh.window() < g.cfg.Window {
			continue
		}
		for _, s := range g.hub.snapshot() {
			if s.shard == sh {
				s.reopen()
			}
		}
	}
}

// deadAfter is the silence after which a link counts as dead: 1.5 heartbeats,
// but at least 10 s more than one (PROTOCOL §8.4).
func deadAfter(heartbeat int64) int64 {
	return max(heartbeat+heartbeat/2, heartbeat+int64(10*time.Second))
}

// tick does what is due for a session and says when to look again. Times are by
// clock. It never blocks.
//
// A Ping is due when nothing came in for a heartbeat, and also when nothing went
// out for one: a device whose acks wait for a slow database must still hear that
// the server lives.
func (s *session) tick(now int64) (next int64) {
	g := s.gateway
	if !s.framed.Load() {
		due := s.begun + int64(g.cfg.FirstFrame)
		if now >= due {
			s.shut(closeFirstFrame)
			return math.MaxInt64
		}
		return due
	}
	if s.held.Load() { // its rows take long
		s.mu.Lock()
		s.kick()
		s.mu.Unlock()
	}
	beat := s.heartbeat.Load()
	if s.firstSilence == 0 {
		s.firstSilence = 1 + rand.Int64N(beat) //nolint:gosec // jitter, no secret
		s.progressAt = now + int64(g.cfg.ProgressInterval)
	}
	// In this order: resume stores heard first, so a session that is seen
	// unblocked is seen with the new time.
	blocked := s.blocked.Load() || s.link.paused.Load()
	heard, sent := s.link.heard.Load(), s.link.sent.Load()
	if blocked {
		heard = now // it is we who do not read
	}
	dead := heard + deadAfter(beat)
	began := s.link.guard.began.Load()
	if began == 0 || blocked {
		began = now // no message is under way, or it is we who do not read
	}
	overdue := began + int64(g.cfg.MessageTimeout)
	if now >= overdue {
		s.shut(closeSlowMessage)
		return math.MaxInt64
	}
	if now >= dead {
		g.metrics.heartbeatsMissed.Inc()
		s.shut(closeHeartbeat)
		return math.MaxInt64
	}

	quiet := beat
	if s.pinged == 0 {
		quiet = min(s.firstSilence, beat)
	}
	pingAt := sent + beat
	if s.pinged <= heard {
		pingAt = min(pingAt, heard+quiet)
	}
	if now >= pingAt {
		if s.ping() {
			g.hub.tell(s)
		}
		s.pinged = now
		pingAt = now + beat
	}
	next = min(dead, overdue, pingAt, s.progressAt)
	if s.link.raw != nil && !s.link.drowsy.Load() {
		restAt := heard + int64(g.cfg.RestAfter)
		if now < restAt {
			return min(next, restAt)
		}
		s.link.nod()
	}
	return next
}

// progressDue gives the session's progress if it is time to record it and
// something was heard since the last time.
func (s *session) progressDue(now int64) (SessionProgress, bool) {
	if s.progressAt == 0 || now < s.progressAt {
		return SessionProgress{}, false
	}
	s.progressAt = now + int64(s.gateway.cfg.ProgressInterval)
	heard := s.link.heard.Load()
	if s.number.Load() == 0 {
		return SessionProgress{}, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if heard == s.reported && s.settled.frames == s.reportedFrames {
		return SessionProgress{}, false
	}
	s.reported, s.reportedFrames = heard, s.settled.frames
	return s.progress(), !s.closed
}
