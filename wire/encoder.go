package wire

import "github.com/vmihailenco/msgpack/v5"

// Encoder encodes frames, integers in their shortest form and nothing for
// absent fields at the end. Every method returns bytes that are valid until
// the next call. It is not safe for concurrent use.
//
// It encodes what it is given: a value that the receiver refuses, such as NaN
// or a name that is too long, is the caller's to avoid. Only Data can fail,
// with rows that have no form on the wire.
type Encoder struct {
	buffer buffer
	out    *msgpack.Encoder
}

// buffer is a writer that can't fail and keeps its memory.
type buffer struct{ bytes []byte }

func (b *buffer) Write(p []byte) (int, error) {
	b.bytes = append(b.bytes, p...)
	return len(p), nil
}

func (b *buffer) WriteByte(c byte) error {
	b.bytes = append(b.bytes, c)
	return nil
}

// NewEncoder makes an encoder.
func NewEncoder() *Encoder {
	e := new(Encoder)
	e.out = msgpack.NewEncoder(&e.buffer)
	e.out.UseCompactInts(true)
	return e
}

// begin starts a frame of this many fields behind its type.
func (e *Encoder) begin(frame FrameType, fields int) {
	e.buffer.bytes = e.buffer.bytes[:0]
	e.array(1 + fields)
	e.uint(uint64(frame))
}

// The library's errors are those of its writer, and buffer has none.

func (e *Encoder) array(count int)      { _ = e.out.EncodeArrayLen(count) }
func (e *Encoder) int(value int64)      { _ = e.out.EncodeInt(value) }
func (e *Encoder) uint(value uint64)    { _ = e.out.EncodeUint(value) }
func (e *Encoder) null()                { _ = e.out.EncodeNil() }
func (e *Encoder) bool(value bool)      { _ = e.out.EncodeBool(value) }
func (e *Encoder) float64(v float64)    { _ = e.out.EncodeFloat64(v) }
func (e *Encoder) float32(v float32)    { _ = e.out.EncodeFloat32(v) }
func (e *Encoder) string(value string)  { _ = e.out.EncodeString(value) }
func (e *Encoder) ext(t int8, size int) { _ = e.out.EncodeExtHeader(t, size) }

// optional writes nil for 0.
func (e *Encoder) optional(value int64) {
	if value == 0 {
		e.null()
		return
	}
	e.int(value)
}

// optionalString writes nil for "".
func (e *Encoder) optionalString(value string) {
	if value == "" {
		e.null()
		return
	}
	e.string(value)
}

// raw writes a value as it stands, nil for none.
func (e *Encoder) raw(value []byte) {
	if len(value) == 0 {
		e.null()
		return
	}
	e.buffer.bytes = append(e.buffer.bytes, value...)
}

// channel writes a channel's index, nil for WholeRow.
func (e *Encoder) channel(index int) {
	if index < 0 {
		e.null()
		return
	}
	e.int(int64(index))
}

// lastPresent counts the fields up to the last one that is there.
func lastPresent(fields ...bool) int {
	count := len(fields)
	for count > 0 && !fields[count-1] {
		count--
	}
	return count
}
