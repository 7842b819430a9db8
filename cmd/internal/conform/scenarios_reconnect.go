package conform

import (
	"time"

	"mooring/wire"
)

// playReconnects breaks the line with rows unacknowledged, and closes it with all
// of them acknowledged (PROTOCOL §8.1, §8.3).
func playReconnects(s *stage) {
	mine := []string{ruleResend, ruleKeeps, ruleForgets, ruleSameRow, ruleRetry, ruleGoesOn, ruleBootID, ruleFinal}
	l := s.begin(scenario{rules: mine}, 3)
	if l == nil {
		return
	}
	// The first two frames are settled, the first row of each by a refusal for good,
	// once with a code that nobody knows.
	refused, first := l.sent()[0], l.sent()[1]
	s.mu.Lock()
	texts := map[string]bool{s.rows[refused.seq]: true, s.rows[first.seq]: true}
	s.mu.Unlock()
	refusedAt := time.Now()
	l.ack(first.next, 16,
		wire.Reject{Seq: refused.seq, N: 1, Channel: wire.WholeRow, Code: wire.CodeType},
		wire.Reject{Seq: first.seq, N: 1, Channel: wire.WholeRow, Code: 40})
	s.pass(crossing)
	s.settle(first.next)
	behind := l.next()
	l.drop()

	second := s.accept(spread*time.Second + patience)
	if second == nil {
		s.broken(ruleRetry, "the program did not come back within %s of a broken line", millis(patience))
		s.none([]string{ruleResend, ruleKeeps, ruleForgets, ruleSameRow, ruleGoesOn, ruleBootID, ruleFinal}, "it did not come back")
		return
	}
	s.keptAs(ruleRetry, "%s after the line broke", millis(second.born.Sub(l.endedAt())))
	second.welcome(nil)
	if !s.enough(second, mine[:4], 1) {
		return
	}
	s.judge(ruleResend, second.sent()[0].seq == first.next,
		"row %d was the oldest unsettled one; the program began with row %d", first.next, second.sent()[0].seq)
	s.until(patience, func() bool { return second.nextLocked() >= behind || second.over })
	s.judgeKeeps(second, first.next, behind)
	s.judge(ruleFinal, second.sent()[0].seq > first.seq, "rows %d and %d were refused with TYPE and with code 40; row %d came again", refused.seq, first.seq, second.sent()[0].seq)

	s.mu.Lock()
	again, untimed := s.cameAgain(texts, refusedAt), s.untimed
	s.mu.Unlock()
	if !again.IsZero() && !untimed {
		s.broken(ruleFinal, "a row that was refused with TYPE or with code 40 came again after %s, under another number", millis(again.Sub(refusedAt)))
	}

	// Everything is settled, and the close is one of class R.
	next := second.ackAll(0)
	s.pass(crossing)
	next = max(next, second.ackAll(0)) // what was under way
	s.pass(crossing)
	s.settle(next)
	second.close(wire.CloseDrain)
	third := s.accept(spread*time.Second + patience)
	if third == nil {
		s.broken(ruleRetry, "the program did not come back within %s of a close with 4000", millis(patience))
		return
	}
	third.welcome(nil)
	if !s.enough(third, []string{ruleForgets}, 1) {
		return
	}
	from := third.sent()[0]
	s.judge(ruleForgets, from.seq >= next || !from.again, "rows before %d were acknowledged; the program began with row %d", next, from.seq)
	s.judge(ruleGoesOn, from.seq >= next || from.again, "numbers begin at %d after %d", from.seq, next-1)
	s.mu.Lock()
	booted := s.hasBoot
	s.mu.Unlock()
	if booted {
		s.kept(ruleBootID)
	} else {
		s.notShown(ruleBootID, "it sends no boot_id, which is optional")
	}
}

// judgeKeeps looks for rows that were sent before and did not come again.
func (s *stage) judgeKeeps(l *line, from, behind uint64) {
	expected := from
	for _, frame := range l.sent() {
		if frame.seq > expected && expected < behind {
			s.broken(ruleKeeps, "rows %d to %d were not sent again", expected, min(frame.seq, behind)-1)
			return
		}
		expected = max(expected, frame.next)
	}
	s.judge(ruleKeeps, expected >= behind, "rows %d to %d were not sent again within %s", expected, behind-1, millis(patience))
}

