package ingest

import "mooring/wire"

// settle tells every session of a batch how far it got, now that every row of
// it is committed, a duplicate, or refused for good. This is the only way to an
// acknowledgement; what a device has been told, the totals have counted.
func (sh *shard) settle(b *batch, outcome Outcome) {
	sh.count(b, outcome)
	var told *session // the first of those that are to be told
	waiting := 0
	for i := range b.notes {
		n := &b.notes[i]
		if n.session.settle(n) {
			n.session.nextTold, told = told, n.session
			if waiting++; waiting == manyLetters {
				go deliver(told)
				told, waiting = nil, 0
			}
		}
	}
	if told != nil {
		go deliver(told)
	}
}

// count writes into a batch's notes, and into the totals, what became of its rows.
func (sh *shard) count(b *batch, outcome Outcome) {
	refused := refusedBySession(b, outcome.Rejected)
	var stored, twice, poisoned uint64
	// From the last note back: of a device's two sessions the newer one has the
	// retransmissions.
	for i := len(b.notes) - 1; i >= 0; i-- {
		n := &b.notes[i]
		if outcome.Duplicates != nil {
			device := n.session.device.ID
			n.twice = min(outcome.Duplicates[device], n.rows)
			outcome.Duplicates[device] -= n.twice
		}
		rows := refused[n.session]
		n.refused = len(rows)
		n.rejected += uint64(len(rows))
		n.rejects = wire.AppendRejects(n.rejects, rows)
		n.stored = max(n.rows-n.twice-n.refused, 0)
		stored += uint64(n.stored)
		twice += uint64(n.twice)
		poisoned += uint64(n.refused)
	}
	sh.mu.Lock()
	sh.counts.committed += stored
	sh.counts.duplicate += twice
	sh.counts.poisoned += poisoned
	sh.counts.waiting -= uint64(b.count)
	sh.writing = 0
	sh.mu.Unlock()
}

// refusedBySession gives the rows that the store refused to the sessions that
// sent them: of a device's sessions in the batch, the latest that has the row.
func refusedBySession(b *batch, rejected []RejectedRow) map[*session][]wire.Reject {
	if len(rejected) == 0 {
		return nil
	}
	refused := make(map[*session][]wire.Reject)
	for _, row := range rejected {
		for i := len(b.notes) - 1; i >= 0; i-- {
			n := &b.notes[i]
			if n.session.device.ID == row.Device && row.Seq >= n.firstSeq && row.Seq < n.next {
				refused[n.session] = append(refused[n.session],
					wire.Reject{Seq: row.Seq, N: 1, Channel: wire.WholeRow, Code: wire.CodeStorage})
				break
			}
		}
	}
	return refused
}

// settle takes over what a committed batch says of the session. It never blocks.
// What is to be told the device is in the outbox then; told: and it is the
// caller's to deliver.
func (s *session) settle(n *note) (told bool) {
	s.mu.Lock()
	done := &s.settled
	done.frames, done.next, done.hasNext = n.frames, n.next, true
	done.committed += uint64(n.stored)
	done.duplicate += uint64(n.twice)
	done.poisoned += uint64(n.refused)
	done.tally = n.tally
	if !s.closing {
		box := &s.outbox
		box.ack, box.next, box.frames = true, n.next, n.frames
		if box.received == 0 {
			box.received = n.received
		}
		box.rejected += n.rejected
		box.rejects = wire.AppendRejects(box.rejects, n.rejects)
		if told = !s.flushing; told {
			s.flushing = true
			s.gateway.flushers.Add(1)
		}
	}
	over := s.over
	s.mu.Unlock()
	if over {
		s.closeIfSettled()
	}
	return told
}

// abandoned ends the wait for frames that the store will not take any more. They
// are not acknowledged.
func (s *session) abandoned(frames uint64) {
	s.mu.Lock()
	s.settled.frames, s.settled.abandoned = frames, true
	over := s.over
	s.mu.Unlock()
	if over {
		s.closeIfSettled()
	}
}
