package ingest

import (
	"errors"
	"time"

	"mooring/wire"
)

// dataScratch is what one DATA frame needs while it is decoded.
type dataScratch struct {
	decoder *wire.Decoder
	row     wire.Row
	rows    []byte        // encoded for the store
	few     []wire.Reject // what an ACK can carry
	entry   entry
}

// maxKeptRows is the largest row buffer that goes back to the pool.
const maxKeptRows = 1 << 20

// roomFor estimates how many bytes the rows of a frame of n bytes take in the
// store's encoding; generously, as what is promised too much comes back at once.
func roomFor(n int) int { return 16*n + 96*min(n, maxRows) }

const maxRows = 4096

// data handles a DATA frame: decodes every row, refuses by name what is wrong,
// and hands the rest to the shard together with the note that leads to the ACK.
// Also a frame with nothing to store takes that way, so that acks stay in order.
func (s *session) data(frame []byte) {
	g := s.gateway
	if s.frames-s.acked.Load() >= g.maxOutstanding {
		s.shut(closeWindow)
		return
	}
	received := s.link.heard.Load() // before any waiting
	room := roomFor(len(frame))
	if s.shard.reserve(s.lifetime(), s, room) != nil {
		return // the session ended while it waited
	}
	s.room = room
	scratch := g.scratches.Get().(*dataScratch)
	defer func() {
		if s.room > 0 { // not handed on: refused, or a panic on the way
			s.shard.release(s.room)
			s.room = 0
		}
		if cap(scratch.rows) > maxKeptRows {
			scratch.rows = nil
		}
		scratch.entry.session, scratch.entry.rows, scratch.entry.rejects = nil, nil, nil
		g.scratches.Put(scratch)
	}()

	before := s.tally
	if !s.decode(scratch, frame, received) {
		s.tally = before // the frame goes nowhere: it was not received
		return
	}
	s.frames++
	s.rowsRead.Store(s.tally.rowsIn)
	promised := s.room
	s.room = 0
	if s.shard.add(s.lifetime(), &scratch.entry, promised) != nil {
		s.frames-- // never reached the shard: not to be waited for
		s.tally = before
	}
}

// decode fills scratch.entry from a frame that came in at received, by clock;
// false: the session is ending.
func (s *session) decode(scratch *dataScratch, frame []byte, received int64) bool {
	g := s.gateway
	now := time.Now()
	decoder := scratch.decoder
	if s.decoder != nil {
		decoder = s.decoder
	}
	decoder.SetTimeRange(g.cfg.timeRange(now))
	head, err := decoder.DataHead(frame)
	if err == nil && len(head.Names) > 0 && s.decoder == nil {
		// What a decoder remembers of layouts declared on the fly belongs to
		// this connection: it keeps the decoder.
		s.decoder = decoder
		scratch.decoder = g.newDecoder()
	}
	e := &scratch.entry
	*e = entry{session: s, received: received}
	scratch.rows = scratch.rows[:0]

	if err != nil {
		return s.badHead(scratch, frame, err)
	}
	if !s.advance(e, head.Seq, uint64(head.N)) {
		return false
	}

	if stored, goOn := s.withinQuota(scratch, frame); !stored {
		return goOn
	}
	entry, refusal, ended := s.layoutOf(decoder, &head)
	switch {
	case ended:
		return false
	case refusal.Code != 0:
		s.refuse(scratch, frame, refusal, nil)
		return true
	}

	rows, count := scratch.rows, 0
	// PROTOCOL §5.5.4: rows without a time have that of the frame's arrival.
	arrived := now.Add(time.Duration(received - s.link.clock.now()))
	decoder.Rows(&entry.layout, arrived.UnixMicro())
	for decoder.Next(&scratch.row) {
		rows = g.store.AppendRow(rows, s.device.ID, entry.stored, &scratch.row)
		count++
	}
	scratch.rows = rows
	if err := decoder.Err(); err != nil {
		s.refuse(scratch, frame, bodyReject(err, &head), &entry.layout)
		return true
	}
	e.rows, e.count = rows, count
	if e.rejected = decoder.Rejected(); e.rejected > 0 {
		e.refused = decoder.RowsRefused()
		s.tally.rowsRejected += e.refused
		g.store.RecordRejects(s.device.ID, decoder.Rejects(), &entry.layout, frame)
		// No more than an ACK can carry: the shard merges them under its lock.
		scratch.few = wire.AppendRejects(scratch.few[:0], decoder.Rejects())
		e.rejects = scratch.few
	}
	return true
}

