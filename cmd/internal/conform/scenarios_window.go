package conform

import (
	"time"

	"mooring/cmd/internal/websocket"
	"mooring/wire"
)

// playWindow withholds WELCOME, then gives a small window, closes it, opens it
// again and changes it by PARAMS (PROTOCOL §2.7, §6.4, §8.2).
func playWindow(s *stage) {
	mine := []string{ruleWindow, ruleWindowZero, ruleParams, ruleBeforeWelcome}
	l := s.accept(startPatience)
	if l == nil {
		s.none(mine, "the program did not connect")
		return
	}
	s.pass(2 * time.Second)
	s.keptAs(ruleBeforeWelcome, "%d within 2 s without WELCOME", len(l.sent()))
	l.welcome(func(w *wire.Welcome) { w.Window = 2 })
	if !s.enough(l, mine, 2) {
		return
	}
	s.pass(crossing + 2*time.Second) // without an ACK
	s.keptAs(ruleWindow, "stopped at %d", len(l.sent()))

	l.ackAll(0)
	s.pass(crossing)
	l.ackAll(0) // what was under way
	before := len(l.sent())
	s.pass(2 * time.Second)
	if after := len(l.sent()); after > before {
		s.broken(ruleWindowZero, "%d frames came while the window was 0", after-before)
	} else {
		l.ackAll(8)
		s.judge(ruleWindowZero, l.await(after+1, patience), "rows did not go on within %s of an ACK with window 8", millis(patience))
	}

	l.ackAll(0)
	s.pass(crossing)
	l.ackAll(0)
	before = len(l.sent())
	l.params(2)
	s.judge(ruleParams, l.await(before+1, patience), "rows did not go on within %s of PARAMS with window 2", millis(patience))
	s.pass(2 * time.Second)
	if came := len(l.sent()) - before; came > 2 {
		s.broken(ruleParams, "%d frames unacknowledged, while PARAMS said that the window is 2", came)
	}
}

// params announces a window by NOTICE PARAMS.
func (l *line) params(window int) {
	l.stage.mu.Lock()
	l.announce(window)
	l.stage.mu.Unlock()
	l.notice(wire.Notice{Kind: wire.NoticeParams, Window: window})
}

// playLateAcks keeps acks back for longer than two heartbeats, with Pings in
// between: the device waits and answers (PROTOCOL §8.3.1, §8.4.2).
func playLateAcks(s *stage) {
	mine := []string{rulePatience, rulePing}
	l := s.accept(startPatience)
	if l == nil {
		s.none(mine, "the program did not connect")
		return
	}
	l.welcome(func(w *wire.Welcome) { w.Heartbeat = 5 })
	if !s.enough(l, mine, 1) {
		return
	}
	payloads := []string{"", "mooring", "", "\x00\x01\xff", ""}
	answered := 0
	for _, payload := range payloads {
		l.stage.mu.Lock()
		had := len(l.pongs)
		l.stage.mu.Unlock()
		l.socket.write(websocket.Ping, []byte(payload))
		s.until(crossing+slack, func() bool { return len(l.pongs) > had || l.over })
		s.mu.Lock()
		got := l.pongs[had:]
		s.mu.Unlock()
		switch {
		case len(got) == 0:
			s.broken(rulePing, "a Ping with %d bytes was not answered within %s", len(payload), millis(crossing+slack))
		case got[0] != payload:
			s.broken(rulePing, "a Ping with %q was answered with %q", payload, got[0])
		default:
			answered++
		}
		s.pass(2200 * time.Millisecond)
	}
	if answered == len(payloads) {
		s.kept(rulePing)
	}
	stayed := l.alive() && s.attemptsSince(l.born) == 0
	s.measure(rulePatience, stayed, "acks %s late, Pings in between", millis(time.Since(l.sent()[0].at)))
}

// playSilence says nothing after WELCOME (PROTOCOL §8.4.2).
func playSilence(s *stage) {
	const hb = 5 * time.Second
	l := s.accept(startPatience)
	if l == nil {
		s.notShown(ruleSilence, "the program did not connect")
		return
	}
	s.silence()
	l.welcome(func(w *wire.Welcome) { w.Heartbeat = int(hb / time.Second) })
	from := time.Now()
	gone := func() bool { return !l.ended.IsZero() || s.taken < len(s.lines) }
	left := s.until(3*hb+2*slack, gone)
	stayed := time.Since(from)
	s.measure(ruleSilence, left && stayed > 2*hb-500*time.Millisecond, "2·hb is 10 s; the program stayed for %s", millis(stayed))
}

