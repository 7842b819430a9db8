package ingest

import "mooring/wire"

// settle tells every session of a batch how far it got, now that every row of
// it is committed, a duplicate, or refused for good. This is the only way to an
// acknowledgement.
func (sh *shard) settle(b *batch, outcome Outcome) {
	refused := refusedBySession(b, outcome.Rejected)
	var committed, duplicates, poisoned uint64
	var told *session // the first of those that are to be told
	waiting := 0
	// From the last note back: of a device's two sessions the newer one has the
	// retransmissions.
	for i := len(b.notes) - 1; i >= 0; i-- {
		n := &b.notes[i]
		var twice int
		if outcome.Duplicates != nil {
			device := n.session.device.ID
			twice = min(outcome.Duplicates[device], n.rows)
			outcome.Duplicates[device] -= twice
		}
		rows := refused[n.session]
		n.rejected += uint64(len(rows))
		n.rejects = wire.AppendRejects(n.rejects, rows)
		stored := max(n.rows-twice-len(rows), 0)
		committed += uint64(stored)
		duplicates += uint64(twice)
		poisoned += uint64(len(rows))
		if n.session.settle(n, uint64(stored), uint64(twice), uint64(len(rows))) {
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
	sh.mu.Lock()
	sh.counts.committed += committed
	sh.counts.duplicate += duplicates
	sh.counts.poisoned += poisoned
	sh.counts.waiting -= uint64(b.count)
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
func (s *session) settle(n *note, stored, twice, refused uint64) (told bool) {
	s.mu.Lock()
	done := &s.settled
	done.frames, done.next, done.hasNext = n.frames, n.next, true
	done.committed += stored
	done.duplicate += twice
	done.poisoned += refused
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
