package conform

import (
	"encoding/binary"
	"time"

	"mooring/cmd/internal/websocket"
	"mooring/wire"
)

// playLaterVersions sends what a later version may send, and sees that the program
// goes on and takes what it knows of it (PROTOCOL §3.2, §3.6, §6.4). The window is
// 1, so that every further frame shows that the ACK before it was understood.
func playLaterVersions(s *stage) {
	mine := []string{ruleUnknownFields, ruleUnknownFrames, ruleUnknownNotice, ruleWidths, ruleAckOfSent}
	l := s.accept(startPatience)
	if l == nil {
		s.none(mine, "the program did not connect")
		return
	}
	welcome := l.welcomeValues(func(w *wire.Welcome) { w.Window, w.HasNext = 1, true })
	l.send(longer(wire.NewEncoder().Welcome(welcome)))
	if !s.enough(l, mine, 1) {
		if !l.alive() {
			s.broken(ruleUnknownFields, "the program left after a WELCOME with more of them")
		}
		return
	}
	s.goesOn(l, ruleUnknownFields, func(next uint64) {
		l.send(longer(wire.NewEncoder().Ack(&wire.Ack{
			Next: next, Window: 1, Rejected: 1,
			Rejects: []wire.Reject{{Seq: next - 1, N: 1, Channel: 0, Code: wire.CodeRange}},
		})))
	})
	s.goesOn(l, ruleUnknownFrames, func(next uint64) {
		for _, frame := range [][]byte{
			{0x91, 100},                             // [100]
			{0x93, 32, 0xc0, 0x81, 0xa1, 'x', 0x01}, // [32, nil, {"x": 1}]
			{0x92, 127, 0xc1},                       // "whatever follows the type"
			{0x92, 0xcc, 64, 0x92, 0xc3, 0xc2},      // [64, [true, false]], the type in a wider form
		} {
			l.send(frame)
		}
		l.send(wire.NewEncoder().Ack(&wire.Ack{Next: next, Window: 1}))
	})
	s.goesOn(l, ruleUnknownNotice, func(next uint64) {
		l.send([]byte{0x94, byte(wire.FrameNotice), 99, 0x01, 0xa1, 'x'})
		l.send(longer(wire.NewEncoder().Notice(wire.Notice{Kind: wire.NoticeTime, Time: time.Now().UnixMilli()})))
		l.send(wire.NewEncoder().Ack(&wire.Ack{Next: next, Window: 1}))
	})
	s.goesOn(l, ruleWidths, func(next uint64) { l.send(wideAck(next)) })
	s.judgeAckOfSent(l)
}

// wideAck is an ACK with window 1 whose integers and header are wider than they
// need be (PROTOCOL §3.3).
func wideAck(next uint64) []byte {
	frame := []byte{0xdc, 0, 3, 0xd1, 0, byte(wire.FrameAck), 0xcf}
	frame = binary.BigEndian.AppendUint64(frame, next)
	return append(frame, 0xd3, 0, 0, 0, 0, 0, 0, 0, 1)
}

// judgeAckOfSent acknowledges more than was sent, while rows wait behind the window
// (PROTOCOL §6.2): what comes next must be the next row.
func (s *stage) judgeAckOfSent(l *line) {
	if !l.alive() {
		s.notShown(ruleAckOfSent, "the program had left")
		return
	}
	s.pass(time.Second) // rows pile up
	had, next := len(l.sent()), l.next()
	s.mu.Lock()
	l.acked = max(l.acked, next)
	s.mu.Unlock()
	l.send(wire.NewEncoder().Ack(&wire.Ack{Next: 1 << 40, Window: 1}))
	if !l.await(had+1, patience) {
		s.broken(ruleAckOfSent, "no rows came within %s of an ACK for more than was sent; the last close was %d", millis(patience), l.closeCode())
		return
	}
	from := l.sent()[had].seq
	s.judge(ruleAckOfSent, from == next, "rows %d to %d, which were not sent, never came", next, from-1)
}

// goesOn does something that ends with an ACK, and waits for a frame that can only
// have been sent once that ACK was understood.
func (s *stage) goesOn(l *line, id string, do func(next uint64)) {
	switch {
	case l.alive():
	case id == ruleUnknownFields: // WELCOME had some
		s.broken(id, "the program left after a WELCOME with more of them")
		return
	default:
		s.notShown(id, "the program had left")
		return
	}
	// What came so far may have been sent before WELCOME was read, and so may what comes
	// next, up to the frames that are allowed then. The one behind them follows an ACK.
	came, needed := true, max(len(l.sent()), framesBeforeWelcome)+1
	for came && len(l.sent()) < needed {
		had := len(l.sent()) // before next, which then covers all of it
		next := l.next()
		s.mu.Lock()
		l.acked = max(l.acked, next)
		s.mu.Unlock()
		do(next)
		came = l.await(had+1, patience)
	}
	switch {
	case came:
		s.kept(id)
	case !l.alive():
		s.broken(id, "the program left (%d)", l.closeCode())
	default:
		s.broken(id, "no rows came within %s", millis(patience))
	}
}