// playThrottle asks for a gap of two seconds (PROTOCOL §6.4).
func playThrottle(s *stage) {
	const gap, tolerance = 2 * time.Second, 500 * time.Millisecond
	l := s.begin(scenario{rules: []string{ruleThrottle}}, 1)
	if l == nil {
		return
	}
	l.acknowledge()
	if !s.enough(l, []string{ruleThrottle}, 4) {
		return
	}
	sent := l.sent()
	if own := sent[len(sent)-1].at.Sub(sent[0].at) / time.Duration(len(sent)-1); own > gap {
		s.notShown(ruleThrottle, "the program sends a frame in %s anyway", millis(own))
		return
	}
	l.notice(wire.Notice{Kind: wire.NoticeThrottle, MinGapMillis: int(gap / time.Millisecond), ForSeconds: 30})
	s.pass(crossing)
	before := len(l.sent())
	s.pass(4 * gap)
	sent = l.sent()[before:]
	if !l.alive() {
		s.broken(ruleThrottle, "the program left")
		return
	}
	for i := 1; i < len(sent); i++ {
		if between := sent[i].at.Sub(sent[i-1].at); between < gap-tolerance {
			s.broken(ruleThrottle, "%s between two frames, not %s", millis(between), millis(gap))
		}
	}
	s.judge(ruleThrottle, len(sent) > 0, "no rows at all came")
}

// playLargeFrames lets rows pile up before a server that takes 1,024 bytes, and by
// PARAMS then 300 (PROTOCOL §6.1, §6.4, §10.1).
func playLargeFrames(s *stage) {
	const maxFrame, smaller = 1024, 300
	mine := []string{ruleMaxFrame}
	l := s.accept(startPatience)
	if l == nil {
		s.none(mine, "the program did not connect")
		return
	}
	l.welcome(func(w *wire.Welcome) { w.MaxFrame, w.Window = maxFrame, 1 })
	if !s.enough(l, mine, 1) {
		return
	}
	s.pass(4 * time.Second)
	had := len(l.sent())
	l.acknowledge()
	l.await(had+4, 3*time.Second)
	l.hold()
	s.mu.Lock()
	l.maxFrame, l.frameFrom = smaller, time.Now()
	s.mu.Unlock()
	l.notice(wire.Notice{Kind: wire.NoticeParams, MaxFrame: smaller, Window: 1})
	s.pass(4 * time.Second)
	had = len(l.sent())
	l.acknowledge()
	l.await(had+4, 3*time.Second)
	largest := 0
	s.mu.Lock()
	welcomed := l.welcomed
	s.mu.Unlock()
	for _, frame := range l.sent() {
		if frame.at.Sub(welcomed) > crossing {
			largest = max(largest, frame.size)
		}
	}
	s.keptAs(ruleMaxFrame, "at most %d bytes of %d, then of %d, after 4 s without an ACK", largest, maxFrame, smaller)
}

// cameAgain is when the first of these rows came again, under whatever number; zero:
// none did. mu is held.
func (s *stage) cameAgain(texts map[string]bool, since time.Time) (at time.Time) {
	for seq, text := range s.rows {
		if came := s.cameAt[seq]; came.After(since) && texts[text] && (at.IsZero() || came.Before(at)) {
			at = came
		}
	}
	return at
}

// playQuota refuses rows with QUOTA and looks when they come again, if they do
// (PROTOCOL §7.2). A row is known by its time and values: it may have a new number.
func playQuota(s *stage) {
	const wait = 10 * time.Second
	l := s.begin(scenario{rules: []string{ruleQuotaWait}}, 1)
	if l == nil {
		return
	}
	first, next := l.sent()[0].seq, l.next()
	s.mu.Lock()
	refused := map[string]bool{}
	for seq := first; seq < next; seq++ {
		if text, there := s.rows[seq]; there {
			refused[text] = true
		}
	}
	s.mu.Unlock()
	refusedAt := time.Now()
	l.ack(next, 16, wire.Reject{Seq: first, N: next - first, Channel: wire.WholeRow, Code: wire.CodeQuota})
	l.acknowledge()
	again := func() time.Time { return s.cameAgain(refused, refusedAt) }
	s.until(wait+slack, func() bool { return !again().IsZero() })
	s.mu.Lock()
	at, untimed := again(), s.untimed
	s.mu.Unlock()
	if untimed {
		s.notShown(ruleQuotaWait, "its rows have no times of their own, so it can't be seen whether one came again")
		return
	}
	if at.IsZero() {
		s.keptAs(ruleQuotaWait, "not within %s", millis(wait+slack))
		return
	}
	s.measure(ruleQuotaWait, at.Sub(refusedAt) > wait-100*time.Millisecond, "came again after %s", millis(at.Sub(refusedAt)))
}
