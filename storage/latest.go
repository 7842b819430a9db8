package storage

import (
	"bytes"
	"encoding/binary"
	"math"
	"strconv"
	"sync"
	"time"
)

// The view latest must know every committed row and yet not cost the COPY a
// write per device. So the last known values are gathered here, in memory, from
// the batches that were committed, and brought to mooring.device_layouts every
// half minute. That the view is right in between, and after a crash, is the
// work of marks: the transaction that stores the first rows of a pair also
// stores a row in mooring.latest_pending, "from this time on there may be rows
// that device_layouts does not know", and the view looks there. Rows in the
// order of time need no further mark. docs/decisions/033 tells it in full.
const (
	settleEvery        = 30 * time.Second // values of a pair that keeps sending
	settleRows         = 5000             // sooner, after that many rows
	settleRate         = 100              // pairs a second: more wait longer than settleEvery (decision 090)
	settleLatest       = 4 * time.Minute  // but not longer than this, so that marks stay younger than trustMark
	closeAfter         = time.Minute      // silence after which a pair needs no mark
	forgetAfter        = 10 * time.Minute // silence after which a pair leaves memory
	trustMark          = 5 * time.Minute  // others may clear away marks of twice that age
	lateSlack          = int64(time.Hour / time.Microsecond)
	never        int64 = math.MaxInt64
)

// pair is a device and one of its layouts.
type pair struct{ device, layout int32 }

// reading is the last known value of a channel.
type reading struct {
	time   int64 // µs since 1970
	seq    uint64
	number float64
	text   *[]byte // nil: there was none; mostly so
	known  bool
	isText bool
}

func (r *reading) before(time int64, seq uint64) bool {
	return !r.known || r.time < time || r.time == time && r.seq < seq
}

// pairState is what is remembered of a pair.
type pairState struct {
	readings []reading // not yet brought to the database
	newest   int64     // newest committed time
	hasRows  bool

	openSince        int64 // rows from here on are covered by a committed mark; never: no mark
	lateFrom, lateTo int64 // and rows of this range, if lateFrom <= lateTo
	markedAt         time.Time

	writing    int   // batches under way
	writingMin int64 // and their oldest row

	rows      int // since the values were last settled
	dirty     time.Time
	lastWrite time.Time
}

// tracker follows what is committed, for all writers of a Store.
type tracker struct {
	owner int64

	mu    sync.Mutex
	pairs map[pair]*pairState
	marks int64 // number of the last mark
}

func newTracker(owner int64) *tracker {
	return &tracker{owner: owner, pairs: make(map[pair]*pairState)}
}

// begin notes that runs are about to be written and decides which marks their
// transaction must bring. end must follow.
func (t *tracker) begin(runs []run, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range runs {
		r := &runs[i]
		state := t.pairs[r.pair]
		if state == nil {
			state = &pairState{openSince: never, lateFrom: never, lateTo: math.MinInt64, writingMin: never}
			t.pairs[r.pair] = state
		}
		state.writing++
		state.writingMin = min(state.writingMin, r.oldest)
		r.opens, r.late = false, false
		trusted := now.Sub(state.markedAt) < trustMark
		switch {
		case trusted && r.oldest >= state.openSince:
			continue
		case trusted && r.oldest >= state.lateFrom && r.newest <= state.lateTo:
			continue
		case state.hasRows && r.oldest <= state.newest:
			// Late rows. A device that sends its history goes on in this way, so
			// the mark reaches further than these rows, and each further still.
			r.late = true
			r.markFrom = r.oldest
			r.markTo = r.newest + max(lateSlack, r.newest-min(r.oldest, state.lateFrom))
		default:
			r.opens = true
			r.markFrom, r.markTo = r.oldest, never
		}
		t.marks++
		r.markNumber = t.marks
	}
}

// end takes note of what became of runs.
func (t *tracker) end(runs []run, committed bool, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range runs {
		r := &runs[i]
		state := t.pairs[r.pair]
		state.writing--
		if state.writing == 0 {
			state.writingMin = never
		}
		if !committed {
			continue
		}
		switch {
		case r.opens:
			state.openSince = min(state.openSince, r.markFrom)
			state.markedAt = now
		case r.late:
			state.lateFrom = min(state.lateFrom, r.markFrom)
			state.lateTo = max(state.lateTo, r.markTo)
			state.markedAt = laterOf(state.markedAt, now)
		}
		if !state.hasRows || r.newest > state.newest {
			state.newest, state.hasRows = r.newest, true
		}
		if state.rows == 0 {
			state.dirty = now
		}
		state.rows += r.count
		state.lastWrite = now
		state.take(r)
	}
}

