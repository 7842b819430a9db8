package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// Errors of Encoder.Data, wrapped with what they are about.
var (
	ErrRowCount  = errors.New("a DATA frame has 1 to 65,535 rows")
	ErrSeqRange  = errors.New("sequence numbers are below 2^53")
	ErrWidth     = errors.New("the rows do not all have one value for each channel, and one at least")
	ErrTooMany   = errors.New("a DATA frame has at most 65,535 elements or packed bytes")
	ErrTime      = errors.New("a time that is sent must be whole milliseconds and within ±2^53 of them")
	ErrStep      = errors.New("the row is not one step behind the row before")
	ErrStepRange = errors.New("a step is 0 to a day, and above 0 for packed values")
	ErrKind      = errors.New("the value does not fit the packing")
	ErrTextSize  = errors.New("a text value has at most 65,535 bytes")
)

// Data encodes a DATA frame (PROTOCOL §5.1). It fails with rows that have no
// form on the wire, by one of the errors above.
func (e *Encoder) Data(data *Data) ([]byte, error) {
	if err := checkData(data); err != nil {
		return nil, err
	}
	first := data.Rows[0].Time / 1000
	e.begin(FrameData, 6)
	e.uint(data.Seq)
	e.int(int64(len(data.Rows)))
	if data.ServerTime {
		e.null()
	} else {
		e.int(first)
	}
	if len(data.Names) > 0 {
		e.array(len(data.Names))
		for _, name := range data.Names {
			e.string(name)
		}
	} else {
		e.uint(uint64(data.Layout))
	}
	e.int(data.Step)

	if data.Packing != PackNone {
		return e.packedRows(data)
	}
	perRow := len(data.Rows[0].Values)
	if data.Step == 0 {
		perRow++
	}
	e.array(len(data.Rows) * perRow)
	before := first
	for i := range data.Rows {
		row := &data.Rows[i]
		if data.Step == 0 {
			now := row.Time / 1000
			e.int(now - before)
			before = now
		}
		for j := range row.Values {
			if err := e.value(&row.Values[j]); err != nil {
				return nil, fmt.Errorf("row %d, channel %d: %w", i, j, err)
			}
		}
	}
	return e.buffer.bytes, nil
}

// checkData finds what has no form on the wire, apart from single values.
func checkData(data *Data) error {
	rows := len(data.Rows)
	if rows == 0 || rows > maxCount {
		return ErrRowCount
	}
	if data.Seq > MaxSeq || data.Seq+uint64(rows) > MaxSeq {
		return ErrSeqRange
	}
	if data.Step < 0 || data.Step > MaxStep || data.Step == 0 && data.Packing != PackNone {
		return ErrStepRange
	}
	width := len(data.Rows[0].Values)
	if width == 0 || len(data.Names) > 0 && len(data.Names) != width {
		return ErrWidth
	}
	perRow := width
	switch {
	case data.Packing != PackNone:
		perRow *= packedSize(data.Packing)
	case data.Step == 0:
		perRow++
	}
	if rows*perRow > maxCount || len(data.Names) > maxCount {
		return ErrTooMany
	}
	return checkTimes(data, width)
}

// checkTimes sees that t0 and dt, or t0 and step, say the rows' times exactly.
func checkTimes(data *Data, width int) error {
	const limit = maxMillis * 1000
	first := data.Rows[0].Time
	for i := range data.Rows {
		row := &data.Rows[i]
		if len(row.Values) != width {
			return fmt.Errorf("row %d: %w", i, ErrWidth)
		}
		sent := i == 0 && !data.ServerTime || data.Step == 0
		if row.Time < -limit || row.Time > limit || sent && row.Time%1000 != 0 {
			return fmt.Errorf("row %d: %w", i, ErrTime)
		}
		if data.Step > 0 && row.Time-first != int64(i)*data.Step {
			return fmt.Errorf("row %d: %w", i, ErrStep)
		}
	}
	return nil
}

func (e *Encoder) value(value *Value) error {
	switch value.Kind {
	case ValueNil:
		e.null()
	case ValueNumber:
		e.float64(value.Number)
	case ValueFloat32:
		number := float32(value.Number)
		if overflows(number, value.Number) {
			return ErrKind
		}
		e.float32(number)
	case ValueInt:
		e.int(value.Int)
	case ValueBool:
		e.bool(value.Number != 0)
	case ValueText:
		return e.textValue(value.Text)
	default:
		return ErrKind
	}
	return nil
}

func (e *Encoder) textValue(text []byte) error {
	switch size := len(text); {
	case size < 32:
		_ = e.buffer.WriteByte(0xa0 | byte(size))
	case size <= math.MaxUint8:
		_, _ = e.buffer.Write([]byte{0xd9, byte(size)})
	case size <= maxCount:
		_, _ = e.buffer.Write([]byte{0xda, byte(size >> 8), byte(size)})
	default:
		return ErrTextSize
	}
	_, _ = e.buffer.Write(text)
	return nil
}

// packedRows writes vals as one ext object (PROTOCOL §5.10).
func (e *Encoder) packedRows(data *Data) ([]byte, error) {
	extType := int8(0)
	switch data.Packing {
	case PackInt16:
		extType = extInt16
	case PackInt32:
		extType = extInt32
	case PackFloat32:
		extType = extFloat32
	case PackNone:
		return nil, ErrKind
	default:
		return nil, ErrKind
	}
	size := packedSize(data.Packing)
	e.ext(extType, len(data.Rows)*len(data.Rows[0].Values)*size)
	for i := range data.Rows {
		for j := range data.Rows[i].Values {
			bits, ok := packedBits(&data.Rows[i].Values[j], data.Packing)
			if !ok {
				return nil, fmt.Errorf("row %d, channel %d: %w", i, j, ErrKind)
			}
			if size == 2 {
				e.buffer.bytes = binary.LittleEndian.AppendUint16(e.buffer.bytes, uint16(bits))
			} else {
				e.buffer.bytes = binary.LittleEndian.AppendUint32(e.buffer.bytes, bits)
			}
		}
	}
	return e.buffer.bytes, nil
}

// packedBits is the form of a value in this packing, if it has one. Integers
// go into integers only, since the receiver scales those and no others, and
// only float32 has room for no reading.
func packedBits(value *Value, packing Packing) (uint32, bool) {
	if packing == PackFloat32 {
		switch value.Kind {
		case ValueNil:
			return math.Float32bits(float32(math.NaN())), true
		case ValueNumber, ValueFloat32:
			// NaN would turn into no reading, and so hide a fault.
			number := float32(value.Number)
			return math.Float32bits(number), !math.IsNaN(value.Number) && !overflows(number, value.Number)
		case ValueBool, ValueText, ValueInt:
		}
		return 0, false
	}
	fits := int64(int32(value.Int)) == value.Int
	if packing == PackInt16 {
		fits = int64(int16(value.Int)) == value.Int
	}
	return uint32(int32(value.Int)), fits && value.Kind == ValueInt
}

// overflows reports whether a finite number became infinite.
func overflows(narrow float32, number float64) bool {
	return math.IsInf(float64(narrow), 0) && !math.IsInf(number, 0)
}
