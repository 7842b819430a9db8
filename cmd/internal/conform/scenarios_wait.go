package conform

import (
	"fmt"
	"strings"
	"time"

	"mooring/wire"
)

const (
	// watch is how long a scenario looks whether a program stays away that must do
	// so for longer: class R's first wait before any WELCOME is 10 s at most.
	watch = 16 * time.Second
	// backoffPrograms are started together, to see whether they come back together.
	backoffPrograms = 5
	// backoffAttempts is what can come within watch: that waits of 2, 4, 8 … s,
	// each uniform from 0, add up to less in more attempts happens once in 10^5.
	backoffAttempts = 10
)

// playFailures welcomes and closes at once, again and again (PROTOCOL §9.2, R).
// The judgement needs all programs: judgeSpread.
func playFailures(s *stage) {
	mine := []string{ruleBackoffBound, ruleBackoffGrows, ruleBackoffSpread}
	bound, grows := ruleBackoffBound, ruleBackoffGrows
	var change func(*wire.Welcome)
	if s.index == backoffPrograms-1 { // of one of them all is the same, with a spread of 0
		bound, grows, mine = ruleSpreadZero, ruleSpreadZero, []string{ruleSpreadZero}
		change = func(w *wire.Welcome) { w.Spread = 0 }
	}
	l := s.accept(startPatience)
	if l == nil {
		s.none(mine, "the program did not connect")
		return
	}
	began := time.Now()
	attempts := 0
	for left := watch; ; left = watch - time.Since(began) {
		l.welcome(change)
		s.pass(100 * time.Millisecond) // or WELCOME may go unread
		l.close(wire.CloseInternal)
		attempts++
		most := min(time.Duration(spread)<<min(attempts, 10)*time.Second, 600*time.Second)
		next := s.accept(max(left, 0))
		if next == nil {
			if away := time.Since(l.endedAt()); away > most+slack {
				s.broken(bound, "after %d failures it stayed away for %s, at most %s is allowed", attempts, millis(away), millis(most))
			}
			break
		}
		wait := next.born.Sub(l.endedAt())
		s.waits = append(s.waits, float64(wait)/float64(most))
		s.judge(bound, wait <= most+slack, "after %d failures it waited %s, at most %s is allowed", attempts, millis(wait), millis(most))
		l = next
	}
	s.measure(grows, attempts <= backoffAttempts, "%d attempts within %s", attempts, millis(watch))
}

// judgeSpread compares the waits of programs that failed at the same times.
func judgeSpread(stages []*stage) {
	// Waits are alike within 9 % of the longest allowed, or three quarters of a second of
	// a machine that is busy. The first is not looked at: it is of programs that are
	// just starting, all at once. Of five programs the next two are alike by chance
	// twice in 10^6. (A range of n uniform numbers below r has the probability
	// n r^(n-1) - (n-1) r^n.)
	const alike, noise = 0.09, 750 * time.Millisecond
	s := stages[0]
	shared := len(s.waits)
	for _, other := range stages {
		shared = min(shared, len(other.waits))
	}
	if shared = min(shared, 3); shared == 0 {
		s.notShown(ruleBackoffSpread, "not all of %d programs came back", len(stages))
		return
	}
	together := true
	var shown strings.Builder
	for i := 1; i < shared; i++ {
		low, high := s.waits[i], s.waits[i]
		for _, other := range stages {
			low, high = min(low, other.waits[i]), max(high, other.waits[i])
		}
		most := time.Duration(spread) << (i + 1) * time.Second
		together = together && high-low < max(alike, float64(noise)/float64(most))
		fmt.Fprintf(&shown, " %.2f–%.2f", low, high)
	}
	if shared < 3 && together {
		s.notShown(ruleBackoffSpread, "only %d waits were seen, the last of them:%s of the longest allowed", shared, shown.String())
		return
	}
	s.measure(ruleBackoffSpread, !together, "waits of %d programs, in parts of the longest allowed:%s", len(stages), shown.String())
}

// staysAway watches for attempts after then.
func (s *stage) staysAway(id string, then time.Time, required string) {
	s.until(watch, func() bool {
		n := len(s.attempts)
		return n > 0 && s.attempts[n-1].After(then)
	})
	if s.attemptsSince(then) == 0 {
		if ended := s.programEnded(); ended != "" {
			s.broken(id, "%s, where it should come back after %s", ended, required)
			return
		}
		s.keptAs(id, "watched for %s of %s", millis(watch), required)
		return
	}
	s.mu.Lock()
	back := s.attempts[len(s.attempts)-1].Sub(then)
	s.mu.Unlock()
	s.broken(id, "came back after %s, not %s", millis(back), required)
}

// refused looks for how long a program whose handshake is refused stays away.
func (s *stage) refused(id, required string) {
	if !s.until(startPatience, func() bool { return len(s.attempts) > 0 }) {
		s.notShown(id, "the program did not connect")
		return
	}
	s.pass(300 * time.Millisecond) // a browser may ask twice at once
	s.staysAway(id, time.Now(), required)
}

func playUnauthorized(s *stage) {
	s.refused(ruleUnauthorized, "15 minutes")
}

func playBusy(s *stage) {
	s.refused(ruleRetryAfter, "60 s")
}

