package wire

import (
	"encoding/binary"

	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// skipValue finds the end of the value that begins at pos and lies in level
// arrays and maps. It reads nothing twice and goes no deeper than MaxDepth,
// unlike the library's Skip, which 16 MB of nested arrays overflow.
func skipValue(frame []byte, pos, level int) (int, error) {
	if pos >= len(frame) {
		return 0, ErrTruncated
	}
	code := frame[pos]
	switch {
	case isWide(code):
		return 0, ErrWideLength // PROTOCOL §3.4
	case msgpcode.IsFixedNum(code):
		return pos + 1, nil
	case msgpcode.IsFixedString(code):
		return forward(frame, pos, 1+int(code&msgpcode.FixedStrMask))
	case msgpcode.IsFixedArray(code):
		return skipElements(frame, pos+1, level+1, int(code&msgpcode.FixedArrayMask))
	case msgpcode.IsFixedMap(code):
		return skipElements(frame, pos+1, level+1, 2*int(code&msgpcode.FixedMapMask))
	}
	switch code {
	case msgpcode.Nil, msgpcode.False, msgpcode.True:
		return pos + 1, nil
	case msgpcode.Uint8, msgpcode.Int8:
		return forward(frame, pos, 2)
	case msgpcode.Uint16, msgpcode.Int16:
		return forward(frame, pos, 3)
	case msgpcode.Uint32, msgpcode.Int32, msgpcode.Float:
		return forward(frame, pos, 5)
	case msgpcode.Uint64, msgpcode.Int64, msgpcode.Double:
		return forward(frame, pos, 9)
	case msgpcode.FixExt1, msgpcode.FixExt2, msgpcode.FixExt4, msgpcode.FixExt8, msgpcode.FixExt16:
		return forward(frame, pos, 2+1<<(code-msgpcode.FixExt1))
	}
	return skipSized(frame, pos, level, code)
}

// skipSized passes over values whose size stands in 8 or 16 bits behind their
// code.
func skipSized(frame []byte, pos, level int, code byte) (int, error) {
	switch code {
	case msgpcode.Str8, msgpcode.Bin8, msgpcode.Ext8:
		if pos+2 > len(frame) {
			return 0, ErrTruncated
		}
		size := 2 + int(frame[pos+1])
		if code == msgpcode.Ext8 {
			size++ // the ext's type
		}
		return forward(frame, pos, size)
	case msgpcode.Str16, msgpcode.Bin16, msgpcode.Ext16, msgpcode.Array16, msgpcode.Map16:
		if pos+3 > len(frame) {
			return 0, ErrTruncated
		}
	default:
		return 0, errNeverUsed
	}
	count := int(binary.BigEndian.Uint16(frame[pos+1:]))
	switch code {
	case msgpcode.Array16:
		return skipElements(frame, pos+3, level+1, count)
	case msgpcode.Map16:
		return skipElements(frame, pos+3, level+1, 2*count)
	case msgpcode.Ext16:
		count++ // the ext's type
	}
	return forward(frame, pos, 3+count)
}

func skipElements(frame []byte, pos, level, count int) (int, error) {
	if level > MaxDepth {
		return 0, ErrDepth // PROTOCOL §3.5
	}
	if count > len(frame)-pos {
		return 0, errMoreThanFit
	}
	var err error
	for range count {
		if pos, err = skipValue(frame, pos, level); err != nil {
			return 0, err
		}
	}
	return pos, nil
}

func forward(frame []byte, pos, size int) (int, error) {
	if size > len(frame)-pos {
		return 0, ErrTruncated
	}
	return pos + size, nil
}

// ValidateValue checks that value is exactly one MessagePack value as frames
// may carry it in args and detail: no 32-bit lengths, not too deep, nothing
// behind it. Whoever hands Encoder.Command or Encoder.Result bytes of foreign
// origin checks them with it first.
func ValidateValue(value []byte) error {
	end, err := skipValue(value, 0, 1)
	if err != nil {
		return err
	}
	if end != len(value) {
		return ErrTrailing
	}
	return nil
}
