package wire

import "github.com/vmihailenco/msgpack/v5"

// Decoder decodes frames. One serves one connection: it remembers the layouts
// that DATA declared on the fly; Reset makes it fit for another connection. It
// is not safe for concurrent use.
//
// It does not keep a frame beyond the call, except that DataHead keeps it until
// the frame's last row was decoded or the decoder is used again.
type Decoder struct {
	limits Limits
	read   reader

	head DataHead // of the frame last given to DataHead
	data dataState
	runs rejectRuns

	inferred     []inferredLayout
	current      int // index in inferred of the frame's names; -1: none
	nextInferred uint32
}

// NewDecoder makes a decoder with these limits.
func NewDecoder(limits Limits) *Decoder {
	d := &Decoder{limits: limits.withDefaults()}
	d.read.dec = msgpack.NewDecoder(nil)
	d.Reset()
	return d
}

// Reset forgets the connection served so far. The limits stay.
func (d *Decoder) Reset() {
	d.read.release()
	d.head, d.data = DataHead{}, dataState{}
	d.runs.reset()
	clear(d.inferred)
	d.inferred, d.current, d.nextInferred = d.inferred[:0], -1, FirstInferred
}

// SetTimeRange sets the times that rows may have, in microseconds since 1970,
// both included. Newest 0 means no limit.
func (d *Decoder) SetTimeRange(oldest, newest int64) {
	d.limits.Oldest, d.limits.Newest = oldest, newest
}

// finish ends a frame other than DATA and lets go of it.
func (d *Decoder) finish() error {
	d.read.end()
	err := d.read.frameError()
	d.read.release()
	return err
}

// begin opens a frame other than DATA.
func (d *Decoder) begin(frame []byte, want FrameType) *reader {
	d.data = dataState{}
	d.runs.reset()
	d.read.open(frame, want)
	return &d.read
}
