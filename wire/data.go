package wire

import (
	"fmt"
	"math"

	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// dataState is how far the rows of a DATA frame were decoded.
type dataState struct {
	layout   *Layout
	valuesAt int // position of vals in the frame
	row, end int // next row and number of rows; equal: nothing is left to decode
	packed   packed
	clock    clock
	fault    *BodyError
	ready    bool // DataHead succeeded and Rows was not called yet
}

// DataHead decodes a DATA frame up to its values (PROTOCOL §5.1). The error is
// a *FrameError if seq or n can't be read, else a *BodyError; the head holds
// seq and n then. Names is shared with the decoder and must not be changed.
func (d *Decoder) DataHead(frame []byte) (DataHead, error) {
	r := d.begin(frame, FrameData)
	d.current = -1
	d.head = DataHead{
		Seq: uint64(r.mandatory("seq", 0, MaxSeq)),
		N:   int(r.mandatory("n", 1, maxCount)), // PROTOCOL §5.2
	}
	if r.err == nil && d.head.Seq+uint64(d.head.N) > MaxSeq {
		r.fail("seq", fmt.Errorf("rows are numbered below %d", uint64(MaxSeq)))
	}
	if err := r.frameError(); err != nil {
		d.head = DataHead{}
		r.release()
		return DataHead{}, err
	}
	if d.head.N > d.limits.MaxRows {
		d.refuse(CodeMalformed, "n", fmt.Errorf("a frame has at most %d rows", d.limits.MaxRows))
		return d.head, d.data.fault
	}
	d.readHeadRest()
	if r.err != nil {
		d.refuse(CodeMalformed, r.field, r.err)
	}
	if d.data.fault != nil {
		return d.head, d.data.fault
	}
	d.data.valuesAt = r.pos()
	d.data.ready = true
	return d.head, nil
}

// readHeadRest reads t0, layout and step and stops at vals.
func (d *Decoder) readHeadRest() {
	r := &d.read
	if d.head.ServerTime = !r.present("t0"); !d.head.ServerTime {
		d.head.T0 = r.number("t0", math.MinInt64, math.MaxInt64)
	}
	if !r.required("layout") {
		return
	}
	code, err := r.peek()
	switch {
	case err != nil:
		r.fail("layout", err)
	case isInteger(code):
		d.head.Layout = uint32(r.number("layout", 0, MaxLayoutNumber))
	default:
		d.head.Names = d.names()
	}
	d.head.Step = r.optional("step", 0, MaxStep, 0) // PROTOCOL §5.6
	r.required("vals")
}

// refuse refuses the frame whole (PROTOCOL §5.4).
func (d *Decoder) refuse(code Code, field string, err error) {
	if d.data.fault != nil {
		return
	}
	d.data.fault = &BodyError{Seq: d.head.Seq, N: uint64(d.head.N), Code: code, Field: field, Err: cutShort(err)}
	d.data.row, d.data.end = 0, 0
	d.data.ready = false
	d.runs.whole(d.data.fault)
	d.read.release()
}

// Rows begins the rows of the frame last given to DataHead. layout is what the
// head's number or names stand for and must not change until Next answers
// false. serverTime, in microseconds since 1970, is the base of a frame
// without t0.
func (d *Decoder) Rows(layout *Layout, serverTime int64) {
	if !d.data.ready {
		return
	}
	d.data.ready = false
	if layout == nil {
		d.refuse(CodeUnknownLayout, "layout", errAbsent)
		return
	}
	d.data.layout = layout
	d.read.seek(d.data.valuesAt)
	d.data.clock.start(&d.head, serverTime)
	if err := d.openValues(len(layout.Channels)); err != nil {
		d.refuse(CodeMalformed, "vals", err)
		return
	}
	d.data.end = d.head.N
}

// openValues reads the header of vals and checks the count (PROTOCOL §5.7).
func (d *Decoder) openValues(channels int) error {
	code, err := d.read.peek()
	if err != nil {
		return err
	}
	if isExt(code) {
		return d.openPacked(channels)
	}
	if !msgpcode.IsFixedArray(code) && code != msgpcode.Array16 && !isWide(code) {
		return errPackType
	}
	count, err := d.read.array()
	if err != nil {
		return err
	}
	perRow := channels
	if d.head.Step == 0 {
		perRow++ // dt
	}
	if count != d.head.N*perRow {
		return errCount
	}
	return nil
}

// Next decodes the next row that is not refused whole. It answers false when
// the frame is at its end or at fault; Err tells which.
//
// The rows that came before a fault must be thrown away.
func (d *Decoder) Next(row *Row) bool {
	for d.data.row < d.data.end {
		seq := d.head.Seq + uint64(d.data.row)
		if d.data.row == 0 {
			d.sizeRow(row)
		}
		refusal, ok := d.advance(row)
		if !ok || !d.decodeRow(row, seq, refusal) {
			return false
		}
		d.data.row++
		if d.data.row == d.data.end && !d.endRows() {
			return false
		}
		if refusal != 0 {
			d.runs.add(seq, WholeRow, refusal, len(row.Values))
			continue
		}
		row.Seq = seq
		return true
	}
	d.data.packed = packed{}
	d.read.release()
	return false
}

// sizeRow gives the row one value for every channel.
func (d *Decoder) sizeRow(row *Row) {
	channels := len(d.data.layout.Channels)
	if cap(row.Values) < channels {
		row.Values = make([]Value, channels)
	}
	row.Values = row.Values[:channels]
}

// advance finds the row's time and whether that refuses the row.
func (d *Decoder) advance(row *Row) (refusal Code, ok bool) {
	if d.head.Step == 0 {
		dt, big, err := d.read.integer()
		if err == nil && (big || !d.data.clock.add(dt)) {
			err = errTimeRange // PROTOCOL §5.5
		}
		if err != nil {
			d.refuse(CodeMalformed, "dt", err)
			return 0, false
		}
	}
	row.Time, refusal = d.data.clock.time(d.data.row, d.limits.Oldest, d.limits.Newest)
	return refusal, true
}

// decodeRow decodes the values of a row, refused ones as nil. Those of a row that
// is refused whole are only looked at for their structure.
func (d *Decoder) decodeRow(row *Row, seq uint64, refusal Code) bool {
	channels := d.data.layout.Channels
	for i := range row.Values {
		value := &row.Values[i]
		var code Code
		var err error
		if d.data.packed.kind != PackNone {
			code = d.data.packed.next(value, &channels[i])
		} else {
			code, err = d.read.value(value, &channels[i], d.limits.MaxText)
		}
		if err != nil {
			d.refuse(CodeMalformed, "vals", err)
			return false
		}
		if code != 0 && refusal == 0 {
			d.runs.add(seq, i, code, len(channels))
		}
	}
	return true
}

// endRows sees that nothing but fields of later versions follows the values.
// It runs together with the last row, so that a caller who stops at it has
// nothing unchecked behind it.
func (d *Decoder) endRows() bool {
	r := &d.read
	if r.end(); r.err != nil {
		d.refuse(CodeMalformed, r.field, r.err)
		return false
	}
	return true
}

// Err is nil or the *BodyError that refuses the whole frame.
func (d *Decoder) Err() error {
	if d.data.fault == nil {
		return nil
	}
	return d.data.fault
}

// Rejects lists the refusals of this frame, run-length coded and as many as
// there are. After a *BodyError it is the refusal of the whole frame alone.
// Valid until the decoder's next use.
func (d *Decoder) Rejects() []Reject { return d.runs.list }

// Rejected counts the values and the whole rows refused in this frame.
func (d *Decoder) Rejected() uint64 { return d.runs.refused }

// RowsRefused counts the rows refused whole in this frame.
func (d *Decoder) RowsRefused() uint64 { return d.runs.rows }
