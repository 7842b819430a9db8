package client

import (
	"encoding/binary"
	"math"
	"sync"

	"mooring/wire"
)

// pieceSize is the memory unit of the buffer. Larger rows get a piece of their
// own.
const pieceSize = 4 << 10

// piece is a stretch of encoded rows, none of which crosses its end.
type piece struct {
	next  *piece
	bytes []byte
}

var pieces = sync.Pool{New: func() any { return &piece{bytes: make([]byte, 0, pieceSize)} }}

// cursor is a place in the buffer: the row seq begins at piece.bytes[at:], or, if
// that is the end, at the start of the next piece.
type cursor struct {
	piece *piece
	at    int
	seq   uint64
}

// rowBuffer is a queue of rows with consecutive sequence numbers, encoded one
// behind the other in a list of pieces. Not safe for concurrent use.
type rowBuffer struct {
	head  cursor // the oldest row
	tail  *piece
	next  uint64 // the sequence number of the row that comes next
	bytes int
}

func (b *rowBuffer) rows() int { return int(b.next - b.head.seq) }

// Every row is: its size (4 bytes), its layout (2), its time in milliseconds
// (8), and its values: the kind, and what that kind needs.
const rowHead = 4 + 2 + 8

func encodedSize(values []wire.Value) int {
	size := rowHead
	for i := range values {
		switch values[i].Kind {
		case wire.ValueNil:
			size++
		case wire.ValueBool:
			size += 2
		case wire.ValueFloat32:
			size += 5
		case wire.ValueText:
			size += 3 + len(values[i].Text)
		case wire.ValueNumber, wire.ValueInt:
			size += 9
		default:
			size++
		}
	}
	return size
}

// push appends a row of encodedSize bytes.
func (b *rowBuffer) push(layout LayoutID, millis int64, values []wire.Value, size int) {
	if b.tail == nil || cap(b.tail.bytes)-len(b.tail.bytes) < size {
		fresh := newPiece(size)
		if b.tail == nil {
			b.head.piece, b.head.at = fresh, 0
		} else {
			b.tail.next = fresh
		}
		b.tail = fresh
	}
	to := b.tail.bytes
	to = binary.LittleEndian.AppendUint32(to, uint32(size))
	to = binary.LittleEndian.AppendUint16(to, uint16(layout))
	to = binary.LittleEndian.AppendUint64(to, uint64(millis))
	for i := range values {
		to = appendValue(to, &values[i])
	}
	b.tail.bytes = to
	b.next++
	b.bytes += size
}

func newPiece(size int) *piece {
	if size > pieceSize {
		return &piece{bytes: make([]byte, 0, size)}
	}
	return pieces.Get().(*piece)
}

func appendValue(to []byte, value *wire.Value) []byte {
	to = append(to, byte(value.Kind))
	switch value.Kind {
	case wire.ValueNumber:
		to = binary.LittleEndian.AppendUint64(to, math.Float64bits(value.Number))
	case wire.ValueInt:
		to = binary.LittleEndian.AppendUint64(to, uint64(value.Int))
	case wire.ValueFloat32:
		to = binary.LittleEndian.AppendUint32(to, math.Float32bits(float32(value.Number)))
	case wire.ValueBool:
		flag := byte(0)
		if value.Number != 0 {
			flag = 1
		}
		to = append(to, flag)
	case wire.ValueText:
		to = binary.LittleEndian.AppendUint16(to, uint16(len(value.Text)))
		to = append(to, value.Text...)
	case wire.ValueNil:
	}
	return to
}

// peek gives the row at the cursor: its layout, time, encoded values and whole
// size. The cursor must stand before the end.
func peek(c *cursor) (layout LayoutID, millis int64, values []byte, size int) {
	for c.at == len(c.piece.bytes) {
		c.piece, c.at = c.piece.next, 0
	}
	row := c.piece.bytes[c.at:]
	size = int(binary.LittleEndian.Uint32(row))
	layout = LayoutID(binary.LittleEndian.Uint16(row[4:]))
	millis = int64(binary.LittleEndian.Uint64(row[6:]))
	return layout, millis, row[rowHead:size], size
}

// skip moves the cursor behind the row of this size.
func (c *cursor) skip(size int) {
	c.at += size
	c.seq++
}

// readValues appends the values to a row. Their texts alias the buffer.
func readValues(from []byte, values []wire.Value) []wire.Value {
	for len(from) > 0 {
		value := wire.Value{Kind: wire.ValueKind(from[0])}
		from = from[1:]
		switch value.Kind {
		case wire.ValueNumber:
			value.Number = math.Float64frombits(binary.LittleEndian.Uint64(from))
			from = from[8:]
		case wire.ValueInt:
			value.Int = int64(binary.LittleEndian.Uint64(from))
			from = from[8:]
		case wire.ValueFloat32:
			value.Number = float64(math.Float32frombits(binary.LittleEndian.Uint32(from)))
			from = from[4:]
		case wire.ValueBool:
			value.Number = float64(from[0])
			from = from[1:]
		case wire.ValueText:
			size := int(binary.LittleEndian.Uint16(from))
			value.Text = from[2 : 2+size]
			from = from[2+size:]
		case wire.ValueNil:
		}
		values = append(values, value)
	}
	return values
}

// drop frees every row before seq and reports how many there were.
func (b *rowBuffer) drop(seq uint64) int {
	seq = min(seq, b.next)
	dropped := 0
	for b.head.seq < seq {
		for b.head.at == len(b.head.piece.bytes) {
			b.retire()
		}
		size := int(binary.LittleEndian.Uint32(b.head.piece.bytes[b.head.at:]))
		b.head.skip(size)
		b.bytes -= size
		dropped++
	}
	if b.head.seq == b.next && b.tail != nil {
		for b.head.piece != nil {
			b.retire()
		}
		b.tail = nil
	}
	return dropped
}

// retire gives the first piece back and stands at the start of the second.
func (b *rowBuffer) retire() {
	old := b.head.piece
	b.head.piece, b.head.at = old.next, 0
	old.next = nil
	if cap(old.bytes) == pieceSize {
		old.bytes = old.bytes[:0]
		pieces.Put(old)
	}
}
