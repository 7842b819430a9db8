package conform

import (
	"time"

	"mooring/wire"
)

// playCommand sends commands that no program knows (PROTOCOL §6.3, §4.4).
func playCommand(s *stage) {
	const id = 4711
	mine := []string{ruleCommand, ruleCommandAgain, ruleCommandTTL}
	l := s.begin(scenario{rules: mine}, 1)
	if l == nil {
		return
	}
	l.acknowledge()
	// args {"a": [1, nil]}, and a flag that nobody knows beside "idempotent".
	command := wire.Command{
		ID: id, Name: "conform.unknown", Args: []byte{0x81, 0xa1, 'a', 0x92, 0x01, 0xc0}, TTL: 60, Flags: 0x80 | wire.FlagIdempotent,
	}
	for delivery := 1; delivery <= 2; delivery++ {
		l.send(wire.NewEncoder().Command(command))
		s.until(patience, func() bool { return len(l.results) >= delivery || l.over })
		results := l.answers()
		if delivery == 2 {
			s.judge(ruleCommandAgain, len(results) == 2 && results[1].ID == id, "the second time no RESULT came within %s", millis(patience))
			break
		}
		switch {
		case len(results) == 0:
			s.broken(ruleCommand, "no RESULT within %s", millis(patience))
			s.none(mine[1:], "a command was not answered")
			return
		case results[0].ID != id:
			s.broken(ruleCommand, "the RESULT is of command %d, not %d", results[0].ID, id)
		default:
			s.measure(ruleCommand, results[0].Status != wire.ResultDone, "answered with status %d", results[0].Status)
		}
	}
	s.judgeCommandTTL(l, 5000)
}

// judgeCommandTTL sends more commands at once than a program may have room for, each
// to be begun within a second. What is answered later than that was not begun in time,
// for to see that a command is unknown takes none.
func (s *stage) judgeCommandTTL(l *line, first int64) {
	const many, ttl = 8, time.Second
	if !l.alive() {
		s.notShown(ruleCommandTTL, "the program had left")
		return
	}
	had := len(l.answers())
	sent := time.Now()
	for id := range int64(many) {
		l.send(wire.NewEncoder().Command(wire.Command{ID: first + id, Name: "conform.unknown", TTL: int(ttl / time.Second)}))
	}
	s.until(patience, func() bool { return len(l.results) >= had+many || l.over })
	answers := l.answers()[had:]
	if len(answers) < many {
		s.broken(ruleCommandTTL, "%d of %d commands were answered within %s", len(answers), many, millis(patience))
		return
	}
	latest := time.Duration(0)
	for _, answer := range answers {
		after := answer.at.Sub(sent)
		if after > ttl+crossing && answer.Status != wire.ResultExpired && answer.Status != wire.ResultBusy {
			s.broken(ruleCommandTTL, "a command with a ttl of %s was answered after %s with status %d", millis(ttl), millis(after), answer.Status)
			return
		}
		latest = max(latest, after)
	}
	s.keptAs(ruleCommandTTL, "%d commands were answered within %s", many, millis(latest))
}

// answers are the RESULTs that came so far.
func (l *line) answers() []answered {
	l.stage.mu.Lock()
	defer l.stage.mu.Unlock()
	return append([]answered(nil), l.results...)
}
