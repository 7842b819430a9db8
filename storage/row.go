package storage

import (
	"encoding/binary"
	"errors"
	"math"

	"mooring/wire"
)

// One row in COPY's binary format: a field count, then each field as its length
// and its bytes. The columns are those of copyColumns, and the first four have
// fixed places:
//
//	 0  int16  6 fields
//	 2  int32  8       6  int64  ts, µs since 2000-01-01
//	14  int32  8      18  int64  seq
//	26  int32  4      30  int32  device_id
//	34  int32  4      38  int32  layout_id
//	42  int32  length of vals, then vals
//	    int32  length of texts or -1, then texts
const (
	copyColumns = "(ts, seq, device_id, layout_id, vals, texts)"

	offsetTime   = 6
	offsetSeq    = 18
	offsetDevice = 30
	offsetLayout = 38
	offsetVals   = 42

	// postgresEpoch is 2000-01-01 in µs since 1970, Postgres' zero.
	postgresEpoch = 946_684_800_000_000

	float8OID = 701
	textOID   = 25
)

// copyHeader starts a COPY in binary format: signature, flags, no extension.
var copyHeader = []byte("PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00")

// copyTrailer ends it.
var copyTrailer = []byte{0xff, 0xff}

// null is a field's or element's length that stands for SQL's NULL.
const null = 0xffff_ffff

// AppendRow appends row to dst as a tuple of COPY's binary format. It keeps
// neither, and does not allocate when dst has room. Bools are stored as 0 and 1
// among the numbers; texts is NULL as a whole in a row without a text.
func (s *Store) AppendRow(dst []byte, device, layout int32, row *wire.Row) []byte {
	return appendRow(dst, device, layout, row)
}

func appendRow(dst []byte, device, layout int32, row *wire.Row) []byte {
	order := binary.BigEndian
	dst = append(dst, 0, 6, 0, 0, 0, 8)
	dst = order.AppendUint64(dst, uint64(postgresTime(row.Time)))
	dst = append(dst, 0, 0, 0, 8)
	dst = order.AppendUint64(dst, row.Seq)
	dst = append(dst, 0, 0, 0, 4)
	dst = order.AppendUint32(dst, uint32(device))
	dst = append(dst, 0, 0, 0, 4)
	dst = order.AppendUint32(dst, uint32(layout))

	start := len(dst)
	dst, hasText := appendVals(dst, row.Values)
	order.PutUint32(dst[start:], uint32(len(dst)-start-4))
	if !hasText {
		return append(dst, 0xff, 0xff, 0xff, 0xff)
	}
	start = len(dst)
	dst = appendTexts(dst, row.Values)
	order.PutUint32(dst[start:], uint32(len(dst)-start-4))
	return dst
}

// appendVals appends a field of float8[]; the caller fills in its length.
func appendVals(dst []byte, values []wire.Value) (_ []byte, hasText bool) {
	dst = appendArrayHead(dst, float8OID, len(values))
	for i := range values {
		value := &values[i]
		number := value.Number
		switch value.Kind {
		case wire.ValueNumber, wire.ValueBool, wire.ValueFloat32:
		case wire.ValueInt: // only an encoder's; here for completeness
			number = float64(value.Int)
		case wire.ValueText:
			hasText = true
			dst = append(dst, 0xff, 0xff, 0xff, 0xff)
			continue
		default:
			dst = append(dst, 0xff, 0xff, 0xff, 0xff)
			continue
		}
		dst = append(dst, 0, 0, 0, 8)
		dst = binary.BigEndian.AppendUint64(dst, math.Float64bits(number))
	}
	return dst, hasText
}

// appendTexts appends a field of text[]; the caller fills in its length.
func appendTexts(dst []byte, values []wire.Value) []byte {
	dst = appendArrayHead(dst, textOID, len(values))
	for i := range values {
		if values[i].Kind != wire.ValueText {
			dst = append(dst, 0xff, 0xff, 0xff, 0xff)
			continue
		}
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(values[i].Text)))
		dst = append(dst, values[i].Text...)
	}
	return dst
}

// appendArrayHead appends room for a field's length and the head of an array:
// dimensions, whether there are NULLs (Postgres looks itself), element type,
// length, lower bound.
func appendArrayHead(dst []byte, oid uint32, length int) []byte {
	order := binary.BigEndian
	if length == 0 {
		dst = append(dst, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
		return order.AppendUint32(dst, oid)
	}
	dst = append(dst, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1)
	dst = order.AppendUint32(dst, oid)
	dst = order.AppendUint32(dst, uint32(length))
	return append(dst, 0, 0, 0, 1)
}

// postgresTime turns µs since 1970 into µs since 2000. What would wrap, or mean
// -infinity to Postgres, becomes a time that Postgres refuses as out of range.
func postgresTime(unixMicros int64) int64 {
	if unixMicros < math.MinInt64+1+postgresEpoch {
		return math.MinInt64 + 1
	}
	return unixMicros - postgresEpoch
}

// errBatch means that a batch was not made by AppendRow, or that its count is
// wrong: a fault of this program, about which Postgres need not be asked.
var errBatch = errors.New("storage: batch is not a sequence of rows")

// encodedRow is one tuple of a batch.
type encodedRow []byte

// time is in µs since 1970.
func (r encodedRow) time() int64 {
	return int64(binary.BigEndian.Uint64(r[offsetTime:])) + postgresEpoch
}
func (r encodedRow) seq() uint64   { return binary.BigEndian.Uint64(r[offsetSeq:]) }
func (r encodedRow) device() int32 { return int32(binary.BigEndian.Uint32(r[offsetDevice:])) }
func (r encodedRow) layout() int32 { return int32(binary.BigEndian.Uint32(r[offsetLayout:])) }

// vals is the field of that column.
func (r encodedRow) vals() []byte {
	length := int(binary.BigEndian.Uint32(r[offsetVals:]))
	return r[offsetVals+4 : offsetVals+4+length]
}

// texts is the field of that column; nil: NULL.
func (r encodedRow) texts() []byte {
	at := offsetVals + 4 + len(r.vals())
	if binary.BigEndian.Uint32(r[at:]) == null {
		return nil
	}
	return r[at+4:]
}

// firstRow cuts the first tuple off a batch.
func firstRow(rows []byte) (row encodedRow, rest []byte, err error) {
	const fixed = offsetVals + 4
	if len(rows) < fixed+4 || rows[0] != 0 || rows[1] != 6 {
		return nil, nil, errBatch
	}
	end := fixed + int(binary.BigEndian.Uint32(rows[offsetVals:]))
	if end < fixed || end > len(rows)-4 {
		return nil, nil, errBatch
	}
	length := binary.BigEndian.Uint32(rows[end:])
	end += 4
	if length != null {
		if int(length) > len(rows)-end {
			return nil, nil, errBatch
		}
		end += int(length)
	}
	return rows[:end:end], rows[end:], nil
}

// nextElement cuts the first element off what follows the head of an array;
// ok is false for NULL.
func nextElement(elements []byte) (element, rest []byte, ok bool) {
	length := binary.BigEndian.Uint32(elements)
	if length == null {
		return nil, elements[4:], false
	}
	return elements[4 : 4+length], elements[4+length:], true
}

// arrayElements splits the field of an array column into its length and its
// elements.
func arrayElements(field []byte) (length int, elements []byte) {
	if len(field) < 20 {
		return 0, nil
	}
	return int(binary.BigEndian.Uint32(field[12:])), field[20:]
}