func laterOf(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// take brings a run's readings into state. Mostly the newest row has them all.
func (p *pairState) take(r *run) {
	if p.takeRow(r.last) {
		return
	}
	for i := range r.stretches {
		for rest := r.stretches[i].rows; len(rest) > 0; {
			row, after, err := firstRow(rest)
			if err != nil {
				return // arrange has checked
			}
			p.takeRow(row)
			rest = after
		}
	}
}

// takeRow says whether the row has a reading of every channel.
func (p *pairState) takeRow(row encodedRow) (full bool) {
	length, vals := arrayElements(row.vals())
	_, texts := arrayElements(row.texts())
	if len(p.readings) < length { // the layout decides, so mostly once: exactly as long as need be
		p.readings = append(make([]reading, 0, length), p.readings...)[:length]
	}
	at, seq := row.time(), row.seq()
	full = true
	for i := range length {
		var number, text []byte
		var isNumber, isText bool
		number, vals, isNumber = nextElement(vals)
		if len(texts) > 0 {
			text, texts, isText = nextElement(texts)
		}
		if !isNumber && !isText {
			full = false
			continue
		}
		known := &p.readings[i]
		if !known.before(at, seq) {
			continue
		}
		known.known, known.time, known.seq, known.isText = true, at, seq, isText
		known.number = 0
		if isText {
			if known.text == nil {
				known.text = new([]byte)
			}
			*known.text = append((*known.text)[:0], text...)
		} else {
			known.number = math.Float64frombits(binary.BigEndian.Uint64(number))
		}
	}
	return full
}

// appendMarks appends the SQL that brings the marks of runs, to be sent in
// front of a COPY; nothing if there are none.
func (t *tracker) appendMarks(dst *bytes.Buffer, runs []run) {
	first := true
	for i := range runs {
		r := &runs[i]
		if !r.opens && !r.late {
			continue
		}
		if first {
			dst.WriteString("INSERT INTO mooring.latest_pending (owner, number, device_id, layout_id, since, until) VALUES ")
		} else {
			dst.WriteByte(',')
		}
		first = false
		scratch := dst.AvailableBuffer()
		scratch = append(scratch, '(')
		scratch = strconv.AppendInt(scratch, t.owner, 10)
		scratch = append(scratch, ',')
		scratch = strconv.AppendInt(scratch, r.markNumber, 10)
		scratch = append(scratch, ',')
		scratch = strconv.AppendInt(scratch, int64(r.pair.device), 10)
		scratch = append(scratch, ',')
		scratch = strconv.AppendInt(scratch, int64(r.pair.layout), 10)
		scratch = append(scratch, ',')
		scratch = appendTimeSQL(scratch, r.markFrom)
		scratch = append(scratch, ',')
		scratch = appendTimeSQL(scratch, r.markTo)
		scratch = append(scratch, ')')
		dst.Write(scratch)
	}
	if !first {
		dst.WriteByte(';')
	}
}

// The times that Postgres can write down; what is beyond is not stored anyway.
const (
	earliestTime = -210_000_000_000_000_000 // some 4700 BC
	latestTime   = 9_000_000_000_000_000_000
)

// appendTimeSQL appends a timestamptz that is exact to the microsecond.
func appendTimeSQL(dst []byte, unixMicros int64) []byte {
	switch {
	case unixMicros < earliestTime:
		return append(dst, "'-infinity'"...)
	case unixMicros > latestTime:
		return append(dst, "'infinity'"...)
	}
	at := time.UnixMicro(unixMicros).UTC()
	if at.Year() < 1 || at.Year() > 9999 {
		if unixMicros < 0 {
			return append(dst, "'-infinity'"...)
		}
		return append(dst, "'infinity'"...)
	}
	dst = append(dst, '\'')
	dst = at.AppendFormat(dst, "2006-01-02 15:04:05.000000")
	return append(dst, "+00'"...)
}