func playReplaced(s *stage) {
	s.closedFor(ruleLater, wire.CloseReplaced, "60 s")
}

func playDisabled(s *stage) {
	s.closedFor(ruleTerminal, wire.CloseDisabled, "15 minutes")
}

// playUnlisted closes with a code that PROTOCOL §9.1 does not list, of class L.
func playUnlisted(s *stage) {
	s.closedFor(ruleUnlisted, 4177, "60 s")
}

// playBadGateway looks for when a program comes back that was refused with 502 and
// a Retry-After that is longer than class R's wait can be (PROTOCOL §9.2).
func playBadGateway(s *stage) {
	const least = 12 * time.Second
	wait, ok := s.secondAttempt(ruleRetryAfterBound, least+beforeWelcome)
	if ok {
		s.measure(ruleRetryAfterBound, wait >= least-100*time.Millisecond, "came back after %s", millis(wait))
	}
}

// playBadHandshake looks for how long a program stays away whose handshake is
// refused as a faulty one, once with 400, then with 426 (PROTOCOL §9.2, F).
func playBadHandshake(s *stage) {
	const least = 10 * time.Second
	wait, ok := s.secondAttempt(ruleBadHandshake, least+2*beforeWelcome)
	if !ok {
		return
	}
	s.measure(ruleBadHandshake, wait >= least-100*time.Millisecond, "came back %s after 400", millis(wait))
	s.mu.Lock()
	second := s.attempts[1]
	s.mu.Unlock()
	s.until(least, func() bool { return len(s.attempts) > 2 })
	if s.attemptsSince(second) > 0 && time.Since(second) < least-100*time.Millisecond {
		s.broken(ruleBadHandshake, "came back %s after 426", millis(time.Since(second)))
	}
}

// beforeWelcome is the spread that holds before any WELCOME (PROTOCOL §9.2).
const beforeWelcome = 5 * time.Second

// secondAttempt waits for a program to come back that was refused, so long and slack.
func (s *stage) secondAttempt(id string, longest time.Duration) (wait time.Duration, ok bool) {
	if !s.until(startPatience, func() bool { return len(s.attempts) > 0 }) {
		s.notShown(id, "the program did not connect")
		return 0, false
	}
	if !s.until(longest+slack, func() bool { return len(s.attempts) > 1 }) {
		s.broken(id, "did not come back within %s", millis(longest+slack))
		return 0, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.attempts[1].Sub(s.attempts[0]), true
}

// closedFor makes progress with the program and closes.
func (s *stage) closedFor(id string, code wire.CloseCode, required string) {
	l := s.begin(scenario{rules: []string{id}}, 1)
	if l == nil {
		return
	}
	l.ackAll(16)
	s.pass(200 * time.Millisecond)
	l.goAway(code)
	s.staysAway(id, l.endedAt(), required)
}

// playFaults closes twice with a fault of the sender (PROTOCOL §9.2 F, §9.4).
func playFaults(s *stage) {
	mine := []string{ruleFault, rulePoison, ruleGap}
	l := s.begin(scenario{rules: mine}, 1)
	if l == nil {
		return
	}
	oldest := l.sent()[0]
	ends := []uint64{oldest.next}
	for failures := 1; failures <= 2; failures++ {
		l.goAway(wire.CloseBadFrame)
		next := s.accept(10*time.Second + spread<<failures*time.Second + 2*slack)
		if next == nil {
			s.broken(ruleFault, "did not come back after %d closes of class F: 10 s + %d s are the longest wait", failures, spread<<failures)
			s.none(mine[1:], "the program did not come back")
			return
		}
		wait := next.born.Sub(l.endedAt())
		s.measure(ruleFault, wait >= 10*time.Second-100*time.Millisecond, "came back after %s", millis(wait))
		l = next
		l.welcome(nil)
		if !s.enough(l, mine[1:], 1) {
			return
		}
		now := l.sent()[0]
		if failures == 2 {
			s.judgePoison(oldest.seq, now, ends)
			return
		}
		if now.seq != oldest.seq {
			s.broken(rulePoison, "after one close of class F row %d was given up", oldest.seq)
			s.notShown(ruleGap, "rows were given up too early")
			return
		}
		ends = append(ends, now.next)
	}
}

// judgePoison compares where the program began before and after the second close.
func (s *stage) judgePoison(before uint64, first dataFrame, ends []uint64) {
	now, dropped := first.seq, false
	for _, end := range ends { // the frame as it was grouped on either connection
		dropped = dropped || now == end
	}
	switch {
	case now == before && !first.again:
		s.broken(ruleGap, "number %d stands for another row than before", now)
		s.notShown(rulePoison, "numbers were used again")
	case now == before:
		s.broken(rulePoison, "after two closes of class F it began with row %d again", now)
		s.notShown(ruleGap, "no rows were given up")
	case now < before:
		s.broken(ruleGap, "numbers begin at %d again after %d", now, before)
	default:
		s.measure(rulePoison, dropped, "rows %d to %d were dropped; the oldest frame ended with row %d on the first connection and %d on the second",
			before, now-1, ends[0]-1, ends[len(ends)-1]-1)
		s.kept(ruleGap)
	}
}