// badHead answers what DataHead refused: the frame, if it could be told which
// rows it brings, else the connection.
func (s *session) badHead(scratch *dataScratch, frame []byte, err error) bool {
	if s.decoder == nil {
		scratch.decoder.Reset() // it may have learnt names that are this connection's
	}
	body, ok := errors.AsType[*wire.BodyError](err)
	if !ok {
		s.shut(closeFrameError(err))
		return false
	}
	if !s.advance(&scratch.entry, body.Seq, body.N) {
		return false
	}
	if stored, goOn := s.withinQuota(scratch, frame); !stored {
		return goOn
	}
	s.refuse(scratch, frame, body.Reject(), nil)
	return true
}

// bodyReject is the refusal of a whole frame.
func bodyReject(err error, head *wire.DataHead) wire.Reject {
	if body, ok := errors.AsType[*wire.BodyError](err); ok {
		return body.Reject()
	}
	return wire.Reject{Seq: head.Seq, N: uint64(head.N), Channel: wire.WholeRow, Code: wire.CodeMalformed}
}

// advance checks that a frame's rows come after all before (PROTOCOL §8.1), and
// counts them and the gap before them. Beyond 2^53 the codec lets no number through.
func (s *session) advance(e *entry, seq, n uint64) bool {
	if s.hasSeq {
		if seq < s.nextSeq {
			s.shut(closeBadSeq)
			return false
		}
		e.lost = seq - s.nextSeq
	}
	s.hasSeq, s.nextSeq = true, seq+n
	e.seq, e.next, e.rowsIn = seq, seq+n, n
	e.resent = seq < s.knownNext
	s.tally.rowsIn += n
	s.tally.rowsLost += e.lost
	return true
}

// refuse makes the frame one refusal of all its rows.
func (s *session) refuse(scratch *dataScratch, frame []byte, refusal wire.Reject, layout *wire.Layout) {
	e := &scratch.entry
	scratch.few = append(scratch.few[:0], refusal)
	e.rows, e.count = nil, 0
	e.refused, e.rejected, e.rejects = refusal.N, refusal.N, scratch.few
	s.tally.rowsRejected += refusal.N
	s.gateway.store.RecordRejects(s.device.ID, e.rejects, layout, frame)
}

// layoutOf finds the layout of a frame and the store's number for it. A refusal
// has a code; ended means that the session ended meanwhile.
func (s *session) layoutOf(decoder *wire.Decoder, head *wire.DataHead) (found *layoutEntry, refusal wire.Reject, ended bool) {
	refusal = wire.Reject{Seq: head.Seq, N: uint64(head.N), Channel: wire.WholeRow}
	if len(head.Names) > 0 {
		layout, err := decoder.InferLayout(*head)
		if err != nil {
			return nil, bodyReject(err, head), false
		}
		if found = s.findLayout(layout.Number); found == nil {
			var fault *wire.LayoutError
			if found, fault = s.declare(layout); fault != nil {
				refusal.Code = fault.Code
				return nil, refusal, false
			}
		}
	} else if found = s.findLayout(head.Layout); found == nil {
		s.needLayout(head.Layout)
		refusal.Code = wire.CodeUnknownLayout
		return nil, refusal, false
	}
	if s.resolve(found) != nil {
		return nil, refusal, true
	}
	refusal.Code = found.refused
	return found, refusal, false
}

func (s *session) needLayout(number uint32) {
	s.enqueue(func(encoder *wire.Encoder) []byte {
		return encoder.Notice(wire.Notice{Kind: wire.NoticeNeedLayout, Layout: number})
	})
}