// longer adds two elements behind those a frame has. Its array must have fewer
// than 14.
func longer(frame []byte) []byte {
	grown := append([]byte(nil), frame...)
	grown[0] += 2
	return append(grown, 0xa5, 'l', 'a', 't', 'e', 'r', 0x92, 0x01, 0xc0) // "later", [1, nil]
}

// playBadFrames sends what a device must not take (PROTOCOL §3.6, §3).
func playBadFrames(s *stage) {
	for _, bad := range []struct {
		rule, text string
		opcode     byte
		frame      []byte
		code       wire.CloseCode
	}{
		{ruleUnknownCritical, "[25]", websocket.Binary, []byte{0x91, 25}, wire.CloseUnknownType},
		{ruleBadFrame, "an ACK without its fields", websocket.Binary, []byte{0x91, byte(wire.FrameAck)}, wire.CloseBadFrame},
		{ruleText, "a text message", websocket.Text, []byte("hello"), wire.CloseText},
	} {
		l := s.begin(scenario{rules: []string{bad.rule}}, 1)
		if l == nil {
			continue
		}
		l.ackAll(16)
		l.socket.write(bad.opcode, bad.frame)
		s.until(5*time.Second, func() bool { return l.over })
		s.mu.Lock()
		over := l.over
		s.mu.Unlock()
		code := l.closeCode()
		if over {
			s.measure(bad.rule, code == bad.code, "%s was answered with close %d", bad.text, code)
			continue
		}
		s.broken(bad.rule, "it stayed on the connection after %s", bad.text)
		l.close(wire.CloseDrain)
	}
}

// playLayouts asks for a layout again, then refuses it (PROTOCOL §6.4, §7.2).
func playLayouts(s *stage) {
	mine := []string{ruleNeedLayout, ruleLayoutRejected}
	l := s.begin(scenario{rules: mine}, 1)
	if l == nil {
		return
	}
	first := l.sent()[0]
	if first.named {
		s.none(mine, "the program sends channel names with its rows and declares no layouts")
		return
	}
	asked := time.Now()
	l.notice(wire.Notice{Kind: wire.NoticeNeedLayout, Layout: first.layout})
	l.ack(first.next, 16, wire.Reject{Seq: first.seq, N: first.next - first.seq, Channel: wire.WholeRow, Code: wire.CodeUnknownLayout})
	l.acknowledge()
	last, told := s.judgeNeedLayout(l, first.layout, asked)
	if last == nil {
		return
	}

	last.hold()
	layout := last.sent()[told].layout
	last.notice(wire.Notice{Kind: wire.NoticeLayoutRejected, Layout: layout, Channel: wire.WholeRow, Reason: wire.CodeName})
	next := last.next()
	last.ack(next, 16, wire.Reject{Seq: first.seq, N: next - first.seq, Channel: wire.WholeRow, Code: wire.CodeUnsupported})
	s.pass(crossing)
	from := time.Now()
	last.ackAll(16)
	s.pass(3 * time.Second)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, any := range s.lines {
		for _, frame := range any.data {
			if frame.at.After(from) && frame.layout == layout && !frame.named && any == last {
				s.broken(ruleLayoutRejected, "rows of the layout came %s after it was refused", millis(frame.at.Sub(from)+crossing))
				return
			}
		}
	}
	s.kept(ruleLayoutRejected)
}

// judgeNeedLayout waits until the layout was declared again, here or on the next
// connection, and for rows behind it; it gives that connection and its frame.
func (s *stage) judgeNeedLayout(l *line, layout uint32, asked time.Time) (*line, int) {
	current := l
	for {
		found := -1
		undeclared := false
		s.until(patience, func() bool {
			if current.over || !current.ended.IsZero() {
				return true
			}
			for i, frame := range current.data {
				if frame.named || frame.layout != layout || frame.at.Sub(asked) < crossing && current == l {
					continue
				}
				found = i
				undeclared = current == l && !declaredBetween(current, layout, asked, frame.at)
				return true
			}
			return false
		})
		switch {
		case found >= 0 && undeclared:
			s.broken(ruleNeedLayout, "rows of the layout came %s after NEED_LAYOUT, without a LAYOUT", millis(current.sent()[found].at.Sub(asked)))
			return current, found
		case found >= 0:
			s.keptAs(ruleNeedLayout, "on connection %d", current.number)
			return current, found
		}
		if s.next(&current) {
			continue
		}
		s.broken(ruleNeedLayout, "no rows came within %s of NEED_LAYOUT", millis(patience))
		s.notShown(ruleLayoutRejected, "no rows came any more")
		return nil, 0
	}
}

// next goes on to the program's next connection, if this one is over.
func (s *stage) next(current **line) bool {
	if (*current).alive() {
		return false
	}
	l := s.accept(spread*time.Second + patience)
	if l == nil {
		return false
	}
	l.welcome(nil)
	*current = l
	return true
}

// declaredBetween tells whether a LAYOUT came between; stage.mu is held.
func declaredBetween(l *line, layout uint32, from, to time.Time) bool {
	for _, declared := range l.declared {
		if declared.number == layout && declared.at.After(from) && !declared.at.After(to) {
			return true
		}
	}
	return false
}