// playGoAway announces a restart with rows unacknowledged (PROTOCOL §9.3).
func playGoAway(s *stage) {
	const grace, earliest, latest = 6 * time.Second, 2 * time.Second, 4 * time.Second
	mine := []string{ruleGoAwayStops, ruleGoAwayLeaves, ruleGoAwaySlot, ruleGoAwayNarrow}
	l := s.accept(startPatience)
	if l == nil {
		s.none(mine, "the program did not connect")
		return
	}
	const window = 2000 // that it stops is not due to it
	l.welcome(func(w *wire.Welcome) { w.Window = window })
	if !s.enough(l, mine, 1) {
		return
	}
	settled := l.ackAll(window) // progress; then something has to be outstanding
	if !s.until(patience, func() bool { return l.nextLocked() > settled }) {
		s.none(mine, "no rows came after an ACK")
		return
	}
	told := time.Now()
	l.notice(wire.Notice{ // the next one counts
		Kind: wire.NoticeGoAway, Code: wire.CloseDrain,
		GraceMillis: int(grace / time.Millisecond), MinMillis: 30_000, MaxMillis: 40_000,
	})
	l.notice(wire.Notice{
		Kind: wire.NoticeGoAway, Code: wire.CloseDrain, Text: "the server restarts",
		GraceMillis: int(grace / time.Millisecond), MinMillis: int(earliest / time.Millisecond), MaxMillis: int(latest / time.Millisecond),
	})
	s.pass(crossing)
	before := len(l.sent())
	waited := l.alive()
	s.pass(2 * time.Second)
	after := len(l.sent())
	s.judge(ruleGoAwayStops, after == before, "%d frames came later than %s after GOAWAY", after-before, millis(crossing))
	// The wait begins with its close, which is seen late on a busy machine: after its
	// last ack, or, if it went at once, after GOAWAY.
	left := time.Now()
	if !l.alive() {
		left = told
	}
	l.ackAll(window)
	s.until(3*time.Second, func() bool { return l.over })
	s.mu.Lock()
	over := l.over
	s.mu.Unlock()
	code := l.closeCode()
	switch {
	case !waited:
		s.broken(ruleGoAwayLeaves, "it closed at once (%d), with acks outstanding", code)
	case !over:
		s.broken(ruleGoAwayLeaves, "it did not close within 3 s of its last ack")
		l.close(wire.CloseDrain)
	default:
		s.measure(ruleGoAwayLeaves, code == 1000, "closed with %d", code)
	}
	next := s.accept(latest + patience)
	if next == nil {
		s.broken(ruleGoAwaySlot, "the program did not come back within %s", millis(latest+patience))
		s.notShown(ruleGoAwayNarrow, "it did not come back")
		return
	}
	came := next.born.Sub(l.endedAt())
	s.measure(ruleGoAwaySlot, next.born.Sub(left) >= earliest-100*time.Millisecond && came <= latest+slack,
		"came back after %s, the slot was 2 s to 4 s", millis(came))
	s.judgeNarrowSlot(next)
}

// judgeNarrowSlot closes with a slot that has no width (PROTOCOL §9.3).
func (s *stage) judgeNarrowSlot(l *line) {
	const earliest = 3 * time.Second
	l.welcome(nil)
	if !s.enough(l, []string{ruleGoAwayNarrow}, 1) {
		return
	}
	l.acknowledge()
	s.pass(200 * time.Millisecond) // or the ACK may go unread
	l.notice(wire.Notice{
		Kind: wire.NoticeGoAway, Code: wire.CloseDrain,
		MinMillis: int(earliest / time.Millisecond), MaxMillis: int(earliest / time.Millisecond),
	})
	l.close(wire.CloseDrain)
	next := s.accept(earliest + patience)
	if next == nil {
		s.broken(ruleGoAwayNarrow, "the program did not come back within %s", millis(earliest+patience))
		return
	}
	came := next.born.Sub(l.endedAt())
	s.measure(ruleGoAwayNarrow, came >= earliest-100*time.Millisecond && came <= earliest+time.Second+slack,
		"came back after %s, min_ms and max_ms were 3 s", millis(came))
}
