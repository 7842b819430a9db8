package wire

import (
	"encoding/binary"
	"math"

	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// The ext types of packed values (PROTOCOL §5.10).
const (
	extInt16   = 2
	extInt32   = 3
	extFloat32 = 4
)

// packed walks over packed values.
type packed struct {
	kind  Packing
	bytes []byte // what is left
}

// openPacked reads the header of packed values and checks their number.
func (d *Decoder) openPacked(channels int) error {
	kind, content, err := d.read.packing()
	if err != nil {
		return err
	}
	if d.head.Step == 0 {
		return errPackStep
	}
	if len(content) != d.head.N*channels*packedSize(kind) {
		return errCount
	}
	d.data.packed = packed{kind: kind, bytes: content}
	return nil
}

// packing reads an ext object of packed values; the bytes alias the frame.
func (r *reader) packing() (Packing, []byte, error) {
	code, err := r.peek()
	if err != nil {
		return 0, nil, err
	}
	if isWide(code) {
		return 0, nil, ErrWideLength // PROTOCOL §3.4
	}
	extType, size, err := r.dec.DecodeExtHeader()
	if err != nil {
		return 0, nil, cutShort(err)
	}
	if size > r.left() {
		return 0, nil, ErrTruncated
	}
	pos := r.pos()
	r.seek(pos + size)
	content := r.frame[pos : pos+size]
	switch extType {
	case extInt16:
		return PackInt16, content, nil
	case extInt32:
		return PackInt32, content, nil
	case extFloat32:
		return PackFloat32, content, nil
	}
	return 0, nil, errPackType
}

// packedSize is the number of bytes of one packed value.
func packedSize(kind Packing) int {
	if kind == PackInt16 {
		return 2
	}
	return 4
}

// next decodes one value. Packed values are numbers, so other channels refuse
// them, except that a NaN is no reading for any channel.
func (p *packed) next(value *Value, channel *Channel) Code {
	*value = Value{}
	var integer int64
	switch p.kind {
	case PackInt16:
		integer = int64(int16(binary.LittleEndian.Uint16(p.bytes)))
	case PackInt32:
		integer = int64(int32(binary.LittleEndian.Uint32(p.bytes)))
	case PackFloat32, PackNone:
	}
	bits := p.bytes
	p.bytes = p.bytes[packedSize(p.kind):]
	if p.kind == PackFloat32 {
		number := float64(math.Float32frombits(binary.LittleEndian.Uint32(bits)))
		switch {
		case math.IsNaN(number):
			return 0
		case channel.Kind != KindNumber:
			return CodeType
		}
		return value.setFloat(number)
	}
	if channel.Kind != KindNumber {
		return CodeType
	}
	return value.setInteger(integer, false, channel.Exp10)
}

func isExt(code byte) bool {
	return code >= msgpcode.FixExt1 && code <= msgpcode.FixExt16 ||
		code >= msgpcode.Ext8 && code <= msgpcode.Ext32
}
