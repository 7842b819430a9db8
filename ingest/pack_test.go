package ingest

import (
	"encoding/binary"
	"math"
)

// hex stands in a made-up frame for bytes that are put there as they are.
type hex []byte

// pack writes MessagePack by hand, so that what is wrong is wrong on purpose and
// no library straightens it.
func pack(v any) []byte {
	switch v := v.(type) {
	case nil:
		return []byte{0xC0}
	case hex:
		return v
	case bool:
		if v {
			return []byte{0xC3}
		}
		return []byte{0xC2}
	case int:
		if v >= 0 && v < 128 {
			return []byte{byte(v)}
		}
		return binary.BigEndian.AppendUint64([]byte{0xD3}, uint64(v))
	case uint64:
		return binary.BigEndian.AppendUint64([]byte{0xCF}, v)
	case float32:
		return binary.BigEndian.AppendUint32([]byte{0xCA}, math.Float32bits(v))
	case float64:
		return binary.BigEndian.AppendUint64([]byte{0xCB}, math.Float64bits(v))
	case string:
		return append(binary.BigEndian.AppendUint16([]byte{0xDA}, uint16(len(v))), v...)
	case []byte:
		return append(binary.BigEndian.AppendUint16([]byte{0xC5}, uint16(len(v))), v...)
	case list:
		b := binary.BigEndian.AppendUint16([]byte{0xDC}, uint16(len(v)))
		for _, element := range v {
			b = append(b, pack(element)...)
		}
		return b
	case ext:
		b := binary.BigEndian.AppendUint16([]byte{0xC8}, uint16(len(v.data)))
		return append(append(b, v.kind), v.data...)
	}
	panic("no such thing in these tests")
}

type list []any

type ext struct {
	kind byte
	data []byte
}

func repeat(v any, n int) list {
	all := make(list, n)
	for i := range all {
		all[i] = v
	}
	return all
}

func nest(depth int) any {
	var v any = 1
	for range depth {
		v = list{v}
	}
	return v
}
