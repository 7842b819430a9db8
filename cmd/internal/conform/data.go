package conform

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"mooring/wire"
)

// maxRows bounds the rows that a stage remembers.
const maxRows = 500_000

// framesBeforeWelcome is PROTOCOL §2.7's.
const framesBeforeWelcome = 4

// dataFrame takes a DATA frame to the books and judges it.
func (l *line) dataFrame(frame []byte, now time.Time) error {
	head, err := l.decoder.DataHead(frame)
	if err != nil {
		return fmt.Errorf("DATA: %w", err)
	}
	s := l.stage
	s.mu.Lock()
	layout, declared := l.layouts[head.Layout]
	s.mu.Unlock()
	if len(head.Names) > 0 {
		if layout, err = l.decoder.InferLayout(head); err != nil {
			return fmt.Errorf("DATA: %w", err)
		}
		declared = true
	}
	s.judge(ruleLayoutFirst, declared, "on connection %d rows of layout %d came", l.number, head.Layout)
	var rows []string
	if declared {
		if rows, err = l.rows(head, &layout, now); err != nil {
			return err
		}
	}
	got := dataFrame{
		at: now, seq: head.Seq, next: head.Seq + uint64(head.N), layout: head.Layout,
		named: len(head.Names) > 0, size: len(frame),
	}
	l.judgeOrder(got)
	if head.ServerTime {
		s.mu.Lock()
		s.untimed = true
		s.mu.Unlock()
	}
	got.again = l.judgeRows(got, rows)

	s.mu.Lock()
	l.data = append(l.data, got)
	inFlight, allowed := l.inFlight(), l.allowed(now)
	welcomed, auto := !l.welcomed.IsZero(), l.auto
	if auto {
		l.acked = max(l.acked, got.next)
	}
	s.touch()
	s.mu.Unlock()
	switch {
	case !welcomed:
		s.judge(ruleBeforeWelcome, inFlight <= framesBeforeWelcome, "%d", inFlight)
	case inFlight > allowed:
		s.broken(ruleWindow, "%d frames unacknowledged, while the window is %d", inFlight, allowed)
	}
	if auto {
		l.send(wire.NewEncoder().Ack(&wire.Ack{Next: got.next, Window: 16}))
	}
	return nil
}

// rows reads the rows of a frame as text, to compare them with what comes again.
func (l *line) rows(head wire.DataHead, layout *wire.Layout, now time.Time) ([]string, error) {
	l.decoder.Rows(layout, now.UnixMicro())
	texts := make([]string, 0, head.N)
	var row wire.Row
	oldest, newest := now.AddDate(-1, 0, 0).UnixMicro(), now.Add(10*time.Minute).UnixMicro()
	for l.decoder.Next(&row) {
		if row.Time < oldest || row.Time > newest {
			l.stage.broken(ruleTimes, "row %d is of %s", row.Seq, time.UnixMicro(row.Time).UTC().Format(time.RFC3339))
		}
		var text strings.Builder
		text.WriteString(layout.Name)
		if !head.ServerTime { // else the server gives the time, another one each time
			fmt.Fprint(&text, " ", row.Time)
		}
		for i := range row.Values {
			value := &row.Values[i]
			fmt.Fprintf(&text, " %d:%v%s", value.Kind, value.Number, value.Text)
		}
		texts = append(texts, text.String())
	}
	if err := l.decoder.Err(); err != nil {
		return nil, fmt.Errorf("DATA: %w", err)
	}
	l.stage.kept(ruleTimes)
	return texts, nil
}

// judgeOrder is PROTOCOL §8.1.
func (l *line) judgeOrder(got dataFrame) {
	s := l.stage
	s.mu.Lock()
	last, before := uint64(0), len(l.data) > 0
	if before {
		last = l.data[len(l.data)-1].next
	}
	s.mu.Unlock()
	if before {
		s.judge(ruleRising, got.seq >= last, "row %d came after row %d, on connection %d", got.seq, last-1, l.number)
	}
}

// judgeRows compares rows that came before with what they are now, and tells
// whether the first one is the same.
func (l *line) judgeRows(got dataFrame, texts []string) (same bool) {
	s := l.stage
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, text := range texts {
		seq := got.seq + uint64(i)
		if len(s.cameAt) < maxRows {
			s.cameAt[seq] = got.at
		}
		before, again := s.rows[seq]
		if i == 0 {
			same = again && before == text
		}
		switch {
		case !again:
			if len(s.rows) < maxRows {
				s.rows[seq] = text
			}
			continue
		case before == text && seq < s.settled:
			s.broken(ruleForgets, "row %d came again on connection %d, long after it was acknowledged", seq, l.number)
		case before == text:
			s.kept(ruleSameRow)
		case seq < s.settled: // another row under an old number
			s.broken(ruleGoesOn, "number %d stood for another row, which was acknowledged", seq)
		default:
			s.broken(ruleSameRow, "row %d was %q, then %q", seq, before, text)
		}
	}
	return same
}

// allowed is how many frames may be unacknowledged: the largest window that held
// within the time of a crossing. mu is held.
func (l *line) allowed(now time.Time) int {
	most := 0
	if now.Sub(l.welcomed) < crossing {
		most = framesBeforeWelcome
	}
	for _, announced := range slices.Backward(l.limits) {
		most = max(most, announced.window)
		if now.Sub(announced.at) > crossing {
			break // it held at the crossing's beginning; those before did not
		}
	}
	return most
}

// settle notes that the program has surely seen an ACK of the rows before next.
func (s *stage) settle(next uint64) {
	s.mu.Lock()
	s.settled = max(s.settled, next)
	s.mu.Unlock()
}
