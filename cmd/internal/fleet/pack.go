package fleet

import (
	"encoding/binary"
	"math"
)

// A packer for a few bytes of MessagePack, wrong ones too, which no library
// would write.

func packArray(elements ...[]byte) []byte {
	packed := []byte{0xdc, byte(len(elements) >> 8), byte(len(elements))}
	for _, element := range elements {
		packed = append(packed, element...)
	}
	return packed
}

func packInt(n int64) []byte {
	return binary.BigEndian.AppendUint64([]byte{0xd3}, uint64(n))
}

func packUint(n uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{0xcf}, n)
}

func packFloat(n float64) []byte {
	return binary.BigEndian.AppendUint64([]byte{0xcb}, math.Float64bits(n))
}

func packString(s string) []byte {
	return append([]byte{0xda, byte(len(s) >> 8), byte(len(s))}, s...)
}

// packExt is an ext object with a 16-bit length.
func packExt(kind byte, data ...byte) []byte {
	return append([]byte{0xc8, byte(len(data) >> 8), byte(len(data)), kind}, data...)
}

var (
	packNil  = []byte{0xc0}
	packTrue = []byte{0xc3}
	packMap  = []byte{0x80}
	packBin  = []byte{0xc4, 1, 0}
	packNone = []byte{0xc1} // starts no value
	// packDeep nests deeper than 8 within a frame.
	packDeep = []byte{0x91, 0x91, 0x91, 0x91, 0x91, 0x91, 0x91, 0x91, 0x91, 0xc0}
	// packWide is a string with a 32-bit length.
	packWide = []byte{0xdb, 0, 0, 0, 1, 'x'}
)
